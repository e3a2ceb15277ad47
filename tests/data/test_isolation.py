"""What must not be left of held-out text in training text, and what must not be taken from innocent text."""

import json
import random
import re
from itertools import count
from pathlib import Path

import numpy as np
import pytest

from tenfold.data import Manifest, audit, build_corpus, funnel_line, load_holdout, loss_warnings
from tenfold.data.frequency import Frequencies, HeldOutDocument, Windows, common_windows
from tenfold.data.holdouts import project_files
from tenfold.data.isolation import HeldOutText, decontaminate
from tenfold.data.words import hash_runs, hash_words, split_words, word_spans
from tests.data.test_auditing import append_to_shard, failed
from tests.data.test_build import build, training_texts
from tests.data.texts import library_texts, small_data, write_texts


def held_out_text(
    texts: list[str], ngram: int = 13, training: list[str] | None = None, given: bool = False
) -> HeldOutText:
    """Held-out texts, with what is common in training ones."""
    windows = Windows([HeldOutDocument(hash_words(text), given) for text in texts], ngram)
    found = Frequencies.of(windows, (windows.found(hash_words(text)) for text in training or []))
    return HeldOutText(windows, common_windows(windows, found))


def left_of(text: str, *held_out: str, ngram: int = 13) -> str:
    """What a text keeps beside held-out ones."""
    kept = held_out_text(list(held_out), ngram)
    return "".join(decontaminate(text, hash_words(text), kept, 1).pieces)


def every_twelfth_changed(text: str) -> str:
    numbers, rng = count(1), random.Random(text)
    return re.sub(r"\w+|[^\w\s]+", lambda m: m.group() if next(numbers) % 12 else f"w{rng.random()}"[:9], text)


def test_the_whole_evaluation_set_is_kept_out_not_only_what_is_scored(tmp_path: Path) -> None:
    texts = library_texts(30)
    evaluation = write_texts(tmp_path / "evaluation", texts[:10])
    folder = write_texts(tmp_path / "texts", texts)
    holdouts = [{"name": "given", "kind": "files", "paths": [str(evaluation)], "max_bytes": 20_000}]
    manifest = build(small_data(folder, holdouts=holdouts), tmp_path)
    assert manifest.holdouts[0].bytes <= 20_000
    rest = next(text for text in manifest.isolated if text.name == "given")
    assert rest.documents + manifest.holdouts[0].documents == 10
    trained = training_texts(tmp_path / "data", manifest)
    assert not set(texts[:10]) & set(trained)
    assert audit(tmp_path / "data").ok
    row = np.fromfile(tmp_path / "data" / rest.file, dtype=manifest.dtype)
    first = row[: np.flatnonzero(row == manifest.end_of_document)[0]]
    append_to_shard(tmp_path / "data", manifest, first.tolist())
    assert "exact copies" in failed(tmp_path / "data")


def test_of_a_document_larger_than_what_is_scored_the_beginning_is_scored_and_all_of_it_kept_out(
    tmp_path: Path,
) -> None:
    texts = library_texts(30)
    evaluation = write_texts(tmp_path / "evaluation", ["\n".join(texts[:10])])
    holdouts = [{"name": "given", "kind": "files", "paths": [str(evaluation)], "max_bytes": 3_000}]
    manifest = build(small_data(write_texts(tmp_path / "texts", texts), holdouts=holdouts), tmp_path)
    (scored,) = load_holdout(tmp_path / "data", manifest, "given")
    assert 1_500 < len(scored.text) <= 3_000 and "\n".join(texts[:10]).startswith(scored.text.decode())
    assert not set(texts[:10]) & set(training_texts(tmp_path / "data", manifest))
    assert audit(tmp_path / "data").ok


def test_tenfolds_own_source_is_in_no_training_set(tmp_path: Path) -> None:
    """Even when nobody asked for a holdout of it."""
    sizes = sorted(project_files(), key=lambda path: path.stat().st_size)
    own = [path.read_text(encoding="utf-8") for path in sizes[-3:]]
    folder = write_texts(tmp_path / "texts", [*library_texts(30), *own])
    manifest = build(small_data(folder, holdouts=[]), tmp_path)
    assert not set(own) & set(training_texts(tmp_path / "data", manifest))
    assert audit(tmp_path / "data").ok


def test_the_project_is_more_than_its_package() -> None:
    names = {path.name for path in project_files()}
    assert {"isolation.py", "test_isolation.py", "README.md", "report.html.jinja"} <= names


@pytest.mark.parametrize("words", [5, 7, 12, 13, 20])
def test_short_held_out_texts_are_taken_out(words: int) -> None:
    held_out = " ".join(f"answer{n}" for n in range(words))
    before = " ".join(f"before{n}" for n in range(30)) + " "
    after = " " + " ".join(f"after{n}" for n in range(30))
    assert left_of(before + held_out + after, held_out) == before + after


def test_a_text_of_a_few_words_is_kept_out_as_a_whole_document_only() -> None:
    assert left_of("Yes, it is", "yes , it is") == ""
    assert left_of("I say: yes, it is. And more.", "yes , it is") == "I say: yes, it is. And more."


def test_a_copy_with_every_twelfth_word_changed_is_taken_out() -> None:
    held_out, other = library_texts(2, min_bytes=8_000)
    changed = every_twelfth_changed(held_out)
    words = split_words(held_out)
    shared = {tuple(words[n : n + 13]) for n in range(len(words) - 12)}
    words = split_words(changed)
    assert not shared & {tuple(words[n : n + 13]) for n in range(len(words) - 12)}
    assert len(left_of(changed, held_out, other)) <= 0.02 * len(changed)
    hosted = other + "\n" + changed + "\n" + other.upper()[:2000]
    assert len(left_of(hosted, held_out)) <= len(other) + 2000 + 0.05 * len(changed)


def test_the_audit_finds_a_copy_that_shares_no_run_of_13_words(tmp_path: Path) -> None:
    data = small_data(write_texts(tmp_path / "texts", library_texts(30)))
    manifest = build_corpus(data, 1, tmp_path / "data", tmp_path, lambda _: None)
    from tenfold.data import load_holdout
    from tenfold.data.corpus import load_tokenizer

    text = load_holdout(tmp_path / "data", manifest, "iid")[0].text.decode()
    tokenizer = load_tokenizer(tmp_path / "data", manifest)
    append_to_shard(tmp_path / "data", manifest, tokenizer.encode_batch([every_twelfth_changed(text)])[0])
    assert failed(tmp_path / "data") == {"near-copies"}


def test_unrelated_text_keeps_nearly_every_byte() -> None:
    texts = library_texts(60, min_bytes=8_000)
    held_out = held_out_text(texts[:20])
    left = [decontaminate(text, hash_words(text), held_out, 1).pieces for text in texts[20:]]
    shares = [sum(map(len, pieces)) / len(text) for pieces, text in zip(left, texts[20:], strict=True)]
    assert sum(share < 0.5 for share in shares) <= 1  # some files of the library are copies of others
    assert np.median(shares) > 0.99


def test_scripts_without_spaces_are_cut_into_characters() -> None:
    held_out = "我們昨天在圖書館裡讀完了那本關於星星與海洋的古老故事書然後一起走路回家"
    training = (
        "第一章。" + held_out[:30] + "，不過後來下雨了" + "ภาษาไทย" + " and plain words" + library_texts(1)[0][:1000]
    )
    assert split_words("讀 ภาษา kana: かな ok") == ["讀", *"ภาษา", "kana", ":", "か", "な", "ok"]
    assert held_out[:13] not in left_of(training, held_out)
    assert "and plain words" in left_of(training, held_out)
    spans = word_spans(training)
    assert [training[start:end].lower() for start, end in spans] == split_words(training)


def test_hashes_of_runs_tell_runs_apart_wherever_they_stand() -> None:
    words = hash_words("a b c d a b c e " * 50)
    for length in (1, 2, 3, 13):
        runs = hash_runs(words, length)
        assert runs.size == words.size - length + 1
        keys = [tuple(words[n : n + length].tolist()) for n in range(runs.size)]
        assert len(set(runs.tolist())) == len(set(keys))
        assert all((runs[0] == run) == (keys[0] == key) for run, key in zip(runs, keys, strict=True))


def test_held_out_records_that_cannot_be_used_are_counted_and_listed(tmp_path: Path) -> None:
    evaluation = write_texts(tmp_path / "evaluation", ["short", "", *library_texts(2), library_texts(1)[0]])
    (evaluation / "bad.txt").write_bytes(b"\xff" * 100)
    holdouts = [{"name": "given", "kind": "files", "paths": [str(evaluation)]}]
    manifest = build(small_data(write_texts(tmp_path / "texts", library_texts(40)[2:]), holdouts=holdouts), tmp_path)
    assert manifest.funnel["holdout_rejected"] == {"empty": 1, "exact-duplicate": 1, "invalid-utf8": 1}
    assert manifest.holdouts[0].documents == 3  # the short one is there
    rejects = (tmp_path / "data" / "rejects.jsonl").read_text()
    assert "holdout given" in rejects and "bad.txt" in rejects


def test_a_given_set_is_read_as_its_encoding_says_and_what_is_lost_of_it_is_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    evaluation = write_texts(tmp_path / "evaluation", library_texts(2))
    (evaluation / "a.txt").write_bytes("Žluťoučký kůň úpěl ďábelské ódy. ".encode("cp852") * 9)
    (evaluation / "b.jsonl").write_text(json.dumps({"text": "a question " * 30}))
    holdouts = [{"name": "given", "kind": "files", "paths": [str(evaluation)], "encoding": "cp852"}]
    manifest = build(small_data(write_texts(tmp_path / "texts", library_texts(40)[2:]), holdouts=holdouts), tmp_path)
    assert any("Žluťoučký" in document.text.decode() for document in load_holdout(tmp_path / "data", manifest, "given"))
    assert "3 texts read as cp852" in funnel_line(manifest.funnel)
    assert "of the folders of [data.holdouts] belong to no holdout and are not read" in caplog.text
    (warned,) = [line for line in loss_warnings(manifest.funnel, 0.05, 64) if "evaluation sets" in line]
    assert "1 record neither scored nor kept out of training: 1 not-taken" in warned


def test_the_bounds_of_reading_hold_for_given_sets_too(tmp_path: Path) -> None:
    evaluation = write_texts(tmp_path / "evaluation", ["a long question " * 99, "a short one"])
    holdouts = [{"name": "given", "kind": "files", "paths": [str(evaluation)]}]
    folder = write_texts(tmp_path / "texts", library_texts(30))
    data = small_data(folder, holdouts=holdouts, read={"max_record_bytes": 1024})
    assert build(data, tmp_path).funnel["holdout_rejected"] == {"too-large": 1}


def test_manifest_digest_ignores_what_is_only_kept_out() -> None:
    plain = Manifest("", "", "", 1, 0, "uint16", 13, [], [], {})
    assert plain.digest == Manifest("x", "", "", 1, 0, "uint16", 13, [], [], {}, ["any"]).digest  # type: ignore[list-item]


def dialogues(count: int, frame: str, seed: int = 0, answer_words: int = 40) -> list[str]:
    """Dialogues of words that no two have in the same order, each turn in the same frame."""
    rng = random.Random(seed)
    vocabulary = re.findall(r"[a-z]{3,}", " ".join(library_texts(20)))

    def said() -> str:
        return " ".join(rng.choices(vocabulary, k=answer_words))

    return ["".join(frame.format(question=said(), answer=said()) for _ in range(4)) for _ in range(count)]


SYSTEM_PROMPT = (
    "You are a careful and honest assistant. Answer in full sentences, cite what you know, and say so where you do "
    "not know. Never invent a source, a name or a number.\n"
)
FRAMES = {
    "plain": "User: {question}\n\nAssistant: {answer}\n\n",
    "json": '{{"role": "user", "content": "{question}"}}, {{"role": "assistant", "content": "{answer}"}}, ',
    "tokens": "<|im_start|>user\n{question}<|im_end|>\n<|im_start|>assistant\n{answer}<|im_end|>\n",
    "prompt": SYSTEM_PROMPT + "User: {question}\n\nAssistant: {answer}\n\n",
    "long prompt": 4 * SYSTEM_PROMPT.replace("assistant", "helper") + "Q: {question}\nA: {answer}\n",
}


@pytest.mark.parametrize("given", [False, True])
@pytest.mark.parametrize("frame", FRAMES.values(), ids=FRAMES)
def test_what_all_documents_share_is_not_cut_out_of_them(frame: str, given: bool) -> None:
    texts = dialogues(120, frame)
    held_out = held_out_text(texts[:12], training=texts[12:], given=given)
    for text in texts[12:]:
        assert decontaminate(text, hash_words(text), held_out, 64).pieces == [text]


@pytest.mark.parametrize("frame", FRAMES.values(), ids=FRAMES)
def test_a_copy_in_a_frame_is_found_by_what_is_not_frame(frame: str) -> None:
    texts = dialogues(120, frame)
    copies = [every_twelfth_changed(text) for text in texts[:6]]
    training = texts[12:] + copies
    held_out = held_out_text(texts[:12], training=training)
    for copy in copies:
        assert decontaminate(copy, hash_words(copy), held_out, 64).pieces == []
    own = dialogues(1, "{answer}", seed=5, answer_words=300)[0]
    turn = texts[3][len(texts[3]) // 4 : len(texts[3]) // 2]
    left = "".join(decontaminate(own + turn + own[::-1], hash_words(own + turn + own[::-1]), held_out, 64).pieces)
    assert own in left and own[::-1] in left
    stretches = [turn[n : n + 80] for n in range(len(turn) - 80)]
    leaked = [stretch for stretch in stretches if stretch in left]
    assert all(any(stretch in other for other in texts[12:]) for stretch in leaked), "only the frame is left"


def test_a_question_that_was_copied_to_many_places_is_a_leak() -> None:
    """Of a given evaluation set; what a split shares with as many is how the sources are."""
    question = " ".join(f"question{n}" for n in range(40))
    sets = [question, *dialogues(30, "{question}", seed=1)]
    own = dialogues(2000, "{answer}", seed=2, answer_words=15)
    training = own + [f"{text}\n{question}\n{text[::-1]}" for text in own[:15]]
    asked, drawn = (held_out_text(sets, training=training, given=given) for given in (True, False))
    host = training[-1]
    assert question not in "".join(decontaminate(host, hash_words(host), asked, 1).pieces)
    assert decontaminate(host, hash_words(host), drawn, 1).pieces == [host]


def test_in_a_small_corpus_a_twentieth_of_the_documents_is_many() -> None:
    """Of a split. Ten documents of fifty would be cut to pieces otherwise, and their like in the holdout not."""
    frame = " ".join(f"frame{n}" for n in range(30))
    own = dialogues(50, "{answer}", seed=4)
    for framed, whole in ((2, False), (6, True)):
        training = [f"{frame}\n{text}" for text in own[:framed]] + own[framed:49]
        held_out = held_out_text([f"{frame}\n{own[49]}"], training=training)
        left = decontaminate(training[0], hash_words(training[0]), held_out, 64).pieces
        assert (left == [training[0]]) == whole


def test_frequencies_of_parts_add_up() -> None:
    texts = library_texts(12)
    windows = Windows([HeldOutDocument(hash_words(text), False) for text in texts[:3]], 13)

    def counted(part: list[str]) -> Frequencies:
        return Frequencies.of(windows, (windows.found(hash_words(text)) for text in part))

    whole, parts = counted(texts), counted(texts[7:]) + counted(texts[:7])
    assert whole.documents == parts.documents == 12
    assert (whole.counts == parts.counts).all()
    assert whole.counts.max() > 1


def test_a_document_that_would_be_shredded_is_dropped() -> None:
    own = dialogues(1, "{answer}", answer_words=1500)[0].split()
    held_out = dialogues(30, "{answer}", seed=3, answer_words=15)
    shreds = " ".join(" ".join(own[40 * n : 40 * n + 40]) + " " + quote[:200] for n, quote in enumerate(held_out))
    kept = held_out_text(held_out)
    assert decontaminate(shreds, hash_words(shreds), kept, 64).pieces == []
    few = " ".join(own[:2000]) + " " + held_out[0][:200] + " " + " ".join(own[2000:4000])
    assert len(decontaminate(few, hash_words(few), kept, 64).pieces) == 2
