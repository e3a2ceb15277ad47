"""The forms that carry the shape of a curve from small runs to a larger one; a backtest chooses among them.

A form says how far above its end a curve lies at each step. Where the end is, the final-loss forecast says.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from tenfold.scaling.curve.fit import fit_law
from tenfold.scaling.curve.law import MultiPowerLaw
from tenfold.scaling.curve.runs import Curve, Floats, Run, Steps

SIZES_TO_FOLLOW = 5  # from four sizes two splits remain to choose by, and the choice is luck
PLACES = np.unique(np.concatenate([np.geomspace(0.002, 0.05, 24), np.linspace(0.05, 1, 96)]))
"""Shares of a run at which curves of different length are compared."""
SAME_SCHEDULE = 0.05
"""Two schedules are the same if their factors differ by at most this anywhere after warm-up."""


class Form(Protocol):
    """The shape of a curve, learnt from small runs."""

    def anchored(self, run: Run, steps: Steps, final: float) -> Floats:
        """(points,) losses after `steps`, such that the run ends at `final`."""
        ...


@dataclass(frozen=True)
class LawForm:
    """The multi-power law; the anchor decides its floor for the new size: L(t) = final + above(t) − above(T)."""

    law: MultiPowerLaw

    def anchored(self, run: Run, steps: Steps, final: float) -> Floats:
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

    def anchored(self, run: Run, steps: Steps, final: float) -> Floats:
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


def same_schedule(one: Run, other: Run) -> bool:
    """Whether two runs have the same learning-rate factor at every share of the run after both have warmed up."""
    start = max(one.warmup_steps / one.steps, other.warmup_steps / other.steps)
    places = np.linspace(start, 1, 64)
    return bool(np.abs(_factors(one, places) - _factors(other, places)).max() <= SAME_SCHEDULE)


def _factors(run: Run, places: Floats) -> Floats:
    steps = np.arange(1, run.steps + 1)
    return np.asarray(np.interp(places * run.steps, steps, run.learning_rates / run.learning_rates.max()))


def forms_for(curves: Sequence[Curve], target: Run) -> Mapping[str, Callable[[Sequence[Curve]], Form]]:
    """The forms worth trying: amplitudes that follow size only where enough sizes show how, the collapse only where
    every curve has the target's schedule."""
    forms: dict[str, Callable[[Sequence[Curve]], Form]] = {"multi-power law": lambda given: LawForm(fit_law(given))}
    if len({curve.run.parameters for curve in curves}) >= SIZES_TO_FOLLOW:
        forms["multi-power law, amplitudes following size"] = lambda given: LawForm(fit_law(given, trends=True))
    if all(same_schedule(curve.run, target) for curve in curves):
        forms["collapse"] = fit_collapse
    return forms
