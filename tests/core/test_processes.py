"""Children are watched, started again, given up, and never outlive their supervisor."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenfold.core.errors import TenfoldError
from tenfold.core.processes import Child, Children, CrashLoop, Ended
from tests.waiting import PATIENCE_S, until

SLEEP = "import time; print('up', flush=True); time.sleep(60)"
STARTS_ANOTHER = (
    f"import subprocess, sys; other = subprocess.Popen([sys.executable, '-c', {SLEEP!r}]); "
    "print('pid', other.pid, flush=True)"
)
WATCHING = "from tenfold.core.processes import watch_parent; watch_parent(0.5)\n"
HANGS = "import signal\nsignal.signal(signal.SIGTERM, lambda *_: None)\nwhile True: signal.pause()"

SUPERVISOR = """
import sys, time
from pathlib import Path
from tenfold.core.processes import Child, Children
children = Children()
for name, code in (("patient", sys.argv[2]), ("hung", sys.argv[3]), ("still", sys.argv[2])):
    children.start(Child(name, (sys.executable, "-c", code), {}, Path(sys.argv[1]) / f"{name}.log"))
print(*(children.pid(name) for name in children.running), flush=True)
time.sleep(60)
"""


def python(tmp_path: Path, name: str, code: str, **environment: str) -> Child:
    return Child(name, (sys.executable, "-c", code), environment, tmp_path / f"{name}.log")


def says(child: Child, word: str = "up") -> None:
    until(lambda: child.log.exists() and word in child.log.read_text())


def ended(children: Children) -> Ended:
    found: list[Ended] = []

    def some() -> bool:
        found.extend(children.poll())
        return bool(found)

    until(some)
    assert len(found) == 1
    return found[0]


def test_an_end_tells_name_status_age_and_last_line(children: Children, tmp_path: Path) -> None:
    code = "import os, sys; print('early'); print(os.environ['WORD'] + '\\n'); sys.exit(3)"
    began = time.monotonic()
    children.start(python(tmp_path, "learner-0", code, WORD="the last"))
    end = ended(children)
    assert (end.name, end.code, end.how, end.last_line) == ("learner-0", 3, "status 3", "the last")
    assert 0 < end.seconds <= time.monotonic() - began
    assert children.poll() == []


def test_a_killed_child_takes_what_it_started_with_it(children: Children, tmp_path: Path) -> None:
    child = python(tmp_path, "learner-0", f"{STARTS_ANOTHER}; {SLEEP}")
    children.start(child)
    says(child, "pid ")
    until(lambda: child.log.read_text().count("up") == 2)
    inner = int(child.log.read_text().split("pid ")[1].split()[0])
    children.signal("learner-0", signal.SIGSTOP, group=True)
    assert children.kill("learner-0")
    assert ended(children).how == "SIGKILL"
    until(lambda: not psutil.pid_exists(inner) or psutil.Process(inner).status() == psutil.STATUS_ZOMBIE)
    assert not children.kill("learner-0")


def test_what_a_child_leaves_behind_dies_when_it_ends_by_itself(children: Children, tmp_path: Path) -> None:
    child = python(tmp_path, "learner-0", STARTS_ANOTHER)
    children.start(child)
    ended(children)
    inner = int(child.log.read_text().split("pid ")[1].split()[0])
    until(lambda: not psutil.pid_exists(inner) or psutil.Process(inner).status() == psutil.STATUS_ZOMBIE)


def test_a_child_that_is_started_again_is_a_new_process_with_lines_of_its_own(
    children: Children, tmp_path: Path
) -> None:
    child = python(tmp_path, "learner-0", SLEEP)
    first = children.start(child)
    says(child)
    children.kill("learner-0")
    assert ended(children).last_line == "up"
    assert children.start(child) != first
    children.kill("learner-0")
    assert ended(children).last_line in ("", "up"), "not a line of an earlier life"


def test_names_and_commands_that_cannot_be(children: Children, tmp_path: Path) -> None:
    child = python(tmp_path, "learner-0", SLEEP)
    pid = children.start(child)
    with pytest.raises(TenfoldError, match=f"learner-0: already running as process {pid}"):
        children.start(child)
    with pytest.raises(TenfoldError, match=r"x: cannot be started \(No such file or directory: /no/such/program"):
        children.start(Child("x", ("/no/such/program",), {}, tmp_path / "x.log"))
    assert children.running == ["learner-0"]
    assert (children.pid("x"), children.signal("learner-0", signal.SIGKILL, pid=1)) == (None, False)


def test_all_are_asked_first_and_a_stopped_one_hears_it(children: Children, tmp_path: Path) -> None:
    polite = "import signal, sys\nsignal.signal(signal.SIGTERM, lambda *_: sys.exit('saved'))\n" + SLEEP
    named = {name: python(tmp_path, name, code) for name, code in [("a", polite), ("b", polite), ("c", HANGS)]}
    for child in named.values():
        children.start(child)
    says(named["a"])
    says(named["b"])
    until(
        lambda: (
            psutil.Process(children.pid("c")).status() == psutil.STATUS_SLEEPING and _catches_term(children.pid("c"))
        )
    )
    children.signal("b", signal.SIGSTOP, group=True)
    children.stop_all(1.0)
    assert {end.name: (end.how, end.last_line) for end in children.poll()} == {
        "a": ("status 1", "saved"),
        "b": ("status 1", "saved"),
        "c": ("SIGKILL", ""),
    }


def _catches_term(pid: int | None) -> bool:
    caught = Path(f"/proc/{pid}/status").read_text().split("SigCgt:")[1].split()[0]
    return bool(int(caught, 16) >> (signal.SIGTERM - 1) & 1)


def test_children_die_with_a_supervisor_that_is_killed(tmp_path: Path) -> None:
    """One that sleeps, one that does not end on SIGTERM, one that stands still."""
    arguments = [
        sys.executable,
        "-c",
        SUPERVISOR,
        str(tmp_path),
        WATCHING + SLEEP,
        WATCHING + "print('up', flush=True)\n" + HANGS,
    ]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True) as supervisor:
        assert supervisor.stdout
        processes = [psutil.Process(int(pid)) for pid in supervisor.stdout.readline().split()]
        try:
            logs = [tmp_path / f"{name}.log" for name in ("patient", "hung", "still")]
            until(lambda: all(log.exists() and "up" in log.read_text() for log in logs))
            os.kill(processes[2].pid, signal.SIGSTOP)
            supervisor.kill()
            _, alive = psutil.wait_procs(processes, timeout=PATIENCE_S)
            assert not [process for process in alive if process.status() != psutil.STATUS_ZOMBIE]
        finally:
            for process in processes:
                if process.is_running():
                    process.kill()


def test_delays_double_and_a_long_life_forgives() -> None:
    loop = CrashLoop(limit=100, within=1000.0)  # a life is long from 10 s on
    now, delays = 0.0, []
    for _ in range(9):
        now += 1.0 + (delay := loop.note("a", now) or 0.0)
        delays.append(delay)
    assert delays == [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0, 5.0]
    assert loop.note("b", now) == 0.1, "each child for itself"
    assert loop.note("a", now + 11.0) == 0.1
    assert loop.note("a", now + 12.0) == 0.2


def test_time_in_a_queue_makes_no_crash_loop_slow() -> None:
    """Each life is of one second, after an hour in the queue."""
    loop, now = CrashLoop(limit=3, within=60.0), 0.0
    found = []
    for _ in range(3):
        now += 3601.0 + (found[-1] if found else 0.0)
        found.append(loop.note("learner-0", now, waited=3600.0))
    assert found == [0.1, 0.2, None]


def test_a_crash_loop_is_given_up_with_one_line() -> None:
    loop = CrashLoop(limit=3, within=60.0)
    assert [loop.note("learner-1", now) for now in (0.0, 1.0, 2.0)] == [0.1, 0.2, None]
    last = Ended("learner-1", 7, -signal.SIGSEGV, 0.31, "RuntimeError: no kernel")
    assert loop.report(last) == (
        "learner-1: given up after 3 deaths within 60 s; the last: SIGSEGV after 0.3 s; "
        "its last line: RuntimeError: no kernel"
    )
    lost = Ended("learner-1", 7, 1, 0.31, "", "NODE_FAIL")
    assert loop.report(lost).endswith("the last: NODE_FAIL after 0.3 s; it wrote nothing")


@given(st.lists(st.floats(0.0, 50.0), min_size=1, max_size=60), st.integers(2, 6), st.floats(1.0, 100.0))
def test_given_up_exactly_when_too_many_deaths_fall_into_the_window(
    waits: list[float], limit: int, within: float
) -> None:
    loop, deaths, now = CrashLoop(limit, within), [], 0.0
    for wait in waits:
        now += wait
        deaths.append(now)
        delay = loop.note("a", now)
        recent = sum(now - death < within for death in deaths)
        assert (delay is None) == (recent >= limit)
        assert delay is None or 0.1 <= delay <= 5.0


def test_a_real_crash_loop_ends(children: Children, tmp_path: Path) -> None:
    loop, child = CrashLoop(limit=3, within=60.0), python(tmp_path, "learner-0", "raise SystemExit('broken')")
    children.start(child)
    lives = 1
    while loop.note("learner-0", time.monotonic()) is not None:
        ended(children)
        children.start(child)
        lives += 1
    assert lives == 3
    assert "given up after 3 deaths within 60 s; the last: status 1" in loop.report(ended(children))
