"""JSON lines, plain or compressed, record by record; what is broken says where."""

import gzip
import io
import json
import zlib
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import IO, Any

import zstandard

from tenfold.data.records import RawRecord, Reject

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
