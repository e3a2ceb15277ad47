"""A server of messages and blobs: two Flight servers on two ports, so that a full bulk link cannot hold up a message.

A blob goes in pieces; those that have arrived wait for the rest over broken connections.
"""

import json
import threading
import time
import zlib
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, Protocol

import pyarrow as pa
import pyarrow.flight as flight
from pydantic import Field

from tenfold.core import TenfoldError, digest_of_bytes
from tenfold.learners.messages import Digest, Message, Refused, Whole, parse
from tenfold.learners.wire.security import CallCheck, Security, check_security, scheme, server_options

LARGEST_CHUNK = 512 * 1024
UNDIVIDED = 128 * 1024  # a blob of so few bytes goes in one call: each costs a round trip and more time than the bytes
HALF_RECEIVED = 64  # blobs under way at a time
HALF_RECEIVED_BYTES = 4 * 1024**3
MISMATCHES = 3  # times that a blob may come whole and yet not be the one that was announced
ByteRange = tuple[int, int]
REPLIES = 1024  # answers remembered, for senders that did not hear them
RECEIVING = 64  # blobs handed to the handler at a time, if no two share a lock
OFFERED = 32  # blobs kept while they are being fetched
LARGEST_MESSAGE = 16 * 1024 * 1024
CLOSING_S = 2.0  # how long calls under way may take to end
TAKEN_S, TAKEN_AGAIN_S = 5.0, 0.25  # a port may be that of a connection that just goes away
BYTES = pa.schema([("bytes", pa.binary())])
ABOUT = b"about"  # key of the metadata that describes a blob
CHECKED_BYTES = pa.schema([("bytes", pa.binary()), ("crc", pa.uint32())])
BlobKey = Annotated[str, Field(max_length=300)]


@dataclass(frozen=True)
class Blob:
    """Bytes to be fetched, and what there is to say about them."""

    header: dict[str, Any]
    data: bytes | memoryview


class Announcement(Message):
    """A blob that is about to come, piece by piece or whole."""

    key: BlobKey
    header: dict[str, Any]
    total: Annotated[int, Field(strict=True)]
    sha256: Digest


class KnownBlob(Message):
    """A blob that may be fetched."""

    key: BlobKey


class BlobPiece(Message):
    """Where the bytes that come with it belong."""

    key: BlobKey
    offset: Annotated[int, Field(strict=True)]
    crc: Whole


class WholeBlob(Message):
    """A small blob in one call; its bytes come with it."""

    whole: Announcement
    crc: Whole


class ByteRangeOf(Message):
    """Bytes of a blob that was described."""

    key: BlobKey
    sha256: Digest
    offset: Annotated[int, Field(strict=True)]
    length: Annotated[int, Field(strict=True)]


class Handler(Protocol):
    """What a server does. Called from many threads; each method may raise Refused.

    Any other TenfoldError means "not now" (a full disk, say): the client tries again.
    """

    def call(self, method: str, request: dict[str, Any]) -> dict[str, Any]:
        """Answer a control message."""

    def admit(self, key: str, header: dict[str, Any], size: int) -> None:
        """Asked before any byte of a blob is taken."""

    def receive(self, key: str, header: dict[str, Any], data: memoryview) -> dict[str, Any]:
        """A blob is here, whole, its digest checked; what is returned reaches the sender."""

    def blob(self, key: str) -> Blob:
        """Give the blob of this key."""

    def rejected(self, reason: str) -> None:
        """Told of everything that was refused: wrong tokens and malformed messages too."""


def missing(wanted: Sequence[ByteRange], held: Sequence[ByteRange]) -> list[ByteRange]:
    """Those of the wanted ranges that lie in none of the held ones."""
    return [(a, b) for a, b in wanted if not any(start <= a and b <= end for start, end in held)]


def joined(ranges: Sequence[ByteRange]) -> list[ByteRange]:
    """The same set of places in as few ranges as possible, in order."""
    found: list[ByteRange] = []
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
    held: list[ByteRange] = field(default_factory=list)
    mismatches: int = 0


class Inbox:
    """Blobs whose bytes are not all here. Bounded: the oldest are forgotten, and their senders send them again."""

    def __init__(self) -> None:
        self._blobs: OrderedDict[str, _Half] = OrderedDict()
        self._lock = threading.Lock()

    def begin(self, key: str, header: dict[str, Any], total: int, sha256: str) -> list[ByteRange]:
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
        if digest_of_bytes(blob.data) != blob.sha256:
            with self._lock:
                blob.held, blob.mismatches = [], blob.mismatches + 1
            if blob.mismatches >= MISMATCHES:
                raise Refused(f"{key[:80]}: not what its digest says, {blob.mismatches} times")
            return None
        return blob.header, memoryview(blob.data).toreadonly()

    def forget(self, key: str) -> None:
        """Drop what has come of this blob."""
        with self._lock:
            self._blobs.pop(key, None)


class BlobServer:
    """Serves a handler until closed."""

    def __init__(
        self,
        handler: Handler,
        security: Security,
        *,
        bind: str = "127.0.0.1",
        control_port: int = 0,
        bulk_port: int = 0,
    ) -> None:
        """Listen at once, or within seconds where somebody's connection holds the port.

        Raises InputError beyond loopback without TLS, TenfoldError when it cannot listen.
        """
        check_security(bind, security)
        self._transfers = _Transfers(handler)
        self._bulk = _listening(_Bulk, self._transfers, security, bind, bulk_port)
        self._transfers.bulk_port = self._bulk.port
        self._control = _listening(_Control, self._transfers, security, bind, control_port)
        self.control_port, self.bulk_port = self._control.port, self._bulk.port
        self.address = f"{_bracketed(bind)}:{self.control_port}"

    def close(self) -> None:
        """Stop listening. Calls under way may end within two seconds; what comes of them later reaches no handler.

        A client that is silent in a call holds up the end of the process, as Arrow waits for it there (a Link: 30 s).
        """
        threads = [threading.Thread(target=server.shutdown, daemon=True) for server in (self._control, self._bulk)]
        for thread in threads:
            thread.start()
        deadline = time.monotonic() + CLOSING_S
        for thread in threads:  # a client that announced a piece and does not send it would hold up its server for good
            thread.join(max(0.0, deadline - time.monotonic()))
        self._transfers.is_closed = True


class _Transfers:
    """What both ports share: blobs coming in, blobs going out, and the handler behind them."""

    def __init__(self, handler: Handler) -> None:
        self.handler, self.bulk_port, self.is_closed = handler, 0, False
        self.inbox = Inbox()
        self._replies: OrderedDict[tuple[str, str], dict[str, Any]] = OrderedDict()
        self._offered: OrderedDict[tuple[str, str], Blob] = OrderedDict()
        self._receiving = [threading.Lock() for _ in range(RECEIVING)]
        self._lock = threading.Lock()

    def answer(self, method: str, request: dict[str, Any]) -> dict[str, Any]:
        """Answer a control message: one about blobs itself, any other through the handler."""
        match method:
            case "_begin":
                return self._begin(parse(Announcement, request, "an announcement"))
            case "_complete":
                return self._complete(parse(Announcement, request, "an announcement"))
            case "_describe":
                return self.offer(parse(KnownBlob, request, "a question for a blob").key)[0]
            case _:
                return self.handler.call(method, request)

    def _begin(self, blob: Announcement) -> dict[str, Any]:
        if not 0 <= blob.total <= HALF_RECEIVED_BYTES:
            raise Refused(f"{blob.key[:80]}: {blob.total} bytes; at most {HALF_RECEIVED_BYTES}")
        with self._lock:
            if (blob.key, blob.sha256) in self._replies:
                return {"reply": self._replies[blob.key, blob.sha256]}
        self.handler.admit(blob.key, blob.header, blob.total)
        held = self.inbox.begin(blob.key, blob.header, blob.total, blob.sha256)
        return {"held": held, "bulk_port": self.bulk_port}

    def take_whole(self, blob: Announcement, data: bytes, crc: int) -> dict[str, Any]:
        """A small blob in one call; the answer is that to `_complete`, with the seconds that handling it took."""
        began = time.monotonic()
        answer = self._begin(blob)
        if "reply" not in answer:
            self.inbox.take(blob.key, 0, data, crc)
            answer = self._complete(blob)
        return answer | {"seconds": time.monotonic() - began}

    def _complete(self, blob: Announcement) -> dict[str, Any]:
        with self._receiving[hash(blob.key) % RECEIVING]:  # a sender that gave up waiting asks again meanwhile
            return self._received(blob.key, blob.sha256)

    def _received(self, key: str, sha256: str) -> dict[str, Any]:
        with self._lock:
            if (key, sha256) in self._replies:
                return {"reply": self._replies[key, sha256]}
        try:
            whole = self.inbox.complete(key, sha256)
            if whole is None:
                return {"incomplete": True}
            reply = self.handler.receive(key, *whole)
        except Refused:
            self.inbox.forget(key)
            raise
        with self._lock:
            self._replies[key, sha256] = reply
            while len(self._replies) > REPLIES:
                self._replies.popitem(last=False)
        self.inbox.forget(key)
        return {"reply": reply}

    def offer(self, key: str) -> tuple[dict[str, Any], Blob]:
        """A blob that may be fetched for a while, and its description."""
        blob = self.handler.blob(key)
        sha256 = digest_of_bytes(blob.data)
        with self._lock:
            self._offered[key, sha256] = blob
            self._offered.move_to_end((key, sha256))
            while len(self._offered) > OFFERED:
                self._offered.popitem(last=False)
        about = {"header": blob.header, "total": len(blob.data), "sha256": sha256, "bulk_port": self.bulk_port}
        return about, blob

    def offered(self, key: str, sha256: str) -> Blob:
        """A blob that was described lately."""
        with self._lock:
            blob = self._offered.get((key, sha256))
        if blob is None:
            raise Refused(f"{key[:80]}: offered too long ago; ask again")
        return blob

    def guarded(self, what: str, act: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """The answer, or why there is none: refused for good, or failed for now."""
        if self.is_closed:
            return {"failed": "closed"}
        try:
            return {"answer": act()}
        except Refused as error:
            self.handler.rejected(str(error))
            return {"refused": str(error)}
        except (TenfoldError, pa.ArrowException) as error:  # Arrow's: cut off or damaged on the way
            return {"failed": str(error).splitlines()[0] if str(error) else type(error).__name__}
        except (LookupError, TypeError, ValueError, AttributeError, RecursionError, OverflowError) as error:
            reason = f"{what[:40]}: malformed ({type(error).__name__}: {str(error)[:80]})"
            self.handler.rejected(reason)
            return {"refused": reason}


class _Control(flight.FlightServerBase):  # type: ignore[misc]
    """Small JSON messages."""

    def __init__(self, transfers: _Transfers, security: Security, bind: str, port: int) -> None:
        self._transfers = transfers
        super().__init__(**_options(transfers, security, bind, port))

    def do_action(self, context: Any, action: Any) -> Iterator[Any]:
        """One message, one answer."""

        def act() -> dict[str, Any]:
            if action.body.size > LARGEST_MESSAGE:
                raise Refused(f"a control message of {action.body.size} bytes")
            request = json.loads(action.body.to_pybytes())
            if not isinstance(request, dict):
                raise ValueError("not a JSON object")
            return self._transfers.answer(str(action.type), request)

        yield flight.Result(json.dumps(self._transfers.guarded(str(action.type), act)).encode())


class _Bulk(flight.FlightServerBase):  # type: ignore[misc]
    """Pieces of blobs, in and out."""

    def __init__(self, transfers: _Transfers, security: Security, bind: str, port: int) -> None:
        self._transfers = transfers
        super().__init__(**_options(transfers, security, bind, port))

    def do_put(self, context: Any, descriptor: Any, reader: Any, writer: Any) -> None:
        """One piece, as the rows of one binary column; the answer says whether it was taken."""

        def act() -> dict[str, Any]:
            piece = _read_piece(reader)  # first: an answer that is given while the other side still writes may be lost
            where = json.loads(descriptor.command)
            if isinstance(where, dict) and "whole" in where:
                blob = parse(WholeBlob, where, "a small blob")
                return self._transfers.take_whole(blob.whole, piece, blob.crc)
            place = parse(BlobPiece, where, "a piece")
            self._transfers.inbox.take(place.key, place.offset, piece, place.crc)
            return {}

        writer.write(json.dumps(self._transfers.guarded("a piece", act)).encode())

    def do_get(self, context: Any, ticket: Any) -> Any:
        """One piece of a blob that was described; or a description, and the blob itself if it is small."""
        found: list[bytes] = []
        about: list[dict[str, Any]] = []

        def act() -> dict[str, Any]:
            where = json.loads(ticket.ticket)
            if isinstance(where, dict) and where.keys() == {"key"}:
                description, whole = self._transfers.offer(parse(KnownBlob, where, "a question for a blob").key)
                about.append(description)
                found.append(bytes(whole.data) if len(whole.data) <= UNDIVIDED else b"")
                return {}
            part = parse(ByteRangeOf, where, "a range")
            blob, end = self._transfers.offered(part.key, part.sha256), part.offset + part.length
            if not (part.offset >= 0 and 0 < part.length <= LARGEST_CHUNK and end <= len(blob.data)):
                raise Refused(f"bytes {part.offset}–{end} of {len(blob.data)}")
            found.append(bytes(blob.data[part.offset : end]))
            return {}

        answer = self._transfers.guarded("a range", act)
        if not found:
            raise flight.FlightServerError(json.dumps(answer))
        checked = [pa.array(found, pa.binary()), pa.array(map(zlib.crc32, found), pa.uint32())]
        schema = CHECKED_BYTES.with_metadata({ABOUT: json.dumps(about[0]).encode()}) if about else CHECKED_BYTES
        return flight.RecordBatchStream(pa.table(checked, schema=schema))


def _read_piece(reader: Any) -> bytes:
    parts: list[bytes] = []
    for chunk in reader:
        if chunk.data.num_columns != 1 or chunk.data.schema.field(0).type != pa.binary():
            raise Refused("a piece comes as one column of bytes")
        parts += chunk.data.column(0).to_pylist()
        if sum(map(len, parts)) > LARGEST_CHUNK:
            raise Refused(f"a piece of more than {LARGEST_CHUNK} bytes")
    return b"".join(parts)


def _listening(kind: Callable[..., Any], transfers: _Transfers, security: Security, bind: str, port: int) -> Any:
    deadline = time.monotonic() + TAKEN_S
    while True:
        try:
            return kind(transfers, security, bind, port)
        except pa.ArrowException as error:
            if time.monotonic() > deadline:
                reason = str(error).splitlines()[0]
                raise TenfoldError(f"{bind}:{port}: cannot listen here ({reason})") from error
        time.sleep(TAKEN_AGAIN_S)


def _options(transfers: _Transfers, security: Security, bind: str, port: int) -> dict[str, Any]:
    return {
        "location": f"{scheme(security.certificate is not None)}://{_bracketed(bind)}:{port}",
        "middleware": {"token": CallCheck(security.token, transfers.handler.rejected)},
        **server_options(security),
    }


def _bracketed(host: str) -> str:
    """As it stands before a colon and a port."""
    return f"[{host}]" if ":" in host and not host.startswith("[") else host
