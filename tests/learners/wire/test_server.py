"""A server gives out whole what was announced and nothing else, whatever a stranger sends it."""

import hashlib
import json
import random
import socket
import threading
import time
import zlib
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from itertools import pairwise
from typing import Any

import grpc
import psutil
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tenfold.core.errors import InputError
from tenfold.learners.wire import BlobServer, Link, Refused, Security
from tenfold.learners.wire.framing import CONTROL, GET, PUT, framed, unframed
from tenfold.learners.wire.server import (
    HALF_RECEIVED,
    HANDSHAKE_S,
    LARGEST_CHUNK,
    MISMATCHES,
    Inbox,
    joined,
    missing,
)
from tests.learners.wire.serving import (
    MIB,
    SECURITY,
    BlobKeeper,
    announcement,
    linked,
    noise,
    piece_answer,
    raw_call,
    serving,
    with_token,
)
from tests.waiting import until

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


@pytest.mark.parametrize("whole", [3, None, {}, {"key": "k"}, announcement("k", b"") | {"total": 2**60}])
def test_a_malformed_announcement_with_its_bytes_is_refused(server: BlobServer, keeper: BlobKeeper, whole: Any) -> None:
    answer = piece_answer(server, framed({"whole": whole, "crc": zlib.crc32(b"a")}, b"a"))
    assert keeper.reasons == [answer["refused"]]
    assert keeper.receipts == 0


@pytest.mark.parametrize("data", [b"", b"ab", b"abcd"])
def test_other_bytes_than_announced_are_not_taken(server: BlobServer, keeper: BlobKeeper, data: bytes) -> None:
    answer = piece_answer(server, framed({"whole": announcement("k", b"abc"), "crc": zlib.crc32(data)}, data))
    assert "refused" in answer or answer["answer"].get("incomplete")
    assert keeper.receipts == 0


def test_a_closing_server_does_not_wait_for_a_call_that_takes_long(server: BlobServer, keeper: BlobKeeper) -> None:
    keeper.slow_s = held_s = 20.0
    message = framed({"whole": announcement("k", b"abc"), "crc": zlib.crc32(b"abc")}, b"abc")
    with pytest.raises(grpc.RpcError), ThreadPoolExecutor(1) as pool:
        call = pool.submit(raw_call, server.bulk_port, PUT, message, with_token())
        until(lambda: keeper.receipts == 1)
        began = time.monotonic()
        server.close()
        assert time.monotonic() - began < held_s, "before the call is over"
        with pytest.raises(OSError):
            socket.create_connection(("127.0.0.1", server.bulk_port), 1.0)
        call.result()


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
        ({"total": "1"}, "malformed"),
        ({"total": True}, "malformed"),
        ({"total": 1.0}, "malformed"),
        ({"header": []}, "malformed"),
        ({"key": 3}, "malformed"),
        ({"sha256": None}, "malformed"),
    ],
)
def test_a_wrong_announcement_is_refused(link: Link, keeper: BlobKeeper, changed: dict[str, Any], reason: str) -> None:
    with pytest.raises(Refused, match=reason):
        link.call("_begin", announcement("k", b"a", **changed))
    assert len(keeper.reasons) == 1


@pytest.mark.parametrize("missed", ["key", "total", "sha256", "header"])
def test_an_announcement_that_lacks_something_is_refused(link: Link, keeper: BlobKeeper, missed: str) -> None:
    request = announcement("k", b"a")
    del request[missed]
    with pytest.raises(Refused, match=f"malformed message .{missed}: Field required"):
        link.call("_begin", request)
    assert len(keeper.reasons) == 1


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"[]", b"3", b"\xff\xfe", b"[" * 100_000],
    ids=["empty", "cut", "list", "number", "bytes", "deep"],
)
def test_a_malformed_message_is_refused(link: Link, server: BlobServer, keeper: BlobKeeper, body: bytes) -> None:
    answer = json.loads(raw_call(server.control_port, f"{CONTROL}echo", body, with_token()))
    assert set(answer) == {"refused"}
    assert keeper.reasons == [answer["refused"]]
    assert link.call("echo", {"a": 1}) == {"a": 1}


@pytest.mark.parametrize(
    ("where", "reason"),
    [
        ({"offset": -1}, "bytes -1–9 of 100"),
        ({"offset": 91}, "bytes 91–101 of 100"),
        ({"offset": 2**70}, "of 100"),
        ({"key": "other"}, "other: not announced"),
        ({"offset": "x"}, "malformed message (offset: Input should be a valid integer"),
        ({"offset": float("inf")}, "malformed message (offset"),
        ({"offset": None}, "malformed"),
        ({"crc": []}, "malformed"),
    ],
)
def test_a_wrong_piece_is_refused(
    link: Link, server: BlobServer, keeper: BlobKeeper, where: dict[str, Any], reason: str
) -> None:
    link.call("_begin", announcement("k", bytes(100)))
    command = {"key": "k", "offset": 0, "crc": zlib.crc32(bytes(10)), **where}
    answer = piece_answer(server, framed(command, bytes(10)))
    assert reason in answer["refused"]
    assert keeper.reasons == [answer["refused"]]
    assert link.call("_begin", announcement("k", bytes(100)))["held"] == []


PLACE = {"key": "k", "offset": 0, "crc": 0}


@pytest.mark.parametrize(
    "message",
    [
        b"",
        b"\x00\x00",
        b"\x00\x00\x00\x09{}",
        b"\x00\x00\x00\x01{",
        b"\x00\x00\x00\x02[]",
        framed(PLACE, bytes(LARGEST_CHUNK + 1)),
        framed(PLACE, b""),
    ],
    ids=["empty", "short", "cut", "no-json", "list", "too-long", "no-bytes"],
)
def test_a_malformed_piece_is_refused(link: Link, server: BlobServer, keeper: BlobKeeper, message: bytes) -> None:
    link.call("_begin", announcement("k", bytes(4 * MIB)))
    answer = piece_answer(server, message)
    assert "refused" in answer or "damaged" in answer["failed"]
    assert keeper.reasons == ([answer["refused"]] if "refused" in answer else [])
    assert link.call("_begin", announcement("k", bytes(4 * MIB)))["held"] == []


@settings(max_examples=60)
@given(st.dictionaries(st.text(max_size=9), st.integers() | st.text(max_size=9), max_size=4), st.binary(max_size=300))
def test_a_piece_is_unframed_as_it_was_framed(what: dict[str, Any], data: bytes) -> None:
    assert unframed(framed(what, data)) == (what, data)


@settings(max_examples=200)
@given(st.binary(max_size=60))
def test_whatever_bytes_are_unframed_or_refused(message: bytes) -> None:
    with suppress(ValueError):
        what, data = unframed(message)
        assert isinstance(what, dict)
        assert message.endswith(data)


def test_a_damaged_piece_is_not_kept_and_may_come_again(link: Link, server: BlobServer, keeper: BlobKeeper) -> None:
    link.call("_begin", announcement("k", bytes(10)))
    message = framed({"key": "k", "offset": 0, "crc": 1}, bytes(10))
    assert "damaged" in piece_answer(server, message)["failed"]
    assert not keeper.reasons
    link.put("k", {}, bytes(10))
    assert keeper.blobs["k"].data == bytes(10)


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
def test_a_wrong_range_is_refused(link: Link, server: BlobServer, keeper: BlobKeeper, changed: dict[str, Any]) -> None:
    link.put("k", {}, noise(5000))
    offer = link.call("_describe", {"key": "k"})
    ticket = json.dumps({"key": "k", "sha256": offer["sha256"], "offset": 0, "length": 10, **changed}).encode()
    assert "refused" in unframed(raw_call(server.bulk_port, GET, ticket, with_token()))[0]
    assert len(keeper.reasons) == 1


def test_unknown_methods_and_blobs_are_refused(link: Link, keeper: BlobKeeper) -> None:
    with pytest.raises(Refused, match="no method nonsense"):
        link.call("nonsense", {})
    with pytest.raises(Refused, match="no blob k"):
        link.get("k")
    assert len(keeper.reasons) == 2


def test_a_port_that_is_taken_is_said_to_be_in_use(server: BlobServer) -> None:
    with pytest.raises(InputError, match=f"127.0.0.1:{server.control_port}: cannot listen here: the port is in use"):
        BlobServer(BlobKeeper(), SECURITY, control_port=server.control_port)


@pytest.mark.parametrize(
    ("bind", "reason"),
    [("192.0.2.1", "Cannot assign requested address"), ("nowhere.invalid", "no such name")],
)
def test_an_address_of_another_machine_is_said(tls: Security, bind: str, reason: str) -> None:
    with pytest.raises(InputError, match=f"cannot listen here: {reason}.*; set learners.bind"):
        BlobServer(BlobKeeper(), tls, bind=bind)


def test_a_port_that_is_free_again_soon_is_waited_for() -> None:
    taken = socket.create_server(("127.0.0.1", 0))
    port = taken.getsockname()[1]
    threading.Timer(0.7, taken.close).start()
    server = BlobServer(BlobKeeper(), SECURITY, control_port=port)
    assert server.control_port == port
    server.close()


def has_ipv6() -> bool:
    with suppress(OSError), socket.create_server(("::1", 0), family=socket.AF_INET6):
        return True
    return False


@pytest.mark.skipif(not has_ipv6(), reason="no IPv6 on this machine")
def test_ipv6(keeper: BlobKeeper) -> None:
    with serving(keeper, bind="::1") as server:
        for address in (server.address, f"{server.address}:{server.bulk_port}"):
            with linked(address) as link:
                link.put("k", {}, noise(1000))
    assert keeper.blobs["k"].data == noise(1000)


# What a stranger may cost


@pytest.mark.parametrize("port", ["control_port", "bulk_port"])
@pytest.mark.parametrize("metadata", [[], with_token()], ids=["no-token", "token"])
def test_a_body_beyond_its_bound_is_refused_without_being_kept(
    server: BlobServer, keeper: BlobKeeper, link: Link, port: str, metadata: list[tuple[str, str]]
) -> None:
    method = f"{CONTROL}echo" if port == "control_port" else PUT
    body, rss = bytes(256 * MIB), psutil.Process().memory_info
    before, highest, over = rss().rss, [0], threading.Event()

    def watch() -> None:
        while not over.wait(0.01):
            highest[0] = max(highest[0], rss().rss)

    watcher = threading.Thread(target=watch)
    watcher.start()
    with pytest.raises(grpc.RpcError):
        raw_call(getattr(server, port), method, body, metadata)
    over.set()
    watcher.join()
    assert highest[0] - before < len(body) + 96 * MIB, "the sender's own copy, and no other"
    assert not keeper.receipts
    assert link.call("echo", {"a": 1}) == {"a": 1}


def test_connections_that_say_nothing_are_closed_and_bounded(server: BlobServer, link: Link) -> None:
    assert link.call("echo", {"a": 1}) == {"a": 1}
    before = psutil.Process().num_fds()
    idle = [socket.create_connection(("127.0.0.1", server.control_port)) for _ in range(200)]
    until(lambda: psutil.Process().num_fds() <= before + len(idle) + 2)
    for each in idle:
        each.settimeout(HANDSHAKE_S + 20.0)
        with suppress(ConnectionError):
            while each.recv(1000):
                pass
        each.close()
    assert link.call("echo", {"a": 1}) == {"a": 1}
