"""The fastest layouts of a question, among all."""

import math
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from statistics import NormalDist
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from tenfold.core import InputError
from tenfold.planner.calibration.calibrated import MOST_MEASURED, NINETY, Calibrated
from tenfold.planner.calibration.widths import sensitivities
from tenfold.planner.cost.device import Constants
from tenfold.planner.cost.layout import Array, Layout
from tenfold.planner.cost.memory import Memory, memory_bytes, total_bytes
from tenfold.planner.cost.step import StepTime, step_seconds, total_seconds
from tenfold.planner.search.grid import Grid, degrees, grids
from tenfold.planner.search.question import (
    LayoutQuestion,
    check_question,
    constants_of,
    device_of,
    hardware_flops,
    model_flops,
)
from tenfold.planner.search.sites import LINE_SPREAD, synchronous_seconds

MOST_TRIED = 200
"""Layouts that anybody might try, one after another."""
_NAMED = 5
"""Possibilities that a message names, at most."""


@dataclass(frozen=True)
class Choice:
    """One layout with its forecast. Numbers are single ones."""

    layout: Layout
    """Of the whole cluster; of several sites, each holds an equal part of the data-parallel ranks."""
    seconds: float
    low: float
    high: float
    """`low` to `high` is the 90% interval of `seconds`."""
    memory: Memory
    """Bytes of the fullest device."""
    time: StepTime
    tokens_per_second: float
    """Of the whole cluster."""
    mfu: float
    """Model FLOPs over the dense peak in the question's precision."""
    hfu: float
    """As `mfu`, with what is computed again."""
    chance_to_fit: float
    """That the true memory stays below the device's, given how far memory forecasts were off."""
    extrapolation: bool
    """Whether nobody has published a measurement on as many devices."""


@dataclass(frozen=True)
class FoundLayouts:
    """Outcome of a search over layouts."""

    best: tuple[Choice, ...]
    """The fastest first; of those that are alike the fastest stands here. Alike are layouts that differ in sharding,
    schedule and recomputation, or give each device the same tokens by splitting the context or the micro-batch."""
    places: tuple[int, ...]
    """In `seconds`, of each of `best` and of more that could be tried after them."""
    searched: int
    """Layouts whose memory was computed."""
    feasible: int
    """Those that fit; their step time was computed too."""
    refused: dict[str, int]
    """Layouts that do not fit in memory; and by reason how many combinations of degrees do not divide."""
    elapsed: float
    """Seconds."""
    seconds: Array
    """Step time of all combinations of degrees and micro-batch that fit, each in its fastest variant, sorted."""
    tensor: Array
    """Tensor-parallel degree of each of `seconds`."""
    micro_batch: Array
    """Micro-batch of each of `seconds`."""


def search_layouts(question: LayoutQuestion, calibrated: Calibrated, *, top: int = 10) -> FoundLayouts:
    """The `top` fastest layouts that use all devices and fit in memory.

    Raises InputError, in one line, when there is none and says what binds.
    """
    begin = time.perf_counter()
    check_question(question)
    refused: Counter[str] = Counter()
    tables = [_evaluate(question, calibrated, grid) for grid in grids(question, refused)]
    searched = sum(table.searched for table in tables)
    feasible = sum(table.feasible for table in tables)
    refused["memory"] = searched - feasible
    if not feasible:
        raise InputError(_what_binds(question, tables))
    ranked = _rank(tables)
    places = ranked.distinct(top if top == 1 else max(top, MOST_TRIED))
    return FoundLayouts(
        best=tuple(assess(question, ranked.layout(place), calibrated) for place in places[:top]),
        places=tuple(places),
        searched=searched,
        feasible=feasible,
        refused=dict(refused),
        elapsed=time.perf_counter() - begin,
        seconds=ranked.seconds,
        tensor=ranked.field("tensor"),
        micro_batch=ranked.field("micro_batch"),
    )


def assess(question: LayoutQuestion, layout: Layout, calibrated: Calibrated) -> Choice:
    """The forecast of one layout of the whole cluster, whether it fits or not."""
    inside = replace(layout, data=layout.data / question.sites)
    constants = constants_of(question, calibrated)
    times = _single(step_seconds(question.shape, inside, device_of(question), constants))
    waiting = synchronous_seconds(question, constants)
    times = replace(times, data=times.data + waiting)
    memory = _single(memory_bytes(question.shape, inside, calibrated.memory_constants(question.framework)))
    seconds = float(times.total)
    devices = float(layout.devices)
    width = math.hypot(site_half_width(question, inside, calibrated), NINETY * LINE_SPREAD * waiting / seconds)
    peak = question.cluster.accelerator.peak_flops[question.precision] * devices * seconds
    capacity = question.cluster.accelerator.memory_bytes
    spread = calibrated.memory_half_width(question.framework) / NINETY
    return Choice(
        layout=layout,
        seconds=seconds,
        low=seconds * float(np.exp(-width)),
        high=seconds * float(np.exp(width)),
        memory=memory,
        time=times,
        tokens_per_second=question.tokens / seconds,
        mfu=model_flops(question) / peak,
        hfu=hardware_flops(question, layout) / peak,
        chance_to_fit=NormalDist().cdf(math.log(capacity / float(memory.total)) / spread),
        extrapolation=devices > MOST_MEASURED,
    )


def site_half_width(question: LayoutQuestion, inside: Layout, calibrated: Calibrated) -> float:
    """Half-width of the 90% interval of one site's step on a cluster of one's own: its site and release are always new.

    Several sites in step add to it what is not known of the line between them; that does not make a site better known.
    """
    chip, device = question.cluster.accelerator, device_of(question)

    def model(constants: Constants) -> Array:
        return np.asarray(step_seconds(question.shape, inside, device, constants).total, dtype=np.float64)

    new = {"release": True, "site": True, "accelerator": not calibrated.knows(chip.name)}
    new["framework"] = question.framework not in calibrated.frameworks()
    logarithms = calibrated.logarithms(question.framework, chip, experts=question.experts)
    return float(
        calibrated.half_widths(
            np.array([calibrated.half_width(question.framework, question.cluster.devices, experts=question.experts)]),
            sensitivities(model, logarithms[None]),
            {level: np.array([strange]) for level, strange in new.items()},
            np.array([not calibrated.knows_maker(chip)]),
        )[0]
    )


def alone_seconds(choice: Choice, question: LayoutQuestion, calibrated: Calibrated) -> float:
    """Seconds of a step of one site that waits for no other."""
    constants = constants_of(question, calibrated)
    return choice.seconds - synchronous_seconds(question, constants)


@dataclass(frozen=True)
class _Table:
    """One grid with its step times."""

    grid: Grid
    searched: int
    feasible: int
    seconds: Array
    """Of each base that fits in some variant."""
    bases: npt.NDArray[np.intp]
    """Numbers of these bases."""
    variants: npt.NDArray[np.intp]
    """Number of the fastest variant of each, in the flattened rest of the grid."""
    least_memory: float


def _evaluate(question: LayoutQuestion, calibrated: Calibrated, grid: Grid) -> _Table:
    shape = grid.allowed.shape
    memory = np.broadcast_to(
        total_bytes(question.shape, grid.layout, calibrated.memory_constants(question.framework)), shape
    )
    fits = grid.allowed & (memory <= question.memory_limit)
    seconds = np.full(shape, np.inf)
    if fits.any():
        constants = constants_of(question, calibrated)
        total = total_seconds(question.shape, grid.layout, device_of(question), constants)
        total = total + synchronous_seconds(question, constants)
        np.copyto(seconds, total, where=fits)
    flat = seconds.reshape(shape[0], -1)
    variants = np.argmin(flat, axis=1)
    fastest = flat[np.arange(shape[0]), variants]
    kept = np.flatnonzero(np.isfinite(fastest))
    return _Table(
        grid=grid,
        searched=int(np.count_nonzero(grid.allowed)),
        feasible=int(np.count_nonzero(fits)),
        seconds=fastest[kept],
        bases=kept,
        variants=variants[kept],
        least_memory=float(np.min(memory, where=grid.allowed, initial=np.inf)),
    )


@dataclass(frozen=True)
class _Ranking:
    """Bases of all tables, the fastest first."""

    tables: Sequence[_Table]
    seconds: Array
    owner: npt.NDArray[np.intp]
    """Number of the table that each lies in."""
    row: npt.NDArray[np.intp]
    """Its place among those of the table that fit."""

    def layout(self, place: int) -> Layout:
        """The layout at a place of the ranking."""
        table, row = self.tables[self.owner[place]], self.row[place]
        layout: Layout = table.grid.one(int(table.bases[row]), int(table.variants[row]))
        return layout

    def distinct(self, top: int) -> list[int]:
        """Places of the first ones, each the fastest of those that are alike."""
        seen: set[tuple[float, ...]] = set()
        places: list[int] = []
        for place in range(len(self.seconds)):
            if len(places) == top:
                break
            key = self._alike(place)
            if key not in seen:
                seen.add(key)
                places.append(place)
        return places

    def _alike(self, place: int) -> tuple[float, ...]:
        """What layouts have in common that nobody would tell apart: what a device holds, and its tokens at a time."""
        table, base = self.tables[self.owner[place]], int(self.tables[self.owner[place]].bases[self.row[place]])
        layout = table.grid.layout
        tensor, expert, micro, context = (
            float(np.ravel(getattr(layout, name))[base]) for name in ("tensor", "expert", "micro_batch", "context")
        )
        return tensor, float(layout.pipeline), expert, micro / context

    def field(self, name: str) -> Array:
        """A field of each layout in the ranking."""
        values = [np.ravel(getattr(table.grid.layout, name))[table.bases] for table in self.tables]
        begins = np.cumsum([0] + [len(each) for each in values])
        return np.asarray(np.concatenate(values)[begins[self.owner] + self.row])


def _rank(tables: Sequence[_Table]) -> _Ranking:
    seconds = np.concatenate([table.seconds for table in tables])
    sizes = [len(table.seconds) for table in tables]
    order = np.argsort(seconds, kind="stable")
    owner = np.repeat(np.arange(len(tables)), sizes)
    row = np.concatenate([np.arange(size) for size in sizes])
    return _Ranking(tables, seconds[order], owner[order], row[order])


def _what_binds(question: LayoutQuestion, tables: Sequence[_Table]) -> str:
    where = "one device" if question.cluster.devices == 1 else f"{question.cluster.devices:,} devices"
    if not tables:
        return _batch_binds(question, where)
    least = min(table.least_memory for table in tables)
    chip = question.cluster.accelerator
    return (
        f"nothing fits: on {where} the leanest layout needs {least / 1e9:.1f} GB a device, of {chip.name}'s "
        f"{chip.memory_bytes / 1e9:g} GB a forecast may fill {question.memory_limit / 1e9:.1f}"
    )


def _batch_binds(question: LayoutQuestion, where: str) -> str:
    """Degrees there are always some, as each may be 1; but each asks for a batch that its data-parallel ranks share."""
    ranks = sorted({data * question.sites for *_, data in degrees(question, Counter())})
    if ranks[0] > question.sequences:
        return (
            f"a batch of {question.sequences} sequences is too small for {where}: with this shape at least "
            f"{ranks[0]:,} of them work on sequences of their own"
        )
    several = " or ".join(f"{each:,}" for each in ranks[:_NAMED])
    more = " or more" if len(ranks) > _NAMED else ""
    return (
        f"a batch of {question.sequences} sequences does not divide over {where}: it must be a multiple of "
        f"{several}{more}"
    )


Record = TypeVar("Record", StepTime, Memory)


def _single(record: Record) -> Record:
    """The record with every field as one float."""
    return type(record)(**{each.name: float(getattr(record, each.name)) for each in fields(record)})
