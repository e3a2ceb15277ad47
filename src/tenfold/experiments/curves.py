"""Loss curves: of the rungs from the ledger, forecast for the target, and the live run held against its band."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from typing import Any

import numpy as np

from tenfold.config import Campaign
from tenfold.core.errors import InputError
from tenfold.core.folder import CampaignFiles
from tenfold.experiments.design import Rung, Trunk, rung_campaign
from tenfold.experiments.register import registered
from tenfold.experiments.tasks import RungResult
from tenfold.ledger import Ledger, Prediction, Run
from tenfold.ledger.events import BandLeft
from tenfold.ledger.metrics import LOSS
from tenfold.scaling.band import BandTracker, CurveForecast, FinalLoss
from tenfold.scaling.curve import Curve, CurveRun, schedule_rates
from tenfold.scaling.curve_forecast import forecast_curve
from tenfold.scaling.curve_law import MultiPowerLaw, fit_law
from tenfold.train.checkpoint import Checkpoint
from tenfold.train.identity import RunIdentity
from tenfold.train.observe import Observer
from tenfold.train.plan import RunPlan
from tenfold.train.step import StepMeasure

LAST_SHARE = 0.1  # of the steps: over these the noise of single batches is averaged out of the final loss

StepLosses = list[tuple[int, float]]
GROUPS = 40  # of steps in a run, at most: enough to see where it goes, each long enough to average batches out
LEVEL = 0.95
PATIENCE = 3
Losses = Callable[[str, int], Sequence[tuple[int, float]]]
"""(step, value) of a metric of the ledger, up to a step."""


def rung_curve(
    ledger: Ledger, runs: Mapping[str, Run], campaign: Campaign, trunk: Trunk, rung: Rung, result: RungResult
) -> Curve:
    """Training loss of every step: the trunk's up to the cool-down, then the rung's. Raises InputError if not there."""
    whole = _losses(ledger, runs, result.trunk_fingerprint, 0, rung.constant_steps)
    whole += _losses(ledger, runs, result.fingerprint, rung.constant_steps, rung.steps)
    if len(whole) != rung.steps:
        raise InputError(
            f"{ledger.path}: holds {len(whole)} of {rung.steps} losses of the rung {result.size}, {result.tokens:,} "
            "tokens; put the ledger back, or delete the folder `ladder` to train the rungs again"
        )
    rates = schedule_rates(rung_campaign(campaign, trunk, rung).train.schedule, rung.steps)
    run = CurveRun(rates, parameters=trunk.parameters, tokens_per_step=trunk.batch_tokens)
    return _curve(run, whole)


def _curve(run: CurveRun, losses: StepLosses) -> Curve:
    steps = np.array([step for step, _ in losses], dtype=np.int64)
    return Curve(run, steps, np.array([loss for _, loss in losses]))


def _losses(ledger: Ledger, runs: Mapping[str, Run], fingerprint: str, after: int, up_to: int) -> StepLosses:
    run = runs.get(fingerprint)
    if run is None:
        return []
    return [(step, loss) for step, loss in ledger.metric(run.id, LOSS) if after < step <= up_to]


def final_losses(curves: Sequence[Curve]) -> list[float]:
    """Final training loss of each curve, the noise of single batches taken out.

    The multi-power law fitted to all curves of one size gives the shape; the mean distance of a curve from it over the
    last steps is what the curve itself adds.
    """
    sizes = sorted({curve.run.parameters for curve in curves})
    laws = {size: fit_law([curve for curve in curves if curve.run.parameters == size]) for size in sizes}
    return [final_loss(curve, laws[curve.run.parameters]) for curve in curves]


def final_loss(curve: Curve, law: MultiPowerLaw) -> float:
    """The law at the last step, times the curve's mean distance from it over the last LAST_SHARE of the steps."""
    last = curve.steps > (1 - LAST_SHARE) * curve.run.steps
    expected = law.losses(curve.run, curve.steps[last])
    distance = np.log(curve.losses[last]) - np.log(expected)
    return float(law.losses(curve.run, [curve.run.steps])[0] * np.exp(distance.mean()))


def measured_final_loss(campaign: Campaign, plan: RunPlan, losses: StepLosses) -> float:
    """The same for the target, from its own curve alone."""
    curve = _curve(target_run(campaign, plan, 1.0), losses)
    return final_loss(curve, fit_law([curve]))


def target_run(campaign: Campaign, plan: RunPlan, parameters: float) -> CurveRun:
    """The target's learning rates by step, as shares of the peak, which transfers across sizes."""
    rates = schedule_rates(campaign.train.schedule, plan.steps)
    return CurveRun(rates, parameters=parameters, tokens_per_step=plan.tokens_per_step)


def target_curve(
    campaign: Campaign, plan: RunPlan, parameters: float, curves: Sequence[Curve], final: FinalLoss
) -> CurveForecast:
    """The whole curve of the target with bands."""
    return forecast_curve(curves, target_run(campaign, plan, parameters), final)


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
