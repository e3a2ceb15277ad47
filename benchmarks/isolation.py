"""Isolation: plant copies of held-out documents in the training sources and count what is left of them.

    python benchmarks/isolation.py [--documents 150] [--json FILE]

Held-out documents are real files of the standard library, given as an evaluation set; the others are training text.
Planted among these: each held-out document as it is, each with 5% of its words changed, and a 60-token excerpt of
each in the middle of an innocent file. A planted copy counts as removed when no run of 13 of its held-out words is left
in any training text (looked for in the decoded shards, word by word). The library has families of files that are
near-copies by nature (one table for each of 80 character sets): a file is innocent when less than a tenth of its runs
stands in other files. An innocent document counts as lost when less than half of its lines are left.
"""

import argparse
import json
import random
import re
import sys
import sysconfig
import tempfile
from pathlib import Path

from tenfold.config import Data
from tenfold.data import Manifest, audit, build_corpus
from tenfold.data.corpus import load_tokenizer, training_documents
from tenfold.data.words import split_words

RUN = 13
EXCERPT_TOKENS = 60
CHANGED = 0.05
RELATED = 0.1


def library_files() -> list[str]:
    """Different files of the standard library, of 2 to 60 kB."""
    paths = [path for path in Path(sysconfig.get_path("stdlib")).rglob("*.py") if "packages" not in str(path)]
    sized = [path for path in paths if 2_000 < path.stat().st_size < 60_000]
    return sorted({path.read_bytes().decode("utf-8", errors="ignore") for path in sized})


def unrelated(texts: list[str]) -> list[str]:
    """Those of which less than a tenth of the runs stands in an earlier one."""
    seen: set[tuple[str, ...]] = set()
    chosen = []
    for text in texts:
        own = runs(text)
        if len(own & seen) < RELATED * len(own):
            chosen.append(text)
        seen |= own
    return chosen


def with_words_changed(text: str, rng: random.Random) -> str:
    """5% of the words replaced by words that occur nowhere."""
    return re.sub(r"\w+", lambda m: f"word{rng.randrange(10**9)}" if rng.random() < CHANGED else m.group(), text)


def excerpt(text: str, rng: random.Random) -> str:
    """About 60 tokens (runs of word characters or of punctuation) of the text, as they stand."""
    spans = [match.span() for match in re.finditer(r"\w+|[^\w\s]+", text)]
    first = rng.randrange(max(1, len(spans) - EXCERPT_TOKENS))
    return text[spans[first][0] : spans[min(first + EXCERPT_TOKENS, len(spans)) - 1][1]]


def runs(text: str) -> set[tuple[str, ...]]:
    """Every run of 13 words."""
    words = split_words(text)
    return {tuple(words[i : i + RUN]) for i in range(len(words) - RUN + 1)}


def build(sources: dict[str, dict[str, str]], held_out: list[str], work: Path) -> tuple[Path, Manifest]:
    """One source for each kind of text, so that its documents can be told apart in the shards."""
    for name, texts in sources.items():
        (work / name).mkdir(parents=True)
        for file, text in texts.items():
            (work / name / file).write_text(text, encoding="utf-8")
    (work / "held-out").mkdir()
    for number, text in enumerate(held_out):
        (work / "held-out" / f"{number:05d}.txt").write_text(text, encoding="utf-8")
    data = Data.model_validate(
        {
            "sources": [{"kind": "files", "name": name, "paths": [str(work / name)]} for name in sources],
            "holdouts": [{"name": "given", "kind": "files", "paths": [str(work / "held-out")], "max_bytes": 10**9}],
            "tokenizer": {"vocab_size": 1024},
        }
    )
    return work / "data", build_corpus(data, 1, work / "data", work, lambda _: None)


def texts_of(directory: Path, manifest: Manifest, source: str) -> list[str]:
    """Decoded training text of one source."""
    tokenizer = load_tokenizer(directory, manifest)
    found = next(s for s in manifest.sources if s.name == source)
    return [tokenizer.decode_bytes(row).decode("utf-8") for row in training_documents(directory, manifest, found)]


def measure(count: int, seed: int) -> dict[str, float]:
    """Shares removed and lost."""
    rng = random.Random(seed)
    found = library_files()
    rng.shuffle(found)
    files = unrelated(found)
    held_out, innocent = files[:count], files[count:]
    hosts, innocent = innocent[:count], innocent[count:]
    excerpts = [excerpt(text, rng) for text in held_out]
    hosted = [f"{host}\n{piece}\n{host[::-1]}" for host, piece in zip(hosts, excerpts, strict=True)]
    plants = {
        "exact": held_out,
        "edited": [with_words_changed(text, rng) for text in held_out],
        "excerpt": hosted,
        "innocent": innocent,
    }
    named = {kind: {f"{n:05d}.txt": text for n, text in enumerate(texts)} for kind, texts in plants.items()}
    with tempfile.TemporaryDirectory() as work:
        directory, manifest = build(named, held_out, Path(work))
        report = audit(directory)
        left = {kind: texts_of(directory, manifest, kind) for kind in plants}
    held_out_runs = set().union(*map(runs, held_out))
    left_runs = held_out_runs & set().union(*(runs(text) for texts in left.values() for text in texts))
    planted = {"exact": held_out, "edited": plants["edited"], "excerpt": excerpts}
    removed = {
        f"{kind}_removed": sum(not runs(text) & left_runs for text in texts) / len(texts)
        for kind, texts in planted.items()
    }
    kept = "\n".join(left["innocent"])
    lost = sum(text not in kept and share_left(text, kept) < 0.5 for text in innocent)
    return {
        "documents_planted_of_each_kind": count,
        "related_files_left_out": len(found) - len(files),
        "innocent_documents": len(innocent),
        **removed,
        "edited_bytes_left": sum(map(len, left["edited"])) / sum(map(len, plants["edited"])),
        "innocent_lost": lost / len(innocent),
        "audit_passed": report.ok,
    }


def share_left(text: str, kept: str) -> float:
    """Share of a document's lines that are still in training text."""
    lines = [line for line in text.splitlines() if line.strip()]
    return sum(line in kept for line in lines) / max(1, len(lines))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], allow_abbrev=False)
    parser.add_argument("--documents", type=int, default=150)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    result = measure(arguments.documents, arguments.seed)
    if arguments.json:
        arguments.json.write_text(json.dumps(result, indent=2))
    print(json.dumps(result))
    wrong = result["exact_removed"] < 1 or result["edited_removed"] < 0.99 or result["excerpt_removed"] < 0.99
    sys.exit(wrong or result["innocent_lost"] > 0.005)


if __name__ == "__main__":
    main()
