"""A server and a client of it for tests, and what comes between them."""

import hashlib
import json
import random
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc

from tenfold.core.errors import TenfoldError
from tenfold.learners.faults.proxy import FaultyProxy
from tenfold.learners.wire import Blob, BlobServer, Link, Refused, Security
from tenfold.learners.wire.framing import PUT
from tenfold.learners.wire.security import call_headers

SECURITY = Security("secret")
MIB = 1024 * 1024


@dataclass
class BlobKeeper:
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


@contextmanager
def serving(keeper: BlobKeeper, security: Security = SECURITY, **where: Any) -> Iterator[BlobServer]:
    server = BlobServer(keeper, security, **where)
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


def with_token() -> list[tuple[str, str]]:
    return list(call_headers(SECURITY).items())


def raw_call(port: int, method: str, body: bytes, metadata: list[tuple[str, str]], timeout: float = 30.0) -> bytes:
    """What a server answers to a call that is made past Link."""
    with grpc.insecure_channel(f"127.0.0.1:{port}", options=[("grpc.max_send_message_length", -1)]) as channel:
        answer: bytes = channel.unary_unary(method)(body, metadata=metadata, timeout=timeout)
        return answer


def piece_answer(server: BlobServer, message: bytes) -> dict[str, Any]:
    """What the server says to a piece, sent past Link."""
    answer: dict[str, Any] = json.loads(raw_call(server.bulk_port, PUT, message, with_token()))
    return answer


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as found:
        return int(found.getsockname()[1])
