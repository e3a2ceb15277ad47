"""Blobs and messages over real sockets arrive whole or not at all, whatever the line or the server does."""

import math
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from typing import Any

import psutil
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tenfold.core.errors import InputError, TenfoldError
from tenfold.learners.faults.proxy import FaultyProxy
from tenfold.learners.wire import Blob, BlobServer, Link, Refused, Unreachable, parse_address, reached
from tenfold.learners.wire.channels import STREAMS, Channels
from tenfold.learners.wire.link import PIECE_TIMEOUT_S, chunks_of
from tenfold.learners.wire.server import (
    LARGEST_CHUNK,
    UNDIVIDED,
)
from tests.learners.wire.serving import (
    MIB,
    SECURITY,
    BlobKeeper,
    announcement,
    behind_proxies,
    free_port,
    linked,
    meanwhile,
    noise,
    serving,
)
from tests.waiting import until


@settings(max_examples=40)
@given(st.integers(0, 40 * MIB), st.integers(1, 32))
def test_chunks_cover_a_blob_once_in_order(total: int, streams: int) -> None:
    chunks = chunks_of(total, streams)
    assert [start for start, _ in chunks] == [0, *(end for _, end in chunks)][: len(chunks)]
    assert (chunks[-1][1] if chunks else 0) == total
    assert all(0 < end - start <= LARGEST_CHUNK for start, end in chunks)


@pytest.mark.parametrize("size", [0, 1, 5_000, 8 * MIB])
def test_a_blob_comes_back_as_it_was(link: Link, keeper: BlobKeeper, size: int) -> None:
    data = noise(size)
    assert link.put("k", {"step": 3}, data) == {"number": 1}
    assert keeper.blobs["k"] == Blob({"step": 3}, data)
    assert link.get("k") == ({"step": 3}, bytearray(data))
    assert link.measure.sent == link.measure.received == size
    assert link.measure.latency > 0


def test_a_blob_completed_twice_is_received_once(link: Link, keeper: BlobKeeper) -> None:
    data = noise(100_000)
    reply = link.put("k", {}, data)
    assert link.put("k", {}, data) == reply
    assert link.call("_complete", announcement("k", data)) == {"reply": reply}
    assert keeper.receipts == 1


def test_a_sender_that_did_not_wait_for_the_answer_gets_it_later(link: Link, keeper: BlobKeeper) -> None:
    """Its first question is still being answered when it asks again."""
    keeper.slow_s = 0.5
    with meanwhile(lambda: link.put("k", {}, noise(1000))) as first:
        until(lambda: keeper.receipts == 1)
        assert link.call("_complete", announcement("k", noise(1000))) == {"reply": {"number": 1}}
    assert first == [{"number": 1}]
    assert keeper.receipts == 1


def test_another_blob_of_the_same_key_is_another_blob(link: Link, keeper: BlobKeeper) -> None:
    link.put("k", {}, b"one")
    assert link.put("k", {}, b"two") == {"number": 2}
    assert keeper.blobs["k"].data == b"two"


def test_what_fails_for_now_is_tried_again(link: Link, keeper: BlobKeeper) -> None:
    keeper.failures = [TenfoldError("disk full"), TenfoldError("disk full")]
    assert link.put("k", {}, noise(1000)) == {"number": 3}
    assert keeper.blobs["k"].data == noise(1000)


def test_what_fails_for_now_for_too_long_is_said(link: Link, keeper: BlobKeeper) -> None:
    keeper.failures = [TenfoldError("disk full")] * 100
    with pytest.raises(Unreachable, match="disk full"):
        link.put("k", {}, b"a", patience=0.3)


def test_what_is_refused_is_not_tried_again(link: Link, keeper: BlobKeeper) -> None:
    keeper.failures = [Refused("stale")]
    with pytest.raises(Refused, match="stale"):
        link.put("k", {}, noise(1000))
    assert keeper.receipts == 1
    assert keeper.reasons == ["stale"]


def test_nobody_there_is_unreachable_when_patience_ends() -> None:
    with linked(f"127.0.0.1:{free_port()}", patience=math.inf) as link, pytest.raises(Unreachable):
        link.call("echo", {}, patience=0.5)


def test_a_server_that_starts_anew_in_the_middle_of_a_blob_gets_it_whole(keeper: BlobKeeper) -> None:
    data = noise(4 * MIB)
    with serving(keeper) as first, behind_proxies(first) as (address, _, bulk), linked(address) as link:
        bulk.bandwidth(4 * MIB)
        with meanwhile(lambda: link.put("k", {}, data)) as result:
            time.sleep(0.4)
            first.close()
            assert not result
            assert keeper.receipts == 0
            with serving(keeper, control_port=first.control_port, bulk_port=first.bulk_port):
                bulk.bandwidth(0)
                until(lambda: bool(result))
    assert result == [{"number": 1}]
    assert keeper.blobs["k"].data == data


def test_a_server_that_starts_anew_with_another_bulk_port_is_found(keeper: BlobKeeper) -> None:
    with serving(keeper) as first, linked(first.address) as link:
        link.put("one", {}, noise(1000))
        first.close()
        with serving(keeper, control_port=first.control_port) as second:
            assert second.bulk_port != first.bulk_port
            link.put("two", {}, noise(1000))
    assert set(keeper.blobs) == {"one", "two"}


@pytest.mark.parametrize("size", [0, 1, UNDIVIDED, UNDIVIDED + 1])
def test_small_blobs_go_in_one_call_when_the_bulk_port_is_known(
    keeper: BlobKeeper, server: BlobServer, size: int
) -> None:
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
    assert keeper.receipts == 2


def test_a_small_blob_survives_damage_on_the_way(keeper: BlobKeeper, server: BlobServer) -> None:
    with behind_proxies(server) as (address, _, bulk), linked(address) as link:
        link.put("first", {}, b"tells the port")
        bulk.corrupt(1)
        link.put("k", {}, noise(60_000))
        bulk.corrupt(1)
        assert bytes(link.get("k")[1]) == noise(60_000)
    assert keeper.blobs["k"].data == noise(60_000)


def test_what_has_arrived_is_not_sent_again(keeper: BlobKeeper, server: BlobServer) -> None:
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
    assert keeper.blobs["k"].data == data


@pytest.mark.parametrize("seed", range(3))
def test_damage_on_the_way_is_noticed_and_mended(keeper: BlobKeeper, server: BlobServer, seed: int) -> None:
    data = noise(2 * MIB, seed)
    bulk = FaultyProxy("127.0.0.1", server.bulk_port, seed=seed)
    with bulk, linked(f"{server.address}:{bulk.port}") as link:
        bulk.corrupt(4)
        link.put("k", {}, data)
        assert keeper.blobs["k"].data == data
        bulk.corrupt(4)
        assert link.get("k") == ({}, bytearray(data))


def test_a_cut_heals(keeper: BlobKeeper, server: BlobServer) -> None:
    data = noise(2 * MIB)
    with behind_proxies(server) as (address, control, bulk), linked(address) as link:
        bulk.bandwidth(4 * MIB)
        with meanwhile(lambda: link.put("k", {}, data)) as result:
            time.sleep(0.2)
            for line in (control, bulk):
                line.partition(600.0)
            time.sleep(2.0)
            assert not result
            for line in (control, bulk):
                line.clear()
            until(lambda: bool(result))
    assert result == [{"number": 1}]
    assert keeper.blobs["k"].data == data


def test_a_line_may_be_long(keeper: BlobKeeper, server: BlobServer) -> None:
    """A round trip of 0.4 s; connecting takes several."""
    with behind_proxies(server) as (address, control, bulk), linked(address) as link:
        for line in (control, bulk):
            line.delay(0.2)
        link.put("k", {}, noise(1000), patience=5.0)
    assert keeper.blobs["k"].data == noise(1000)


def test_patience_ends_while_the_line_is_cut(server: BlobServer) -> None:
    with behind_proxies(server) as (address, _, bulk), linked(address, patience=math.inf) as link:
        link.call("echo", {})
        bulk.partition(math.inf)
        with pytest.raises(Unreachable):
            link.put("k", {}, noise(1000), patience=0.8)
        bulk.clear()


def test_patience_is_for_a_line_that_is_down_not_for_a_large_blob(keeper: BlobKeeper, server: BlobServer) -> None:
    with behind_proxies(server) as (address, _, bulk), linked(address, streams=2) as link:
        bulk.bandwidth(1 * MIB)
        keeper.failures = [TenfoldError("disk full")]
        assert link.put("k", {}, noise(MIB), patience=0.6) == {"number": 2}


def test_a_link_knows_its_bandwidth(server: BlobServer) -> None:
    """Of what really went: what was there before is not counted, nor the time it took to agree."""
    with behind_proxies(server) as (address, control, bulk), linked(address) as link:
        control.delay(0.2)
        bulk.bandwidth(1 * MIB)
        began = time.monotonic()
        link.put("k", {}, noise(MIB // 2), patience=60.0)
        seconds = time.monotonic() - began
        assert link.measure.latency > 0.4
        assert 0 < link.measure.bandwidth < 1.6 * MIB, "the line gives no more"
        assert MIB // 2 / link.measure.bandwidth < seconds - 2 * 0.4, "announcing and completing are left out"


def test_a_full_bulk_line_does_not_hold_up_control(server: BlobServer) -> None:
    with behind_proxies(server) as (address, _, bulk), linked(address) as link, linked(address) as other:
        bulk.bandwidth(32 * 1024)  # the blob takes a minute and a half
        with meanwhile(lambda: link.put("k", {}, noise(3 * MIB), patience=600.0)) as result:
            time.sleep(0.3)
            for number in range(10):
                assert other.call("echo", {"number": number}) == {"number": number}
            assert not result
            bulk.bandwidth(0)
    assert result == [{"number": 1}]


def test_what_never_is_what_it_was_said_to_be_is_given_up(link: Link, keeper: BlobKeeper) -> None:
    """Not by the line's fault: memory that changes, say. Every attempt sends all of it again, so there are few."""
    data = bytearray(noise(200_000))

    def admit(key: str, header: dict[str, Any], size: int) -> None:
        data[0] = (data[0] + 1) % 256

    keeper.admit = admit  # type: ignore[method-assign]
    for _ in range(2):
        with pytest.raises(Refused, match="not what its digest says, 3 times"):
            link.put("k", {}, memoryview(data), patience=60.0)
    assert not keeper.blobs
    keeper.admit = lambda key, header, size: None  # type: ignore[method-assign]
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


def test_what_never_is_as_it_was_offered_is_given_up(link: Link, keeper: BlobKeeper) -> None:
    keeper.blobs["k"] = Restless()  # type: ignore[assignment]
    with pytest.raises(Unreachable, match="k: not what its digest says, 3 times"):
        link.get("k", patience=60.0)


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
def test_a_peer_that_vanished_without_a_word_is_noticed_by_its_silence(server: BlobServer, keeper: BlobKeeper) -> None:
    """Long before a piece has had its time."""
    line = Forgetful(server.bulk_port)
    with linked(f"{server.address}:{line.port}") as link:
        link.put("one", {}, noise(1000))
        line.lose()
        began = time.monotonic()
        link.put("two", {}, noise(1000), patience=120.0)
        assert time.monotonic() - began < PIECE_TIMEOUT_S
    line.close()
    assert set(keeper.blobs) == {"one", "two"}


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


def test_links_of_one_learner_share_their_connections(server: BlobServer, keeper: BlobKeeper) -> None:
    """As many links as a learner has: heartbeat, leases, four that send and one that follows."""
    channels, data = Channels("127.0.0.1", SECURITY), noise(3 * MIB)
    links = [Link(server.address, SECURITY, channels=channels) for _ in range(7)]
    with ExitStack() as stack:
        for link in links:
            stack.callback(link.close)
        with ThreadPoolExecutor(len(links)) as pool:
            sent = list(pool.map(lambda n: links[n].put(f"k{n}", {}, data), range(len(links))))
        assert len(sent) == len(links)
        ports = {server.control_port, server.bulk_port}
        ours = [
            each
            for each in psutil.Process().net_connections("tcp")
            if each.status == psutil.CONN_ESTABLISHED and each.raddr and each.raddr.port in ports
        ]
        assert 0 < len(ours) <= 1 + STREAMS
        links[0].close()
        assert links[1].call("echo", {"a": 1}) == {"a": 1}, "one that closes leaves the others theirs"
    assert all(bytes(keeper.blobs[f"k{n}"].data) == data for n in range(len(links)))


def test_a_server_that_starts_anew_is_found_by_links_that_share(keeper: BlobKeeper) -> None:
    with serving(keeper) as first:
        channels = Channels("127.0.0.1", SECURITY)
        links = [Link(first.address, SECURITY, channels=channels, patience=20.0) for _ in range(3)]
        for number, link in enumerate(links):
            link.put(f"before-{number}", {}, noise(1000))
        first.close()
        with serving(keeper, control_port=first.control_port):
            for number, link in enumerate(links):
                link.put(f"after-{number}", {}, noise(1000))
        for link in links:
            link.close()
    assert len(keeper.blobs) == 6


@pytest.mark.parametrize(
    ("said", "found"),
    [
        ("0.0.0.0:7000", "127.0.0.1:7000"),
        ("[::]:7000", "127.0.0.1:7000"),
        ("[::1]:7000", "[::1]:7000"),
        ("10.0.0.1:7000", "10.0.0.1:7000"),
    ],
)
def test_a_server_that_listens_everywhere_is_reached_here(said: str, found: str) -> None:
    assert reached(said, "127.0.0.1") == found
