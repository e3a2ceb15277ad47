"""What strangers without a token can cost a syncer: memory, files and ledger rows after some seconds of each attack.

    python benchmarks/attack.py [--seconds 15] [--json FILE]

Each attack has a syncer of its own, in a process of its own, with one honest client that asks for the status all the
time: how many of its calls succeed, and the slowest, stand beside what the attack cost.
"""

import argparse
import json
import multiprocessing
import os
import re
import socket
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import closing, suppress
from dataclasses import asdict, dataclass
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import Any

import grpc
import psutil

from tenfold.core import TenfoldError, byte_size
from tenfold.learners.wire import Link, Security

GIB = 1024**3
LISTENS = re.compile(r"syncer listens on (127\.0\.0\.1):(\d+);")
METHODS = {"control": "/tenfold.control/join", "bulk": "/tenfold.bulk/put"}
Attack = Callable[[int, Event], int]
SPAWN = multiprocessing.get_context("spawn")


@dataclass(frozen=True)
class Cost:
    """What one attack cost the syncer, and what the honest client noticed of it."""

    attack: str
    tries: int
    memory_before: int
    memory_highest: int
    files_highest: int
    ledger_rows: int
    honest_calls: int
    honest_failures: int
    honest_slowest_s: float


def bodies(port: int, over: Event) -> int:
    """A body of 1 GiB in a call without a token, again and again."""
    tries, body = 0, bytes(GIB)
    options = [("grpc.max_send_message_length", -1)]
    while not over.is_set():
        with grpc.insecure_channel(f"127.0.0.1:{port}", options=options) as channel, suppress(grpc.RpcError):
            channel.unary_unary(METHODS["control"])(body, timeout=10.0)
        tries += 1
    return tries


def calls(port: int, over: Event) -> int:
    """Small calls without a token, as many as there is time for."""
    tries = 0
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        call = channel.unary_unary(METHODS["control"])
        while not over.is_set():
            with suppress(grpc.RpcError):
                call(b"{}", timeout=5.0)
            tries += 1
    return tries


def connections(port: int, over: Event) -> int:
    """Connections that say nothing, as many as this process may have open."""
    held: list[socket.socket] = []
    tries = 0
    while not over.is_set():
        try:
            held.append(socket.create_connection(("127.0.0.1", port), 1.0))
            tries += 1
        except OSError:
            over.wait(0.1)
    for each in held:
        each.close()
    return tries


def garbage(port: int, over: Event) -> int:
    """Bytes that are no HTTP/2, in new connections."""
    tries, noise = 0, os.urandom(65_536)
    while not over.is_set():
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), 1.0) as one:
            one.sendall(noise)
        tries += 1
    return tries


def half_a_request(port: int, over: Event) -> int:
    """The preface of HTTP/2 and no more, held open."""
    held: list[socket.socket] = []
    tries = 0
    while not over.is_set():
        try:
            one = socket.create_connection(("127.0.0.1", port), 1.0)
            one.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0]))
            held.append(one)
            tries += 1
        except OSError:
            over.wait(0.1)
    for each in held:
        each.close()
    return tries


ATTACKS: dict[str, Attack] = {
    "bodies of 1 GiB": bodies,
    "calls without a token": calls,
    "connections that say nothing": connections,
    "connections that say half": half_a_request,
    "garbage": garbage,
}


def attacked(name: str, seconds: float) -> Cost:
    """Start a syncer, attack it for so long, and say what that cost."""
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "syncer.log"
        command = [sys.executable, "-m", "tenfold", "syncer", folder, "--total", "1000000"]
        with log.open("wb") as handle:
            process = subprocess.Popen(command, stdout=handle, stderr=handle)
        try:
            port = _port(log, process)
            token = (Path(folder) / "learners" / "token").read_text(encoding="utf-8").strip()
            return _watched(name, seconds, port, token, process, Path(folder) / "ledger.sqlite")
        finally:
            process.terminate()
            process.wait(60)


def _port(log: Path, process: "subprocess.Popen[bytes]") -> int:
    while process.poll() is None:
        if found := LISTENS.search(log.read_text(encoding="utf-8")):
            return int(found[2])
        time.sleep(0.05)
    raise SystemExit(f"the syncer did not start: {log.read_text(encoding='utf-8')}")


def _watched(
    name: str,
    seconds: float,
    port: int,
    token: str,
    process: "subprocess.Popen[bytes]",
    ledger: Path,
) -> Cost:
    watched, over = psutil.Process(process.pid), SPAWN.Event()
    before, rows_before = watched.memory_info().rss, _rows(ledger)
    highest, files, answers = before, 0, list[float]()
    failures = [0]

    def honest() -> None:
        with closing(Link(f"127.0.0.1:{port}", Security(token), patience=5.0)) as link:
            while not over.wait(0.1):
                began = time.monotonic()
                try:
                    link.call("settings", {})
                    answers.append(time.monotonic() - began)
                except TenfoldError:
                    failures[0] += 1

    asking, tries = threading.Thread(target=honest), SPAWN.Value("q", 0)
    attacker = SPAWN.Process(target=_attack, args=(name, port, over, tries))
    asking.start()
    attacker.start()
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        highest, files = max(highest, watched.memory_info().rss), max(files, watched.num_fds())
        time.sleep(0.02)
    over.set()
    asking.join()
    attacker.join()
    time.sleep(1.5)  # the ledger is written every second
    rows = _rows(ledger) - rows_before
    return Cost(
        name, tries.value, before, highest, files, rows, len(answers), failures[0], max(answers, default=float("nan"))
    )


def _attack(name: str, port: int, over: Event, tries: Any) -> None:
    """Body of the attacker's process."""
    tries.value = ATTACKS[name](port, over)


def _rows(ledger: Path) -> int:
    if not ledger.exists():
        return 0
    with closing(sqlite3.connect(ledger)) as db, suppress(sqlite3.OperationalError):
        return int(db.execute("SELECT count(*) FROM events").fetchone()[0])
    return 0


def main() -> None:
    """Every attack, one after another; a table on stdout."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=15.0, help="how long each attack lasts")
    parser.add_argument("--json", type=Path, help="write the figures there too")
    words = parser.parse_args()
    costs = []
    print(f"{words.seconds:g} s of each attack; an honest client asks ten times a second meanwhile\n")
    print("| attack | tries | memory before | highest | files | ledger rows | honest calls | failed | slowest |")
    print("|---|---|---|---|---|---|---|---|---|")
    for name in ATTACKS:
        cost = attacked(name, words.seconds)
        costs.append(cost)
        print(
            f"| {cost.attack} | {cost.tries:,} | {byte_size(cost.memory_before)} | {byte_size(cost.memory_highest)} | "
            f"{cost.files_highest:,} | {cost.ledger_rows} | {cost.honest_calls} | {cost.honest_failures} | "
            f"{cost.honest_slowest_s:.2f} s |",
            flush=True,
        )
    if words.json:
        words.json.write_text(json.dumps([asdict(cost) for cost in costs], indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
