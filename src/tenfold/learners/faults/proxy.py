"""A TCP proxy that misbehaves on request, as the line from a learner to the syncer. Needs no root."""

import asyncio
import random
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Self

CHUNK_BYTES = 256 * 1024  # read at a time
LEAST_CHUNK_BYTES = 8 * 1024
IN_FLIGHT_BYTES = 32 * 1024 * 1024  # of one direction of one connection; above it the sender has to wait
DAMAGED_BYTES = 4 * 1024  # only larger chunks are damaged: they carry weights, not control messages
STALL_S = 0.2  # Linux's least retransmission time-out, TCP_RTO_MIN
TICK_S = 0.02


@dataclass
class _Modes:
    """What is wrong with the line now. Written by any thread, read by the proxy's."""

    partition_until: float = 0.0
    delay_s: float = 0.0
    bytes_per_s: float = 0.0
    loss: float = 0.0
    damages: int = 0

    @property
    def is_cut(self) -> bool:
        return time.monotonic() < self.partition_until


@dataclass
class _Direction:
    """One way through the line, shared by all connections: when its last byte will have passed (s)."""

    free_at: float = 0.0


class FaultyProxy:
    """Listens on a free port of the loopback and forwards to `target_host:target_port`, in a thread of its own.

    Faults may be combined and set by any thread at any time. `seed` decides which chunks stall and which bits flip.
    Without a fault it forwards above 200 MB/s. Raises OSError when it cannot listen.
    """

    def __init__(self, target_host: str, target_port: int, *, seed: int = 0) -> None:
        self._target = (target_host, target_port)
        self._modes = _Modes()
        self._random = random.Random(seed)
        self._up, self._down = _Direction(), _Direction()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.setblocking(False)
        self.port: int = self._listener.getsockname()[1]
        self._loop = asyncio.new_event_loop()
        self._main = self._loop.create_task(self._accept())
        self._thread = threading.Thread(target=self._run, name=f"proxy-{self.port}", daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def partition(self, seconds: float) -> None:
        """No byte passes in either direction, new connections are not answered; 0 ends it."""
        until = time.monotonic() + seconds
        self._modes.partition_until = max(self._modes.partition_until, until) if seconds else 0.0

    def delay(self, seconds: float) -> None:
        """Every chunk arrives so much later, one way; 0 for none."""
        self._modes.delay_s = seconds

    def bandwidth(self, bytes_per_s: float) -> None:
        """Bytes a second that each direction carries, all connections together; 0 for no limit."""
        self._modes.bytes_per_s = bytes_per_s

    def loss(self, share: float) -> None:
        """Emulated: a proxy cannot lose a packet, so this share of the chunks waits 0.2 s, as for a retransmission."""
        self._modes.loss = share

    def corrupt(self, count: float) -> None:
        """Flip one bit in each of the next `count` chunks above 4 KiB, in either direction; 0 for none."""
        self._modes.damages = int(count)

    def clear(self) -> None:
        """End every fault."""
        self._modes = _Modes()

    def close(self) -> None:
        """Drop all connections and stop listening."""
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._main.cancel)
            self._thread.join()

    def _run(self) -> None:
        with suppress(asyncio.CancelledError):
            self._loop.run_until_complete(self._main)
        self._loop.close()
        self._listener.close()

    async def _accept(self) -> None:
        async with asyncio.TaskGroup() as connections:
            while True:
                client, _ = await self._loop.sock_accept(self._listener)
                connections.create_task(self._serve(client))

    async def _serve(self, client: socket.socket) -> None:
        """One connection, until both ways have ended or one side has broken it."""
        server = socket.socket()
        with client, server:
            for end in (client, server):
                end.setblocking(False)
                end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            await self._not_cut()
            try:
                await self._loop.sock_connect(server, self._target)
                await self._forward(_Way(client, server, self._up), _Way(server, client, self._down))
            except* OSError:
                pass  # one side has gone: the other learns it from the close
            await self._not_cut()  # that the other side is gone is news, too

    async def _forward(self, *ways: "_Way") -> None:
        async with asyncio.TaskGroup() as tasks:
            for way in ways:
                tasks.create_task(self._read(way))
                tasks.create_task(self._write(way))

    async def _read(self, way: "_Way") -> None:
        while True:
            await _until(lambda: way.waiting_bytes < IN_FLIGHT_BYTES)
            data = await self._loop.sock_recv(way.source, self._chunk_bytes())
            await self._take_turn(way.direction, len(data))
            way.put(self._damaged(data), time.monotonic() + self._modes.delay_s)
            if not data:
                return

    def _chunk_bytes(self) -> int:
        """What a slow line carries in a twentieth of a second: it trickles."""
        rate = self._modes.bytes_per_s
        return max(LEAST_CHUNK_BYTES, min(CHUNK_BYTES, int(rate / 20))) if rate else CHUNK_BYTES

    async def _take_turn(self, direction: _Direction, size: int) -> None:
        """Wait until a line of limited bandwidth has carried `size` bytes more."""
        if rate := self._modes.bytes_per_s:
            direction.free_at = max(direction.free_at, time.monotonic()) + size / rate
            due = direction.free_at
            await _until(lambda: time.monotonic() >= due or not self._modes.bytes_per_s)
        else:
            direction.free_at = 0.0

    def _damaged(self, data: bytes) -> bytes:
        if not self._modes.damages or len(data) <= DAMAGED_BYTES:
            return data
        self._modes.damages -= 1
        damaged = bytearray(data)
        damaged[self._random.randrange(len(data))] ^= 1 << self._random.randrange(8)
        return bytes(damaged)

    async def _not_cut(self) -> None:
        await _until(lambda: not self._modes.is_cut)

    async def _write(self, way: "_Way") -> None:
        while True:
            data, due = await way.get()
            if self._modes.loss and self._random.random() < self._modes.loss:
                due = max(due, time.monotonic()) + STALL_S
            await _until_time(due)
            await self._not_cut()
            if not data:
                way.target.shutdown(socket.SHUT_WR)
                return
            await self._loop.sock_sendall(way.target, data)


class _Way:
    """One way through one connection: chunks that were read and wait to be written, each with its time (s)."""

    def __init__(self, source: socket.socket, target: socket.socket, direction: _Direction) -> None:
        self.source, self.target, self.direction = source, target, direction
        self.waiting_bytes = 0
        self._chunks: asyncio.Queue[tuple[bytes, float]] = asyncio.Queue()

    def put(self, data: bytes, due: float) -> None:
        """Add a chunk; an empty one is the end."""
        self.waiting_bytes += len(data)
        self._chunks.put_nowait((data, due))

    async def get(self) -> tuple[bytes, float]:
        """The next chunk and when it is due."""
        data, due = await self._chunks.get()
        self.waiting_bytes -= len(data)
        return data, due


async def _until(is_so: Callable[[], bool]) -> None:
    """Wait for what another thread may bring about."""
    while not is_so():
        await asyncio.sleep(TICK_S)


async def _until_time(due: float) -> None:
    if (wait := due - time.monotonic()) > 0:
        await asyncio.sleep(wait)
