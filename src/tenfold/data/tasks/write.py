"""Last stages: the tokenizer, tokens of each part, and shards of equal length cut from these."""

import json
from collections.abc import Iterator
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from tenfold.core import InputError, digest_of_bytes
from tenfold.data.corpus import token_dtype
from tenfold.data.tasks.beat import worked_off
from tenfold.data.tasks.job import BuildJob, Result
from tenfold.data.tasks.read import DRAW_COLUMNS
from tenfold.data.tasks.tables import Rows, read_bucket
from tenfold.data.tokenizer import Tokenizer
from tenfold.data.word_encoder import WordEncoder

TOKENIZER = "tokenizer.json"
SHARDS = "shards.json"
ENCODE_BATCH = 256  # documents
Tokens = NDArray[np.unsignedinteger]


def train_tokenizer(job: BuildJob, _: int) -> Result:
    """Train the tokenizer, or take the given one."""
    settings = job.data.tokenizer
    if settings.path:
        tokenizer = Tokenizer.load(job.base / settings.path)
    else:
        tokenizer = Tokenizer.train(_sample(job), settings.vocab_size, job.report)
    job.store.write(TOKENIZER, tokenizer.to_json().encode())
    return {"vocab_size": tokenizer.vocab_size}


def _sample(job: BuildJob) -> Iterator[str]:
    """Text to train the tokenizer on, in order: all of it, or documents chosen by the seed."""
    kept, limit = job.training_results("keep"), job.data.tokenizer.train_bytes
    highest = None if sum(each["bytes"] for each in kept.values()) <= limit else _highest_draw(job, limit)
    for number, each in kept.items():
        if each["pieces"]:
            yield from _chosen_pieces(job, number, highest)


def _highest_draw(job: BuildJob, limit: int) -> int:
    """Draws up to this one give texts of about `limit` bytes, one text at least."""
    names = [f"pieces/{number:06d}.draws" for number in range(1, len(job.parts))]
    total, highest = 0, 0
    for bucket in range(job.plan.buckets):
        rows = read_bucket(job.store, names, bucket, job.plan.buckets, DRAW_COLUMNS)
        fitting = int(np.searchsorted(total + np.cumsum(rows[:, 1].astype(np.int64)), limit, side="right"))
        fitting = max(fitting, 0 if total else 1)
        if rows.size and fitting:
            highest = int(rows[min(fitting, len(rows)) - 1, 0])
        total += int(rows[:fitting, 1].sum())
        if fitting < len(rows):
            break
    return highest


def _chosen_pieces(job: BuildJob, number: int, highest: int | None) -> Iterator[str]:
    pieces = Rows(job.store, f"pieces/{number:06d}")
    if highest is None:
        yield from (piece.decode() for piece in pieces)
        return
    names = [f"pieces/{number:06d}.draws"]
    buckets = [read_bucket(job.store, names, each, job.plan.buckets, DRAW_COLUMNS) for each in range(job.plan.buckets)]
    rows = np.concatenate(buckets)
    for place in np.sort(rows[rows[:, 0] <= highest, 2]).tolist():
        yield pieces[place].decode()


@lru_cache(maxsize=1)
def tokenizer_of(job: BuildJob) -> Tokenizer:
    """The corpus's tokenizer."""
    return Tokenizer.from_json(job.store.read(TOKENIZER).decode())


@lru_cache(maxsize=1)
def encoder_of(job: BuildJob) -> WordEncoder:
    """What encodes by it in this process."""
    return WordEncoder(tokenizer_of(job))


def tokenise(job: BuildJob, number: int) -> Result:
    """Tokens of one part's text, each document ended by end-of-document."""
    tokenizer, encoder = tokenizer_of(job), encoder_of(job)
    texts = [piece.decode() for piece in Rows(job.store, f"pieces/{number:06d}")]
    rows = [np.empty(0, dtype=token_dtype(tokenizer.vocab_size))]
    for start in range(0, len(texts), ENCODE_BATCH):
        batch = texts[start : start + ENCODE_BATCH]
        rows += encode_exactly(tokenizer, encoder, batch)
        worked_off(sum(map(len, batch)))
    tokens = np.concatenate(rows)
    job.store.write(f"tokens/{number:06d}", tokens.tobytes())
    return {"tokens": int(tokens.size)}


def encode_exactly(tokenizer: Tokenizer, encoder: WordEncoder, texts: list[str]) -> list[Tokens]:
    """Tokens of each text and an end-of-document.

    Raises InputError when their bytes are not the text's (a given tokenizer may lose some).
    """
    rows = []
    dtype, lengths = token_dtype(tokenizer.vocab_size), tokenizer.byte_lengths
    for text, tokens in zip(texts, encoder.encode_batch(texts), strict=True):
        row = np.append(tokens, tokenizer.end_of_document).astype(dtype)
        size, kept = len(text.encode()), int(lengths[row].sum())
        if kept != size:
            raise InputError(
                f"data.tokenizer.path: this tokenizer does not keep every byte ({text[:40]!r} has {size} bytes, its "
                f"tokens {kept}); use a byte-level one without normalisation"
            )
        rows.append(row)
    return rows


def plan_shards(job: BuildJob, _: int) -> Result:
    """Which tokens make which shard: those of a source one after the other, cut into files of equal length."""
    counts = {number: result["tokens"] for number, result in job.training_results("tokenise").items()}
    shards = []
    for name, _source in job.sources:
        own = [number for number in counts if job.parts[number].source == name]
        shards += list(_shards_of(name, own, [counts[number] for number in own], job.data.shard_tokens))
    job.store.write(SHARDS, json.dumps(shards).encode())
    return {"shards": len(shards)}


def _shards_of(name: str, parts: list[int], counts: list[int], size: int) -> Iterator[dict[str, object]]:
    """Shards of a source: (source, number, slices); a slice is (part, first token, tokens)."""
    starts = np.cumsum([0, *counts])
    for number, begin in enumerate(range(0, int(starts[-1]), size)):
        end = min(begin + size, int(starts[-1]))
        first, last = np.searchsorted(starts, [begin, end - 1], side="right") - 1
        slices = []
        for place in range(int(first), int(last) + 1):
            low, high = max(begin, int(starts[place])), min(end, int(starts[place + 1]))
            if low < high:
                slices.append((parts[place], low - int(starts[place]), high - low))
        yield {"source": name, "number": number, "slices": slices}


def write_shard(job: BuildJob, number: int) -> Result:
    """One shard out of the tokens of several parts."""
    shard = shards_of(job)[number]
    width = token_dtype(tokenizer_of(job).vocab_size).itemsize
    content = b"".join(
        job.store.read_range(f"tokens/{part:06d}", start * width, count * width)
        for part, start, count in shard["slices"]
    )
    file = f"shards/{shard['source']}-{shard['number']:05d}.bin"
    job.store.write(file, content, durable=True)
    return {"file": file, "sha256": digest_of_bytes(content), "tokens": len(content) // width}


@lru_cache(maxsize=1)
def shards_of(job: BuildJob) -> list[Result]:
    """All shards, as `plan_shards` laid them out."""
    shards: list[Result] = json.loads(job.store.read(SHARDS))
    return shards
