"""Where text comes from: each source yields raw records in a fixed order, or rejects that say where they stood."""

import glob
import gzip
import importlib.util
import io
import json
import sysconfig
import zlib
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import IO, Any

import zstandard

from tenfold.config import Source
from tenfold.data.records import RawRecord, Reject
from tenfold.errors import InputError

TEXT_SUFFIXES = {".py", ".txt", ".rst", ".md"}
SKIPPED_FOLDERS = {"__pycache__", "site-packages", "dist-packages", ".git", ".venv", "node_modules"}
Records = Iterator[RawRecord | Reject]


def read_source(source: Source, name: str, base: Path) -> Records:
    """Records of one source. Raises InputError when it is missing or holds nothing of its kind."""
    match source.kind:
        case "python-stdlib":
            return read_files(name, stdlib_files(), Path(sysconfig.get_path("stdlib")))
        case "files":
            return read_files(name, expand_paths(source.paths, base), base)
        case "jsonl":
            return _from_each(read_jsonl, name, expand_paths(source.paths, base), source.text_key)
        case "parquet":
            return _from_each(read_parquet, name, expand_paths(source.paths, base), source.text_key)
        case "hf":
            return read_hugging_face(source, name)


def fingerprint_source(source: Source, name: str, base: Path) -> list[tuple[str, int, int]]:
    """Name, size and time of every file of a source: when these change, its text may have changed."""
    match source.kind:
        case "python-stdlib":
            paths = stdlib_files()
        case "hf":
            paths = []  # a remote data set is taken to stay as it is
        case _:
            paths = expand_paths(source.paths, base)
    return [(f"{name}:{path}", (stat := path.stat()).st_size, stat.st_mtime_ns) for path in paths]


def stdlib_files() -> list[Path]:
    """Source and text of the running interpreter's own library, sorted."""
    root = Path(sysconfig.get_path("stdlib"))
    return [path for path in _walk(root) if path.suffix in TEXT_SUFFIXES]


def _walk(root: Path) -> list[Path]:
    """Files below `root`, sorted, without caches and installed packages."""
    inside = (path for path in root.rglob("*") if not SKIPPED_FOLDERS & set(path.relative_to(root).parts))
    return sorted(path for path in inside if path.is_file())


def expand_paths(patterns: Sequence[str], base: Path) -> list[Path]:
    """Files named by paths, folders and globs, sorted. Raises InputError for one that names nothing."""
    found: set[Path] = set()
    for pattern in patterns:
        path = base / pattern
        if path.is_dir():
            matches = _walk(path)
        elif path.exists():
            matches = [path]
        else:
            matches = _glob(path)
        if not matches:
            raise InputError(
                f"{path}: no such file, or an empty folder; data.sources.paths takes files, folders, globs"
            )
        found.update(matches)
    return sorted(found)


def _glob(pattern: Path) -> list[Path]:
    """Files that match an absolute or relative glob, `**` included."""
    first = next((number for number, part in enumerate(pattern.parts) if glob.has_magic(part)), len(pattern.parts))
    root, rest = Path(*pattern.parts[:first]), pattern.parts[first:]
    return [path for path in root.glob(str(Path(*rest))) if path.is_file()] if rest else []


def read_files(name: str, paths: Sequence[Path], base: Path) -> Records:
    """One record a file."""
    for path in paths:
        where = str(path.relative_to(base)) if path.is_relative_to(base) else str(path)
        try:
            yield RawRecord(name, where, path.read_bytes())
        except OSError as error:
            yield Reject(name, where, "unreadable", error.strerror or str(error))


def _from_each(reader: Any, name: str, paths: Sequence[Path], text_key: str) -> Records:
    for path in paths:
        yield from reader(name, path, text_key)


def read_jsonl(name: str, path: Path, text_key: str) -> Records:
    """One record a line of `.jsonl`, `.jsonl.gz` or `.jsonl.zst`.

    A stream that breaks off gives what decoded and one reject. Raises InputError when no record at all has `text_key`.
    """
    keys_seen: set[str] = set()
    good = bad_key = 0
    for number, line in enumerate(_lines(path), start=1):
        where = f"{path}:{number}"
        if isinstance(line, Reject):
            yield Reject(name, where, line.reason, line.detail)
            continue
        if not line.strip():
            continue
        text = _text_of(line, text_key)
        if isinstance(text, str):
            good += 1
            yield RawRecord(name, where, text.encode("utf-8", errors="surrogatepass"))
            continue
        bad_key += text.reason == "missing-key"
        keys_seen.update(text.detail.split(", ") if text.reason == "missing-key" else ())
        yield Reject(name, where, text.reason, text.detail)
    if bad_key and not good:
        raise InputError(f"{path}: no record has the key {text_key!r}; keys there are: {', '.join(sorted(keys_seen))}")


def _text_of(line: bytes, text_key: str) -> str | Reject:
    try:
        value = json.loads(line)
    except ValueError as error:
        return Reject("", "", "invalid-json", str(error))
    if not isinstance(value, dict):
        return Reject("", "", "not-an-object", type(value).__name__)
    if text_key not in value:
        return Reject("", "", "missing-key", ", ".join(map(str, value)))
    text = value[text_key]
    return text if isinstance(text, str) else Reject("", "", "not-text", f"{text_key} is {type(text).__name__}")


def _lines(path: Path) -> Iterator[bytes | Reject]:
    """Lines of a plain or compressed file; where a compressed stream breaks off, one reject ends it."""
    with closing(_open(path)) as stream:
        while True:
            try:
                line = stream.readline()
            except (EOFError, zlib.error, gzip.BadGzipFile, zstandard.ZstdError, OSError) as error:
                yield Reject("", "", "truncated-stream", str(error))
                return
            if not line:
                return
            yield line


def _open(path: Path) -> IO[bytes]:
    try:
        if path.suffix == ".gz":
            return gzip.open(path)  # type: ignore[return-value]
        raw = path.open("rb")
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from error
    return io.BufferedReader(_StrictZstd(raw)) if path.suffix == ".zst" else raw


class _StrictZstd(io.RawIOBase):
    """A zstd stream that says so when it ends in the middle of a frame; the library's reader ends silently."""

    def __init__(self, raw: IO[bytes]) -> None:
        self._raw = raw
        self._decompressor = zstandard.ZstdDecompressor().decompressobj()
        self._waiting = b""
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
        buffer[:size], self._waiting = self._waiting[:size], self._waiting[size:]
        return size

    def _feed(self, block: bytes) -> None:
        while block:
            if self._decompressor.eof:
                self._decompressor = zstandard.ZstdDecompressor().decompressobj()
            self._waiting += self._decompressor.decompress(block)
            block = self._decompressor.unused_data
            self._open_frame = not self._decompressor.eof


def read_parquet(name: str, path: Path, text_key: str) -> Records:
    """One record a row. Raises InputError for a file that is not parquet or lacks the column."""
    import pyarrow
    from pyarrow import parquet

    try:
        file = parquet.ParquetFile(path)
    except (pyarrow.ArrowException, OSError) as error:
        raise InputError(f"{path}: not a parquet file ({str(error).splitlines()[0]})") from None
    if text_key not in file.schema_arrow.names:
        raise InputError(f"{path}: no column {text_key!r}; columns there are: {', '.join(file.schema_arrow.names)}")
    number = 0
    for batch in file.iter_batches(columns=[text_key]):
        for value in batch.column(0).to_pylist():
            number += 1
            if isinstance(value, str):
                yield RawRecord(name, f"{path}:{number}", value.encode())
            else:
                yield Reject(name, f"{path}:{number}", "not-text", type(value).__name__)


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
            else:
                yield Reject(name, f"{where}:{number}", "missing-key", ", ".join(row))
    except (OSError, ValueError) as error:
        raise InputError(f"data set {where}: cannot be read ({str(error).splitlines()[0]})") from error
