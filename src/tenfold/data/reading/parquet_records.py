"""Text out of parquet, batch by batch: neither large row groups nor a value repeated a million times take memory."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, Any

import pyarrow
from pyarrow import parquet, types

from tenfold.data.reading.inputs import InputFile

BATCH_BYTES = 8 << 20
"""Bytes of text in one batch, by what the metadata says of its rows."""
DICTIONARY_BATCH_BYTES = 64 << 20
"""Bytes of text in one batch at worst, where rows may all be the longest value of a dictionary."""
MOST_ROWS = 1024
FEW_ROWS = 16
BUFFER = 1 << 20


class UnreadableParquet(Exception):
    """A file, or a row group of it, that cannot be read; the message says why."""


def columns_of(file: InputFile) -> tuple[dict[str, str | None], int]:
    """Columns by name, with the type of those that hold no text; and rows. Raises UnreadableParquet, OSError."""
    with _opened(file) as (opened, _):
        schema, rows = opened.schema_arrow, int(opened.metadata.num_rows)
        return {field.name: None if is_text(field.type) else str(field.type) for field in schema}, rows


def is_text(kind: Any) -> bool:
    """Whether a column is of text, or of bytes that may be text."""
    if types.is_dictionary(kind):
        kind = kind.value_type
    return bool(
        types.is_string(kind)
        or types.is_large_string(kind)
        or types.is_string_view(kind)
        or types.is_binary(kind)
        or types.is_large_binary(kind)
        or types.is_binary_view(kind)
        or types.is_fixed_size_binary(kind)
    )


@contextmanager
def _opened(file: InputFile) -> Iterator[tuple[Any, IO[bytes]]]:
    """The file as parquet, and its bytes."""
    with file.opened() as raw:
        try:
            opened = parquet.ParquetFile(raw, page_checksum_verification=True, pre_buffer=False, buffer_size=BUFFER)
        except (pyarrow.ArrowException, MemoryError) as error:
            raise UnreadableParquet(first_line(error)) from error
        yield opened, raw


def parquet_cells(file: InputFile, column: str) -> Iterator[tuple[int, bytes | UnreadableParquet | None]]:
    """(row, its text as stored) from row 1 on; None for a null. A row group that cannot be read is one item.

    Raises UnreadableParquet, OSError.
    """
    with _opened(file) as (opened, raw):
        number = 0
        for group in range(opened.num_row_groups):
            rows = opened.metadata.row_group(group).num_rows
            first = number
            try:
                for value in _values(opened, group, column, raw):
                    number += 1
                    yield number, value
            except (pyarrow.ArrowException, MemoryError, OSError) as error:
                yield first + 1, UnreadableParquet(f"row group {group} of {rows:,} rows: {first_line(error)}")
            number = first + rows


def _values(opened: Any, group: int, column: str, raw: IO[bytes]) -> Iterator[bytes | None]:
    metadata = opened.metadata.row_group(group)
    chunks = map(metadata.column, range(metadata.num_columns))
    chunk = next(chunk for chunk in chunks if chunk.path_in_schema == column)
    rows = _batch_rows(chunk, metadata.num_rows, raw)
    for batch in opened.iter_batches(batch_size=rows, row_groups=[group], columns=[column]):
        cells = batch.column(0)
        if types.is_dictionary(cells.type):
            cells = cells.cast(cells.type.value_type)
        yield from _as_bytes(cells).to_pylist()


def _batch_rows(chunk: Any, rows: int, raw: IO[bytes]) -> int:
    """Rows read at once, so that a batch stays small whatever its values are."""
    most = BATCH_BYTES * rows // max(chunk.total_uncompressed_size, 1)
    if chunk.has_dictionary_page:  # any row may be the longest value of the dictionary
        most = min(most, DICTIONARY_BATCH_BYTES // _dictionary_size(chunk, raw))
    if any("DELTA_BYTE_ARRAY" in encoding for encoding in chunk.encodings):  # a row may repeat the one before
        most = min(most, FEW_ROWS)
    return int(max(1, min(MOST_ROWS, most)))


def _dictionary_size(chunk: Any, raw: IO[bytes]) -> int:
    """Bytes of the dictionary, decompressed: the second field of its page's header, in Thrift's compact protocol.

    https://github.com/apache/parquet-format/blob/master/src/main/thrift/parquet.thrift, struct PageHeader.
    """
    here = raw.tell()
    raw.seek(chunk.dictionary_page_offset)
    header = raw.read(16)
    raw.seek(here)
    place, numbers = 0, []
    for _ in range(2):
        if header[place : place + 1] != b"\x15":  # the next field, a 32-bit number
            return max(1, int(chunk.total_uncompressed_size))
        number, place = _varint(header, place + 1)
        numbers.append(number >> 1)  # zigzag
    return max(1, numbers[1])


def _varint(content: bytes, place: int) -> tuple[int, int]:
    """A number of seven bits a byte, the lowest first, and where it ends."""
    number = shift = 0
    while place < len(content):
        number |= (content[place] & 0x7F) << shift
        shift, place = shift + 7, place + 1
        if content[place - 1] < 0x80:
            break
    return number, place


def _as_bytes(cells: Any) -> Any:
    """Cells as the bytes they are stored in, so that one broken cell costs one record."""
    if types.is_fixed_size_binary(cells.type):
        return cells.cast("binary")
    return cells.cast("large_binary" if cells.nbytes > 1 << 30 else "binary")


def first_line(error: BaseException) -> str:
    """The first line of an error's text, or its type."""
    return (str(error).splitlines() or [type(error).__name__])[0]
