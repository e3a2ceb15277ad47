"""The live run held against its forecast: the mean loss over some steps, inside or outside the band."""

from collections.abc import Callable, Sequence
from contextlib import closing
from typing import Any

from tenfold.core.folder import CampaignFiles
from tenfold.experiments.forecast.register import registered
from tenfold.ledger import Ledger, Prediction
from tenfold.ledger.events import BandLeft
from tenfold.ledger.metrics import LOSS
from tenfold.scaling.curve import BandTracker, CurveForecast
from tenfold.train.checkpoint import Checkpoint
from tenfold.train.identity import RunIdentity
from tenfold.train.observe import Observer
from tenfold.train.plan import RunPlan
from tenfold.train.step import StepMeasure

GROUPS = 40  # of steps in a run, at most: enough to see where it goes, each long enough to average batches out
LEVEL = 0.95
PATIENCE = 3
Losses = Callable[[str, int], Sequence[tuple[int, float]]]
"""(step, value) of a metric of the ledger, up to a step."""


class ForecastWatcher(Observer):
    """Means of the training loss over groups of steps, each shown to the band's tracker."""

    name = "forecast-band"

    def __init__(self, forecast: CurveForecast, group: int, recorded: Losses = lambda name, step: ()) -> None:
        """`recorded`: where the losses of the steps before a resume are found."""
        self._recorded = recorded
        self._tracker = BandTracker(forecast, LEVEL, PATIENCE)
        self.group = group
        self._losses: list[float] = []
        self.live: list[tuple[int, float]] = []
        """(step in the middle of a group, mean loss)."""

    def resumed(self, step: int, checkpoint: Checkpoint) -> None:
        """Take the losses up to here from the ledger, which knows them exactly."""
        for earlier, loss in self._recorded(LOSS, step):
            self.observe(earlier, loss)

    def after_step(self, measure: StepMeasure) -> None:
        if news := self.observe(measure.step, measure.nats):
            self.notice(BandLeft(measure.step), news)

    def observe(self, step: int, loss: float) -> str | None:
        """Take the loss of one step; a sentence when the run leaves the band."""
        self._losses.append(loss)
        if step % self.group:
            return None
        middle, mean = step - len(self._losses) // 2, sum(self._losses) / len(self._losses)
        self._losses = []
        self.live.append((middle, mean))
        event = self._tracker.observe(middle, mean)
        return None if event is None else str(event)

    @property
    def side(self) -> str:
        """before, inside, above or below."""
        return self._tracker.side

    @property
    def count(self) -> int:
        """Groups in a row on this side."""
        return self._tracker.count

    def __str__(self) -> str:
        return str(self._tracker)


def group_size(plan: RunPlan, log_every: int) -> int:
    """Steps averaged into one evaluation of the band."""
    return max(log_every, plan.steps // GROUPS)


def watcher_of(
    predictions: Sequence[Prediction], plan: RunPlan, log_every: int, recorded: Losses = lambda name, step: ()
) -> ForecastWatcher | None:
    """The watcher for a run with a forecast curve."""
    record: dict[str, Any] | None = next((p.basis["curve"] for p in predictions if "curve" in p.basis), None)
    if record is None:
        return None
    return ForecastWatcher(CurveForecast.from_record(record), group_size(plan, log_every), recorded)


def open_watcher(
    files: CampaignFiles,
    identity: RunIdentity,
    plan: RunPlan,
    log_every: int,
    recorded: Losses = lambda name, step: (),
) -> ForecastWatcher | None:
    """Holds a run against its forecast, if one is registered. `recorded`: as ForecastWatcher has it."""
    with closing(Ledger(files.ledger, read_only=True)) as ledger:
        predictions = registered(ledger, identity)
    return watcher_of(predictions, plan, log_every, recorded)
