"""Where text comes from: each source yields raw records in a fixed order, or rejects that say where they stood."""

import gzip
import importlib.util
import io
import json
import sysconfig
import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from itertools import chain
from pathlib import Path
from typing import IO, Any

import zstandard

from tenfold.config import Source
from tenfold.core import InputError
from tenfold.data.clean import RawRecord, Reject
from tenfold.data.paths import expand_paths, walk

MISSING_KEY = "missing-key"
UNREADABLE = "unreadable"


def read_jsonl(name: str, path: Path, text_key: str) -> Iterator[RawRecord | Reject]:
    """One record a line of `.jsonl`, `.jsonl.gz` or `.jsonl.zst`. A stream that breaks off ends in one reject."""
    for number, line in enumerate(_lines(path), start=1):
        where = f"{path}:{number}"
        if isinstance(line, Reject):
            yield Reject(name, where, line.reason, line.detail)
        elif line.strip():
            text = _text_of(line, text_key)
            if isinstance(text, str):
                yield RawRecord(name, where, text.encode("utf-8", errors="surrogatepass"))
            else:
                yield Reject(name, where, text.reason, text.detail, len(line))


def _text_of(line: bytes, text_key: str) -> str | Reject:
    try:
        value = json.loads(line)
    except RecursionError:
        return Reject("", "", "invalid-json", "nested too deeply")
    except ValueError as error:
        return Reject("", "", "invalid-json", str(error))
    if not isinstance(value, dict):
        return Reject("", "", "not-an-object", type(value).__name__)
    if text_key not in value:
        return Reject("", "", MISSING_KEY, ", ".join(map(str, value)))
    text = value[text_key]
    return text if isinstance(text, str) else Reject("", "", "not-text", f"{text_key} is {type(text).__name__}")


def _lines(path: Path) -> Iterator[bytes | Reject]:
    """Lines of a plain or compressed file; where it cannot be read on, one reject ends it."""
    try:
        stream = _open(path)
    except OSError as error:
        yield Reject("", "", UNREADABLE, error.strerror or str(error))
        return
    with closing(stream):
        while True:
            try:
                line = stream.readline()
            except (EOFError, zlib.error, gzip.BadGzipFile, zstandard.ZstdError) as error:
                yield Reject("", "", "truncated-stream", str(error))
                return
            except OSError as error:
                yield Reject("", "", UNREADABLE, error.strerror or str(error))
                return
            if not line:
                return
            yield line


def _open(path: Path) -> IO[bytes]:
    suffix = path.suffix.lower()
    if suffix == ".gz":
        return gzip.open(path)  # type: ignore[return-value]
    raw = path.open("rb")
    return io.BufferedReader(_StrictZstd(raw)) if suffix == ".zst" else raw


class _StrictZstd(io.RawIOBase):
    """A zstd stream that says so when it ends in the middle of a frame; the library's reader ends silently."""

    def __init__(self, raw: IO[bytes]) -> None:
        self._raw = raw
        self._decompressor = zstandard.ZstdDecompressor().decompressobj()
        self._waiting = memoryview(b"")
        self._open_frame = False

    def readable(self) -> bool:
        return True

    def close(self) -> None:
        self._raw.close()
        super().close()

    def readinto(self, buffer: Any) -> int:
        while not self._waiting:
            block = self._raw.read(1 << 16)
            if not block:
                if self._open_frame:
                    self._open_frame = False
                    raise zstandard.ZstdError("ends in the middle of a frame")
                return 0
            self._feed(block)
        size = min(len(buffer), len(self._waiting))
        buffer[:size], self._waiting = self._waiting[:size], self._waiting[size:]  # a view: nothing is copied twice
        return size

    def _feed(self, block: bytes) -> None:
        parts = []
        while block:
            if self._decompressor.eof:
                self._decompressor = zstandard.ZstdDecompressor().decompressobj()
            parts.append(self._decompressor.decompress(block))
            block = self._decompressor.unused_data
            self._open_frame = not self._decompressor.eof
        self._waiting = memoryview(b"".join(parts))


TEXT_SUFFIXES = {".py", ".txt", ".rst", ".md"}
LICENCES = {"python-stdlib": "PSF-2.0"}
SOURCE_PATHS = "data.sources.paths"
Records = Iterator[RawRecord | Reject]


def source_files(source: Source, base: Path, key: str = SOURCE_PATHS) -> list[Path]:
    """Every file a source reads, sorted; `key` is blamed for a path that names none."""
    match source.kind:
        case "python-stdlib":
            return stdlib_files()
        case "hf":
            return []  # a remote data set is taken to stay as it is
    return expand_paths(source.paths, base, source.kind, key)


def read_source(source: Source, name: str, base: Path, key: str = SOURCE_PATHS) -> Records:
    """Records of one source. Raises InputError when it is missing or holds nothing of its kind."""
    records = read_some(source, name, base, source_files(source, base, key))
    return records if source.kind in ("python-stdlib", "files") else _with_any_key(records, source.text_key)


def read_some(source: Source, name: str, base: Path, files: Sequence[Path]) -> Records:
    """Records of some of a source's files, in order; of a remote data set all."""
    match source.kind:
        case "python-stdlib":
            return read_files(name, files, Path(sysconfig.get_path("stdlib")))
        case "files":
            return read_files(name, files, base)
        case "jsonl":
            return chain.from_iterable(read_jsonl(name, path, source.text_key) for path in files)
        case "parquet":
            return chain.from_iterable(read_parquet(name, path, source.text_key) for path in files)
        case "hf":
            return read_hugging_face(source, name)


def stdlib_files() -> list[Path]:
    """Source and text of the running interpreter's own library, sorted."""
    root = Path(sysconfig.get_path("stdlib"))
    return [path for path in walk(root, follow_links=False) if path.suffix in TEXT_SUFFIXES]


def read_files(name: str, paths: Sequence[Path], base: Path) -> Records:
    """One record a file."""
    for path in paths:
        where = str(path.relative_to(base)) if path.is_relative_to(base) else str(path)
        try:
            yield RawRecord(name, where, path.read_bytes())
        except OSError as error:
            yield Reject(name, where, UNREADABLE, error.strerror or str(error))


def _with_any_key(records: Iterable[RawRecord | Reject], text_key: str) -> Records:
    """The records; InputError when none of them has the key, or no file could be read at all."""
    good, keys, first_bad = 0, set[str](), None
    for record in records:
        if isinstance(record, RawRecord):
            good += 1
        elif record.reason == MISSING_KEY:
            keys.update(record.detail.split(", "))
        if isinstance(record, Reject) and record.reason in (MISSING_KEY, UNREADABLE):
            first_bad = first_bad or record
        yield record
    if not good and first_bad is not None:
        raise nothing_of(text_key, first_bad, keys)


def nothing_of(text_key: str, first_bad: Reject, keys: Iterable[str]) -> InputError:
    """What to say of a source without one good record, by the first bad one."""
    if first_bad.reason == MISSING_KEY:
        return InputError(
            f"{first_bad.where}: no record of this source has the key {text_key!r}; keys there are: "
            f"{', '.join(sorted(keys))}"
        )
    return InputError(f"{first_bad.where}: cannot be read ({first_bad.detail})")


def read_parquet(name: str, path: Path, text_key: str) -> Records:
    """One record a row. A file or row group that cannot be read, or lacks the column, is one reject."""
    import pyarrow
    from pyarrow import parquet

    try:
        file = parquet.ParquetFile(path, page_checksum_verification=True)
    except (pyarrow.ArrowException, OSError) as error:
        yield Reject(name, str(path), UNREADABLE, f"not a parquet file: {_first_line(error)}", path.stat().st_size)
        return
    columns = file.schema_arrow.names
    if text_key not in columns:
        yield Reject(name, str(path), MISSING_KEY, ", ".join(columns), path.stat().st_size)
        return
    number = 0
    for group in range(file.num_row_groups):
        first = number
        try:
            for batch in file.iter_batches(row_groups=[group], columns=[text_key]):
                for value in _cells(batch.column(0)):
                    number += 1
                    where = f"{path}:{number}"
                    is_text = isinstance(value, bytes)
                    yield RawRecord(name, where, value) if is_text else Reject(name, where, "not-text", str(value))
        except (pyarrow.ArrowException, OSError) as error:
            yield Reject(name, f"{path}: row group {group}", UNREADABLE, _first_line(error))
            number = first + file.metadata.row_group(group).num_rows


def _cells(column: Any) -> list[Any]:
    """Text as the bytes it is stored in, so that one broken cell costs one record; else the name of its type."""
    from pyarrow import types

    if types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    if types.is_string(column.type) or types.is_large_string(column.type):
        binary = "large_binary" if types.is_large_string(column.type) else "binary"
        return [value if value is not None else "null" for value in column.cast(binary).to_pylist()]
    return [str(column.type)] * len(column)


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


def read_hugging_face(source: Source, name: str) -> Records:
    """Rows of a Hugging Face data set, streamed. Raises InputError when `datasets` is missing or the set is."""
    if importlib.util.find_spec("datasets") is None:
        raise InputError("a source of kind \"hf\" needs the package datasets; install it: pip install 'tenfold[hf]'")
    import datasets

    where = f"{source.dataset}/{source.subset or 'default'}/{source.split}"
    try:
        rows = datasets.load_dataset(source.dataset, source.subset, split=source.split, streaming=True)
        for number, row in enumerate(rows, start=1):
            text = row.get(source.text_key)
            if isinstance(text, str):
                yield RawRecord(name, f"{where}:{number}", text.encode("utf-8", errors="surrogatepass"))
            elif source.text_key in row:
                yield Reject(name, f"{where}:{number}", "not-text", type(text).__name__)
            else:
                yield Reject(name, f"{where}:{number}", MISSING_KEY, ", ".join(row))
    except (OSError, ValueError, datasets.exceptions.DatasetsError) as error:
        raise InputError(f"data set {where}: cannot be read ({_first_line(error)})") from error
