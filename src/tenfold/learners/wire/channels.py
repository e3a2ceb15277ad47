"""TCP connections to one server, shared by all that this process asks of it: one for control, a few for bulk.

They are opened when they are first needed. One that fails is let go: calls of others on it end by themselves.
"""

import threading
from typing import Any

import grpc

from tenfold.learners.wire.security import Security, client_credentials

STREAMS = 4  # TCP connections of a blob
CHANNEL = [
    ("grpc.use_local_subchannel_pool", 1),  # each channel its own TCP connection
    ("grpc.initial_reconnect_backoff_ms", 50),
    ("grpc.min_reconnect_backoff_ms", 5000),  # gRPC's word for how long connecting may take: several round trips
    ("grpc.max_reconnect_backoff_ms", 500),
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
    ("grpc.enable_retries", 0),
    # A peer that vanished says nothing: ask when a call has heard nothing for 5 s, and give up when there is no answer
    # in 10 (a full line with deep buffers needs some). The kernel gives up then too: gRPC sets TCP_USER_TIMEOUT.
    ("grpc.keepalive_time_ms", 5_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.http2.ping_timeout_ms", 10_000),
    ("grpc.http2.max_pings_without_data", 0),
]


class Channels:
    """Connections to HOST, for any number of links in any thread; closed when the last of these is."""

    def __init__(self, host: str, security: Security, streams: int = STREAMS) -> None:
        """`streams`: connections for bulk."""
        self.streams = streams
        self._host, self._credentials = host, client_credentials(security)
        self._open: dict[tuple[int, int], Any] = {}
        self._users, self._lock = 0, threading.Lock()

    def join(self) -> None:
        """One more link uses them."""
        with self._lock:
            self._users += 1

    def leave(self) -> None:
        """A link uses them no more; calls under way end when it was the last."""
        with self._lock:
            self._users -= 1
            left = [] if self._users else list(self._open.values())
            if not self._users:
                self._open = {}
        for channel in left:
            channel.close()

    def to(self, port: int, number: int = 0) -> Any:
        """The connection of this number to a port."""
        with self._lock:
            if (port, number) not in self._open:
                self._open[port, number] = self._connected(port)
            return self._open[port, number]

    def drop(self, channel: Any) -> None:
        """Let go of a connection on which a call has failed: the next call has a new one."""
        with self._lock:
            for place, each in list(self._open.items()):
                if each is channel:
                    del self._open[place]

    def drop_port(self, port: int) -> None:
        """Let go of all connections to a port."""
        with self._lock:
            self._open = {place: channel for place, channel in self._open.items() if place[0] != port}

    def _connected(self, port: int) -> Any:
        where = f"{self._host}:{port}"
        if self._credentials is None:
            return grpc.insecure_channel(where, options=CHANNEL)
        return grpc.secure_channel(where, self._credentials, options=CHANNEL)
