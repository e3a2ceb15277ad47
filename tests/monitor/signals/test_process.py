"""Times of the parts of a step, on a clock of our own; a stall told once with the stacks of all threads."""

import threading
from contextlib import closing
from pathlib import Path

from tenfold.core import CampaignFiles
from tenfold.ledger import IncidentClosed, Ledger, RunHangs
from tenfold.monitor.signals.board import SignalBoard
from tenfold.monitor.signals.process import StepTimes
from tenfold.monitor.signals.stall import LEAST_S, StallWatch, hang_after, stacks, write_stall
from tenfold.train import Observer, Observers, Stopping, execute
from tests.train.small import batch_of, new_state
from tests.waiting import until


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    def passes(self, seconds: float) -> None:
        self.now += seconds


class Slow(Observer):
    """Takes its time in every hook."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock

    def before_step(self, batch) -> None:
        self.clock.passes(1)

    def gradients_ready(self, state) -> None:
        self.clock.passes(2)

    def after_step(self, measure) -> None:
        self.clock.passes(4)


def test_every_second_is_told_apart(tmp_path: Path) -> None:
    clock, board, state = Clock(), SignalBoard(), new_state()
    times = StepTimes(state.root, board, tmp_path, clock)
    state.root.register_forward_pre_hook(lambda *_: clock.passes(0))
    state.root.blocks[0].register_forward_hook(lambda *_: clock.passes(10))
    state.root.blocks[0].mlp.down_proj.weight.register_hook(lambda gradient: clock.passes(20))
    step_optimizers = state.optimizers.step
    state.optimizers.step = lambda *a: (clock.passes(40), step_optimizers(*a))[1]
    observers = Observers([times, Slow(clock), times.last])
    execute(state, batch_of(0), observers)
    clock.passes(100)
    execute(state, batch_of(1), observers)
    found = board.values(2)
    assert found["time/forward"] == 10 and found["time/backward"] == 20 and found["time/optimizer"] == 40
    assert found["time/watching"] == 7 and found["time/data"] == 100 and "time/checkpoint" not in found
    observers.saving(2)
    clock.passes(300)
    execute(state, batch_of(2), observers)
    assert board.values(3)["time/checkpoint"] == 300 and "time/data" not in board.values(3)


def test_memory_and_disk_are_looked_at_now_and_then(tmp_path: Path) -> None:
    board, state = SignalBoard(), new_state()
    times = StepTimes(state.root, board, tmp_path)
    observers, seen = Observers([times, times.last]), []
    for step in range(10):
        execute(state, batch_of(step), observers)
        seen.append("process/memory" in board.values(step + 1))
    assert seen == [False] * 9 + [True] and board.values(10)["disk/free"] > 0


def test_a_stall_is_told_once_with_the_place_of_every_thread() -> None:
    clock, told = Clock(), []
    watch = StallWatch(lambda *what: told.append(what), clock=clock)
    notices: list[object] = []
    teller = type("Teller", (Observer,), {"noticed": lambda self, notice: notices.append(notice.what)})()
    observers, state = Observers([watch, teller]), new_state()
    execute(state, batch_of(0), observers)
    clock.passes(LEAST_S - 1)
    watch.look()
    assert not told
    clock.passes(2)
    watch.look()
    watch.look()
    ((step, seconds, text),) = told
    assert step == 1 and seconds == LEAST_S + 1
    assert not notices
    execute(state, batch_of(1), observers)
    assert notices == [IncidentClosed("hang", "steps came again")]
    clock.passes(LEAST_S + 1)
    watch.look()
    assert len(told) == 2
    assert "MainThread" in stacks() and "test_a_stall_is_told_once" in stacks() and "MainThread" not in text


def test_the_thread_looks_by_itself_and_ends_with_the_run() -> None:
    told = threading.Event()
    watch = StallWatch(lambda *_: told.set(), least_seconds=0.0)
    watch.started(0)
    until(told.is_set)
    watch.stopping(Stopping("done", 1))
    until(lambda: not watch._thread.is_alive())


def test_a_stall_is_an_incident_with_the_stacks_as_evidence_and_closes_with_the_next_step(tmp_path: Path) -> None:
    files = CampaignFiles(tmp_path)
    with closing(Ledger(files.ledger)) as ledger:
        run = ledger.start_run("train", "f", {})
        said = write_stall(files, run, 4, 700.0, "thread MainThread:\n  somewhere")
        (incident,) = ledger.incidents()
        assert incident.kind == "hang" and incident.payload == RunHangs(5, "time/step", 700.0)
        assert [link.where for link in incident.evidence] == ["stalls/step-00000005.txt"]
        assert "no step for 700 s after step 4" in said
        assert (tmp_path / "stalls/step-00000005.txt").read_text().endswith("somewhere")
        ledger.close_cause(IncidentClosed(hang_after(4).cause, "a step came"), run_id=run)
        assert ledger.incidents()[0].verdict == "a step came"


def test_what_goes_wrong_in_the_watching_thread_stays_there() -> None:
    clock = Clock()

    def fail(*_: object) -> None:
        raise OSError("no room")

    watch = StallWatch(fail, clock=clock)
    clock.passes(LEAST_S + 1)
    watch.look()
