"""Blobs and messages over real sockets arrive whole or not at all, whatever the line, the server or a stranger does."""

import hashlib
import json
import random
import shutil
import socket
import subprocess
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.flight as flight
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tenfold.core.errors import InputError, TenfoldError
from tenfold.learners.faults.proxy import FaultyProxy
from tenfold.learners.wire import Blob, BlobServer, Link, Refused, Security, Unreachable, parse_address
from tenfold.learners.wire.link import PIECE_TIMEOUT_S
from tenfold.learners.wire.server import (
    HALF_RECEIVED,
    LARGEST_CHUNK,
    MISMATCHES,
    UNDIVIDED,
    Inbox,
    chunks_of,
    joined,
    missing,
)
from tests.waiting import until

SECURITY = Security("secret")
MIB = 1024 * 1024


@dataclass
class Shelf:
    """Keeps what it is sent, by key, and offers it to be fetched; unwell for the first `failures` blobs."""

    failures: list[TenfoldError] = field(default_factory=list)
    slow_s: float = 0.0
    blobs: dict[str, Blob] = field(default_factory=dict)
    reasons: list[str] = field(default_factory=list)
    receipts: int = 0

    def call(self, method: str, request: dict[str, Any]) -> dict[str, Any]:
        if method != "echo":
            raise Refused(f"no method {method}")
        return request

    def admit(self, key: str, header: dict[str, Any], size: int) -> None:
        if size > 64 * MIB:
            raise Refused(f"{size} bytes are too many")

    def receive(self, key: str, header: dict[str, Any], data: memoryview) -> dict[str, Any]:
        self.receipts += 1
        time.sleep(self.slow_s)
        if self.failures:
            raise self.failures.pop(0)
        self.blobs[key] = Blob(header, bytes(data))
        return {"number": self.receipts}

    def blob(self, key: str) -> Blob:
        if key not in self.blobs:
            raise Refused(f"no blob {key}")
        return self.blobs[key]

    def rejected(self, reason: str) -> None:
        self.reasons.append(reason)


@pytest.fixture
def shelf() -> Shelf:
    return Shelf()


@pytest.fixture
def server(shelf: Shelf) -> Iterator[BlobServer]:
    with serving(shelf) as found:
        yield found


@pytest.fixture
def link(server: BlobServer) -> Iterator[Link]:
    with linked(server.address) as found:
        yield found


@contextmanager
def serving(shelf: Shelf, security: Security = SECURITY, **where: Any) -> Iterator[BlobServer]:
    server = BlobServer(shelf, security, **where)
    try:
        yield server
    finally:
        server.close()


@contextmanager
def linked(address: str, security: Security = SECURITY, **how: Any) -> Iterator[Link]:
    link = Link(address, security, **{"patience": 10.0, **how})
    try:
        yield link
    finally:
        link.close()


@contextmanager
def behind_proxies(server: BlobServer) -> Iterator[tuple[str, FaultyProxy, FaultyProxy]]:
    """An address that leads through two bad lines, and these: control, bulk."""
    with FaultyProxy("127.0.0.1", server.control_port) as control, FaultyProxy("127.0.0.1", server.bulk_port) as bulk:
        yield f"127.0.0.1:{control.port}:{bulk.port}", control, bulk


@contextmanager
def meanwhile(act: Callable[[], Any]) -> Iterator[list[Any]]:
    """Acts in a thread; what came of it, value or error, is in the list at the end."""
    result: list[Any] = []

    def run() -> None:
        try:
            result.append(act())
        except TenfoldError as error:
            result.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield result
    finally:
        thread.join(20.0)
    assert not thread.is_alive()


def noise(size: int, seed: int = 0) -> bytes:
    return random.Random(seed).randbytes(size)


def announcement(name: str, data: bytes, /, **changed: Any) -> dict[str, Any]:
    return {"key": name, "header": {}, "total": len(data), "sha256": hashlib.sha256(data).hexdigest(), **changed}


# Bookkeeping


@settings(max_examples=40)
@given(st.integers(0, 40 * MIB), st.integers(1, 32))
def test_chunks_cover_a_blob_once_in_order(total: int, streams: int) -> None:
    chunks = chunks_of(total, streams)
    assert [start for start, _ in chunks] == [0, *(end for _, end in chunks)][: len(chunks)]
    assert (chunks[-1][1] if chunks else 0) == total
    assert all(0 < end - start <= LARGEST_CHUNK for start, end in chunks)


RANGES = st.lists(st.tuples(st.integers(0, 60), st.integers(1, 12)).map(lambda p: (p[0], p[0] + p[1])), max_size=12)


@settings(max_examples=40)
@given(RANGES)
def test_joined_ranges_are_the_same_places_in_order_with_gaps_between(ranges: list[tuple[int, int]]) -> None:
    found = joined(ranges)
    assert {n for a, b in found for n in range(a, b)} == {n for a, b in ranges for n in range(a, b)}
    assert all(one[1] < other[0] for one, other in pairwise(found))


@settings(max_examples=40)
@given(RANGES, RANGES)
def test_missing_ranges_and_held_ones_make_all(wanted: list[tuple[int, int]], held: list[tuple[int, int]]) -> None:
    held = joined(held)
    here = {n for a, b in held for n in range(a, b)}
    assert missing(wanted, held) == [(a, b) for a, b in wanted if not here.issuperset(range(a, b))]


@settings(max_examples=40)
@given(st.binary(max_size=200), st.randoms(use_true_random=False), st.integers(1, 40))
def test_an_inbox_gives_what_was_announced_whatever_the_order(data: bytes, order: random.Random, size: int) -> None:
    inbox, sha256 = Inbox(), hashlib.sha256(data).hexdigest()
    pieces = [data[start : start + size] for start in range(0, len(data), size)]
    numbers = [*range(len(pieces)), *range(0, len(pieces), 3)]
    order.shuffle(numbers)
    assert inbox.begin("k", {"a": 1}, len(data), sha256) == []
    for count, number in enumerate(numbers):
        assert (inbox.complete("k", sha256) is None) == (len(set(numbers[:count])) < len(pieces))
        inbox.take("k", number * size, pieces[number], zlib.crc32(pieces[number]))
    held = inbox.begin("k", {"a": 1}, len(data), sha256)
    assert held == ([(0, len(data))] if data else [])
    header, found = inbox.complete("k", sha256) or ({}, b"")
    assert (header, bytes(found)) == ({"a": 1}, data)


def test_an_inbox_never_gives_other_bytes_than_announced() -> None:
    inbox, data = Inbox(), noise(100)
    sha256 = hashlib.sha256(data).hexdigest()
    for _ in range(MISMATCHES - 1):
        assert inbox.begin("k", {}, 100, sha256) == []
        inbox.take("k", 0, bytes(100), zlib.crc32(bytes(100)))
        assert inbox.complete("k", sha256) is None
    inbox.take("k", 0, bytes(100), zlib.crc32(bytes(100)))
    with pytest.raises(Refused, match="k: not what its digest says"):
        inbox.complete("k", sha256)


def test_a_late_piece_does_not_change_a_blob_that_is_being_read() -> None:
    inbox, data = Inbox(), noise(100)
    sha256 = hashlib.sha256(data).hexdigest()
    inbox.begin("k", {}, 100, sha256)
    inbox.take("k", 0, data, zlib.crc32(data))
    whole = inbox.complete("k", sha256)
    inbox.take("k", 10, bytes(20), zlib.crc32(bytes(20)))
    assert whole is not None
    assert bytes(whole[1]) == data


def test_an_inbox_forgets_the_oldest_of_too_many() -> None:
    inbox = Inbox()
    for number in range(HALF_RECEIVED + 1):
        inbox.begin(f"k{number}", {}, 10, "")
    inbox.take("k1", 0, b"a", zlib.crc32(b"a"))
    with pytest.raises(Refused, match="k0: not announced"):
        inbox.take("k0", 0, b"a", zlib.crc32(b"a"))


# To and fro


@pytest.mark.parametrize("size", [0, 1, 5_000, 8 * MIB])
def test_a_blob_comes_back_as_it_was(link: Link, shelf: Shelf, size: int) -> None:
    data = noise(size)
    assert link.put("k", {"step": 3}, data) == {"number": 1}
    assert shelf.blobs["k"] == Blob({"step": 3}, data)
    assert link.get("k") == ({"step": 3}, bytearray(data))
    assert link.measure.sent == link.measure.received == size
    assert link.measure.latency > 0


def test_a_blob_completed_twice_is_received_once(link: Link, shelf: Shelf) -> None:
    data = noise(100_000)
    reply = link.put("k", {}, data)
    assert link.put("k", {}, data) == reply
    assert link.call("_complete", announcement("k", data)) == {"reply": reply}
    assert shelf.receipts == 1


def test_a_sender_that_did_not_wait_for_the_answer_gets_it_later(link: Link, shelf: Shelf) -> None:
    """Its first question is still being answered when it asks again."""
    shelf.slow_s = 0.5
    with meanwhile(lambda: link.put("k", {}, noise(1000))) as first:
        until(lambda: shelf.receipts == 1)
        assert link.call("_complete", announcement("k", noise(1000))) == {"reply": {"number": 1}}
    assert first == [{"number": 1}]
    assert shelf.receipts == 1


def test_another_blob_of_the_same_key_is_another_blob(link: Link, shelf: Shelf) -> None:
    link.put("k", {}, b"one")
    assert link.put("k", {}, b"two") == {"number": 2}
    assert shelf.blobs["k"].data == b"two"


def test_what_fails_for_now_is_tried_again(link: Link, shelf: Shelf) -> None:
    shelf.failures = [TenfoldError("disk full"), TenfoldError("disk full")]
    assert link.put("k", {}, noise(1000)) == {"number": 3}
    assert shelf.blobs["k"].data == noise(1000)


def test_what_fails_for_now_for_too_long_is_said(link: Link, shelf: Shelf) -> None:
    shelf.failures = [TenfoldError("disk full")] * 100
    with pytest.raises(Unreachable, match="disk full"):
        link.put("k", {}, b"a", patience=0.3)


def test_what_is_refused_is_not_tried_again(link: Link, shelf: Shelf) -> None:
    shelf.failures = [Refused("stale")]
    with pytest.raises(Refused, match="stale"):
        link.put("k", {}, noise(1000))
    assert shelf.receipts == 1
    assert shelf.reasons == ["stale"]


def test_nobody_there_is_unreachable_when_patience_ends() -> None:
    with linked(f"127.0.0.1:{free_port()}") as link:
        began = time.monotonic()
        with pytest.raises(Unreachable):
            link.call("echo", {}, patience=0.5)
        assert time.monotonic() - began < 2.0


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as found:
        return int(found.getsockname()[1])


# Bad lines


def test_a_server_that_starts_anew_in_the_middle_of_a_blob_gets_it_whole(shelf: Shelf) -> None:
    data = noise(4 * MIB)
    with serving(shelf) as first, behind_proxies(first) as (address, _, bulk), linked(address) as link:
        bulk.bandwidth(4 * MIB)
        with meanwhile(lambda: link.put("k", {}, data)) as result:
            time.sleep(0.4)
            first.close()
            assert not result
            assert shelf.receipts == 0
            with serving(shelf, control_port=first.control_port, bulk_port=first.bulk_port):
                bulk.bandwidth(0)
                until(lambda: bool(result))
    assert result == [{"number": 1}]
    assert shelf.blobs["k"].data == data


def test_a_server_that_starts_anew_with_another_bulk_port_is_found(shelf: Shelf) -> None:
    with serving(shelf) as first, linked(first.address) as link:
        link.put("one", {}, noise(1000))
        first.close()
        with serving(shelf, control_port=first.control_port) as second:
            assert second.bulk_port != first.bulk_port
            link.put("two", {}, noise(1000))
    assert set(shelf.blobs) == {"one", "two"}


@pytest.mark.parametrize("size", [0, 1, UNDIVIDED, UNDIVIDED + 1])
def test_small_blobs_go_in_one_call_when_the_bulk_port_is_known(shelf: Shelf, server: BlobServer, size: int) -> None:
    with behind_proxies(server) as (address, control, _), linked(address) as link:
        link.put("first", {}, b"tells the port")
        data = noise(size)
        if 0 < size <= UNDIVIDED:
            control.partition(30.0)  # needed no more
        assert link.put("k", {"a": 1}, data) == {"number": 2}
        assert link.put("k", {"a": 1}, data) == {"number": 2}, "the same again is answered the same, and taken once"
        header, found = link.get("k")
        assert (header, bytes(found)) == ({"a": 1}, data)
        assert link.measure.sent >= size
        with pytest.raises(Refused, match="no blob other"):
            link.get("other")
    assert shelf.receipts == 2


def test_a_small_blob_survives_damage_on_the_way(shelf: Shelf, server: BlobServer) -> None:
    with behind_proxies(server) as (address, _, bulk), linked(address) as link:
        link.put("first", {}, b"tells the port")
        bulk.corrupt(1)
        link.put("k", {}, noise(60_000))
        bulk.corrupt(1)
        assert bytes(link.get("k")[1]) == noise(60_000)
    assert shelf.blobs["k"].data == noise(60_000)


@pytest.mark.parametrize("whole", [3, None, {}, {"key": "k"}, announcement("k", b"") | {"total": 2**60}])
def test_a_malformed_announcement_with_its_bytes_is_refused(server: BlobServer, shelf: Shelf, whole: Any) -> None:
    command = json.dumps({"whole": whole, "crc": zlib.crc32(b"a")}).encode()
    answer = piece_answer(server, command, as_table(b"a"))
    assert shelf.reasons == [answer["refused"]]
    assert shelf.receipts == 0


@pytest.mark.parametrize("data", [b"", b"ab", b"abcd"])
def test_other_bytes_than_announced_are_not_taken(server: BlobServer, shelf: Shelf, data: bytes) -> None:
    command = json.dumps({"whole": announcement("k", b"abc"), "crc": zlib.crc32(data)}).encode()
    answer = piece_answer(server, command, as_table(data))
    assert "refused" in answer or answer["answer"].get("incomplete")
    assert shelf.receipts == 0


def test_what_has_arrived_is_not_sent_again(shelf: Shelf, server: BlobServer) -> None:
    data = noise(4 * MIB)
    with behind_proxies(server) as (address, _, bulk):
        bulk.bandwidth(4 * MIB)
        with linked(address) as link, meanwhile(lambda: link.put("k", {}, data)) as given_up:
            time.sleep(0.6)
            link.close()
        bulk.bandwidth(0)
        assert isinstance(given_up[0], Unreachable)
        with linked(address) as link:
            held = sum(b - a for a, b in link.call("_begin", announcement("k", data))["held"])
            assert 0 < held < len(data)
            link.put("k", {}, data)
    assert shelf.blobs["k"].data == data


@pytest.mark.parametrize("seed", range(3))
def test_damage_on_the_way_is_noticed_and_mended(shelf: Shelf, server: BlobServer, seed: int) -> None:
    data = noise(2 * MIB, seed)
    bulk = FaultyProxy("127.0.0.1", server.bulk_port, seed=seed)
    with bulk, linked(f"{server.address}:{bulk.port}") as link:
        bulk.corrupt(4)
        link.put("k", {}, data)
        assert shelf.blobs["k"].data == data
        bulk.corrupt(4)
        assert link.get("k") == ({}, bytearray(data))


def test_a_cut_of_two_seconds_heals(shelf: Shelf, server: BlobServer) -> None:
    data = noise(2 * MIB)
    with behind_proxies(server) as (address, control, bulk), linked(address) as link:
        bulk.bandwidth(4 * MIB)
        with meanwhile(lambda: link.put("k", {}, data)) as result:
            time.sleep(0.2)
            began = time.monotonic()
            for line in (control, bulk):
                line.partition(2.0)
            time.sleep(1.8)
            assert not result
            until(lambda: bool(result))
            assert time.monotonic() - began < 6.0
    assert result == [{"number": 1}]
    assert shelf.blobs["k"].data == data


def test_a_line_may_be_long(shelf: Shelf, server: BlobServer) -> None:
    """A round trip of 0.4 s; connecting takes several."""
    with behind_proxies(server) as (address, control, bulk), linked(address) as link:
        for line in (control, bulk):
            line.delay(0.2)
        link.put("k", {}, noise(1000), patience=5.0)
    assert shelf.blobs["k"].data == noise(1000)


def test_patience_ends_while_the_line_is_cut(server: BlobServer) -> None:
    with behind_proxies(server) as (address, _, bulk), linked(address) as link:
        link.call("echo", {})
        bulk.partition(60.0)
        began = time.monotonic()
        with pytest.raises(Unreachable):
            link.put("k", {}, noise(1000), patience=0.8)
        assert time.monotonic() - began < 3.0
        bulk.clear()


def test_patience_is_for_a_line_that_is_down_not_for_a_large_blob(shelf: Shelf, server: BlobServer) -> None:
    with behind_proxies(server) as (address, _, bulk), linked(address, streams=2) as link:
        bulk.bandwidth(1 * MIB)
        shelf.failures = [TenfoldError("disk full")]
        assert link.put("k", {}, noise(MIB), patience=0.6) == {"number": 2}


def test_a_link_knows_its_bandwidth(server: BlobServer) -> None:
    """Of what really went: what was there before is not counted, nor the time it took to agree."""
    with behind_proxies(server) as (address, control, bulk), linked(address) as link:
        control.delay(0.2)
        bulk.bandwidth(1 * MIB)
        link.put("k", {}, noise(MIB // 2), patience=20.0)
        assert 0.4 * MIB < link.measure.bandwidth < 1.6 * MIB
        assert 0.4 < link.measure.latency < 2.0


def test_a_full_bulk_line_does_not_hold_up_control(server: BlobServer) -> None:
    with behind_proxies(server) as (address, _, bulk), linked(address) as link, linked(address) as other:
        bulk.bandwidth(2 * MIB)
        with meanwhile(lambda: link.put("k", {}, noise(3 * MIB))) as result:
            time.sleep(0.3)
            times = []
            for number in range(10):
                began = time.monotonic()
                assert other.call("echo", {"number": number}) == {"number": number}
                times.append(time.monotonic() - began)
                time.sleep(0.02)
            assert not result
            assert max(times) < 1.0
            bulk.bandwidth(0)
    assert result == [{"number": 1}]


def test_what_never_is_what_it_was_said_to_be_is_given_up(link: Link, shelf: Shelf) -> None:
    """Not by the line's fault: memory that changes, say. Every attempt sends all of it again, so there are few."""
    data = bytearray(noise(200_000))

    def admit(key: str, header: dict[str, Any], size: int) -> None:
        data[0] = (data[0] + 1) % 256

    shelf.admit = admit  # type: ignore[method-assign]
    for _ in range(2):
        with pytest.raises(Refused, match="not what its digest says, 3 times"):
            link.put("k", {}, memoryview(data), patience=60.0)
    assert not shelf.blobs
    shelf.admit = lambda key, header, size: None  # type: ignore[method-assign]
    assert link.put("k", {}, bytes(data)) == {"number": 1}


@dataclass
class Restless:
    """A blob that is another one whenever it is looked at."""

    header: dict[str, Any] = field(default_factory=dict)
    looks: int = 0

    @property
    def data(self) -> bytes:
        self.looks += 1
        return noise(1000, self.looks)


def test_what_never_is_as_it_was_offered_is_given_up(link: Link, shelf: Shelf) -> None:
    shelf.blobs["k"] = Restless()  # type: ignore[assignment]
    with pytest.raises(Unreachable, match="k: not what its digest says, 3 times"):
        link.get("k", patience=60.0)


def test_a_closing_server_does_not_wait_for_a_client_that_says_no_more(shelf: Shelf) -> None:
    server = BlobServer(shelf, SECURITY)
    client = flight.FlightClient(f"grpc+tcp://127.0.0.1:{server.bulk_port}")
    options = flight.FlightCallOptions(timeout=8.0, headers=[(b"authorization", b"Bearer secret")])
    command = json.dumps({"key": "k", "offset": 0, "crc": 0}).encode()
    writer, _ = client.do_put(flight.FlightDescriptor.for_command(command), as_table(b"a").schema, options)
    time.sleep(0.2)
    began = time.monotonic()
    server.close()
    assert time.monotonic() - began < 4.0
    with pytest.raises(OSError):
        socket.create_connection(("127.0.0.1", server.bulk_port), 1.0)
    with suppress(pa.ArrowException):
        writer.close()
    client.close()


class Forgetful:
    """A line that can lose the connections it has without telling either end; new ones pass."""

    def __init__(self, port: int) -> None:
        self._to, self._lost, self._sockets = port, threading.Event(), list[socket.socket]()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        threading.Thread(target=self._accept, daemon=True).start()

    def lose(self) -> None:
        lost, self._lost = self._lost, threading.Event()
        lost.set()

    def close(self) -> None:
        for each in (self._listener, *self._sockets):
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                ends = (self._listener.accept()[0], socket.create_connection(("127.0.0.1", self._to)))
                self._sockets += ends
                for source, to in (ends, ends[::-1]):
                    threading.Thread(target=self._pass, args=(source, to, self._lost), daemon=True).start()

    @staticmethod
    def _pass(source: socket.socket, to: socket.socket, lost: threading.Event) -> None:
        with suppress(OSError):
            while data := source.recv(1 << 16):
                if not lost.is_set():
                    to.sendall(data)


@pytest.mark.slow
def test_a_peer_that_vanished_without_a_word_is_noticed_by_its_silence(server: BlobServer, shelf: Shelf) -> None:
    """Long before a piece has had its time."""
    line = Forgetful(server.bulk_port)
    with linked(f"{server.address}:{line.port}") as link:
        link.put("one", {}, noise(1000))
        line.lose()
        began = time.monotonic()
        link.put("two", {}, noise(1000), patience=120.0)
        assert time.monotonic() - began < 20.0 < PIECE_TIMEOUT_S
    line.close()
    assert set(shelf.blobs) == {"one", "two"}


# Strangers


@pytest.mark.parametrize("token", ["wrong", "", "s"])
def test_a_wrong_token_is_refused_at_once(server: BlobServer, shelf: Shelf, token: str) -> None:
    with linked(server.address, Security(token)) as link:
        began = time.monotonic()
        with pytest.raises(Refused, match="token"):
            link.call("echo", {})
        with pytest.raises(Refused, match="token"):
            link.put("k", {}, b"a")
        assert time.monotonic() - began < 1.0
    assert shelf.reasons[:1] == ["a call with a wrong token"]
    assert not shelf.blobs


@pytest.mark.parametrize("port", ["control_port", "bulk_port"])
def test_without_a_token_nothing_is_looked_at(server: BlobServer, shelf: Shelf, port: str) -> None:
    with flight.FlightClient(f"grpc+tcp://127.0.0.1:{getattr(server, port)}") as client:
        with pytest.raises(flight.FlightUnauthenticatedError, match="no token"):
            list(client.do_action(flight.Action("echo", b"{}")))
        with pytest.raises(flight.FlightUnauthenticatedError, match="no token"):
            client.do_get(flight.Ticket(b"{}")).read_all()
    assert shelf.reasons == ["a call with no token"] * 2


def test_a_server_without_a_token_does_not_start() -> None:
    with pytest.raises(InputError, match="token"):
        BlobServer(Shelf(), Security(""))


TLS = b"\x16\x03\x01" + bytes(50)
HTTP2 = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + noise(5000)
HTTP = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"
GARBAGE = [noise(100), noise(100_000), HTTP, HTTP2, TLS]


@pytest.mark.parametrize("port", ["control_port", "bulk_port"])
@pytest.mark.parametrize("garbage", GARBAGE, ids=["short", "long", "http", "http2", "tls"])
def test_garbage_does_not_end_a_server(link: Link, server: BlobServer, port: str, garbage: bytes) -> None:
    with socket.create_connection(("127.0.0.1", getattr(server, port)), 2.0) as stranger, suppress(OSError):
        stranger.sendall(garbage)
        stranger.settimeout(0.2)
        stranger.recv(1000)
    assert link.put("k", {}, noise(1000)) == {"number": 1}


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"total": 65 * MIB}, "too many"),
        ({"total": 2**60}, "at most"),
        ({"total": -1}, "at most"),
        ({"total": "1"}, "announced by"),
        ({"total": True}, "announced by"),
        ({"total": 1.0}, "announced by"),
        ({"header": []}, "announced by"),
        ({"key": 3}, "announced by"),
        ({"sha256": None}, "announced by"),
    ],
)
def test_a_wrong_announcement_is_refused(link: Link, shelf: Shelf, changed: dict[str, Any], reason: str) -> None:
    with pytest.raises(Refused, match=reason):
        link.call("_begin", announcement("k", b"a", **changed))
    assert len(shelf.reasons) == 1


@pytest.mark.parametrize("missed", ["key", "total", "sha256", "header"])
def test_an_announcement_that_lacks_something_is_refused(link: Link, shelf: Shelf, missed: str) -> None:
    request = announcement("k", b"a")
    del request[missed]
    with pytest.raises(Refused, match=f"malformed .*{missed}"):
        link.call("_begin", request)
    assert len(shelf.reasons) == 1


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"[]", b"3", b"\xff\xfe", b"[" * 100_000, b'{"a":"' + b"x" * (17 * MIB) + b'"}'],
    ids=["empty", "cut", "list", "number", "bytes", "deep", "huge"],
)
def test_a_malformed_message_is_refused(link: Link, server: BlobServer, shelf: Shelf, body: bytes) -> None:
    with flight.FlightClient(f"grpc+tcp://{server.address}") as client:
        answer = json.loads(next(client.do_action(flight.Action("echo", body), with_token())).body.to_pybytes())
    assert set(answer) == {"refused"}
    assert shelf.reasons == [answer["refused"]]
    assert link.call("echo", {"a": 1}) == {"a": 1}


def with_token() -> Any:
    return flight.FlightCallOptions(timeout=5.0, headers=[(b"authorization", b"Bearer secret")])


def piece_answer(server: BlobServer, command: bytes, table: Any) -> dict[str, Any]:
    """What the server says to a piece, sent past Link."""
    with flight.FlightClient(f"grpc+tcp://127.0.0.1:{server.bulk_port}") as client:
        writer, reader = client.do_put(flight.FlightDescriptor.for_command(command), table.schema, with_token())
        with writer:
            for batch in table.to_batches():
                writer.write_batch(batch)
            writer.done_writing()
            answer: dict[str, Any] = json.loads(reader.read().to_pybytes())
            return answer


def as_table(data: bytes) -> Any:
    return pa.table({"bytes": pa.array([data], pa.binary())})


@pytest.mark.parametrize(
    ("where", "reason"),
    [
        ({"offset": -1}, "bytes -1–9 of 100"),
        ({"offset": 91}, "bytes 91–101 of 100"),
        ({"offset": 2**70}, "of 100"),
        ({"key": "other"}, "other: not announced"),
        ({"offset": "x"}, "malformed"),
        ({"offset": float("inf")}, "malformed (OverflowError"),
        ({"offset": None}, "malformed"),
        ({"crc": []}, "malformed"),
    ],
)
def test_a_wrong_piece_is_refused(
    link: Link, server: BlobServer, shelf: Shelf, where: dict[str, Any], reason: str
) -> None:
    link.call("_begin", announcement("k", bytes(100)))
    command = {"key": "k", "offset": 0, "crc": zlib.crc32(bytes(10)), **where}
    answer = piece_answer(server, json.dumps(command).encode(), as_table(bytes(10)))
    assert reason in answer["refused"]
    assert shelf.reasons == [answer["refused"]]
    assert link.call("_begin", announcement("k", bytes(100)))["held"] == []


@pytest.mark.parametrize(
    ("command", "table"),
    [
        (b"{", as_table(b"a")),
        (b"[]", as_table(b"a")),
        (None, pa.table({"bytes": [1, 2]})),
        (None, pa.table({"bytes": pa.array([None], pa.binary())})),
        (None, pa.table({"a": pa.array([b"a"]), "b": pa.array([b"a"])})),
        (None, as_table(bytes(LARGEST_CHUNK + 1))),
        (None, as_table(b"")),
    ],
    ids=["cut", "list", "numbers", "null", "two-columns", "huge", "empty"],
)
def test_a_malformed_piece_is_refused(
    link: Link, server: BlobServer, shelf: Shelf, command: bytes | None, table: Any
) -> None:
    link.call("_begin", announcement("k", bytes(4 * MIB)))
    whole = json.dumps({"key": "k", "offset": 0, "crc": 0}).encode()
    answer = piece_answer(server, command or whole, table)
    assert shelf.reasons == [answer["refused"]]


def test_a_damaged_piece_is_not_kept_and_may_come_again(link: Link, server: BlobServer, shelf: Shelf) -> None:
    link.call("_begin", announcement("k", bytes(10)))
    command = json.dumps({"key": "k", "offset": 0, "crc": 1}).encode()
    assert "damaged" in piece_answer(server, command, as_table(bytes(10)))["failed"]
    assert not shelf.reasons
    link.put("k", {}, bytes(10))
    assert shelf.blobs["k"].data == bytes(10)


@pytest.mark.parametrize(
    "changed",
    [
        {"offset": -1},
        {"offset": float("inf")},
        {"offset": 5000},
        {"length": 0},
        {"length": -1},
        {"length": 5001},
        {"key": "j"},
        {"sha256": 3},
    ],
)
def test_a_wrong_range_is_refused(link: Link, server: BlobServer, shelf: Shelf, changed: dict[str, Any]) -> None:
    link.put("k", {}, noise(5000))
    offer = link.call("_describe", {"key": "k"})
    ticket = json.dumps({"key": "k", "sha256": offer["sha256"], "offset": 0, "length": 10, **changed}).encode()
    client = flight.FlightClient(f"grpc+tcp://127.0.0.1:{server.bulk_port}")
    with client, pytest.raises(flight.FlightServerError, match="refused"):
        client.do_get(flight.Ticket(ticket), with_token()).read_all()
    assert len(shelf.reasons) == 1


def test_unknown_methods_and_blobs_are_refused(link: Link, shelf: Shelf) -> None:
    with pytest.raises(Refused, match="no method nonsense"):
        link.call("nonsense", {})
    with pytest.raises(Refused, match="no blob k"):
        link.get("k")
    assert len(shelf.reasons) == 2


# Beyond this machine


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> Security:
    """A certificate that its owner signed, for the loopback."""
    if shutil.which("openssl") is None:
        pytest.skip("no `openssl` to make a certificate with")
    key, certificate = (tmp_path_factory.mktemp("tls") / name for name in ("key.pem", "certificate.pem"))
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=tenfold"
    names = ["-addext", "subjectAltName=IP:127.0.0.1,IP:::1"]
    where = ["-keyout", str(key), "-out", str(certificate)]
    subprocess.run([*command.split(), *names, *where], check=True, capture_output=True)
    return Security("secret", certificate, key, certificate)


def test_a_blob_comes_back_as_it_was_under_tls(shelf: Shelf, tls: Security) -> None:
    with serving(shelf, tls) as server, linked(server.address, tls) as link:
        link.put("k", {}, noise(300_000))
        assert link.get("k") == ({}, bytearray(noise(300_000)))


def test_tls_beyond_loopback_is_allowed(shelf: Shelf, tls: Security) -> None:
    with serving(shelf, tls, bind="0.0.0.0") as server, linked(f"127.0.0.1:{server.control_port}", tls) as link:
        assert link.call("echo", {"a": 1}) == {"a": 1}


@pytest.mark.parametrize("is_server_encrypted", [True, False])
def test_one_side_without_tls_does_not_talk(shelf: Shelf, tls: Security, is_server_encrypted: bool) -> None:
    ends = (tls, SECURITY) if is_server_encrypted else (SECURITY, tls)
    with serving(shelf, ends[0]) as server, linked(server.address, ends[1]) as link, pytest.raises(Unreachable):
        link.call("echo", {}, timeout=0.5, patience=0.5)
    assert not shelf.reasons


def test_damage_under_tls_is_mended(shelf: Shelf, tls: Security) -> None:
    with serving(shelf, tls) as server, behind_proxies(server) as (address, _, bulk), linked(address, tls) as link:
        bulk.corrupt(2)
        link.put("k", {}, noise(MIB))
    assert shelf.blobs["k"].data == noise(MIB)


@pytest.mark.parametrize("bind", ["0.0.0.0", "::", "192.0.2.1", "example.org"])
def test_beyond_loopback_both_sides_want_tls(bind: str) -> None:
    with pytest.raises(InputError, match="beyond loopback the syncer needs TLS"):
        BlobServer(Shelf(), SECURITY, bind=bind)
    with pytest.raises(InputError, match="beyond loopback a learner needs the syncer's certificate"):
        Link(f"[{bind}]:1" if ":" in bind else f"{bind}:1", SECURITY)


def test_a_certificate_that_is_not_there_is_named(tmp_path: Path) -> None:
    missing_file = tmp_path / "certificate.pem"
    with pytest.raises(InputError, match=r"certificate\.pem: cannot be read"):
        BlobServer(Shelf(), Security("secret", missing_file, missing_file))


def test_a_port_that_is_taken_is_said(server: BlobServer) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(TenfoldError, match="cannot listen"):
        BlobServer(Shelf(), SECURITY, control_port=taken.getsockname()[1])


def test_a_port_that_is_free_again_soon_is_waited_for() -> None:
    taken = socket.create_server(("127.0.0.1", 0))
    port = taken.getsockname()[1]
    threading.Timer(0.7, taken.close).start()
    server = BlobServer(Shelf(), SECURITY, control_port=port)
    assert server.control_port == port
    server.close()


def has_ipv6() -> bool:
    with suppress(OSError), socket.create_server(("::1", 0), family=socket.AF_INET6):
        return True
    return False


@pytest.mark.skipif(not has_ipv6(), reason="no IPv6 on this machine")
def test_ipv6(shelf: Shelf) -> None:
    with serving(shelf, bind="::1") as server:
        for address in (server.address, f"{server.address}:{server.bulk_port}"):
            with linked(address) as link:
                link.put("k", {}, noise(1000))
    assert shelf.blobs["k"].data == noise(1000)


@pytest.mark.parametrize(
    ("address", "parts"),
    [
        ("localhost:80", ("localhost", 80, None)),
        ("10.0.0.1:80:81", ("10.0.0.1", 80, 81)),
        ("[::1]:80", ("[::1]", 80, None)),
        ("[fe80::1%eth0]:80:81", ("[fe80::1%eth0]", 80, 81)),
    ],
)
def test_addresses(address: str, parts: tuple[str, int, int | None]) -> None:
    assert parse_address(address) == parts


@pytest.mark.parametrize("address", ["", "host", "host:", ":80", "host:0", "host:65536", "host:x", "::1:80", "h:1:2:3"])
def test_what_is_no_address_is_said(address: str) -> None:
    with pytest.raises(InputError, match="not an address"):
        parse_address(address)
