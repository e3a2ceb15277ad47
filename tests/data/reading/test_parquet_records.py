"""Parquet in bounded memory: rows read at once are few where a value may be large."""

from pathlib import Path

import pyarrow
import pytest
from pyarrow import parquet

from tenfold.data.reading import parquet_records
from tenfold.data.reading.inputs import InputFile
from tenfold.data.reading.parquet_records import UnreadableParquet, columns_of, parquet_cells
from tests.data.texts import library_texts


def stored(path: Path, table: pyarrow.Table, **options: object) -> InputFile:
    parquet.write_table(table, path, **options)
    return InputFile.local(path)


def rows_at_once(file: InputFile) -> int:
    chunk = parquet.ParquetFile(file.name).metadata.row_group(0).column(0)
    with file.opened() as raw:
        return parquet_records._batch_rows(chunk, 10_000, raw)


def test_a_value_repeated_many_times_is_read_in_small_batches(tmp_path: Path) -> None:
    column = pyarrow.DictionaryArray.from_arrays(pyarrow.array([0] * 10_000, pyarrow.int32()), ["x" * (1 << 20)])
    file = stored(tmp_path / "a.parquet", pyarrow.table({"text": column}), compression="zstd")
    assert file.size < 1_000
    assert rows_at_once(file) * (1 << 20) <= parquet_records.DICTIONARY_BATCH_BYTES
    values = (value for _, value in parquet_cells(file, "text"))
    assert next(values) == b"x" * (1 << 20)


def test_large_rows_are_read_few_at_a_time(tmp_path: Path) -> None:
    file = stored(tmp_path / "a.parquet", pyarrow.table({"text": ["y" * 999 + str(n) for n in range(10_000)]}))
    assert rows_at_once(file) * 1_000 <= 2 * parquet_records.BATCH_BYTES
    assert len(list(parquet_cells(file, "text"))) == 10_000


@pytest.mark.parametrize("kind", ["string", "large_string", "string_view", "binary", "large_binary", "binary_view"])
def test_text_in_every_type_that_can_hold_it(tmp_path: Path, kind: str) -> None:
    texts = library_texts(4)
    column = pyarrow.array([text.encode() for text in texts], "binary").cast("string").cast(kind)
    file = stored(tmp_path / "a.parquet", pyarrow.table({"text": column}))
    assert columns_of(file)[0] == {"text": None}
    assert [value.decode() for _, value in parquet_cells(file, "text") if isinstance(value, bytes)] == texts


def test_columns_that_hold_no_text_are_named_by_type(tmp_path: Path) -> None:
    table = pyarrow.table({"text": [["a"]], "id": [1], "at": [{"x": "y"}], "body": ["b"]})
    columns, _ = columns_of(stored(tmp_path / "a.parquet", table))
    assert columns["body"] is None and columns["id"] == "int64"
    assert str(columns["text"]).startswith("list<") and str(columns["at"]).startswith("struct<")


def test_a_file_cut_short_says_so(tmp_path: Path) -> None:
    file = stored(tmp_path / "a.parquet", pyarrow.table({"text": ["a"] * 99}))
    Path(file.name).write_bytes(Path(file.name).read_bytes()[:-30])
    with pytest.raises(UnreadableParquet):
        columns_of(InputFile.local(Path(file.name)))
