"""Isolation: plant copies of held-out documents in the training sources and count what is left of them.

    python benchmarks/isolation.py [--documents 150] [--json FILE]

Held-out documents are real files of the standard library, given as an evaluation set of which a tenth is scored; the
others are training text. Planted among these: each held-out document as it is; each with 5% of its words changed; each
with every twelfth word changed, so that no run of 12 is left; and a 60-token excerpt of each in the middle of an
innocent file. What is measured is what is left of each planted text in the training text of the very document it was
planted in, found again in the decoded shards: the share of its bytes, counting every stretch of at least 20 characters
that it has in common with that document. A copy counts as removed when at most 5% is left, an excerpt when the longest
stretch left is shorter than 60 characters (about 13 tokens).

The library has families of files that are near-copies by nature (one table for each of 80 character sets): a file is
innocent when less than a tenth of its runs stands in other files. An innocent document counts as lost when less than
half of its lines are left in its own training text; the share of innocent bytes taken is given beside it.
"""

import argparse
import json
import random
import re
import sys
import sysconfig
import tempfile
from itertools import count
from pathlib import Path

from tenfold.config import Data
from tenfold.data import Manifest, audit, build_corpus
from tenfold.data.corpus import load_tokenizer, training_documents
from tenfold.data.words import split_words

RUN = 13
WORD = re.compile(r"\w+|[^\w\s]+")
EXCERPT_TOKENS = 60
CHANGED = 0.05
RELATED = 0.1
STRETCH = 20  # characters
COPY_LEFT = 0.05
EXCERPT_LEFT = 60  # characters


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


def with_every_twelfth_changed(text: str, rng: random.Random) -> str:
    """Every twelfth word, punctuation counted, replaced by one that occurs nowhere."""
    numbers = count(1)
    return WORD.sub(lambda m: m.group() if next(numbers) % 12 else f"word{rng.randrange(10**9)}", text)


def excerpt(text: str, rng: random.Random) -> str:
    """About 60 tokens (runs of word characters or of punctuation) of the text, as they stand."""
    spans = [match.span() for match in WORD.finditer(text)]
    first = rng.randrange(max(1, len(spans) - EXCERPT_TOKENS))
    return text[spans[first][0] : spans[min(first + EXCERPT_TOKENS, len(spans)) - 1][1]]


def runs(text: str) -> set[tuple[str, ...]]:
    """Every run of 13 words."""
    words = split_words(text)
    return {tuple(words[i : i + RUN]) for i in range(len(words) - RUN + 1)}


def build(sources: dict[str, list[str]], held_out: list[str], work: Path) -> tuple[Path, Manifest]:
    """One JSON-lines source for each planted or innocent document, so that each can be found again in the shards."""
    given = []
    for kind, texts in sources.items():
        for number, text in enumerate(texts):
            path = work / f"{kind}-{number:05d}.jsonl"
            path.write_text(json.dumps({"text": text}), encoding="utf-8")
            given.append({"kind": "jsonl", "name": path.stem, "paths": [str(path)]})
    (work / "held-out").mkdir()
    for number, text in enumerate(held_out):
        (work / "held-out" / f"{number:05d}.txt").write_text(text, encoding="utf-8")
    scored = sum(map(len, held_out)) // 10
    data = Data.model_validate(
        {
            "sources": given,
            "holdouts": [{"name": "given", "kind": "files", "paths": [str(work / "held-out")], "max_bytes": scored}],
            "tokenizer": {"vocab_size": 1024},
        }
    )
    return work / "data", build_corpus(data, 1, work / "data", work, lambda _: None)


def texts_of(directory: Path, manifest: Manifest) -> dict[str, list[str]]:
    """Decoded training text of each source, which is one document or its pieces."""
    tokenizer = load_tokenizer(directory, manifest)
    return {
        source.name: [tokenizer.decode_bytes(row).decode() for row in training_documents(directory, manifest, source)]
        for source in manifest.sources
    }


def stretches_left(planted: str, pieces: list[str]) -> list[int]:
    """Lengths of the stretches of `planted`, of at least 20 characters, that stand in one of the pieces."""
    found, start = [], 0
    while start + STRETCH <= len(planted):
        end = start + STRETCH
        hosts = [piece for piece in pieces if planted[start:end] in piece]
        while hosts and end < len(planted):
            longer = [piece for piece in hosts if planted[start : end + 1] in piece]
            if not longer:
                break
            hosts, end = longer, end + 1
        if hosts:
            found.append(end - start)
        start = end if hosts else start + 1
    return found


def measure(planted_count: int, seed: int) -> dict[str, float]:
    """Shares removed and lost."""
    rng = random.Random(seed)
    found = library_files()
    rng.shuffle(found)
    files = unrelated(found)
    held_out, innocent = files[:planted_count], files[planted_count:]
    hosts, innocent = innocent[:planted_count], innocent[planted_count:]
    excerpts = [excerpt(text, rng) for text in held_out]
    plants = {
        "exact": held_out,
        "edited": [with_words_changed(text, rng) for text in held_out],
        "twelfth": [with_every_twelfth_changed(text, rng) for text in held_out],
        "excerpt": [f"{host}\n{piece}\n{host[::-1]}" for host, piece in zip(hosts, excerpts, strict=True)],
        "innocent": innocent,
    }
    with tempfile.TemporaryDirectory() as work:
        directory, manifest = build(plants, held_out, Path(work))
        report = audit(directory)
        left = texts_of(directory, manifest)
    planted = {**{kind: plants[kind] for kind in ("exact", "edited", "twelfth")}, "excerpt": excerpts}
    result: dict[str, float] = {
        "documents_planted_of_each_kind": planted_count,
        "related_files_left_out": len(found) - len(files),
        "innocent_documents": len(innocent),
    }
    for kind, texts in planted.items():
        stretches = [stretches_left(text, left[f"{kind}-{number:05d}"]) for number, text in enumerate(texts)]
        result |= score(kind, texts, stretches)
    kept = [(text, left[f"innocent-{number:05d}"]) for number, text in enumerate(innocent)]
    taken = sum(len(text) - sum(map(len, pieces)) for text, pieces in kept)
    result["innocent_lost"] = sum(share_left(text, pieces) < 0.5 for text, pieces in kept) / len(kept)
    result["innocent_touched"] = sum(pieces != [text] for text, pieces in kept) / len(kept)
    result["innocent_bytes_taken"] = taken / sum(map(len, innocent))
    result["audit_passed"] = report.ok
    return result


def score(kind: str, texts: list[str], stretches: list[list[int]]) -> dict[str, float]:
    """Share of planted texts removed, share of their characters left, longest stretch left."""
    shares = [sum(own) / len(text) for text, own in zip(texts, stretches, strict=True)]
    longest = [max(own, default=0) for own in stretches]
    if kind == "excerpt":
        removed = sum(length < EXCERPT_LEFT for length in longest)
    else:
        removed = sum(share <= COPY_LEFT for share in shares)
    return {
        f"{kind}_removed": removed / len(texts),
        f"{kind}_left": sum(map(sum, stretches)) / sum(map(len, texts)),
        f"{kind}_longest_left": max(longest),
    }


def share_left(text: str, pieces: list[str]) -> float:
    """Share of a document's lines that are still in its own training text."""
    kept = "\n".join(pieces)
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
    targets = {"exact_removed": 1, "edited_removed": 0.99, "twelfth_removed": 0.99, "excerpt_removed": 0.99}
    missed = any(result[key] < target for key, target in targets.items())
    sys.exit(missed or result["innocent_lost"] > 0.005 or not result["audit_passed"])


if __name__ == "__main__":
    main()
