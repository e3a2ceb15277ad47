"""Observers: told in order, taken out when they fail unless essential, their state kept across a resume."""

from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tenfold.config import load_campaign
from tenfold.core.errors import Interrupted, TenfoldError
from tenfold.core.folder import CampaignFiles
from tenfold.data import Manifest
from tenfold.ledger import Ledger
from tenfold.ledger.events import ResumeNotExact
from tenfold.train.checkpoint import Checkpointer
from tenfold.train.journal import journal_of
from tenfold.train.learner import build_learner
from tenfold.train.loop import Loop, TrainResult
from tenfold.train.observe import NOBODY, Notice, Observer, Observers, Stopping
from tenfold.train.ranks import Ranks, choose_device
from tenfold.train.step import execute
from tests.campaign.small import copy_of, new_campaign
from tests.train.small import batch_of, new_state
from tests.warm import run_ranks

ROOT = Path(__file__).parents[2]


class Diary(Observer):
    """Writes down what it is told."""

    def __init__(self, name: str, lines: list[str]) -> None:
        self.name = name  # type: ignore[misc]
        self.lines = lines

    def _note(self, what: str) -> None:
        self.lines.append(f"{self.name} {what}")

    def started(self, step: int) -> None:
        self._note(f"started {step}")

    def resumed(self, step: int, checkpoint: object) -> None:
        self._note(f"resumed {step}")

    def before_step(self, batch) -> None:
        self._note(f"before {batch.step}")

    def gradients_ready(self, state) -> None:
        assert all(parameter.grad is not None for parameter in state.root.parameters())
        self._note("gradients")

    def after_step(self, measure) -> None:
        self._note(f"after {measure.step}")

    def saving(self, step: int) -> None:
        self._note(f"saving {step}")

    def saved(self, step: int) -> None:
        self._note(f"saved {step}")

    def noticed(self, notice: Notice) -> None:
        self._note(f"noticed {notice.what.kind}")

    def stopping(self, stopping: Stopping) -> None:
        self._note(f"stopping {stopping.status} {stopping.step}")


class Failing(Observer):
    """Fails in one hook, at one step."""

    def __init__(self, hook: str, *, at: int = 0, essential: bool = False, error: Exception | None = None) -> None:
        self.hook, self.at, self.essential = hook, at, essential
        self.error = error or ZeroDivisionError("a bug")
        self.calls = 0

    def _fail(self, hook: str) -> None:
        self.calls += 1
        if hook == self.hook and self.calls > self.at:
            raise self.error

    def before_step(self, batch) -> None:
        self._fail("before_step")

    def gradients_ready(self, state) -> None:
        self._fail("gradients_ready")

    def after_step(self, measure) -> None:
        self._fail("after_step")

    def noticed(self, notice: Notice) -> None:
        self._fail("noticed")

    def state_dict(self) -> dict[str, Any]:
        self._fail("state_dict")
        return {"calls": object()} if self.hook == "not plain" else {}


def test_hooks_come_in_order_and_observers_in_that_of_the_list() -> None:
    lines: list[str] = []
    execute(new_state(), batch_of(4), Observers([Diary("one", lines), Diary("two", lines)]))
    hooks = ["before 4", "gradients", "after 5"]
    assert lines == [f"{name} {hook}" for hook in hooks for name in ("one", "two")]


def test_a_hook_nobody_overrides_is_not_called() -> None:
    class OnlyAfter(Observer):
        def after_step(self, measure) -> None:
            pass

    called: list[str] = []

    class Counting(Observers):
        def _guarded(self, observer, call, *arguments):  # type: ignore[no-untyped-def]
            called.append(call.__name__)
            return super()._guarded(observer, call, *arguments)

    assert NOBODY.gradients_hook is None and Observers([OnlyAfter()]).gradients_hook is None
    execute(new_state(), batch_of(0), Counting([OnlyAfter(), Observer()]))
    assert called == ["after_step"]


@pytest.mark.parametrize("hook", ["before_step", "gradients_ready", "after_step"])
def test_one_that_fails_is_reported_taken_out_and_changes_no_weight(hook: str) -> None:
    lines: list[str] = []
    failing = Failing(hook)
    observers = Observers([failing, Diary("other", lines)])
    state, alone = new_state(), new_state()
    for step in (0, 1):
        assert execute(state, batch_of(step), observers).nats == execute(alone, batch_of(step)).nats
    assert lines.count("other noticed observer-failed") == 1
    assert [type(o) for o in observers] == [Diary]
    assert lines[-1] == "other after 2"
    calls = failing.calls
    execute(state, batch_of(2), observers)
    assert failing.calls == calls


def test_an_essential_one_stops_the_run_with_its_own_error() -> None:
    with pytest.raises(TenfoldError, match="must not go on"):
        execute(
            new_state(),
            batch_of(0),
            Observers([Failing("after_step", essential=True, error=TenfoldError("must not go on"))]),
        )


def test_being_asked_to_stop_is_no_failure_of_an_observer() -> None:
    with pytest.raises(Interrupted):
        execute(new_state(), batch_of(0), Observers([Failing("after_step", error=Interrupted("now"))]))


def test_one_that_fails_when_told_of_another_is_taken_out_too() -> None:
    lines: list[str] = []

    class Second(Failing):
        pass

    observers = Observers([Failing("after_step"), Second("noticed", at=2), Diary("last", lines)])
    execute(new_state(), batch_of(0), observers)
    assert [type(o) for o in observers] == [Diary]
    assert lines.count("last noticed observer-failed") == 2


def test_two_of_one_name_are_refused() -> None:
    with pytest.raises(ValueError, match="two observers are called 'Failing'"):
        Observers([Failing("x"), Failing("y")])


@pytest.mark.parametrize("hook", ["state_dict", "not plain"])
def test_a_state_that_cannot_be_kept_costs_no_checkpoint(hook: str) -> None:
    class Keeping(Observer):
        def state_dict(self) -> dict[str, Any]:
            return {"seen": [1, 2]}

    observers = Observers([Failing(hook), Keeping()])
    assert observers.state_dict() == {"Keeping": {"seen": [1, 2]}}
    assert [type(o) for o in observers] == [Keeping]


def test_an_observer_can_report_to_all() -> None:
    lines: list[str] = []

    class Reporter(Observer):
        def after_step(self, measure) -> None:
            self.notice(ResumeNotExact(), "look here")

    execute(new_state(), batch_of(0), Observers([Diary("one", lines), Reporter()]))
    assert "one noticed resume-not-exact" in lines
    Reporter().after_step(None)  # watching nobody's run, it reports to nobody


# In a run


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from tenfold.campaign import run_data

    directory = new_campaign(tmp_path_factory.mktemp("observed"))
    run_data(directory, ())
    return directory


@pytest.fixture
def campaign(corpus: Path, tmp_path: Path) -> Path:
    return copy_of(corpus, tmp_path / "campaign")


def train(directory: Path, *observers: Observer, steps: int | None = None, every: int = 10) -> TrainResult:
    """The small campaign with a journal and these observers; `steps`: interrupted after so many."""
    campaign = load_campaign(directory, (f"checkpoint.every={every}",))
    files = CampaignFiles(directory)
    learner = build_learner(campaign, files.data, Manifest.load(files.data), Ranks(0, 1, choose_device("cpu")))
    stop = [StopAfter(steps)] if steps else []
    with Checkpointer(directory / "checkpoints", keep_last=2) as checkpointer, journal_of(learner, files) as journal:
        return Loop(learner, checkpointer, [journal, *observers, *stop]).run()


class StopAfter(Observer):
    """Ends a process in the middle, as a kill does."""

    def __init__(self, steps: int) -> None:
        self.steps = steps

    def after_step(self, measure) -> None:
        if measure.step == self.steps:
            raise Interrupted("killed")


class MeanLoss(Observer):
    """An observer with a state of its own."""

    def __init__(self) -> None:
        self.total, self.steps = 0.0, 0

    def after_step(self, measure) -> None:
        self.total += measure.nats
        self.steps += 1

    def state_dict(self) -> dict[str, Any]:
        return {"total": self.total, "steps": self.steps}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.total, self.steps = state["total"], state["steps"]


def test_a_state_goes_on_from_the_checkpoint_bit_for_bit(campaign: Path, corpus: Path, tmp_path: Path) -> None:
    whole, first, second = MeanLoss(), MeanLoss(), MeanLoss()
    reference = train(copy_of(corpus, tmp_path / "reference"), whole)
    with pytest.raises(Interrupted):
        train(campaign, first, steps=27)
    assert train(campaign, second).weights_digest == reference.weights_digest
    assert first.steps == 27
    assert (second.total, second.steps) == (whole.total, whole.steps) and whole.steps == 40


def test_an_observer_added_later_begins_where_it_is_added(campaign: Path) -> None:
    with pytest.raises(Interrupted):
        train(campaign, steps=27)
    late = MeanLoss()
    train(campaign, late)
    assert late.steps == 20


def test_what_a_run_tells_from_start_to_end(campaign: Path) -> None:
    lines: list[str] = []
    with pytest.raises(Interrupted):
        train(campaign, Diary("d", lines), steps=25)
    assert lines[0] == "d started 0"
    assert lines.index("d saving 10") < lines.index("d saved 10") < lines.index("d saving 20")
    assert [line for line in lines if "stopping" in line] == []
    lines.clear()
    train(campaign, Diary("d", lines))
    assert lines[:3] == ["d resumed 20", "d started 20", "d before 20"]
    assert lines[-3:] == ["d saving 40", "d saved 40", "d stopping done 40"]
    assert lines.index("d saved 30") > lines.index("d saving 30")


def incidents(directory: Path) -> list[tuple[str, str]]:
    with closing(Ledger(directory / "ledger.sqlite", read_only=True)) as ledger:
        return [(incident.kind, incident.message) for incident in ledger.incidents()]


def test_a_failing_observer_is_an_incident_and_the_run_ends_in_the_same_weights(
    campaign: Path, corpus: Path, tmp_path: Path
) -> None:
    reference = train(copy_of(corpus, tmp_path / "reference"))
    assert train(campaign, Failing("after_step", at=50)).weights_digest == reference.weights_digest
    message = "observer Failing failed and is taken out, the run goes on without it: ZeroDivisionError: a bug"
    assert incidents(campaign) == [("observer-failed", message)]


def test_a_failing_essential_observer_fails_the_run_and_the_ledger_says_so(campaign: Path) -> None:
    with pytest.raises(ZeroDivisionError):
        train(campaign, Failing("after_step", at=50, essential=True))
    assert incidents(campaign) == [("failed", "ZeroDivisionError: a bug")]
    with closing(Ledger(campaign / "ledger.sqlite", read_only=True)) as ledger:
        assert [run.status for run in ledger.runs()] == ["failed"]


def test_a_loss_that_is_not_finite_stops_the_run_with_the_weights_of_the_step_before(campaign: Path) -> None:
    from tests.train.test_step import Poison

    class PoisonOnce(Poison):
        steps = 0

        def gradients_ready(self, state) -> None:
            self.steps += 1
            if self.steps == 15:
                super().gradients_ready(state)

    with pytest.raises(TenfoldError, match=r"step 15: loss [\d.]+, gradient norm nan: not finite.*step-00000010"):
        train(campaign, PoisonOnce(float("nan")))
    assert [kind for kind, _ in incidents(campaign)] == ["not-finite"]


@pytest.mark.parametrize("ending", ["done", "not-finite"])
def test_an_observer_that_fails_on_another_rank_is_an_incident_too(ending: str, campaign: Path) -> None:
    said = run_ranks([str(Path(__file__).parent / "observed_ranks.py"), str(campaign), ending])
    what = "rank 1: observer Failing failed and is taken out, the run goes on without it: ZeroDivisionError: a bug"
    with closing(Ledger(campaign / "ledger.sqlite", read_only=True)) as ledger:
        found = ledger.incidents()
    assert (found[0].kind, found[0].message, found[0].data) == (
        "observer-failed",
        what,
        {"observer": "Failing", "rank": 1},
    )
    assert [incident.kind for incident in found[1:]] == (["not-finite"] if ending == "not-finite" else [])
    assert "warning: rank 1: observer FailingAtTheEnd failed" in said[1]  # nobody is left to be told of it


@pytest.mark.parametrize("hook", ["started", "resumed", "saving", "saved", "stopping", "load_state_dict"])
def test_one_that_fails_in_a_hook_of_the_loop_costs_nothing(hook: str, campaign: Path) -> None:
    def fail(self: Observer, *_: object) -> None:
        raise ZeroDivisionError("a bug")

    broken = type("Broken", (Observer,), {hook: fail, "state_dict": lambda self: {"some": 1}})
    with pytest.raises(Interrupted):
        train(campaign, broken() if hook == "load_state_dict" else Observer(), steps=27)
    train(campaign, broken())
    assert [kind for kind, _ in incidents(campaign)] == ["killed", "observer-failed"]
    with closing(Ledger(campaign / "ledger.sqlite", read_only=True)) as ledger:
        assert [run.status for run in ledger.runs()] == ["done"]


def test_the_error_of_a_run_is_not_hidden_by_one_that_comes_of_it(campaign: Path) -> None:
    class Twice(Observer):
        essential = True

        def after_step(self, measure) -> None:
            raise ZeroDivisionError("the first")

        def stopping(self, stopping: Stopping) -> None:
            raise ValueError("comes of it")

    with pytest.raises(ZeroDivisionError, match="the first"):
        train(campaign, Twice())
