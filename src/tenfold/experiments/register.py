"""Forecasts of a target in the ledger, those of `tenfold predict` and those of a plan of this machine.

The live run is held against them: the mean loss over some steps lies inside or outside the forecast's band.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from typing import Any

from tenfold.config import Campaign
from tenfold.core import CampaignFiles, TenfoldError
from tenfold.data import Manifest
from tenfold.ledger import LOSS, BandLeft, ForecastRegistry, Ledger, Prediction, Run
from tenfold.scaling import BandTracker, CurveForecast
from tenfold.train import Checkpoint, Observer, RunIdentity, RunPlan, StepMeasure, identify, is_same_recipe

GROUPS = 40  # of steps in a run, at most: enough to see where it goes, each long enough to average batches out
LEVEL = 0.95
PATIENCE = 3

Losses = Callable[[str, int], Sequence[tuple[int, float]]]
"""(step, value) of a metric of the ledger, up to a step."""


def target_identity(campaign: Campaign, manifest: Manifest) -> RunIdentity:
    """Names the target, by configuration and data."""
    return identify(campaign, manifest.digest, {})


def same_as(target: RunIdentity) -> Callable[[Mapping[str, Any]], bool]:
    """Whether a saved identity is the target's; an upgrade that adds keys with defaults changes nothing."""
    return lambda saved: is_same_recipe(saved, target)


def saved_identity(target: RunIdentity) -> dict[str, Any]:
    """What `same_as` compares with, as the ledger keeps it."""
    return {"config": target.config, "manifest": target.manifest}


def forecasts_in(ledger: Ledger) -> ForecastRegistry:
    """What `tenfold predict` registered: losses by law, the loss curve, the training time."""
    return ForecastRegistry(ledger, "recipe", "identity")


def plans_in(ledger: Ledger) -> ForecastRegistry:
    """What a plan of this machine registered: step time and memory."""
    return ForecastRegistry(ledger, "planned", "planned_identity")


def registered(ledger: Ledger, target: RunIdentity) -> list[Prediction]:
    """What has been forecast about the run of this configuration and data, the loss on the first holdout first."""
    return forecasts_in(ledger).registered(same_as(target))


def planned(ledger: Ledger, target: RunIdentity) -> list[Prediction]:
    """What has been planned about the run of this configuration and data."""
    return plans_in(ledger).registered(same_as(target))


def training_run(ledger: Ledger, target: RunIdentity) -> Run | None:
    """The target's training as the ledger knows it, if it has begun."""
    return next((r for r in ledger.runs() if r.kind == "train" and is_same_recipe(r.description, target)), None)


def refuse_after_the_fact(ledger: Ledger, target: RunIdentity) -> None:
    """Raises TenfoldError when the target's training has begun: what is said now would be no forecast."""
    run = training_run(ledger, target)
    if run is not None:
        raise TenfoldError(
            f"{ledger.path}: training of this campaign has begun (run {run.fingerprint[:12]}), so it can no longer "
            "be forecast; forecast before `tenfold train`, or in another directory"
        )


def level_inside(prediction: Prediction) -> str:
    """The narrowest interval that holds the outcome: "0.5", "0.8", "0.95" or "outside"."""
    outcome = prediction.outcome
    for level, (low, high) in sorted(prediction.intervals.items(), key=lambda item: float(item[0])):
        if outcome is not None and low <= outcome <= high:
            return level
    return "outside"


class ForecastWatcher(Observer):
    """Means of the training loss over groups of steps, each shown to the band's tracker."""

    name = "forecast-band"

    def __init__(self, forecast: CurveForecast, group: int, recorded: Losses = lambda name, step: ()) -> None:
        """`recorded`: where the losses of the steps before a resume are found."""
        self._recorded = recorded
        self.forecast = forecast
        self._tracker = BandTracker(forecast, LEVEL, PATIENCE)
        self.group = group
        self._losses: list[float] = []
        self.live: list[tuple[int, float]] = []
        """(step in the middle of a group, mean loss)."""

    def resumed(self, step: int, checkpoint: Checkpoint) -> None:
        """Take the losses up to here from the ledger, which knows them exactly; what came after them is forgotten."""
        self._tracker, self._losses, self.live = BandTracker(self.forecast, LEVEL, PATIENCE), [], []
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
