"""Every method gives back what was compressed, in blocks, and says so where the stream breaks off."""

import bz2
import gzip
import io
import lzma
import zipfile
from collections.abc import Callable

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from tenfold.data.reading.decompress import BrokenStream, CannotExpand, expand, method_of
from tests.data.texts import library_texts

TEXT = "".join(library_texts(12)).encode()


def as_zip(content: bytes) -> bytes:
    whole = io.BytesIO()
    with zipfile.ZipFile(whole, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.txt", content)
    return whole.getvalue()


METHODS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "bz2": bz2.compress,
    "xz": lzma.compress,
    "lzma": lambda content: lzma.compress(content, lzma.FORMAT_ALONE),
    "zstd": zstandard.compress,
    "zip": as_zip,
}
EACH = pytest.mark.parametrize("method", METHODS)
FRAMES = pytest.mark.parametrize("method", [name for name in METHODS if name not in ("zip", "lzma")])


def expanded(stored: bytes, size: int = 10_000) -> bytes:
    return b"".join(expand(io.BytesIO(stored), method_of(stored[:16]), size))


@EACH
def test_what_was_compressed_comes_back(method: str) -> None:
    stored = METHODS[method](TEXT)
    assert method_of(stored[:16]) == method
    assert expanded(stored) == TEXT


@FRAMES
def test_streams_one_after_the_other_are_one(method: str) -> None:
    assert expanded(METHODS[method](TEXT[:9_000]) + METHODS[method](TEXT[9_000:])) == TEXT


@EACH
def test_a_stream_that_breaks_off_gives_its_beginning_and_says_so(method: str) -> None:
    stored = METHODS[method](TEXT)
    got = []
    with pytest.raises(BrokenStream):
        got.extend(expand(io.BytesIO(stored[: len(stored) // 2]), method, 1_000))
    assert TEXT.startswith(b"".join(got))


@FRAMES
def test_damage_is_found(method: str) -> None:
    stored = bytearray(METHODS[method](TEXT))
    stored[len(stored) // 2] ^= 0xFF
    with pytest.raises(BrokenStream):
        assert expanded(bytes(stored)) == TEXT
        raise BrokenStream  # zstd without a checksum may not notice, but then nothing is changed


@EACH
def test_no_block_is_large_however_far_a_stream_expands(method: str) -> None:
    stored = METHODS[method](b"a" * (64 << 20))
    assert max(map(len, expand(io.BytesIO(stored), method, 1 << 16))) <= 33 << 20


@given(st.binary(max_size=300))
def test_bytes_that_only_look_compressed_end_in_one_error(tail: bytes) -> None:
    for magic in (b"\x1f\x8b\x08", b"\x28\xb5\x2f\xfd", b"\xfd7zXZ\x00", b"BZh91AY&SY", b"PK\x03\x04"):
        with pytest.raises((BrokenStream, CannotExpand)):
            expanded(magic + tail)
            raise BrokenStream


def test_what_is_not_compressed_is_left_alone() -> None:
    assert expanded(TEXT) == TEXT
    assert method_of(b"BZh is how this text begins") is None


def test_archives_and_missing_packages_are_named() -> None:
    whole = io.BytesIO()
    with zipfile.ZipFile(whole, "w") as archive:
        archive.writestr("a", "1")
        archive.writestr("b", "2")
    with pytest.raises(CannotExpand, match="a zip archive of 2 files; unpack it"):
        expanded(whole.getvalue())
