"""A frame that many documents have makes no two of them near-duplicates; copies of one document are found as before."""

import json
from pathlib import Path

from tests.data.test_build import build
from tests.data.test_isolation import dialogues
from tests.data.texts import library_texts, small_data


def test_a_long_system_prompt_does_not_make_all_documents_one(tmp_path: Path) -> None:
    prompt = " ".join(library_texts(1)[0].split()[:400])
    texts = [f"{prompt}\n{text}" for text in dialogues(60, "Q: {question}\nA: {answer}\n", answer_words=6)]
    copy = texts[7].replace("Q:", "Question:", 1)
    lines = [json.dumps({"text": text}) + "\n" for text in [*texts, copy]]
    (tmp_path / "texts.jsonl").write_text("".join(lines))
    sources = [{"kind": "jsonl", "paths": [str(tmp_path / "texts.jsonl")]}]
    holdouts = [{"name": "iid", "kind": "split", "fraction": 0.1}]
    funnel = build(small_data(tmp_path, sources=sources, holdouts=holdouts), tmp_path).funnel
    assert funnel["near_duplicates"] + funnel["held_out"] == 7, "six are held out; the copy of one is the only copy"
    assert funnel["documents_kept"] == 54
