"""Lay failures out in time: what each part of the job does between one failure and the next.

A segment begins with a failure (or the start of the run) and ends with the next one of the same unit (or the horizon).
It holds detection, waiting for spares, restart, and then training. A failure during recovery starts the recovery over:
the segment is simply too short to reach training. No loop over failures is needed.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from tenfold.planner.fleet.events import BoolArray, Causes, Events, FloatArray, IntArray, first_node
from tenfold.planner.fleet.run import FleetRun

PASSES = 3  # waits depend on the clock and the clock on waits, when hardware fails only while the job trains


@dataclass(frozen=True)
class Segments:
    """Parts of each segment in seconds, (S,), ordered by unit, then time. `event` is -1 at a unit's start."""

    event: IntArray
    unit: IntArray
    start: FloatArray
    """On the wall clock."""
    clock: FloatArray
    """Start of training on the clock of failures: the wall clock, or the time trained when that is when things fail."""
    detection: FloatArray
    waiting: FloatArray
    restart: FloatArray
    training: FloatArray
    ended: BoolArray
    """Whether a failure ends it, not the horizon."""
    outage: FloatArray
    """Elastic: seconds that the replicas lost at its start stay away."""


def partial(run: FleetRun, causes: Causes, events: Events) -> BoolArray:
    """Whether a failure takes only some replicas of an elastic unit, which then goes on without them. (E,)"""
    if not run.elastic:
        return np.zeros(len(events.time), bool)
    hosts = first_node(run, events.unit + 1) - first_node(run, events.unit)
    return (events.nodes < hosts) & ~causes.silent[events.cause]


def lay_out(run: FleetRun, causes: Causes, events: Events, random: np.random.Generator) -> Segments:
    """Segments of one replica."""
    repair = random.exponential(1.0, int(_replaced_nodes(causes, events).sum())) * run.recovery.repair_s
    luck = random.random(len(events.time))
    if run.fails_while_stopped:
        return _segments(run, causes, events, _recovery(run, causes, events, events.time, repair, luck))
    wall = events.time
    for _ in range(PASSES):
        segments = _segments(run, causes, events, _recovery(run, causes, events, wall, repair, luck), wall)
        wall = np.zeros_like(events.time)
        kept = segments.event >= 0
        wall[segments.event[kept]] = segments.start[kept]
    return _within(segments, run.horizon_s)


def _replaced_nodes(causes: Causes, events: Events) -> IntArray:
    return np.where(causes.replaced[events.cause], events.nodes, 0)


def _ready(run: FleetRun, causes: Causes, events: Events, wall: FloatArray, repair: FloatArray) -> FloatArray:
    """When spares for everything that its unit lost so far are at hand, for each failure. (E,)

    First come, first served: the k-th host lost in the fleet is replaced once spares and hosts repaired so far are k.
    """
    lost = _replaced_nodes(causes, events)
    asks = np.flatnonzero(lost)
    asks = asks[np.argsort(wall[asks])] if run.units > 1 else asks
    place = np.cumsum(lost[asks]) - run.recovery.spares - 1
    back = np.sort(np.repeat(wall[asks], lost[asks]) + repair)
    short = place >= 0
    ready = wall.copy()
    ready[asks[short]] = np.maximum(wall[asks[short]], back[place[short]]) if short.any() else 0.0
    ready = np.minimum(ready, run.horizon_s)
    if run.elastic:
        return ready
    shift = events.unit * 2 * run.horizon_s
    return np.asarray(np.maximum.accumulate(ready + shift) - shift)


class _Recovery(NamedTuple):
    """Seconds after each failure, if nothing cuts them short. (E,)"""

    detection: FloatArray
    waiting: FloatArray
    restart: FloatArray
    """Or, when only replicas leave, the stalls of the others."""
    outage: FloatArray


def _recovery(
    run: FleetRun, causes: Causes, events: Events, wall: FloatArray, repair: FloatArray, luck: FloatArray
) -> _Recovery:
    """Recovery of failures at these times. `luck` (uniform) says which strike a replica that is away already."""
    recovery = run.recovery
    some = partial(run, causes, events)
    seen = np.where(causes.silent[events.cause], 0.0, recovery.detect_s)
    wait = np.maximum(0.0, _ready(run, causes, events, wall, repair) - wall - seen)
    away = np.where(some, recovery.detect_s + wait + run.restart_s, 0.0)
    stall = np.full(len(wall), recovery.reconfigure_s + recovery.rejoin_s)
    if run.elastic:
        stall[luck < -np.expm1(-away_share(run, events.nodes, wall, away).sum())] = 0.0
    return _Recovery(np.where(some, 0.0, seen), np.where(some, 0.0, wait), np.where(some, stall, run.restart_s), away)


def away_share(run: FleetRun, nodes: IntArray, start: FloatArray, outage: FloatArray) -> FloatArray:
    """Share of all replicas' time that each failure would take if none were away already. (E,)"""
    struck = np.ceil(nodes * run.node_devices / run.replica_devices)
    within = np.clip(run.horizon_s - start, 0.0, outage)
    return np.asarray(struck * within / (run.devices / run.replica_devices * run.horizon_s))


def _segments(
    run: FleetRun, causes: Causes, events: Events, recovery: _Recovery, wall: FloatArray | None = None
) -> Segments:
    event, unit = _with_starts(events.unit, run.units)
    begins = event >= 0
    time = np.where(begins, events.time[event], 0.0) if len(events.time) else np.zeros(len(event))
    last = np.append(unit[1:] != unit[:-1], True)
    gap = np.where(last, run.horizon_s, np.append(time[1:], 0.0)) - time
    detect, wait, restart, outage = (_spread(part, event) for part in recovery)
    if wall is None:
        start, length, clock = time, gap, time
    else:
        length = detect + wait + restart + gap
        start = _running_start(length, unit)
        length, clock = np.clip(run.horizon_s - start, 0.0, length), time
    detection = np.minimum(detect, length)
    waiting = np.minimum(wait, length - detection)
    restarting = np.minimum(restart, length - detection - waiting)
    down = detection + waiting + restarting
    clock = time + down if wall is None else clock
    ended = ~last if wall is None else ~last & (start + length < run.horizon_s)
    return Segments(event, unit, start, clock, detection, waiting, restarting, length - down, ended, outage)


def _with_starts(unit: IntArray, units: int) -> tuple[IntArray, IntArray]:
    """Indices of events with a -1 put before those of each unit, and the unit of each."""
    places = np.searchsorted(unit, np.arange(units))
    return np.insert(np.arange(len(unit)), places, -1), np.insert(unit, places, np.arange(units))


def _spread(part: FloatArray, event: IntArray) -> FloatArray:
    """Values by event laid on segments; 0 at a unit's start."""
    return np.append(part, 0.0)[event]


def _running_start(length: FloatArray, unit: IntArray) -> FloatArray:
    """Start of each segment when a unit's segments follow each other from 0."""
    ends = np.cumsum(length)
    start = ends - length
    first = np.append(True, unit[1:] != unit[:-1])
    return start - np.maximum.accumulate(np.where(first, start, 0.0))


def _within(segments: Segments, horizon: float) -> Segments:
    """Only what begins before the horizon."""
    kept = segments.start < horizon
    return Segments(**{name: value[kept] for name, value in vars(segments).items()})
