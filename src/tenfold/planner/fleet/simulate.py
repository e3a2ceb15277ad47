"""Simulate a run many times and say where the device time went."""

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from tenfold.core import InputError
from tenfold.planner.fleet.events import (
    EVENTS_LIMIT,
    Causes,
    Events,
    FloatArray,
    bounded_events,
    draw_events,
    unit_weights,
)
from tenfold.planner.fleet.result import KINDS, FleetResult, Kind
from tenfold.planner.fleet.run import FleetRun
from tenfold.planner.fleet.timeline import Segments, away_share, lay_out
from tenfold.planner.fleet.work import Work, count_work

THREADS_FROM = 50_000
"""Failures of a replica from which on threads pay: numpy lets go of the interpreter while it sorts and adds."""
MOST_THREADS = 4


@dataclass(frozen=True)
class SimulatedReplica:
    """One simulated run: shares of all device time."""

    goodput: float
    kinds: FloatArray
    """(KINDS,); with the goodput they add up to 1."""
    causes: FloatArray
    """Lost to each cause, (C,)."""
    failures: int


def simulate_fleet(
    run: FleetRun, replicas: int = 100, seed: int = 0, progress: Callable[[int, int], None] | None = None
) -> FleetResult:
    """Simulate `run` this often; the same seed gives the same replicas, however many there are.

    Time grows with the failures: about 0.3 s for a replica of 400,000. `progress` is told how many replicas of how many
    are done. Raises InputError when a replica would have more failures than fit in memory.
    """
    if replicas < 1:
        raise InputError(f"replicas = {replicas}: must be at least 1")
    causes = Causes.of(run)
    seen = []
    for replica in _simulated(run, causes, replicas, seed):
        seen.append(replica)
        if progress:
            progress(len(seen), replicas)
    return FleetResult.of(
        run,
        causes.names,
        np.array([replica.goodput for replica in seen]),
        np.array([replica.kinds for replica in seen]),
        np.array([replica.causes for replica in seen]),
        np.array([float(replica.failures) for replica in seen]),
    )


def _simulated(run: FleetRun, causes: Causes, replicas: int, seed: int) -> Iterator[SimulatedReplica]:
    """Replicas in order, in threads where that pays and memory allows."""

    def one(number: int) -> SimulatedReplica:
        return simulate_once(run, causes, np.random.default_rng([seed, number]))

    expected = bounded_events(run)
    threads = min(MOST_THREADS, os.cpu_count() or 1, int(EVENTS_LIMIT // max(1.0, expected)))
    if expected < THREADS_FROM or threads < 2:
        yield from map(one, range(replicas))
        return
    pool = ThreadPoolExecutor(threads)
    try:
        yield from pool.map(one, range(replicas))
    finally:
        pool.shutdown(cancel_futures=True)


def simulate_once(run: FleetRun, causes: Causes, random: np.random.Generator) -> SimulatedReplica:
    """Simulate one replica."""
    events = draw_events(run, causes, random)
    segments = lay_out(run, causes, events, random)
    work = count_work(run, causes, events, segments)
    lost = _stopped(run, segments, work)
    useful = 1.0 - sum(lost.values())
    by_cause = _by_cause(run, causes, events, segments, work)
    away = _replicas_out(run, causes, events, segments)
    out = 1.0 - np.exp(-away.sum())
    by_cause += useful * out * (away / away.sum() if away.sum() else away)
    after: tuple[tuple[Kind, float], ...] = (
        ("replicas_out", out),
        ("straggling", _straggling(run, random)),
        ("merging", run.merge_share if run.units > 1 else 0.0),
        ("idle_learners", _idle(run, segments)),
    )
    for kind, share in after:
        lost[kind] = useful * share
        useful -= lost[kind]
    share = (segments.event >= 0).sum() / max(1, len(events.time))  # those that struck before the run was over
    return SimulatedReplica(useful, np.array([lost[kind] for kind in KINDS]), by_cause, round(events.failures * share))


def _stopped(run: FleetRun, segments: Segments, work: Work) -> dict[Kind, float]:
    """Shares of all time that are lost while parts stand still or go back."""
    total = run.units * run.horizon_s
    parts: dict[Kind, FloatArray] = {
        "detection": segments.detection,
        "waiting_for_spares": segments.waiting,
        "restart": segments.restart,
        "rework": work.rework,
        "checkpoint_stall": work.stall,
        "silent_corruption": work.corrupted,
    }
    weight = unit_weights(run, segments.unit)
    return {kind: float((part * weight).sum()) / total for kind, part in parts.items()}


def _by_cause(run: FleetRun, causes: Causes, events: Events, segments: Segments, work: Work) -> FloatArray:
    """Share of all time that each cause took by stopping parts: the recovery after it and the work it undid. (C,)"""
    count = len(causes.names)
    if not len(events.time):
        return np.zeros(count)
    begun = segments.event >= 0
    down = (segments.detection + segments.waiting + segments.restart)[begun]
    ended = np.flatnonzero(segments.ended)
    undone = (work.rework + work.corrupted)[ended]
    weight = unit_weights(run, segments.unit)
    lost = np.bincount(events.cause[segments.event[begun]], down * weight[begun], count)
    lost += np.bincount(events.cause[segments.event[ended + 1]], undone * weight[ended], count)
    return np.asarray(lost / (run.units * run.horizon_s))


def _replicas_out(run: FleetRun, causes: Causes, events: Events, segments: Segments) -> FloatArray:
    """Mean share of replicas that would be away if none failed twice, by cause. (C,)

    The share really away is 1 - exp(-sum): failures strike replicas at random, and one that is away starts over.
    """
    count = len(causes.names)
    if not run.elastic or not len(events.time):
        return np.zeros(count)
    begun = segments.event >= 0
    index = segments.event[begun]
    share = away_share(run, events.nodes[index], segments.start[begun], segments.outage[begun])
    return np.asarray(np.bincount(events.cause[index], share, count), np.float64)


def _straggling(run: FleetRun, random: np.random.Generator) -> float:
    """Share of speed that units lose to slow hosts: the slowdown while a unit has at least one."""
    stragglers = run.stragglers
    if not stragglers.per_day:
        return 0.0
    count = random.poisson(stragglers.per_day * run.days * run.nodes)
    unit = np.sort(random.integers(0, run.units, count))
    shift = unit * 2 * run.horizon_s
    begin = random.random(count) * run.horizon_s + shift
    begin.sort()
    end = np.minimum(begin + random.exponential(stragglers.last_s, count), shift + run.horizon_s)
    reach = np.maximum.accumulate(np.append(0.0, end))[:-1] if count else np.zeros(0)
    slow = np.maximum(0.0, end - np.maximum(begin, reach)).sum()
    return float(stragglers.slowdown * slow / (run.units * run.horizon_s))


def _idle(run: FleetRun, segments: Segments) -> float:
    """Share of the learners' training time in which fewer than the quorum are up, so that no merge can happen."""
    if run.units == 1 or run.quorum <= 1:
        return 0.0
    end = segments.start + segments.detection + segments.waiting + segments.restart + segments.training
    begin = end - segments.training
    time = np.concatenate([begin, end])
    order = np.argsort(time, kind="stable")  # two sorted runs for each unit, and many ties
    up = np.cumsum(np.repeat([1, -1], len(begin))[order])[:-1]
    between = np.diff(time[order])
    training = float((up * between).sum())
    return float((up * between)[up < run.quorum].sum()) / training if training else 0.0
