"""A server that sends back what it gets, and a proxy before it."""

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from tenfold.learners.faults.proxy import FaultyProxy


@contextmanager
def echo_server() -> Iterator[int]:
    """Sends back what it gets; its port."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=_accept, args=(listener,), daemon=True).start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)


def _accept(listener: socket.socket) -> None:
    while True:
        try:
            connection, _ = listener.accept()
        except OSError:
            return
        threading.Thread(target=_echo, args=(connection,), daemon=True).start()


def _echo(connection: socket.socket) -> None:
    buffer = bytearray(1 << 18)
    with connection:
        try:
            while size := connection.recv_into(buffer):
                connection.sendall(memoryview(buffer)[:size])
        except OSError:
            return


@contextmanager
def connection(proxy: FaultyProxy) -> Iterator[socket.socket]:
    with socket.create_connection(("127.0.0.1", proxy.port), timeout=10.0) as client:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        yield client


def seconds_for(client: socket.socket, data: bytes, times: int = 3) -> float:
    """The shortest of some times that data take there and back: what the machine does besides counts little."""
    return min(there_and_back(client, data)[1] for _ in range(times))


def there_and_back(client: socket.socket, data: bytes) -> tuple[bytes, float]:
    """What comes back, and the seconds it takes."""
    began = time.monotonic()
    sender = threading.Thread(target=client.sendall, args=(data,))
    sender.start()
    back = bytearray()
    while len(back) < len(data):
        piece = client.recv(1 << 18)
        assert piece, "closed"
        back += piece
    sender.join()
    return bytes(back), time.monotonic() - began
