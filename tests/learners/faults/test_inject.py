"""Faults do what their name says to real processes and connections, and are undone."""

import time
from pathlib import Path

import psutil
import pytest

from tenfold.core.processes import Children
from tenfold.learners.faults.inject import FaultContext, Injection, NotInjected, inject
from tenfold.learners.faults.proxy import FaultyProxy
from tests.learners.faults.busy import BUSY, Progress, start
from tests.learners.faults.echo import connection, echo_server, seconds_for
from tests.waiting import until

LEARNER = """
import threading, time
from tenfold.learners.faults.inject import InjectedFaults, allow_faults_from_signals
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


def test_kill_and_a_fault_of_a_child_that_does_not_run(children: Children, tmp_path: Path) -> None:
    context = FaultContext(children, {})
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
    context, count = FaultContext(children, {}), Progress(tmp_path / "count")
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
    context, count = FaultContext(children, {}), Progress(tmp_path / "count")
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
    until(lambda: count.rate(0.5) > 1.5 * slow)


def rate_with_a_core_for_itself(children: Children, count: Progress) -> float:
    """Progress in a second of processor time: the tests beside this one do not change it."""
    process = psutil.Process(children.pid("learner-0"))
    done, spent = count(), process.cpu_times().user
    time.sleep(0.7)
    return float((count() - done) / (process.cpu_times().user - spent))


def test_a_restarted_child_is_free_of_the_fault_of_its_earlier_life(children: Children, tmp_path: Path) -> None:
    context, count = FaultContext(children, {}), Progress(tmp_path / "count")
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
    assert count.rate(0.2) == 0, "the end of the first fault is no business of the second process"
    stop_again()


def test_hang_stops_the_main_thread_alone(children: Children, tmp_path: Path) -> None:
    context = FaultContext(children, {})
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
            inject(Injection(kind, "learner-0"), FaultContext(children, {}))  # type: ignore[arg-type]
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
    context = FaultContext(children, {})
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


def test_faults_reach_the_proxies_and_overlap(children: Children, proxy: FaultyProxy) -> None:
    with echo_server() as port, FaultyProxy("127.0.0.1", port) as second:
        context = FaultContext(children, {"learner-0": [proxy], "learner-1": [second]})
        with connection(proxy) as one, connection(second) as other:
            all_later = inject(Injection("delay", "syncer", amount=0.15), context)
            one_later = inject(Injection("delay", "learner-0", amount=0.3), context)
            assert all_later and one_later
            both = seconds_for(one, b"x")
            assert 0.3 <= seconds_for(other, b"x") < both and both >= 0.6
            all_later()
            still = seconds_for(one, b"x")
            assert seconds_for(other, b"x") < still and still >= 0.6
            one_later()
            assert seconds_for(one, b"x") < still
