"""Layouts near the fastest, kept flat, to ask again what is fastest when the machine changes a little.

A machine that is better or worse in one rate by a factor makes every layout at most that factor faster or slower: step
time adds up, and overlaps, times that each are proportional to one rate or to none. So of a change by a factor f only
layouts within f of the best time can come out fastest, and memory does not change. All layouts are evaluated once.
"""

from collections import Counter
from dataclasses import dataclass, fields

import numpy as np
import numpy.typing as npt

from tenfold.planner.calibration.calibrated import Calibrated
from tenfold.planner.cost.layout import Array, Layout
from tenfold.planner.cost.memory import total_bytes
from tenfold.planner.cost.step import total_seconds
from tenfold.planner.search.grid import Grid, grids
from tenfold.planner.search.layouts import Choice, assess
from tenfold.planner.search.question import LayoutQuestion, check_question, constants_of, device_of
from tenfold.planner.search.sites import synchronous_seconds

_MARGIN = 1.001
"""For rounding."""


@dataclass(frozen=True)
class _Evaluated:
    """The layouts of a grid that fit in the memory looked at: seconds, bytes and places, shape (layouts,) each."""

    grid: Grid
    seconds: Array
    memory: Array
    places: npt.NDArray[np.intp]
    """In the flattened grid."""


@dataclass(frozen=True)
class NearLayouts:
    """All layouts of a question that fit in some more memory than there is, by grid."""

    question: LayoutQuestion
    calibrated: Calibrated
    evaluated: tuple[_Evaluated, ...]

    def fastest(self, memory_limit: float) -> tuple[_Evaluated, int] | None:
        """The fastest that fits in so many bytes; None where none does."""
        best: tuple[_Evaluated, int] | None = None
        for each in self.evaluated:
            seconds = np.where(each.memory <= memory_limit, each.seconds, np.inf)
            place = int(np.argmin(seconds))
            if np.isfinite(seconds[place]) and (best is None or seconds[place] < best[0].seconds[best[1]]):
                best = each, place
        return best

    def best_in(self, question: LayoutQuestion) -> Choice | None:
        """The fastest layout in this question's memory, which alone may differ from that of the layouts evaluated."""
        found = self.fastest(question.memory_limit)
        return None if found is None else assess(question, _layout(*found), self.calibrated)

    def within(self, factor: float) -> "Candidates":
        """Those that fit and are at most so many times slower than the fastest. There is at least one that fits."""
        limit = self.question.memory_limit
        best = self.fastest(limit)
        assert best is not None
        slowest = float(best[0].seconds[best[1]]) * factor * _MARGIN
        chosen = [(each, np.flatnonzero((each.memory <= limit) & (each.seconds <= slowest))) for each in self.evaluated]
        chosen = [(each, places) for each, places in chosen if len(places)]
        owner = np.repeat(np.arange(len(chosen)), [len(places) for _, places in chosen])
        parts = [_flat(each, places) for each, places in chosen]
        layout = Layout(**{name: np.concatenate([part[name] for part in parts]) for name in parts[0]})
        return Candidates(self, layout, tuple(chosen), owner)


@dataclass(frozen=True)
class Candidates:
    """Layouts of one site, one array a field, that may be the fastest after a change of the machine."""

    near: NearLayouts
    layout: Layout
    chosen: tuple[tuple[_Evaluated, npt.NDArray[np.intp]], ...]
    owner: npt.NDArray[np.intp]
    """Number in `chosen` of each."""

    def best_on(self, question: LayoutQuestion) -> Choice:
        """The fastest of them on another machine with as much memory."""
        calibrated = self.near.calibrated
        constants = constants_of(question, calibrated)
        seconds = total_seconds(question.shape, self.layout, device_of(question), constants)
        place = int(np.argmin(np.broadcast_to(seconds, self.owner.shape)))
        owner = int(self.owner[place])
        evaluated, places = self.chosen[owner]
        return assess(question, _layout(evaluated, int(places[place - np.searchsorted(self.owner, owner)])), calibrated)


def near_layouts(question: LayoutQuestion, calibrated: Calibrated, memory: float = 1.0) -> NearLayouts:
    """All layouts that fit in `memory` times what a forecast may fill. Raises InputError as `search_layouts` does."""
    check_question(question)
    found = (_evaluated(question, calibrated, grid, memory) for grid in grids(question, Counter()))
    return NearLayouts(question, calibrated, tuple(each for each in found if len(each.places)))


def _evaluated(question: LayoutQuestion, calibrated: Calibrated, grid: Grid, memory: float) -> _Evaluated:
    shape = grid.allowed.shape
    held = total_bytes(question.shape, grid.layout, calibrated.memory_constants(question.framework))
    held = np.broadcast_to(held, shape)
    places = np.flatnonzero(grid.allowed & (held <= memory * question.memory_limit))
    seconds = np.empty(0)
    if len(places):
        constants = constants_of(question, calibrated)
        total = total_seconds(question.shape, grid.layout, device_of(question), constants)
        seconds = np.broadcast_to(total, shape).ravel()[places] + synchronous_seconds(question, constants)
    return _Evaluated(grid, seconds, held.ravel()[places], places)


def _layout(evaluated: _Evaluated, place: int) -> Layout:
    """One layout, of all sites together."""
    variants = int(np.prod(evaluated.grid.allowed.shape[1:]))
    base, variant = divmod(int(evaluated.places[place]), variants)
    return evaluated.grid.one(base, variant)


def _flat(evaluated: _Evaluated, chosen: npt.NDArray[np.intp]) -> dict[str, Array]:
    """Fields of some layouts of a grid, shape (layouts,) each."""
    shape = evaluated.grid.allowed.shape
    places = np.unravel_index(evaluated.places[chosen], shape)
    return {
        each.name: np.asarray(np.broadcast_to(getattr(evaluated.grid.layout, each.name), shape)[places], np.float64)
        for each in fields(Layout)
    }
