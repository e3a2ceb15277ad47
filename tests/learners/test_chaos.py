"""Faults are planned the same every time, do what their name says to real processes and sockets, and are undone."""

import socket
import struct
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from tenfold.config import chaos as config
from tenfold.config.base import Section, explain
from tenfold.core.processes import Child, Children
from tenfold.learners.chaos import (
    Chaos,
    Context,
    FaultyProxy,
    Injection,
    NotInjected,
    inject,
    planned,
)
from tests.learners.waiting import until

LEARNERS = ["learner-0", "learner-1", "learner-2"]
TARGETS = [*LEARNERS, "syncer"]

LEARNER = """
import threading, time
from tenfold.learners.chaos import InjectedFaults, allow_faults_from_signals
def beat(name):
    with open(name, "a") as handle:
        handle.write(".")
def heart():
    while True:
        beat("heart"); time.sleep(0.01)
threading.Thread(target=heart, daemon=True).start()
state = InjectedFaults()
print(allow_faults_from_signals(state), flush=True)
while True:
    beat("nan" if state.make_nan else "main"); time.sleep(0.01)
"""


class Root(Section):
    """What stands around the section."""

    chaos: config.Chaos = config.Chaos()


MISTAKES: list[tuple[dict[str, Any], str]] = [
    ({"per_hour": -1.0}, "c.toml: chaos.per_hour = -1.0: input should be greater than or equal to 0"),
    ({"kinds": []}, "c.toml: chaos.kinds = []: list should have at least 1 item after validation, not 0"),
    (
        {"faults": [{"kind": "kill"}]},
        'c.toml: chaos.faults[0]: say when "kill" is due, by one of `at` and `at_seconds`',
    ),
    (
        {"faults": [{"kind": "kill", "at": 0.1, "at_seconds": 3.0}]},
        'c.toml: chaos.faults[0]: say when "kill" is due, by one of `at` and `at_seconds`',
    ),
    ({"faults": [{"kind": "kill", "at": 1.0}]}, "c.toml: chaos.faults[0].at = 1.0: input should be less than 1"),
    (
        {"faults": [{"kind": "kill", "at": 0.1, "target": "learner"}]},
        'c.toml: chaos.faults[0].target = \'learner\': a target is "learner-0", "learner-1", …, "syncer", "syncer-1", '
        '… or "any"',
    ),
    (
        {"faults": [{"kind": "nan", "at": 0.1, "target": "syncer"}]},
        'c.toml: chaos.faults[0]: "nan" needs a learner as its target, or "any"',
    ),
    (
        {"faults": [{"kind": "kill", "at": 0.1, "amount": 2.0}]},
        'c.toml: chaos.faults[0]: "kill" takes no `amount`; slow, delay, loss, bandwidth, corrupt do',
    ),
    (
        {"faults": [{"kind": "loss", "at": 0.1, "amount": 2.0}]},
        "c.toml: chaos.faults[0]: amount 2 of a loss is a share, at most 1",
    ),
    (
        {"faults": [{"kind": "slow", "at": 0.1, "amount": 0.5}]},
        "c.toml: chaos.faults[0]: amount 0.5 of a slow says how many times slower, above 1",
    ),
    (
        {"faults": [{"kind": "corrupt", "at": 0.1, "amount": 1.5}]},
        "c.toml: chaos.faults[0]: amount 1.5 of a corrupt is a number of chunks, a whole one",
    ),
    (
        {"faults": [{"kind": "kil", "at": 0.1}]},
        "c.toml: chaos.faults[0].kind = 'kil': input should be 'kill', 'stop', 'hang', 'slow', 'partition', 'delay', "
        "'loss', 'bandwidth', 'corrupt', 'nan' or 'disk-full'",
    ),
    (
        {"faults": [{"kind": "kill", "at": 0.1, "sekonds": 3.0}]},
        "c.toml: unknown key 'chaos.faults[0].sekonds'; did you mean 'seconds'?",
    ),
]


@pytest.mark.parametrize(("values", "message"), MISTAKES)
def test_a_mistake_in_the_section_is_one_clear_line(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError) as caught:
        Root.model_validate({"chaos": values})
    assert explain(caught.value, "c.toml", root=Root) == message


def test_planned_faults_come_as_written() -> None:
    faults = [
        config.Fault(kind="slow", target="learner-1", at=0.25, seconds=2.0, amount=3.0),
        config.Fault(kind="nan", at_seconds=7.0),
    ]
    slow, nan = planned(config.Chaos(faults=faults), TARGETS, 60.0, seed=0)
    assert slow == Injection("slow", "learner-1", None, 0.25, 2.0, 3.0)
    assert (nan.kind, nan.at_seconds, nan.target in LEARNERS) == ("nan", 7.0, True)
    assert [slow.is_due(0, 0.24), slow.is_due(99, 0.25), nan.is_due(6.9, 1), nan.is_due(7, 0)] == [False, True] * 2
    assert config.Chaos() == Root().chaos and planned(config.Chaos(), TARGETS, 1e6, seed=0) == []


KINDS = st.lists(st.sampled_from(["kill", "stop", "hang", "nan", "loss"]), min_size=1, unique=True)


@settings(max_examples=25)
@given(
    KINDS, st.floats(0.1, 600.0), st.floats(0.0, 3600.0), st.floats(0.0, 3600.0), st.integers(0, 99), st.integers(1, 4)
)
def test_random_faults_are_drawn_the_same_and_a_longer_run_only_adds(
    kinds: list[config.FaultKind], per_hour: float, short: float, more: float, seed: int, count: int
) -> None:
    plan, targets = config.Chaos(kinds=kinds, per_hour=per_hour, seed=seed), TARGETS[-count:]
    faults = planned(plan, targets, short, seed=1)
    assert faults == planned(plan, targets, short, seed=1)
    assert planned(plan, targets, short + more, seed=1)[: len(faults)] == faults
    times = [fault.at_seconds or 0.0 for fault in faults]
    assert times == sorted(times) and all(0 < at < short for at in times)
    assert all(fault.kind in kinds and fault.target in targets for fault in faults)
    assert not any(fault.target == "syncer" and fault.kind in config.LEARNERS_ONLY for fault in faults)


def test_random_faults_are_a_poisson_process() -> None:
    """Counts of 200 hours at 20 an hour: mean 20 ± 4 standard errors, variance as large as the mean."""
    faults = planned(config.Chaos(per_hour=20.0), TARGETS, 200 * 3600.0, seed=3)
    counts = [0] * 200
    for fault in faults:
        counts[int((fault.at_seconds or 0.0) // 3600)] += 1
    mean = sum(counts) / 200
    variance = sum((count - mean) ** 2 for count in counts) / 199
    assert mean == pytest.approx(20.0, abs=4 * (20 / 200) ** 0.5)
    assert 0.6 < variance / mean < 1.4
    assert {fault.kind for fault in faults} == {"kill", "stop", "hang"}
    assert {fault.target for fault in faults if fault.kind == "kill"} == set(TARGETS)
    assert faults != planned(config.Chaos(per_hour=20.0), TARGETS, 200 * 3600.0, seed=4)


def start(children: Children, folder: Path, code: str, name: str = "learner-0", **environment: str) -> None:
    program = f"import os; os.chdir({str(folder)!r})\n{code}"
    children.start(Child(name, (sys.executable, "-c", program), environment, folder / f"{name}.log"))


class Progress:
    """How often a child has gone round its loop, by the size of a file that grows each time."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __call__(self) -> int:
        return self.file.stat().st_size if self.file.exists() else 0

    def rate(self, seconds: float) -> float:
        before, began = self(), time.monotonic()
        time.sleep(seconds)
        return (self() - before) / (time.monotonic() - began)


BUSY = """
with open("count", "ab", buffering=0) as handle:
    while True:
        sum(range(20_000))
        handle.write(b".")
"""


def test_kill_and_a_fault_of_a_child_that_does_not_run(children: Children, tmp_path: Path) -> None:
    context = Context(children, {})
    start(children, tmp_path, BUSY)
    assert inject(Injection("kill", "learner-0"), context) is None
    until(lambda: [end.how for end in children.poll()] == ["SIGKILL"])
    for kind, why in [
        ("kill", "learner-0 is not running"),
        ("disk-full", "learner-0 is not running"),
        ("delay", "learner-0's line passes no proxy"),
    ]:
        with pytest.raises(NotInjected, match=f"{kind}: {why}"):
            inject(Injection(kind, "learner-0"), context)  # type: ignore[arg-type]


def test_stop_lasts_until_undone_also_when_two_overlap(children: Children, tmp_path: Path) -> None:
    context, count = Context(children, {}), Progress(tmp_path / "count")
    start(children, tmp_path, BUSY)
    until(lambda: count() > 0)
    first, second = (inject(Injection("stop", "learner-0"), context) for _ in range(2))
    assert first and second
    time.sleep(0.05)
    assert count.rate(0.2) == 0
    first()
    assert count.rate(0.2) == 0, "the other one still holds it"
    second()
    assert count.rate(0.2) > 0


def test_slow_leaves_a_fifth_of_the_speed_and_yields_to_a_stop(children: Children, tmp_path: Path) -> None:
    context, count = Context(children, {}), Progress(tmp_path / "count")
    start(children, tmp_path, BUSY)
    until(lambda: count() > 100)
    full = rate_with_a_core_for_itself(children, count)
    undo_slow = inject(Injection("slow", "learner-0"), context)
    slow = count.rate(1.0)
    undo_stop = inject(Injection("stop", "learner-0"), context)
    assert undo_slow and undo_stop
    time.sleep(0.1)
    assert count.rate(0.2) == 0
    undo_stop()
    undo_slow()
    assert 0 < slow / full < 0.35
    assert count.rate(0.5) > 1.5 * slow


def rate_with_a_core_for_itself(children: Children, count: Progress) -> float:
    """Progress in a second of processor time: the tests beside this one do not change it."""
    process = psutil.Process(children.pid("learner-0"))
    done, spent = count(), process.cpu_times().user
    time.sleep(0.7)
    return float((count() - done) / (process.cpu_times().user - spent))


def test_a_restarted_child_is_free_of_the_fault_of_its_earlier_life(children: Children, tmp_path: Path) -> None:
    context, count = Context(children, {}), Progress(tmp_path / "count")
    start(children, tmp_path, BUSY)
    undo = inject(Injection("stop", "learner-0"), context)
    children.kill("learner-0")
    until(lambda: children.pid("learner-0") is None)
    (tmp_path / "count").unlink(missing_ok=True)
    start(children, tmp_path, BUSY)
    until(lambda: count() > 0)
    stop_again = inject(Injection("stop", "learner-0"), context)
    assert undo and stop_again
    time.sleep(0.05)
    undo()
    assert count.rate(0.2) == 0, "the end of the first fault is no business of the second life"
    stop_again()


def test_hang_stops_the_main_thread_alone(children: Children, tmp_path: Path) -> None:
    context = Context(children, {})
    start(children, tmp_path, LEARNER, TENFOLD_CHAOS="1")
    main, heart = Progress(tmp_path / "main"), Progress(tmp_path / "heart")
    until(lambda: main() > 0)
    inject(Injection("nan", "learner-0"), context)
    until(lambda: Progress(tmp_path / "nan")() > 0)
    assert main.rate(0.1) == 0, "the loop has seen the flag"
    inject(Injection("hang", "learner-0"), context)
    time.sleep(0.1)
    assert Progress(tmp_path / "nan").rate(0.3) == 0
    assert heart.rate(0.3) > 10
    assert children.running == ["learner-0"]


def test_a_learner_without_leave_does_not_listen_and_is_not_hurt(children: Children, tmp_path: Path) -> None:
    start(children, tmp_path, LEARNER, TENFOLD_CHAOS="")
    main = Progress(tmp_path / "main")
    until(lambda: main() > 0)
    for kind, number in (("hang", "SIGUSR1"), ("nan", "SIGUSR2")):
        with pytest.raises(NotInjected, match=rf"{kind}: learner-0 does not listen to {number} \(yet\)"):
            inject(Injection(kind, "learner-0"), Context(children, {}))  # type: ignore[arg-type]
    assert main.rate(0.2) > 0
    assert (tmp_path / "learner-0.log").read_text() == "False\n"


WRITER = """
import time
from pathlib import Path
while True:
    try:
        Path("file").write_text("words")
        Path("wrote-at").touch()
    except OSError as error:
        Path("error-" + str(error.errno)).touch()
    time.sleep(0.01)
"""


def test_a_full_disk_refuses_writes_until_the_last_fault_is_over(children: Children, tmp_path: Path) -> None:
    context = Context(children, {})
    start(children, tmp_path, WRITER)
    until((tmp_path / "wrote-at").exists)
    first, second = (inject(Injection("disk-full", "learner-0"), context) for _ in range(2))
    assert first and second
    until((tmp_path / "error-27").exists)  # EFBIG
    first()
    (tmp_path / "wrote-at").unlink(missing_ok=True)
    time.sleep(0.1)
    assert not (tmp_path / "wrote-at").exists()
    second()
    until((tmp_path / "wrote-at").exists)
    assert children.running == ["learner-0"]


def test_chaos_says_what_it_does_and_undoes_it_at_the_end(children: Children, tmp_path: Path) -> None:
    said: list[tuple[str, str, dict[str, Any]]] = []
    share, count = [0.0], Progress(tmp_path / "count")
    start(children, tmp_path, BUSY)
    until(lambda: count() > 0)
    plan = [
        Injection("stop", "learner-0", at_seconds=0.0, seconds=0.3),
        Injection("nan", "learner-0", at_seconds=0.1),
        Injection("stop", "learner-0", at=0.5, seconds=1e9),
    ]

    def say(kind: str, message: str, **data: Any) -> None:
        said.append((kind, message, data))

    with Chaos(plan, Context(children, {}), say, share=lambda: share[0]) as chaos:
        until(lambda: len(said) == 3)
        assert count.rate(0.1) > 0, "over, and the one by share has not come yet"
        share[0] = 0.5
        until(lambda: len(said) == 4)
        chaos.add(Injection("slow", "learner-0", at_seconds=0.0, seconds=1e9, amount=2.0))
        until(lambda: len(said) == 5)
        assert count.rate(0.1) == 0
    assert count.rate(0.2) > 0
    assert [(kind, message) for kind, message, _ in said] == [
        ("chaos", "stop of learner-0 for 0.3 s"),
        ("chaos-skipped", "nan: learner-0 does not listen to SIGUSR2 (yet)"),
        ("chaos-over", "stop of learner-0 is over"),
        ("chaos", "stop of learner-0 for 1e+09 s"),
        ("chaos", "slow of learner-0 for 1e+09 s"),
        ("chaos-over", "stop of learner-0 is over"),
        ("chaos-over", "slow of learner-0 is over"),
    ]
    assert said[4][2] == {"fault": "slow", "target": "learner-0", "seconds": 1e9, "amount": 2.0}


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


@pytest.fixture
def proxy() -> Iterator[FaultyProxy]:
    with echo_server() as port, FaultyProxy("127.0.0.1", port) as made:
        yield made


@contextmanager
def connection(proxy: FaultyProxy) -> Iterator[socket.socket]:
    with socket.create_connection(("127.0.0.1", proxy.port), timeout=10.0) as client:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        yield client


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
        assert 0.25 < there_and_back(client, b"x")[1] < 3.0, "over by itself"


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
        assert there_and_back(client, b"x")[1] < 0.1
        proxy.delay(0.15)
        assert 0.3 <= there_and_back(client, b"x")[1] < 1.0
        assert 0.3 <= there_and_back(client, bytes(8 << 20))[1] < 1.2, "many chunks are under way at a time"


def test_bandwidth_is_kept_and_shared(proxy: FaultyProxy) -> None:
    proxy.bandwidth(1e6)
    seconds: list[float] = []
    with connection(proxy) as one, connection(proxy) as other:
        clients = [
            threading.Thread(target=lambda c=client: seconds.append(there_and_back(c, bytes(250_000))[1]))
            for client in (one, other)
        ]
        for client in clients:
            client.start()
        for client in clients:
            client.join()
        assert 0.4 < max(seconds) < 2.0
        proxy.bandwidth(1.0)
        threading.Timer(0.2, proxy.clear).start()
        assert there_and_back(one, bytes(100_000))[1] < 2.0, "a wait ends with the limit that caused it"


def test_loss_is_a_stall(proxy: FaultyProxy) -> None:
    with connection(proxy) as client:
        proxy.loss(1.0)
        assert 0.4 <= there_and_back(client, b"x")[1] < 1.0
        proxy.loss(0.3)
        stalls = sum(there_and_back(client, b"x")[1] // 0.2 for _ in range(10))
        assert 1 <= stalls <= 14  # of 20 chunks; 6 expected


def test_corrupt_flips_one_bit_of_as_many_large_chunks(proxy: FaultyProxy) -> None:
    with connection(proxy) as client:
        proxy.corrupt(2)
        small = bytes(4096)
        assert there_and_back(client, small)[0] == small
        wrong = [_flipped(there_and_back(client, bytes(8000))[0]) for _ in range(4)]
        assert sum(wrong) == 2 and wrong[2:] == [0, 0]


def _flipped(data: bytes) -> int:
    return sum(byte.bit_count() for byte in data)


def test_faults_reach_the_proxies_and_overlap(children: Children, proxy: FaultyProxy) -> None:
    with echo_server() as port, FaultyProxy("127.0.0.1", port) as second:
        context = Context(children, {"learner-0": [proxy], "learner-1": [second]})
        with connection(proxy) as one, connection(second) as other:
            all_later = inject(Injection("delay", "syncer", amount=0.15), context)
            one_later = inject(Injection("delay", "learner-0", amount=0.3), context)
            assert all_later and one_later
            assert there_and_back(one, b"x")[1] >= 0.6
            assert 0.3 <= there_and_back(other, b"x")[1] < 0.6
            all_later()
            assert there_and_back(one, b"x")[1] >= 0.6
            assert there_and_back(other, b"x")[1] < 0.3
            one_later()
            assert there_and_back(one, b"x")[1] < 0.3
