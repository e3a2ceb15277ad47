"""The fastest layouts of a question, among all."""

import heapq
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, fields, replace
from typing import TypeVar

import numpy as np
import numpy.typing as npt
from scipy.special import ndtr

from tenfold.errors import InputError
from tenfold.planner.calibration import MOST_MEASURED, Calibrated
from tenfold.planner.cost.layout import Layout
from tenfold.planner.cost.memory import Memory, memory_bytes
from tenfold.planner.cost.numbers import Array
from tenfold.planner.cost.step import StepTime, step_seconds
from tenfold.planner.search.figures import hardware_flops, model_flops
from tenfold.planner.search.grid import Grid, grids
from tenfold.planner.search.question import Question, check, device_of
from tenfold.planner.search.sites import synchronous_seconds

NINETY = 1.645
"""Standard deviations from the middle to the end of a 90% interval."""


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
class Found:
    """Outcome of a search."""

    best: tuple[Choice, ...]
    """The fastest first. Of layouts that differ only in sharding, schedule and recomputation the fastest stands here."""
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


def search_layouts(question: Question, calibrated: Calibrated, *, top: int = 10) -> Found:
    """The `top` fastest layouts that use all devices and fit in memory.

    Raises InputError, in one line, when there is none and says what binds.
    """
    begin = time.perf_counter()
    check(question)
    refused: Counter[str] = Counter()
    tables = [_evaluate(question, calibrated, grid) for grid in grids(question, refused)]
    searched = sum(table.searched for table in tables)
    feasible = sum(table.feasible for table in tables)
    refused["memory"] = searched - feasible
    if not feasible:
        raise InputError(_what_binds(question, tables, refused))
    best = heapq.nsmallest(top, _candidates(tables, top), key=lambda pair: pair[0])
    return Found(
        best=tuple(assess(question, layout, calibrated) for _, layout in best),
        searched=searched,
        feasible=feasible,
        refused=dict(refused),
        elapsed=time.perf_counter() - begin,
        seconds=np.sort(np.concatenate([table.seconds for table in tables])),
    )


def assess(question: Question, layout: Layout, calibrated: Calibrated) -> Choice:
    """The forecast of one layout of the whole cluster, whether it fits or not."""
    inside = replace(layout, data=layout.data / question.sites)
    constants = calibrated.constants(question.framework, question.cluster.accelerator.name)
    times = _single(step_seconds(question.shape, inside, device_of(question), constants))
    times = replace(times, data=times.data + synchronous_seconds(question, constants))
    memory = _single(memory_bytes(question.shape, inside, calibrated.memory))
    seconds = float(times.total)
    devices = float(layout.devices)
    width = calibrated.half_width(question.framework, devices, experts=question.experts)
    peak = question.cluster.accelerator.peak_flops[question.precision] * devices * seconds
    capacity = question.cluster.accelerator.memory_bytes
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
        chance_to_fit=float(ndtr(np.log(capacity / float(memory.total)) / (calibrated.memory_width / NINETY))),
        extrapolation=devices > MOST_MEASURED,
    )


@dataclass(frozen=True)
class _Table:
    """One grid, evaluated."""

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


def _evaluate(question: Question, calibrated: Calibrated, grid: Grid) -> _Table:
    shape = grid.allowed.shape
    memory = np.broadcast_to(memory_bytes(question.shape, grid.layout, calibrated.memory).total, shape)
    fits = grid.allowed & (memory <= question.memory_limit)
    seconds = np.full(shape, np.inf)
    if fits.any():
        constants = calibrated.constants(question.framework, question.cluster.accelerator.name)
        total = step_seconds(question.shape, grid.layout, device_of(question), constants).total
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


def _candidates(tables: Iterable[_Table], top: int) -> Iterable[tuple[float, Layout]]:
    """Of each table the `top` fastest."""
    for table in tables:
        for number in np.argsort(table.seconds)[:top]:
            yield float(table.seconds[number]), table.grid.one(int(table.bases[number]), int(table.variants[number]))


def _what_binds(question: Question, tables: list[_Table], refused: Counter[str]) -> str:
    where = f"{question.cluster.devices:,} devices"
    if not tables:
        reasons = ", ".join(f"{why} ({count})" for why, count in refused.most_common() if count)
        return f"no layout shares out a batch of {question.sequences} sequences over {where}: {reasons}"
    least = min(table.least_memory for table in tables)
    chip = question.cluster.accelerator
    return (
        f"nothing fits: on {where} the leanest layout needs {least / 1e9:.1f} GB a device, of {chip.name}'s "
        f"{chip.memory_bytes / 1e9:g} GB a forecast may fill {question.memory_limit / 1e9:.1f}"
    )


Record = TypeVar("Record", StepTime, Memory)


def _single(record: Record) -> Record:
    """Every field as one float."""
    return type(record)(**{each.name: float(getattr(record, each.name)) for each in fields(record)})
