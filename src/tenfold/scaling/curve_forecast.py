"""From the curves of small runs to the whole curve of a larger one, with bands that its own backtests set.

Backtest: for every split of the sizes, fit the smaller ones and predict the curves of each larger one from its last
loss. The form with the smallest mean error at the target's distance is chosen, and its errors along the run set the
width of the bands:

* an error at a distance (log of the ratio of parameter counts) below the target's is scaled up in proportion, because
  what a form gets wrong about size grows with the distance;
* the spread at each share of the run is the root mean square over the backtests, times Student's t for as many degrees
  of freedom as sizes were predicted: few backtests give wide bands;
* the final-loss interval moves the whole curve; both are independent and add in squares.

A form is what carries the shape of a curve from small runs to a larger one: how far above its end the curve lies at
each step. Where the end is, the final-loss forecast says. The live run is then held against the bands.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, Protocol

import numpy as np

from tenfold.core import InputError
from tenfold.scaling.committee import student
from tenfold.scaling.curve import Curve, CurveRun, Floats, Steps
from tenfold.scaling.curve_law import MultiPowerLaw, fit_law

SIZES_TO_FOLLOW = 5  # from four sizes two splits remain to choose by, and the choice is luck
PLACES = np.unique(np.concatenate([np.geomspace(0.002, 0.05, 24), np.linspace(0.05, 1, 96)]))
"""Shares of a run at which curves of different length are compared."""
SAME_SCHEDULE = 0.05
"""Two schedules are the same if their factors differ by at most this anywhere after warm-up."""
POINTS = 256
AVERAGED = 192
"""Points that a rung's curve is averaged to; the last of them is its end."""
SMALLEST_FIT = 2  # sizes
NEIGHBOURS = 6  # places, each about a hundredth of the run
LAST_SHARE = 0.1  # of the steps: over these the noise of single batches is averaged out of the final loss

Side = Literal["before", "inside", "above", "below"]
"""Where an evaluation lies; "before" the forecast begins, that is during warm-up."""


@dataclass(frozen=True)
class FinalLoss:
    """Forecast of a run's last loss: the value and, for each level such as 0.8, the interval (low, high)."""

    value: float
    intervals: Mapping[float, tuple[float, float]]

    def __post_init__(self) -> None:
        if not self.intervals:
            raise InputError("the forecast of the final loss needs an interval")
        for level, (low, high) in self.intervals.items():
            if not (0 < level < 1 and 0 < low <= self.value <= high):
                raise InputError(f"final loss {self.value:g}: the interval at {level:g} must contain it, above 0")


@dataclass(frozen=True)
class Band:
    """Between `low` and `high` (points,) the loss is expected to lie with probability `level`."""

    level: float
    low: Floats
    high: Floats


@dataclass(frozen=True)
class CurveForecast:
    """The loss after each of `steps`, from the end of warm-up to the last step, which is the final-loss forecast."""

    steps: Steps
    losses: Floats
    bands: tuple[Band, ...]
    method: str
    """Which form carried the shape from the small runs to this one."""
    errors: Mapping[str, float]
    """Mean absolute error in log loss that the backtests expect of each form at the target; the smallest was chosen."""

    def at(self, step: int) -> float:
        """The loss forecast after `step`."""
        return float(np.interp(step, self.steps, self.losses))

    def interval(self, step: int, level: float) -> tuple[float, float]:
        """Low and high of the band at `level` after `step`."""
        band = self.band(level)
        return float(np.interp(step, self.steps, band.low)), float(np.interp(step, self.steps, band.high))

    def band(self, level: float) -> Band:
        """The band at `level`."""
        for band in self.bands:
            if band.level == level:
                return band
        raise InputError(f"no band at level {level:g}: there are {', '.join(f'{band.level:g}' for band in self.bands)}")

    def record(self) -> dict[str, Any]:
        """Write the forecast as plain numbers, for the ledger and for JSON."""
        return {
            "steps": self.steps.tolist(),
            "losses": self.losses.tolist(),
            "bands": [{"level": b.level, "low": b.low.tolist(), "high": b.high.tolist()} for b in self.bands],
            "method": self.method,
            "errors": dict(self.errors),
        }

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> "CurveForecast":
        """Read what `record` wrote."""
        bands = tuple(Band(b["level"], np.array(b["low"]), np.array(b["high"])) for b in record["bands"])
        steps, losses = np.array(record["steps"], dtype=np.int64), np.array(record["losses"])
        return cls(steps, losses, bands, record["method"], record["errors"])


class Form(Protocol):
    """The shape of a curve, learnt from small runs."""

    def anchored(self, run: CurveRun, steps: Steps, final: float) -> Floats:
        """(points,) losses after `steps`, such that the run ends at `final`."""
        ...


@dataclass(frozen=True)
class LawForm:
    """The multi-power law; the anchor decides its floor for the new size: L(t) = final + above(t) − above(T)."""

    law: MultiPowerLaw

    def anchored(self, run: CurveRun, steps: Steps, final: float) -> Floats:
        above = self.law.above_floor(run, np.append(steps, run.steps))
        return np.asarray(final + above[:-1] - above[-1])


@dataclass(frozen=True)
class CollapseForm:
    """One normalised curve for all sizes: (L(t) − L0) / (L(T) − L0) as a function of t / T.

    Qiu et al., arXiv 2507.02119: curves of compute-optimal runs under one schedule collapse. L0 is the offset at which
    the given curves agree best, in units of loss.
    """

    offset: float
    shape: Floats
    """(places,) the mean normalised curve at PLACES."""

    def anchored(self, run: CurveRun, steps: Steps, final: float) -> Floats:
        normalised = np.exp(np.interp(np.log(steps / run.steps), np.log(PLACES), np.log(self.shape)))
        return self.offset + (final - self.offset) * normalised


def fit_collapse(curves: Sequence[Curve]) -> CollapseForm:
    """The offset that makes the normalised curves agree best, and their mean."""
    places = np.array([at_places(curve) for curve in curves])
    ends = places[:, -1:]
    lowest = float(places.min(initial=np.inf, where=np.isfinite(places)))
    gaps = lowest * np.geomspace(1e-3, 1, 120)
    offset = lowest - min(gaps, key=lambda gap: _disagreement(places, ends, lowest - gap))
    return CollapseForm(offset, _mean_shape((places - offset) / (ends - offset)))


def _disagreement(places: Floats, ends: Floats, offset: float) -> float:
    """Variance between the curves, in units of loss²."""
    shapes = (places - offset) / (ends - offset)
    gap = (shapes - _mean_shape(shapes)) * (ends - offset)
    return float(np.mean(gap[np.isfinite(gap)] ** 2))


def _mean_shape(shapes: Floats) -> Floats:
    """(places,) mean over the curves that have a place; before the first of them, the value there."""
    known = np.isfinite(shapes)
    counts = known.sum(axis=0)
    means = np.where(known, shapes, 0).sum(axis=0) / np.maximum(counts, 1)
    first = int(np.argmax(counts > 0))
    means[:first] = means[first]
    return np.asarray(means)


def at_places(curve: Curve) -> Floats:
    """(places,) the curve's losses at shares of its run; not a number before its first point."""
    return np.asarray(np.interp(PLACES * curve.run.steps, curve.steps, curve.losses, left=np.nan))


def same_schedule(one: CurveRun, other: CurveRun) -> bool:
    """Whether two runs have the same learning-rate factor at every share of the run after both have warmed up."""
    start = max(one.warmup_steps / one.steps, other.warmup_steps / other.steps)
    places = np.linspace(start, 1, 64)
    return bool(np.abs(_factors(one, places) - _factors(other, places)).max() <= SAME_SCHEDULE)


def _factors(run: CurveRun, places: Floats) -> Floats:
    steps = np.arange(1, run.steps + 1)
    return np.asarray(np.interp(places * run.steps, steps, run.learning_rates / run.learning_rates.max()))


def forms_for(curves: Sequence[Curve], target: CurveRun) -> Mapping[str, Callable[[Sequence[Curve]], Form]]:
    """The forms worth trying: amplitudes that follow size only where enough sizes show how, the collapse only where
    every curve has the target's schedule."""
    forms: dict[str, Callable[[Sequence[Curve]], Form]] = {"multi-power law": lambda given: LawForm(fit_law(given))}
    if len({curve.run.parameters for curve in curves}) >= SIZES_TO_FOLLOW:
        forms["multi-power law, amplitudes following size"] = lambda given: LawForm(fit_law(given, trends=True))
    if all(same_schedule(curve.run, target) for curve in curves):
        forms["collapse"] = fit_collapse
    return forms


@dataclass(frozen=True)
class CurveBacktest:
    """One backtest: a form fitted on sizes up to `fitted_to`, held against a curve of `predicted` parameters."""

    form: str
    fitted_to: float
    predicted: float
    errors: Floats
    """(places,) log of predicted over measured loss; not a number before the curve's first point after warm-up."""

    @property
    def distance(self) -> float:
        """Log of the ratio of sizes."""
        return float(np.log(self.predicted / self.fitted_to))

    def scale(self, distance: float) -> float:
        """What an error at this trial's distance is taken to be at another one."""
        return max(1.0, distance / self.distance)

    @property
    def mean_error(self) -> float:
        """Mean absolute error over the steps of the run."""
        known = np.isfinite(self.errors)
        return float(np.average(np.abs(self.errors[known]), weights=np.gradient(PLACES)[known]))


def backtest(rungs: Sequence[Curve], target: CurveRun) -> list[CurveBacktest]:
    """Every form, fitted on the smaller sizes of every split, held against every curve of every larger size."""
    curves = [_observed(curve) for curve in rungs]
    sizes = sorted({curve.run.parameters for curve in curves})
    if len(sizes) <= SMALLEST_FIT:
        raise InputError(f"rungs of {len(sizes)} sizes; a curve forecast needs {SMALLEST_FIT + 1} to test itself on")
    return [
        CurveBacktest(name, largest, curve.run.parameters, _errors(form, curve))
        for name, fit in forms_for(curves, target).items()
        for largest in sizes[SMALLEST_FIT - 1 : -1]
        for form in [fit([curve for curve in curves if curve.run.parameters <= largest])]
        for curve in curves
        if curve.run.parameters > largest
    ]


def forecast_curve(rungs: Sequence[Curve], target: CurveRun, final: FinalLoss) -> CurveForecast:
    """The target's whole curve, ending at the final-loss forecast, with a band for each of its intervals.

    `rungs` are curves of at least three sizes; several of one size (a trunk and its cool-downs, seeds) are welcome. All
    sizes are compared in parameters, all learning rates in a unit that transfers across sizes.
    """
    curves = [_observed(curve) for curve in rungs]
    trials = backtest(curves, target)
    distance = float(np.log(target.parameters / max(curve.run.parameters for curve in curves)))
    errors = _mean_errors(trials, distance)
    chosen = min(errors, key=lambda name: errors[name])
    form = forms_for(curves, target)[chosen](curves)
    steps = _steps_of(target)
    losses = form.anchored(target, steps, final.value)
    own = [trial for trial in trials if trial.form == chosen]
    along = losses * np.interp(steps / target.steps, PLACES, _spread(own, distance))
    freedom = len({trial.predicted for trial in own})
    bands = tuple(_band(level, losses, along * student(level, freedom), final) for level in sorted(final.intervals))
    return CurveForecast(steps, losses, bands, chosen, errors)


def _mean_errors(trials: Sequence[CurveBacktest], distance: float) -> dict[str, float]:
    """Mean absolute error of each form at the target's distance."""
    by_form: dict[str, list[float]] = {}
    for trial in trials:
        by_form.setdefault(trial.form, []).append(trial.mean_error * trial.scale(distance))
    return {form: float(np.mean(errors)) for form, errors in by_form.items()}


def _band(level: float, losses: Floats, along: Floats, final: FinalLoss) -> Band:
    """The interval at the end and the spread along the curve, added in squares on each side."""
    low, high = final.intervals[level]
    below, above = final.value - low, high - final.value
    return Band(level, losses - np.hypot(below, along), losses + np.hypot(above, along))


def _spread(trials: Sequence[CurveBacktest], distance: float) -> Floats:
    """(places,) root mean square error, each scaled to the target's distance."""
    scaled = np.array([trial.errors * trial.scale(distance) for trial in trials])
    known = np.isfinite(scaled)
    squares = _with_neighbours((np.where(known, scaled, 0) ** 2).sum(axis=0))
    spread = np.sqrt(squares / np.maximum(_with_neighbours(known.sum(axis=0)), 1e-9))
    first = int(np.argmax(known.any(axis=0)))
    spread[:first] = spread[first]
    return np.asarray(spread)


def _with_neighbours(values: Floats) -> Floats:
    """(places,) sums over NEIGHBOURS places either side: what went wrong at one place might have at the next."""
    sums = np.convolve(values, np.ones(2 * NEIGHBOURS + 1), mode="same")
    sums[-1] = values[-1]  # the curve is anchored at its end
    return sums


def _errors(form: Form, curve: Curve) -> Floats:
    """(places,) log of predicted over measured, the prediction anchored at the curve's own last loss."""
    steps = np.maximum(np.round(PLACES * curve.run.steps), 1).astype(np.int64)
    return np.log(form.anchored(curve.run, steps, float(curve.losses[-1])) / at_places(curve))


def _observed(curve: Curve) -> Curve:
    """After warm-up, averaged, the run cut at the last loss."""
    kept = curve.after_warmup().averaged(AVERAGED)
    return replace(kept, run=replace(kept.run, learning_rates=kept.run.learning_rates[: kept.steps[-1]]))


def _steps_of(target: CurveRun) -> Steps:
    """About POINTS steps from the end of warm-up to the last, dense at both where the curve bends."""
    first, last = target.warmup_steps, target.steps
    even, early = np.linspace(first, last, POINTS // 2), np.geomspace(first, last, POINTS // 2)
    return np.unique(np.round(np.concatenate([even, early])).astype(np.int64))


def final_losses(curves: Sequence[Curve]) -> list[float]:
    """Final training loss of each curve, the noise of single batches taken out.

    The multi-power law fitted to all curves of one size gives the shape; the mean distance of a curve from it over the
    last steps is what the curve itself adds.
    """
    sizes = sorted({curve.run.parameters for curve in curves})
    laws = {size: fit_law([curve for curve in curves if curve.run.parameters == size]) for size in sizes}
    return [_final_loss(curve, laws[curve.run.parameters]) for curve in curves]


def _final_loss(curve: Curve, law: MultiPowerLaw) -> float:
    """The law at the last step, times the curve's mean distance from it over the last LAST_SHARE of the steps."""
    last = curve.steps > (1 - LAST_SHARE) * curve.run.steps
    expected = law.losses(curve.run, curve.steps[last])
    distance = np.log(curve.losses[last]) - np.log(expected)
    return float(law.losses(curve.run, [curve.run.steps])[0] * np.exp(distance.mean()))


@dataclass(frozen=True)
class BandEvent:
    """The live curve has left the band for `count` evaluations in a row, the last of them at `step`."""

    step: int
    side: Side
    count: int
    loss: float
    low: float
    high: float
    level: float

    def __str__(self) -> str:
        return (
            f"step {self.step}: loss {self.loss:.4f} is {self.side} the {self.level:.0%} band "
            f"[{self.low:.4f}, {self.high:.4f}] for {self.count} evaluations"
        )


class BandTracker:
    """Holds live evaluations against the band. Its state is a function of what it was shown, so a resumed run shows
    it the recorded evaluations again."""

    def __init__(self, forecast: CurveForecast, level: float = 0.95, patience: int = 3) -> None:
        if patience < 1:
            raise InputError("patience must be at least 1 evaluation")
        forecast.band(level)
        self._forecast, self._level, self._patience = forecast, level, patience
        self.side: Side = "before"
        self.count = 0
        """For how many evaluations in a row the curve has been on this side."""

    def observe(self, step: int, loss: float) -> BandEvent | None:
        """Take an evaluation; an event when this is the `patience`-th in a row on one side outside the band.

        A loss that is not a number counts as above.
        """
        low, high = self._forecast.interval(step, self._level)
        side = self._side(step, loss, low, high)
        self.count = self.count + 1 if side == self.side else 1
        self.side = side
        if side in ("above", "below") and self.count == self._patience:
            return BandEvent(step, side, self.count, loss, low, high, self._level)
        return None

    def _side(self, step: int, loss: float, low: float, high: float) -> Side:
        if step < self._forecast.steps[0]:
            return "before"
        if loss < low:
            return "below"
        return "inside" if loss <= high else "above"

    def __str__(self) -> str:
        if self.side == "before":
            return "warming up"
        return f"{self.side} the {self._level:.0%} band for {self.count} evaluation{'s' if self.count > 1 else ''}"
