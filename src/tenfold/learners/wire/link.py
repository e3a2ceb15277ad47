"""A client: calls, and blobs both ways over several connections, through loss, delay and restarts."""

import json
import queue
import random
import re
import threading
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar

import grpc
from pydantic import ValidationError

from tenfold.core import InputError, TenfoldError, digest_of_bytes
from tenfold.learners.messages import Message, NotAdmitted, Refused, Request, Unreachable, said_of
from tenfold.learners.wire.channels import STREAMS, Channels
from tenfold.learners.wire.framing import CONTROL, GET, PUT, framed, unframed
from tenfold.learners.wire.security import Security, call_headers, check_client
from tenfold.learners.wire.server import LARGEST_CHUNK, MISMATCHES, UNDIVIDED, ByteRange, missing

SMOOTHING = 0.8
SMALLEST_CHUNK = 16 * 1024


FIRST_BACKOFF_S, LONGEST_BACKOFF_S = 0.05, 1.0
IN_FLIGHT = 2  # pieces of a stream at a time: one is sent while another is being acknowledged
PIECE_TIMEOUT_S = 30.0  # a piece is at most half a mebibyte: slower than this is a link that is down
CONTROL_TIMEOUT_S = 10.0
CERTIFICATE_TRIES = 3  # of a certificate that is not accepted: a damaged line may spoil one, not three
ADDRESS = re.compile(r"(?P<host>\[[^\[\]]+\]|[^:\[\]]+):(?P<control>[0-9]{1,5})(:(?P<bulk>[0-9]{1,5}))?")
BROKEN = (grpc.RpcError, OSError)
CERTIFICATE = re.compile(r"CERTIFICATE_VERIFY_FAILED:(?P<why>.*)")
DAMAGED = (ValueError, TypeError, LookupError, AttributeError)  # what it takes to read an answer with flipped bits
T = TypeVar("T")
M = TypeVar("M", bound=Message)


@dataclass
class LinkMeasure:
    """Bytes moved, and smoothed bandwidth (bytes/s) and latency (s, of a control message there and back)."""

    sent: int = 0
    received: int = 0
    bandwidth: float = 0.0
    latency: float = 0.0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def moved(self, sent: int, received: int, seconds: float) -> None:
        """The pieces of a blob went through, those that were missing, in this time without what was said before."""
        if not sent + received:
            return
        with self._lock:
            self.sent, self.received = self.sent + sent, self.received + received
            self.bandwidth = _smoothed(self.bandwidth, (sent + received) / max(seconds, 1e-6))

    def answered(self, seconds: float) -> None:
        """A control message was answered at once."""
        with self._lock:
            self.latency = _smoothed(self.latency, seconds)


def _smoothed(before: float, now: float) -> float:
    return SMOOTHING * before + (1 - SMOOTHING) * now if before else now


def chunks_of(total: int, streams: int) -> list[ByteRange]:
    """[start, end) of the pieces of a blob: smaller and smaller, so that all streams end at about the same time.

    Guided self-scheduling (Polychronopoulos & Kuck 1987, IEEE Trans. Computers C-36): a piece is an eighth of
    what is left for each stream, within bounds: a stream that loses more packets may be several times slower.
    """
    if 0 < total <= UNDIVIDED:
        return [(0, total)]
    smallest = max(SMALLEST_CHUNK, total // (32 * streams))
    chunks: list[ByteRange] = []
    start = 0
    while start < total:
        size = min(LARGEST_CHUNK, max(smallest, (total - start) // (8 * streams)), total - start)
        chunks.append((start, start + size))
        start += size
    return chunks


class _Failed(Exception):
    """One attempt did not succeed; another may."""


class _NotTrusted(_Failed):
    """The other side's certificate was not accepted."""


@dataclass
class Link:
    """A client of one BlobServer. For one thread at a time."""

    address: str
    """HOST:CONTROL_PORT, or HOST:CONTROL_PORT:BULK_PORT where the bulk port is reached under another number."""
    security: Security
    streams: int = STREAMS
    """TCP connections of a blob."""
    patience: float = 60.0
    """Seconds of trying before Unreachable, unless a call says otherwise."""
    measure: LinkMeasure = field(default_factory=LinkMeasure)
    channels: Channels | None = None
    """Connections that it shares with other links to the same host; its own where none are given."""

    def __post_init__(self) -> None:
        self._host, self._control_port, self._given_bulk_port = parse_address(self.address)
        check_client(self._host, self.security)
        self._channels = self.channels or Channels(self._host, self.security, self.streams)
        self._channels.join()
        self._headers = list(call_headers(self.security).items())
        self._bulk_port, self._answers = 0, 0
        self._moved_at = 0.0
        self._closing, self._closed = threading.Event(), threading.Lock()
        self._under_way: set[Any] = set()
        self._random = random.Random()
        self._pool = ThreadPoolExecutor(IN_FLIGHT * self.streams, thread_name_prefix="bulk")

    # Control

    def call(
        self,
        method: str,
        request: dict[str, Any],
        *,
        timeout: float = CONTROL_TIMEOUT_S,
        patience: float | None = None,
    ) -> dict[str, Any]:
        """The answer to a control message. Raises Refused, or Unreachable when patience is used up."""
        body = json.dumps(request).encode()
        return self._persist(lambda left: self._ask(method, body, min(timeout, left)), patience)

    def ask(
        self, request: Request, reply: type[M], *, timeout: float = CONTROL_TIMEOUT_S, patience: float | None = None
    ) -> M:
        """The answer to a request, checked. Raises as `call`; a malformed answer is asked for again."""
        body = json.dumps(request.to_json()).encode()

        def attempt(left: float) -> M:
            answer = self._ask(request.method, body, min(timeout, left))
            try:
                return reply.model_validate(answer)
            except ValidationError as error:
                raise _Failed(f"{request.method}: malformed answer ({said_of(error)})") from error

        return self._persist(attempt, patience)

    def _ask(self, method: str, body: bytes, timeout: float) -> dict[str, Any]:
        began = time.monotonic()
        channel = self._channels.to(self._control_port)
        try:
            answer = json.loads(self._called(channel, CONTROL + method, body, timeout))
        except (*BROKEN, *DAMAGED) as error:
            self._channels.drop(channel)
            raise _as_refusal(error) or _failed(error) from error
        self._answers += 1
        if self._answers > 1:  # connecting takes some round trips more
            self.measure.answered(time.monotonic() - began)
        return _opened(answer)

    def _called(self, channel: Any, method: str, body: bytes, timeout: float) -> bytes:
        """The answer to one call. Ends early when this link is closed."""
        call = channel.unary_unary(method).future(body, timeout=max(0.05, timeout), metadata=self._headers)
        self._under_way.add(call)
        try:
            if self._closing.is_set():
                call.cancel()
            answer: bytes = call.result()
            return answer
        except grpc.FutureCancelledError as error:
            raise OSError("closed") from error
        finally:
            self._under_way.discard(call)

    # Blobs

    def put(
        self, key: str, header: dict[str, Any], data: bytes | memoryview, *, patience: float | None = None
    ) -> dict[str, Any]:
        """Send a blob; what the other side makes of it. Goes on where a broken connection stopped.

        Raises Refused, or Unreachable when patience is used up.
        """
        view = memoryview(data)
        announcement = {"key": key, "header": header, "total": len(view), "sha256": digest_of_bytes(view)}
        return self._persist(lambda left: self._put_once(announcement, view, left), patience)

    def _put_once(self, announcement: dict[str, Any], view: memoryview, left: float) -> dict[str, Any]:
        if 0 < len(view) <= UNDIVIDED and self._bulk_port:
            return self._put_whole(announcement, view, min(left, PIECE_TIMEOUT_S))
        begun = self._ask("_begin", json.dumps(announcement).encode(), min(left, CONTROL_TIMEOUT_S))
        if "reply" not in begun:
            self._learn_bulk_port(begun)
            held = [(int(start), int(end)) for start, end in begun["held"]]
            wanted = missing(chunks_of(len(view), self.streams), held)
            key, timeout = str(announcement["key"]), min(left, PIECE_TIMEOUT_S)
            began = time.monotonic()
            self._in_parallel(wanted, lambda channel, r: self._put_piece(channel, key, view, r, timeout))
            self.measure.moved(_size(wanted), 0, time.monotonic() - began)
        done = self._ask("_complete", json.dumps(announcement).encode(), min(left, CONTROL_TIMEOUT_S))
        if "reply" not in done:
            raise _Failed("not all of it arrived whole")
        reply: dict[str, Any] = done["reply"]
        return reply

    def _put_whole(self, announcement: dict[str, Any], view: memoryview, timeout: float) -> dict[str, Any]:
        """A small blob in one call, as soon as it is known where to."""
        began = time.monotonic()
        with self._at_once() as channel:
            done = self._write(channel, {"whole": announcement}, view, timeout)
        self.measure.moved(len(view), 0, time.monotonic() - began - float(done.get("seconds", 0.0)))
        if "reply" not in done:
            raise _Failed("not all of it arrived whole")
        reply: dict[str, Any] = done["reply"]
        return reply

    @contextmanager
    def _at_once(self) -> Iterator[Any]:
        """The first connection, for one call. Where it fails, the next attempt asks for the port."""
        channel = self._channels.to(self._bulk_port)
        try:
            yield channel
        except (*BROKEN, *DAMAGED) as error:
            if refusal := _as_refusal(error):
                raise refusal from error
            self._channels.drop(channel)
            self._bulk_port = 0
            raise _failed(error) from error
        self._moved_at = time.monotonic()

    def _put_piece(self, channel: Any, key: str, view: memoryview, piece: ByteRange, timeout: float) -> None:
        self._write(channel, {"key": key, "offset": piece[0]}, view[piece[0] : piece[1]], timeout)

    def _write(self, channel: Any, where: dict[str, Any], data: memoryview, timeout: float) -> dict[str, Any]:
        """Bytes over one connection; what is answered."""
        message = framed(where | {"crc": zlib.crc32(data)}, data)
        return _opened(json.loads(self._called(channel, PUT, message, timeout)))

    def get(self, key: str, *, patience: float | None = None) -> tuple[dict[str, Any], bytearray]:
        """Fetch a blob: its header and its bytes, digest checked. Pieces that arrived are kept over broken connections.

        Raises Refused, or Unreachable when patience is used up.
        """
        partial = _Partial()
        header = self._persist(lambda left: self._get_once(key, partial, left), patience)
        return header, partial.data

    def _get_once(self, key: str, partial: "_Partial", left: float) -> dict[str, Any]:
        offer = self._offered(key, partial, left)
        self._learn_bulk_port(offer)
        wanted = missing(chunks_of(partial.total, self.streams), partial.held)
        timeout = min(left, PIECE_TIMEOUT_S)
        began = time.monotonic()
        self._in_parallel(wanted, lambda c, r: partial.take(r, self._get_piece(c, key, partial.sha256, r, timeout)))
        self.measure.moved(0, _size(wanted), time.monotonic() - began)
        if digest_of_bytes(partial.data) != partial.sha256:
            partial.held.clear()
            partial.mismatches += 1
            if partial.mismatches >= MISMATCHES:
                raise Unreachable(f"{self.address}: {key}: not what its digest says, {partial.mismatches} times")
            raise _Failed("damaged on the way")
        header: dict[str, Any] = offer["header"]
        return header

    def _offered(self, key: str, partial: "_Partial", left: float) -> dict[str, Any]:
        """What there is to be fetched: a small blob comes at once, where it is known whom to ask."""
        if not self._bulk_port:
            described = self._ask("_describe", json.dumps({"key": key}).encode(), min(left, CONTROL_TIMEOUT_S))
            partial.expect(str(described["sha256"]), int(described["total"]))
            return described
        began = time.monotonic()
        with self._at_once() as channel:
            said, data = self._read(channel, {"key": key}, min(left, PIECE_TIMEOUT_S))
            offer: dict[str, Any] = said["about"]
            partial.expect(str(offer["sha256"]), int(offer["total"]))
        if len(data) == partial.total and data and not partial.held:
            partial.take((0, len(data)), data)
            self.measure.moved(0, len(data), time.monotonic() - began)
        return offer

    def _get_piece(self, channel: Any, key: str, sha256: str, piece: ByteRange, timeout: float) -> bytes:
        where = {"key": key, "sha256": sha256, "offset": piece[0], "length": piece[1] - piece[0]}
        data = self._read(channel, where, timeout)[1]
        if len(data) != piece[1] - piece[0]:
            raise _Failed("damaged on the way")
        return data

    def _read(self, channel: Any, where: dict[str, Any], timeout: float) -> tuple[dict[str, Any], bytes]:
        """What is said of bytes, and these, unless they were damaged."""
        answer, data = unframed(self._called(channel, GET, json.dumps(where).encode(), timeout))
        said = _opened(answer)
        if zlib.crc32(data) != said["crc"]:
            raise _Failed("damaged on the way")
        return said, data

    def _in_parallel(self, pieces: Sequence[ByteRange], move: Callable[[Any, ByteRange], None]) -> None:
        """Every piece, over all connections. One that fails ends the attempt; pieces that arrived stay."""
        todo: queue.SimpleQueue[ByteRange] = queue.SimpleQueue()
        for piece in pieces:
            todo.put(piece)

        def work(number: int) -> None:
            while not self._closing.is_set():
                try:
                    piece = todo.get_nowait()
                except queue.Empty:
                    return
                channel = self._channels.to(self._bulk_port, number % self._channels.streams)
                try:
                    move(channel, piece)
                except (*BROKEN, *DAMAGED) as error:
                    self._channels.drop(channel)
                    raise _failed(error) from error
                except Refused as error:  # by a server that has started anew, say: what is announced next tells
                    raise _Failed(str(error)) from error
                self._moved_at = time.monotonic()

        try:
            at_a_time = min(IN_FLIGHT * self._channels.streams, len(pieces))
            futures = [self._pool.submit(work, number) for number in range(at_a_time)]
        except RuntimeError as error:  # closed by another thread
            raise _Failed("closed") from error
        for failure in [future.exception() for future in futures]:
            if failure is not None:
                raise failure

    # Connections

    def _learn_bulk_port(self, answer: dict[str, Any]) -> None:
        """A server that was restarted has another one."""
        port = self._given_bulk_port or int(answer["bulk_port"])
        if port != self._bulk_port:
            self._channels.drop_port(self._bulk_port)
            self._bulk_port = port

    def _last_sign(self, began: float) -> float:
        """When a piece last arrived: patience is for a link that is down, not for a blob that is large."""
        return max(began, self._moved_at)

    def _persist(self, attempt: Callable[[float], T], patience: float | None) -> T:
        """Try until it succeeds, is refused, or patience is used up: longer and longer pauses, with jitter."""
        patience = self.patience if patience is None else patience
        began, backoff, not_trusted = time.monotonic(), FIRST_BACKOFF_S, 0
        while True:
            try:
                return attempt(max(0.05, self._last_sign(began) + patience - time.monotonic()))
            except _Failed as error:
                not_trusted = not_trusted + 1 if isinstance(error, _NotTrusted) else 0
                if not_trusted == CERTIFICATE_TRIES:
                    raise NotAdmitted(f"{self.address}: {error}") from error
                pause = backoff * self._random.uniform(0.5, 1.5)
                if time.monotonic() + pause >= self._last_sign(began) + patience or self._closing.wait(pause):
                    raise Unreachable(f"{self.address}: {error}") from error
                backoff = min(LONGEST_BACKOFF_S, 2 * backoff)

    def close(self) -> None:
        """Give up what is under way."""
        with self._closed:
            if self._closing.is_set():
                return
            self._closing.set()
        for call in list(self._under_way):
            call.cancel()
        self._pool.shutdown(wait=False, cancel_futures=True)
        self._channels.leave()


@dataclass
class _Partial:
    """A blob being fetched."""

    sha256: str = ""
    data: bytearray = field(default_factory=bytearray)
    held: list[ByteRange] = field(default_factory=list)
    mismatches: int = 0

    @property
    def total(self) -> int:
        return len(self.data)

    def expect(self, sha256: str, total: int) -> None:
        """Begin anew when it is another blob than before."""
        if sha256 != self.sha256 or total != self.total:
            self.sha256, self.data, self.held = sha256, bytearray(total), []

    def take(self, piece: ByteRange, data: bytes) -> None:
        """Keep a piece that has come."""
        self.data[piece[0] : piece[1]] = data
        self.held.append(piece)


def _size(pieces: Sequence[ByteRange]) -> int:
    return sum(end - start for start, end in pieces)


def parse_address(address: str) -> tuple[str, int, int | None]:
    """Host, control port, bulk port (None: the server says). Raises InputError when it is none."""
    found = ADDRESS.fullmatch(address)
    ports = [int(port) for port in found.group("control", "bulk") if port] if found else []
    if not found or not all(0 < port < 65536 for port in ports):
        raise InputError(f"{address!r}: not an address; write HOST:PORT, as the syncer printed it")
    return found["host"], ports[0], ports[1] if len(ports) == 2 else None


def reached(address: str, host: str) -> str:
    """A server's address, by this host where it says that it listens on all of its machine's."""
    said, _, port = address.rpartition(":")
    return f"{host}:{port}" if said in ("0.0.0.0", "[::]") else address


def _opened(answer: dict[str, Any]) -> dict[str, Any]:
    if "answer" in answer:
        inner: dict[str, Any] = answer["answer"]
        return inner
    if "refused" in answer:
        raise Refused(str(answer["refused"]))
    raise _Failed(str(answer.get("failed", "no answer")))


def _as_refusal(error: BaseException) -> TenfoldError | None:
    """What the server refused outright; None for everything that may go better next time."""
    if not isinstance(error, grpc.RpcError):
        return None
    code, reason = error.code(), str(error.details())
    if code is grpc.StatusCode.UNAUTHENTICATED:
        return NotAdmitted("the syncer does not know this token")
    if code is grpc.StatusCode.PERMISSION_DENIED:
        return NotAdmitted(reason)
    if code is grpc.StatusCode.RESOURCE_EXHAUSTED and "larger than max" in reason:
        return Refused(f"a message that is too long for the other side ({reason})")
    return None


def _failed(error: BaseException) -> _Failed:
    """An attempt that did not succeed, in one line whose end says the cause."""
    if not isinstance(error, grpc.RpcError):
        return _Failed((str(error).splitlines() or [type(error).__name__])[0][:200])
    reason = (str(error.details()).splitlines() or [""])[0]
    found = CERTIFICATE.search(reason)
    if found:
        why = found["why"].strip().removeprefix("unable to get local issuer certificate").strip(" :")
        return _NotTrusted(f"the certificate of the syncer is not accepted: {why or 'it is not the one given'}")
    reason = reason.rsplit("last error: ", 1)[-1].removeprefix("UNAVAILABLE: ")
    return _Failed(reason if len(reason) <= 300 else f"{reason[:100]} … {reason[-200:]}")
