"""Texts to token files: shards of the sources, one file for each set of held-out text."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tenfold.config import Source
from tenfold.core.errors import InputError
from tenfold.core.progress import Progress
from tenfold.data.held_out import HeldOutSet
from tenfold.data.ingest import Report
from tenfold.data.manifest import HoldoutText, IsolatedText, SourceText
from tenfold.data.shards import ShardWriter, token_dtype, write_synced
from tenfold.data.sources import LICENCES
from tenfold.data.store import DocumentStore
from tenfold.data.tokenizer import Tokenizer

ENCODE_BATCH = 256  # documents
Tokens = NDArray[np.unsignedinteger]


def write_source(
    directory: Path,
    name: str,
    source: Source,
    pieces: DocumentStore,
    tokenizer: Tokenizer,
    shard_tokens: int,
    report: Report,
) -> SourceText:
    """Shards of one source's documents."""
    numbers = list(pieces.of_source(name))
    writer = ShardWriter(directory, name, shard_tokens, token_dtype(tokenizer.vocab_size))
    tokens = size = 0
    for start in range(0, len(numbers), ENCODE_BATCH):
        report(Progress(f"tokenising {name}", start, len(numbers), "documents"))
        batch = numbers[start : start + ENCODE_BATCH]
        for row in encode_exactly(tokenizer, [pieces.text(number) for number in batch]):
            writer.append(row)
            tokens += row.size
        size += sum(map(pieces.size, batch))
    licence = source.licence or LICENCES.get(source.kind)
    return SourceText(name, len(numbers), size, tokens, source.weight, licence, writer.close())


def write_scored(directory: Path, held_out: HeldOutSet, store: DocumentStore, tokenizer: Tokenizer) -> HoldoutText:
    """What is scored of one holdout."""
    file = f"holdouts/{held_out.name}.bin"
    tokens, size, digest = _write(directory / file, held_out.scored, store, tokenizer)
    return HoldoutText(held_out.name, str(held_out.kind), len(held_out.scored), size, tokens, file, digest)


def write_isolated(directory: Path, held_out: HeldOutSet, store: DocumentStore, tokenizer: Tokenizer) -> IsolatedText:
    """What is kept out without being scored, so that the audit can look for it too."""
    file = held_out.rest_file
    tokens, size, digest = _write(directory / file, held_out.rest, store, tokenizer)
    return IsolatedText(held_out.name, len(held_out.rest), size, tokens, file, digest)


def _write(path: Path, numbers: Sequence[int], store: DocumentStore, tokenizer: Tokenizer) -> tuple[int, int, str]:
    """(tokens without end-of-document, bytes of text, sha256 of the file)."""
    rows = encode_exactly(tokenizer, [store.text(number) for number in numbers])
    digest = write_synced(path, np.concatenate(rows).tobytes())
    return sum(row.size - 1 for row in rows), sum(map(store.size, numbers)), digest


def encode_exactly(tokenizer: Tokenizer, texts: list[str]) -> list[Tokens]:
    """Tokens of each text and an end-of-document.

    Raises InputError when their bytes are not the text's (a given tokenizer may lose some).
    """
    rows = []
    dtype, lengths = token_dtype(tokenizer.vocab_size), tokenizer.byte_lengths
    for text, tokens in zip(texts, tokenizer.encode_batch(texts), strict=True):
        row = np.asarray([*tokens, tokenizer.end_of_document], dtype=dtype)
        size, kept = len(text.encode()), int(lengths[row].sum())
        if kept != size:
            raise InputError(
                f"data.tokenizer.path: this tokenizer does not keep every byte ({text[:40]!r} has {size} bytes, its "
                f"tokens {kept}); use a byte-level one without normalisation"
            )
        rows.append(row)
    return rows
