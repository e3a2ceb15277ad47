"""A server gives out whole what was announced and nothing else, whatever a stranger sends it."""

import hashlib
import json
import random
import socket
import threading
import time
import zlib
from contextlib import suppress
from itertools import pairwise
from typing import Any

import pyarrow as pa
import pyarrow.flight as flight
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tenfold.core.errors import TenfoldError
from tenfold.learners.wire import BlobServer, Link, Refused
from tenfold.learners.wire.security import call_headers
from tenfold.learners.wire.server import (
    HALF_RECEIVED,
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
    as_table,
    linked,
    noise,
    piece_answer,
    serving,
    with_token,
)

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
    command = json.dumps({"whole": whole, "crc": zlib.crc32(b"a")}).encode()
    answer = piece_answer(server, command, as_table(b"a"))
    assert keeper.reasons == [answer["refused"]]
    assert keeper.receipts == 0


@pytest.mark.parametrize("data", [b"", b"ab", b"abcd"])
def test_other_bytes_than_announced_are_not_taken(server: BlobServer, keeper: BlobKeeper, data: bytes) -> None:
    command = json.dumps({"whole": announcement("k", b"abc"), "crc": zlib.crc32(data)}).encode()
    answer = piece_answer(server, command, as_table(data))
    assert "refused" in answer or answer["answer"].get("incomplete")
    assert keeper.receipts == 0


def test_a_closing_server_does_not_wait_for_a_client_that_says_no_more(keeper: BlobKeeper) -> None:
    server = BlobServer(keeper, SECURITY)
    client = flight.FlightClient(f"grpc+tcp://127.0.0.1:{server.bulk_port}")
    held_s = 60.0
    options = flight.FlightCallOptions(timeout=held_s, headers=call_headers(SECURITY))
    command = json.dumps({"key": "k", "offset": 0, "crc": 0}).encode()
    writer, _ = client.do_put(flight.FlightDescriptor.for_command(command), as_table(b"a").schema, options)
    time.sleep(0.2)
    began = time.monotonic()
    server.close()
    assert time.monotonic() - began < held_s, "before the client's call is over"
    with pytest.raises(OSError):
        socket.create_connection(("127.0.0.1", server.bulk_port), 1.0)
    with suppress(pa.ArrowException):
        writer.close()
    client.close()


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
    [b"", b"{", b"[]", b"3", b"\xff\xfe", b"[" * 100_000, b'{"a":"' + b"x" * (17 * MIB) + b'"}'],
    ids=["empty", "cut", "list", "number", "bytes", "deep", "huge"],
)
def test_a_malformed_message_is_refused(link: Link, server: BlobServer, keeper: BlobKeeper, body: bytes) -> None:
    with flight.FlightClient(f"grpc+tcp://{server.address}") as client:
        answer = json.loads(next(client.do_action(flight.Action("echo", body), with_token())).body.to_pybytes())
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
    answer = piece_answer(server, json.dumps(command).encode(), as_table(bytes(10)))
    assert reason in answer["refused"]
    assert keeper.reasons == [answer["refused"]]
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
    link: Link, server: BlobServer, keeper: BlobKeeper, command: bytes | None, table: Any
) -> None:
    link.call("_begin", announcement("k", bytes(4 * MIB)))
    whole = json.dumps({"key": "k", "offset": 0, "crc": 0}).encode()
    answer = piece_answer(server, command or whole, table)
    assert keeper.reasons == [answer["refused"]]


def test_a_damaged_piece_is_not_kept_and_may_come_again(link: Link, server: BlobServer, keeper: BlobKeeper) -> None:
    link.call("_begin", announcement("k", bytes(10)))
    command = json.dumps({"key": "k", "offset": 0, "crc": 1}).encode()
    assert "damaged" in piece_answer(server, command, as_table(bytes(10)))["failed"]
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
    client = flight.FlightClient(f"grpc+tcp://127.0.0.1:{server.bulk_port}")
    with client, pytest.raises(flight.FlightServerError, match="refused"):
        client.do_get(flight.Ticket(ticket), with_token()).read_all()
    assert len(keeper.reasons) == 1


def test_unknown_methods_and_blobs_are_refused(link: Link, keeper: BlobKeeper) -> None:
    with pytest.raises(Refused, match="no method nonsense"):
        link.call("nonsense", {})
    with pytest.raises(Refused, match="no blob k"):
        link.get("k")
    assert len(keeper.reasons) == 2


def test_a_port_that_is_taken_is_said(server: BlobServer) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(TenfoldError, match="cannot listen"):
        BlobServer(BlobKeeper(), SECURITY, control_port=taken.getsockname()[1])


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
