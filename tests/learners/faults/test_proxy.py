"""The proxy forwards unchanged, misbehaves as told, and ends its faults."""

import socket
import struct
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest

from tenfold.learners.faults.proxy import FaultyProxy
from tests.learners.faults.echo import connection, seconds_for, there_and_back


def test_without_a_fault_bytes_pass_unchanged_and_ends_are_passed_on(proxy: FaultyProxy) -> None:
    data = bytes(range(256)) * 20_000
    with connection(proxy) as client:
        assert there_and_back(client, data)[0] == data
        client.sendall(b"last words")
        client.shutdown(socket.SHUT_WR)
        client.settimeout(5.0)
        assert b"".join(iter(lambda: client.recv(100), b"")) == b"last words"


@contextmanager
def straight() -> Iterator[tuple[FaultyProxy, socket.socket, socket.socket]]:
    """A proxy and both ends of one connection through it."""
    with (
        socket.create_server(("127.0.0.1", 0)) as listener,
        FaultyProxy(*listener.getsockname()) as proxy,
        connection(proxy) as client,
    ):
        server, _ = listener.accept()
        with server:
            yield proxy, client, server


def test_nothing_passes_a_partition_neither_bytes_nor_new_connections(proxy: FaultyProxy) -> None:
    with connection(proxy) as client:
        there_and_back(client, b"before")
        proxy.partition(60.0)
        client.sendall(b"meanwhile")
        with connection(proxy) as late:
            late.sendall(b"hello")
            for quiet in (client, late):
                quiet.settimeout(0.15)
                with pytest.raises(TimeoutError):
                    quiet.recv(100)
                quiet.settimeout(5.0)
            proxy.clear()
            assert (client.recv(100), late.recv(100)) == (b"meanwhile", b"hello")
        proxy.partition(0.3)
        assert there_and_back(client, b"x")[1] > 0.25
        assert there_and_back(client, b"x")[0] == b"x", "over by itself"


@pytest.mark.parametrize("reset", [False, True])
def test_a_broken_connection_is_news_that_does_not_pass_a_partition(reset: bool) -> None:
    with straight() as (proxy, client, server):
        server.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", reset, 0))
        proxy.partition(60.0)
        server.close()
        client.settimeout(0.2)
        with pytest.raises(TimeoutError):
            client.recv(1)
        client.settimeout(5.0)
        proxy.partition(0.0)
        assert client.recv(1) == b""


def test_delay_is_added_each_way_and_does_not_narrow_the_line(proxy: FaultyProxy) -> None:
    with connection(proxy) as client:
        proxy.delay(0.15)
        one, many = seconds_for(client, b"x"), seconds_for(client, bytes(8 << 20))
        assert one >= 0.3
        assert 0.3 <= many < 16 * one, "many of the 32 chunks and more are under way at a time"
        proxy.delay(0.0)
        assert seconds_for(client, b"x") < one


def test_bandwidth_is_kept_and_shared(proxy: FaultyProxy) -> None:
    with connection(proxy) as one, connection(proxy) as other:
        proxy.bandwidth(1e6)
        quick = seconds_of_both(one, other)
        proxy.bandwidth(2e5)
        slow = seconds_of_both(one, other)
        assert 0.4 < quick < slow and slow > 2.0
        proxy.bandwidth(1.0)
        threading.Timer(0.2, proxy.clear).start()
        assert there_and_back(one, bytes(100_000))[0] == bytes(100_000), "a wait ends with the limit that caused it"


def seconds_of_both(*clients: socket.socket) -> float:
    """Until 250 kB of each are back, all at the same time."""
    with ThreadPoolExecutor() as pool:
        return max(pool.map(lambda client: there_and_back(client, bytes(250_000))[1], clients))


def test_loss_is_a_stall(proxy: FaultyProxy) -> None:
    with connection(proxy) as client:
        proxy.loss(1.0)
        every = sum(there_and_back(client, b"x")[1] for _ in range(10))
        assert every >= 10 * 0.4
        proxy.loss(0.3)
        some = sum(there_and_back(client, b"x")[1] for _ in range(10))
        assert 0.2 <= some < every  # 6 of 20 chunks expected


def test_corrupt_flips_one_bit_of_as_many_large_chunks(proxy: FaultyProxy) -> None:
    with connection(proxy) as client:
        proxy.corrupt(2)
        small = bytes(4096)
        assert there_and_back(client, small)[0] == small
        wrong = [_flipped(there_and_back(client, bytes(8000))[0]) for _ in range(4)]
        assert sum(wrong) == 2 and wrong[2:] == [0, 0]


def _flipped(data: bytes) -> int:
    return sum(byte.bit_count() for byte in data)
