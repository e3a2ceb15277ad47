"""Blobs in pieces: which are missing, and where those that are here wait for the rest."""

import hashlib
import threading
import zlib
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from tenfold.core.errors import TenfoldError
from tenfold.learners.wire.answers import Refused

SMALLEST_CHUNK, LARGEST_CHUNK = 16 * 1024, 512 * 1024
UNDIVIDED = 128 * 1024  # a blob of so few bytes goes in one call: each costs a round trip and more time than the bytes
HALF_RECEIVED = 64  # blobs under way at a time
HALF_RECEIVED_BYTES = 4 * 1024**3
MISMATCHES = 3  # times that a blob may come whole and yet not be the one that was announced

Range = tuple[int, int]


def chunks_of(total: int, streams: int) -> list[Range]:
    """[start, end) of the pieces of a blob: smaller and smaller, so that all streams end at about the same time.

    Guided self-scheduling (Polychronopoulos & Kuck 1987, IEEE Trans. Computers C-36): a piece is an eighth of
    what is left for each stream, within bounds: a stream that loses more packets may be several times slower.
    """
    if 0 < total <= UNDIVIDED:
        return [(0, total)]
    smallest = max(SMALLEST_CHUNK, total // (32 * streams))
    chunks: list[Range] = []
    start = 0
    while start < total:
        size = min(LARGEST_CHUNK, max(smallest, (total - start) // (8 * streams)), total - start)
        chunks.append((start, start + size))
        start += size
    return chunks


def missing(wanted: Sequence[Range], held: Sequence[Range]) -> list[Range]:
    """Those of the wanted ranges that lie in none of the held ones."""
    return [(a, b) for a, b in wanted if not any(start <= a and b <= end for start, end in held)]


def joined(ranges: Sequence[Range]) -> list[Range]:
    """The same set of places in as few ranges as possible, in order."""
    found: list[Range] = []
    for start, end in sorted(ranges):
        if found and start <= found[-1][1]:
            found[-1] = (found[-1][0], max(found[-1][1], end))
        else:
            found.append((start, end))
    return found


@dataclass
class _Half:
    """A blob under way."""

    header: dict[str, Any]
    sha256: str
    data: bytearray
    held: list[Range] = field(default_factory=list)
    mismatches: int = 0


class Inbox:
    """Blobs whose bytes are not all here. Bounded: the oldest are forgotten, and their senders send them again."""

    def __init__(self) -> None:
        self._blobs: OrderedDict[str, _Half] = OrderedDict()
        self._lock = threading.Lock()

    def begin(self, key: str, header: dict[str, Any], total: int, sha256: str) -> list[Range]:
        """Expect a blob; what is held of it already, where it is the same one."""
        with self._lock:
            blob = self._blobs.get(key)
            if blob is None or blob.sha256 != sha256 or len(blob.data) != total or blob.header != header:
                self._blobs[key] = blob = _Half(header, sha256, bytearray(total))
            self._blobs.move_to_end(key)
            self._forget_oldest()
            return list(blob.held)

    def _forget_oldest(self) -> None:
        while len(self._blobs) > 1 and (
            len(self._blobs) > HALF_RECEIVED or sum(len(b.data) for b in self._blobs.values()) > HALF_RECEIVED_BYTES
        ):
            self._blobs.popitem(last=False)

    def take(self, key: str, offset: int, piece: bytes, crc: int) -> None:
        """A piece has come. Raises Refused when it is not expected, TenfoldError when it was damaged on the way."""
        with self._lock:
            blob = self._blobs.get(key)
        if blob is None:
            raise Refused(f"{key[:80]}: not announced")
        if offset < 0 or not piece or offset + len(piece) > len(blob.data):
            raise Refused(f"{key[:80]}: bytes {offset}–{offset + len(piece)} of {len(blob.data)}")
        if zlib.crc32(piece) != crc:
            raise TenfoldError(f"{key[:80]}: damaged on the way, at byte {offset}")
        place = (offset, offset + len(piece))
        with self._lock:
            if not missing([place], blob.held):
                return  # whoever reads the whole blob must not see it change
            blob.data[offset : offset + len(piece)] = piece
            blob.held = joined([*blob.held, place])

    def complete(self, key: str, sha256: str) -> tuple[dict[str, Any], memoryview] | None:
        """Header and bytes of a blob that is all here and as announced; else None, and the bytes of a wrong one go.

        Raises Refused when it was wrong too often. Every piece came with a checksum, so the line is not to blame.
        """
        with self._lock:
            blob = self._blobs.get(key)
            if blob is None or blob.sha256 != sha256 or (len(blob.data) and blob.held != [(0, len(blob.data))]):
                return None
        if hashlib.sha256(blob.data).hexdigest() != blob.sha256:
            with self._lock:
                blob.held, blob.mismatches = [], blob.mismatches + 1
            if blob.mismatches >= MISMATCHES:
                raise Refused(f"{key[:80]}: not what its digest says, {blob.mismatches} times")
            return None
        return blob.header, memoryview(blob.data).toreadonly()

    def forget(self, key: str) -> None:
        """No more of this blob."""
        with self._lock:
            self._blobs.pop(key, None)
