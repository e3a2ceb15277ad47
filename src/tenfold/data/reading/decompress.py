"""Decompression in bounded memory, by what a file holds and not by its name."""

import bz2
import io
import lzma
import zipfile
import zlib
from collections.abc import Callable, Iterator
from typing import IO, Protocol

import fsspec.compression
import zstandard

BLOCK = 1 << 20
"""Bytes read and yielded at once, about."""
MEMORY = 256 << 20
"""Bytes that the decompressor itself may take."""
ZSTD_STEP = 1 << 10
"""Bytes fed at once. A block of zstd is four bytes or more, 128 KiB of text or less: so no answer is large."""
MAGIC = (
    (b"\x1f\x8b\x08", "gzip"),
    (b"\x28\xb5\x2f\xfd", "zstd"),
    (b"\xfd7zXZ\x00", "xz"),
    (b"BZh", "bz2"),
    (b"]\x00\x00", "lzma"),
    (b"\x04\x22\x4d\x18", "lz4"),
    (b"\xff\x06\x00\x00sNaPpY", "snappy"),
    (b"PK\x03\x04", "zip"),
)
SUFFIXES = (".gz", ".gzip", ".zst", ".zstd", ".xz", ".bz2", ".lzma", ".lz4", ".sz", ".zip")
"""Endings of names of compressed files, so that the one before it counts."""
DOCUMENTS = {
    "[Content_Types].xml": "an Office document",
    "mimetype": "an OpenDocument or EPUB document",
    "META-INF/MANIFEST.MF": "a Java archive",
}
"""Members by which archives that are documents are known."""
NEEDS = {"lz4": "lz4", "snappy": "python-snappy"}
"""What has to be installed for a method that fsspec knows and the standard library does not."""


class BrokenStream(Exception):
    """Compressed bytes that break off or are damaged; the message says how."""


class CannotExpand(Exception):
    """Bytes that cannot be decompressed here; the message says what to do, `reason` is as in rejects.jsonl."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason


class _Decompressor(Protocol):
    @property
    def eof(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    def decompress(self, data: bytes, max_length: int = ..., /) -> bytes: ...


def method_of(head: bytes) -> str | None:
    """How bytes are compressed, by their beginning; None where they are not."""
    method = next((name for magic, name in MAGIC if head.startswith(magic)), None)
    if method == "bz2" and head[4:10] not in (b"1AY&SY", b"\x17rE8P\x90"):
        return None
    return method


def expand(raw: IO[bytes], method: str | None, size: int = BLOCK) -> Iterator[bytes]:
    """The bytes of a stream, decompressed, in blocks of about `size` bytes.

    Raises BrokenStream where they cannot be read on, CannotExpand where the method is not known here.
    """
    match method:
        case None:
            return iter(lambda: raw.read(size), b"")
        case "gzip":
            return _zlib_blocks(raw, size)
        case "bz2":
            return _blocks(raw, size, bz2.BZ2Decompressor)
        case "xz" | "lzma":
            return _blocks(raw, size, lambda: lzma.LZMADecompressor(memlimit=MEMORY))
        case "zstd":
            return _zstd_blocks(raw, size)
        case "zip":
            return _only_member(raw, size)
        case _:
            return _by_fsspec(raw, size, method)


def _blocks(raw: IO[bytes], size: int, new: Callable[[], _Decompressor]) -> Iterator[bytes]:
    """Of decompressors that keep what they have not worked off yet."""
    decompressor, data, begun = new(), b"", False
    while True:
        if not data and getattr(decompressor, "needs_input", True) and not (data := raw.read(size)):
            break
        try:
            block = decompressor.decompress(data, size)
        except (OSError, EOFError, lzma.LZMAError) as error:
            raise BrokenStream(str(error)) from error
        data, begun = b"", True
        if block:
            yield block
        if decompressor.eof:
            data, begun = decompressor.unused_data.lstrip(b"\0"), False
            decompressor = new()
    if begun:
        raise BrokenStream("ends in the middle of the stream")


def _zlib_blocks(raw: IO[bytes], size: int) -> Iterator[bytes]:
    decompressor, data, begun = zlib.decompressobj(31), b"", False
    while data := data or raw.read(size):
        if not begun and not (data := data.lstrip(b"\0")):  # padding between and after the members
            continue
        try:
            block = decompressor.decompress(data, size)
        except zlib.error as error:
            raise BrokenStream(str(error)) from error
        data, begun = decompressor.unconsumed_tail, True
        if block:
            yield block
        if decompressor.eof:
            data, begun = decompressor.unused_data, False
            decompressor = zlib.decompressobj(31)
    if begun:
        raise BrokenStream("ends in the middle of the stream")


def _zstd_blocks(raw: IO[bytes], size: int) -> Iterator[bytes]:
    """Frame by frame: the library's own reader ends silently in the middle of one."""
    decompressor, begun, ready, waiting = zstandard.ZstdDecompressor().decompressobj(), False, [], 0
    for stored in iter(lambda: raw.read(size), b""):
        for start in range(0, len(stored), ZSTD_STEP):
            data = stored[start : start + ZSTD_STEP]
            while data:
                try:
                    ready.append(decompressor.decompress(data))
                except zstandard.ZstdError as error:
                    raise BrokenStream(str(error)) from error
                waiting, data, begun = waiting + len(ready[-1]), decompressor.unused_data, not decompressor.eof
                if decompressor.eof:
                    decompressor = zstandard.ZstdDecompressor().decompressobj()
            if waiting >= size:
                yield b"".join(ready)
                ready, waiting = [], 0
    if waiting:
        yield b"".join(ready)
    if begun:
        raise BrokenStream("ends in the middle of a frame")


def _only_member(raw: IO[bytes], size: int) -> Iterator[bytes]:
    try:
        with zipfile.ZipFile(raw) as archive:
            members = [member for member in archive.infolist() if not member.is_dir()]
            if what := next((DOCUMENTS[each.filename] for each in members if each.filename in DOCUMENTS), None):
                raise CannotExpand("binary", f"{what}; save it as text")
            if len(members) != 1:
                raise CannotExpand("archive", f"a zip archive of {len(members):,} files; unpack it")
            with archive.open(members[0]) as member:
                yield from iter(lambda: member.read(size), b"")
    except RuntimeError as error:  # a password is asked for
        raise CannotExpand("compressed", f"a zip archive that cannot be opened ({error})") from error
    except (zipfile.BadZipFile, zlib.error, EOFError, lzma.LZMAError) as error:
        raise BrokenStream(str(error)) from error


def _by_fsspec(raw: IO[bytes], size: int, method: str) -> Iterator[bytes]:
    opener = fsspec.compression.compr.get(method)
    if opener is None:
        raise CannotExpand("compressed", f"compressed with {method}; `pip install {NEEDS[method]}`, or decompress it")
    try:
        stream: io.BufferedIOBase = opener(raw, mode="rb")
        yield from iter(lambda: stream.read(size), b"")
    except (RuntimeError, EOFError, OSError) as error:
        raise BrokenStream(str(error)) from error
