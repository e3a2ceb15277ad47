"""A server of messages and blobs: two gRPC servers on two ports, so that a full bulk link cannot hold up a message.

A blob goes in pieces; those that have arrived wait for the rest over broken connections.
"""

import errno
import json
import socket
import threading
import time
import zlib
from collections import OrderedDict
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field
from typing import Annotated, Any, Protocol

import grpc
from pydantic import Field

from tenfold.core import InputError, TenfoldError, digest_of_bytes, file_limit
from tenfold.learners.fields import Digest, Whole
from tenfold.learners.messages import Message, Refused, parse
from tenfold.learners.wire.framing import CONTROL, GET, PUT, framed, unframed
from tenfold.learners.wire.security import CallCheck, Security, check_security, server_credentials

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
LARGEST_PIECE = LARGEST_CHUNK + 4 * 1024 * 1024  # a small blob comes with its header, which holds a history
CLOSING_S = 2.0  # how long calls under way may take to end
TAKEN_S, TAKEN_AGAIN_S = 5.0, 0.25  # a port may be that of a connection that just goes away
CALLS = 4096  # at a time; a learner keeps a few
HANDSHAKE_S = 5.0  # a connection that has not said what it wants by then is closed
IDLE_S = 60.0  # so is one without a call for so long: a learner speaks several times a second
CONNECTIONS = 8192  # at most so many to one port, and never more than a third of the files this process may open
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

        Raises InputError beyond loopback without TLS, for a certificate that does not serve, or when it cannot listen.
        """
        check_security(bind, security)
        self._transfers = _Transfers(handler)
        transfers = self._transfers
        self._bulk = _listening(_BulkCalls(transfers), LARGEST_PIECE, transfers, security, bind, bulk_port)
        transfers.bulk_port = self._bulk.port
        try:
            self._control = _listening(
                _ControlCalls(transfers), LARGEST_MESSAGE, transfers, security, bind, control_port
            )
        except BaseException:
            self._bulk.stop()
            raise
        self.control_port, self.bulk_port = self._control.port, self._bulk.port
        self.address = f"{_bracketed(bind)}:{self.control_port}"

    def close(self) -> None:
        """Stop listening. Calls under way may end within two seconds; what comes of them later reaches no handler."""
        threads = [threading.Thread(target=server.stop, daemon=True) for server in (self._control, self._bulk)]
        for thread in threads:
            thread.start()
        deadline = time.monotonic() + CLOSING_S + 1.0
        for thread in threads:
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
        except TenfoldError as error:
            return {"failed": str(error).splitlines()[0] if str(error) else type(error).__name__}
        except (LookupError, TypeError, ValueError, AttributeError, RecursionError, OverflowError) as error:
            reason = f"{what[:40]}: malformed ({type(error).__name__}: {str(error)[:80]})"
            self.handler.rejected(reason)
            return {"refused": reason}


class _ControlCalls(grpc.GenericRpcHandler):  # type: ignore[misc]
    """Small JSON messages: one request, one answer."""

    def __init__(self, transfers: _Transfers) -> None:
        self._transfers = transfers

    def service(self, details: Any) -> Any:
        """The handler of one method; anything else than a message is unknown here."""
        if not details.method.startswith(CONTROL):
            return None
        method = details.method.removeprefix(CONTROL)
        return grpc.unary_unary_rpc_method_handler(lambda body, _: self._answer(method, body))

    def _answer(self, method: str, body: bytes) -> bytes:
        def act() -> dict[str, Any]:
            request = json.loads(body)
            if not isinstance(request, dict):
                raise ValueError("not a JSON object")
            return self._transfers.answer(method, request)

        return json.dumps(self._transfers.guarded(method, act)).encode()


class _BulkCalls(grpc.GenericRpcHandler):  # type: ignore[misc]
    """Pieces of blobs, in and out."""

    def __init__(self, transfers: _Transfers) -> None:
        self._transfers = transfers

    def service(self, details: Any) -> Any:
        """The handler of one method."""
        known = {PUT: self._put, GET: self._get}
        return grpc.unary_unary_rpc_method_handler(known[details.method]) if details.method in known else None

    def _put(self, body: bytes, _: Any) -> bytes:
        """One piece; the answer says whether it was taken."""

        def act() -> dict[str, Any]:
            where, piece = unframed(body)
            if "whole" in where:
                blob = parse(WholeBlob, where, "a small blob")
                return self._transfers.take_whole(blob.whole, piece, blob.crc)
            place = parse(BlobPiece, where, "a piece")
            self._transfers.inbox.take(place.key, place.offset, piece, place.crc)
            return {}

        return json.dumps(self._transfers.guarded("a piece", act)).encode()

    def _get(self, body: bytes, _: Any) -> bytes:
        """One piece of a blob that was described; or a description, and the blob itself if it is small."""
        found: bytes | memoryview = b""

        def act() -> dict[str, Any]:
            nonlocal found
            where = json.loads(body)
            if isinstance(where, dict) and where.keys() == {"key"}:
                about, whole = self._transfers.offer(parse(KnownBlob, where, "a question for a blob").key)
                found = bytes(whole.data) if len(whole.data) <= UNDIVIDED else b""
                return {"about": about, "crc": zlib.crc32(found)}
            part = parse(ByteRangeOf, where, "a range")
            blob, end = self._transfers.offered(part.key, part.sha256), part.offset + part.length
            if not (part.offset >= 0 and 0 < part.length <= LARGEST_CHUNK and end <= len(blob.data)):
                raise Refused(f"bytes {part.offset}–{end} of {len(blob.data)}")
            found = bytes(blob.data[part.offset : end])
            return {"crc": zlib.crc32(found)}

        return framed(self._transfers.guarded("a range", act), found)


class _Listener:
    """One gRPC server on one port. What a stranger may cost is bounded: messages, connections, calls, silence."""

    def __init__(self, calls: Any, largest: int, transfers: _Transfers, security: Security, where: str) -> None:
        """`where`: HOST:PORT. Raises RuntimeError when the port cannot be had."""
        self._calls = ThreadPoolExecutor(CALLS, thread_name_prefix="calls")  # threads are begun as they are needed
        self._server = grpc.server(
            self._calls,
            handlers=[calls],
            interceptors=[CallCheck(security.token, transfers.handler.rejected)],
            maximum_concurrent_rpcs=CALLS,
            options=[
                ("grpc.so_reuseport", 0),
                ("grpc.max_receive_message_length", largest),
                ("grpc.max_send_message_length", -1),
                ("grpc.server_handshake_timeout_ms", int(HANDSHAKE_S * 1000)),
                ("grpc.max_connection_idle_ms", int(IDLE_S * 1000)),
                ("grpc.max_allowed_incoming_connections", min(CONNECTIONS, max(16, file_limit() // 3))),
                ("grpc.http2.min_recv_ping_interval_without_data_ms", 1000),
                ("grpc.http2.max_ping_strikes", 0),
            ],
        )
        credentials = server_credentials(security)
        add = self._server.add_insecure_port if credentials is None else self._server.add_secure_port
        self.port: int = add(where) if credentials is None else add(where, credentials)
        self._server.start()

    def stop(self) -> None:
        """Take no more calls; those under way may end within CLOSING_S."""
        self._server.stop(CLOSING_S).wait(CLOSING_S + 1.0)
        self._calls.shutdown(wait=False, cancel_futures=True)


def _listening(calls: Any, largest: int, transfers: _Transfers, security: Security, bind: str, port: int) -> _Listener:
    deadline = time.monotonic() + TAKEN_S
    where = f"{_bracketed(bind)}:{port}"
    while True:
        try:
            return _Listener(calls, largest, transfers, security, where)
        except RuntimeError as error:
            reason, may_pass = _why_not(bind, port)
            if not may_pass or time.monotonic() > deadline:
                raise InputError(f"{where}: cannot listen here: {reason}") from error
        time.sleep(TAKEN_AGAIN_S)


def _why_not(bind: str, port: int) -> tuple[str, bool]:
    """What the system says when this port is taken the plain way, which gRPC keeps for its log; whether it may pass."""
    try:
        kind, _, _, _, address = socket.getaddrinfo(bind.strip("[]"), port, type=socket.SOCK_STREAM)[0]
        with closing(socket.socket(kind)) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
            probe.listen()
    except socket.gaierror:
        return "no such name or address; set learners.bind to one of this machine", False
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            return "the port is in use by another process; set learners.port to a free one, or 0", True
        return f"{error.strerror}; set learners.bind to an address of this machine", False
    return "the port was in use a moment ago", True


def _bracketed(host: str) -> str:
    """As it stands before a colon and a port."""
    return f"[{host}]" if ":" in host and not host.startswith("[") else host
