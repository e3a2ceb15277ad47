"""What training is worth: stalls of checkpoints, work done twice after failures, work lost to silent corruption.

Progress is counted in seconds of useful training of one unit. Three things may end a segment of training:
 - replicas leave an elastic unit: nothing is done twice;
 - the unit stops, and a near copy survives (memory of peers, or the merged model of the other learners): the work since
   the last near copy is done again;
 - the unit goes back to the last durable checkpoint that was already safe.
"""

from bisect import bisect_right
from dataclasses import dataclass

import numpy as np

from tenfold.planner.fleet.events import BoolArray, Causes, Events, FloatArray, IntArray
from tenfold.planner.fleet.run import COMPONENTS, FleetRun
from tenfold.planner.fleet.timeline import Segments, partial

TOUCHING_S = 1e-3
"""What sums of seconds over a run may be wrong by."""


@dataclass(frozen=True)
class Work:
    """Seconds of each segment's training, (S,), and what a failure at its end undoes."""

    stall: FloatArray
    rework: FloatArray
    """Charged to the failure that ends the segment."""
    corrupted: FloatArray
    """Lost to the silent corruption whose discovery ends the segment."""


def useful_share(run: FleetRun) -> float:
    """Share of training time that is not a checkpoint's stall."""
    checkpoint = run.checkpoint
    share = checkpoint.interval_s / (checkpoint.interval_s + checkpoint.stall_s)
    if checkpoint.peer_interval_s is not None:
        share *= checkpoint.peer_interval_s / (checkpoint.peer_interval_s + checkpoint.peer_stall_s)
    return share


def _progress(run: FleetRun, training: FloatArray) -> FloatArray:
    """Useful seconds of each segment: exact where the clock of stalls starts anew with it, else at the mean rate."""
    checkpoint = run.checkpoint
    if run.mode != "synchronous":
        return training * useful_share(run)
    if checkpoint.peer_interval_s is None:
        return _without_stalls(training, checkpoint.interval_s, checkpoint.stall_s)
    durable = checkpoint.interval_s / (checkpoint.interval_s + checkpoint.stall_s)
    return _without_stalls(training * durable, checkpoint.peer_interval_s, checkpoint.peer_stall_s)


def _without_stalls(training: FloatArray, interval: float, stall: float) -> FloatArray:
    whole = np.floor(training / (interval + stall))
    return np.asarray(whole * interval + np.minimum(training - whole * (interval + stall), interval))


def count_work(run: FleetRun, causes: Causes, events: Events, segments: Segments) -> Work:
    """Stalls, rework and corrupted work of all segments of one replica."""
    progress = _progress(run, segments.training)
    ends = np.where(segments.ended, np.append(segments.event[1:], -1), -1)
    undone = _Undone.of(run, causes, events, ends)
    near = _near_interval(run)
    rework = np.where(undone.near, np.mod(progress, near or 1.0), 0.0)
    made = np.cumsum(progress - rework)
    before = made - (progress - rework)
    base = _since_reset(undone.durable | undone.silent, segments.unit, before)
    lost = _to_durable(run, made - base)
    rework = np.where(undone.durable, lost, rework)
    corrupted = np.zeros_like(rework)
    if undone.silent.any():
        corrupted = _corrupted(run, events, segments, progress, rework, ends, undone)
    return Work(segments.training - progress, rework, corrupted)


@dataclass(frozen=True)
class _Undone:
    """Work undone by the failure at each segment's end; none at the horizon or when replicas leave. (S,)"""

    near: BoolArray
    durable: BoolArray
    silent: BoolArray

    @classmethod
    def of(cls, run: FleetRun, causes: Causes, events: Events, ends: IntArray) -> "_Undone":
        if not len(events.time):
            none = np.zeros(len(ends), bool)
            return cls(none, none, none)
        silent = causes.silent[events.cause]
        stops = ~partial(run, causes, events) & ~silent
        survives = _near_copy_survives(run, causes, events)
        here = ends >= 0
        return cls(here & (stops & survives)[ends], here & (stops & ~survives)[ends], here & silent[ends])


def _near_interval(run: FleetRun) -> float:
    if run.mode == "semi-synchronous":
        return run.merge_s
    return run.checkpoint.peer_interval_s or 0.0


def _near_copy_survives(run: FleetRun, causes: Causes, events: Events) -> BoolArray:
    """Whether a copy nearer than storage is left after each failure."""
    if run.mode == "semi-synchronous":
        return causes.group[events.cause] < run.nodes
    if run.checkpoint.peer_interval_s is None:
        return np.zeros(len(events.time), bool)
    return causes.rank[events.cause] <= COMPONENTS.index(run.checkpoint.peer_survives)


def _since_reset(resets: BoolArray, unit: IntArray, before: FloatArray) -> FloatArray:
    """Progress at which the current stretch began: at the last return to a durable checkpoint or the unit's start."""
    first = np.append(True, unit[1:] != unit[:-1]) | np.append(False, resets[:-1])
    return np.asarray(before[np.maximum.accumulate(np.where(first, np.arange(len(before)), 0))])


def _to_durable(run: FleetRun, stretch: FloatArray) -> FloatArray:
    """Progress lost by going back to the last safe durable checkpoint of a stretch."""
    interval = run.checkpoint.interval_s
    safe = np.floor((stretch - run.checkpoint.lag_s * useful_share(run)) / interval) * interval
    return np.asarray(stretch - np.maximum(safe, 0.0))


def _corrupted(
    run: FleetRun,
    events: Events,
    segments: Segments,
    progress: FloatArray,
    rework: FloatArray,
    ends: IntArray,
    undone: _Undone,
) -> FloatArray:
    """Progress between a corruption and its discovery, and back to the durable checkpoint before it."""
    after = np.cumsum(progress - rework)
    before = after - (progress - rework)
    at = np.flatnonzero(undone.silent)
    inside, offset = _place(run, segments, at, events.since[ends[at]])
    share = np.clip(offset * useful_share(run), 0.0, progress[inside])
    then = before[inside] + share
    back_to = then
    if not run.corruption_contained:
        base = _since_reset(undone.durable | undone.silent, segments.unit, before)[inside]
        back_to = then - _to_durable(run, then - base)
    healed = _went_back(np.where(undone.near | undone.durable, after, np.inf), inside, at, then)
    corrupted = np.zeros_like(progress)
    corrupted[at] = _lost_once(np.where(healed, after[at], back_to), after[at])
    return corrupted


def _lost_once(begin: FloatArray, end: FloatArray) -> FloatArray:
    """Progress that going back from `end` to `begin` loses, of several in order of `end`: none is lost twice.

    Going back undoes a corruption that came after `begin`, so finding it later loses nothing more.
    """
    lost = np.zeros_like(end)
    gone: list[tuple[float, float]] = []
    for place, (first, last) in enumerate(zip(begin.tolist(), end.tolist(), strict=True)):
        earlier = bisect_right(gone, first, key=lambda stretch: stretch[0])
        if first >= last or (earlier and first < gone[earlier - 1][1] - TOUCHING_S):
            continue
        lost[place] = last - first - sum(after - before for before, after in gone[earlier:])
        gone[earlier:] = [(first, last)]
    return lost


def _went_back(after: FloatArray, first: IntArray, last: IntArray, to: FloatArray) -> BoolArray:
    """Whether a failure between segments went back to this progress or before, and so undid the corruption unseen."""
    between = np.minimum.reduceat(after, np.column_stack([first, last]).ravel())[::2]
    return np.asarray((first < last) & (between <= to))


def _place(run: FleetRun, segments: Segments, at: IntArray, began: FloatArray) -> tuple[IntArray, FloatArray]:
    """The segment in which each corruption (found at the end of segment `at`) began, and seconds of training before it.

    One that began while the unit was down strikes the first work of the next segment.
    """
    shift = segments.unit * 2 * run.horizon_s
    inside = np.searchsorted(segments.clock + shift, began + shift[at], side="right") - 1
    down = (inside < 0) | (segments.unit[inside] != segments.unit[at])
    down |= began - segments.clock[inside] > segments.training[inside]
    inside = np.minimum(inside + down, at)
    return inside, np.where(down, 0.0, began - segments.clock[inside])
