"""How often to save and how many spares to hold: first guesses in closed form, then chosen on the simulator."""

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np

from tenfold.planner.fleet.events import NEVER
from tenfold.planner.fleet.result import FleetResult, Interval
from tenfold.planner.fleet.run import COMPONENTS, Cause, FleetRun
from tenfold.planner.fleet.simulate import simulate_fleet
from tenfold.planner.hardware.accelerator import DAY

FACTORS = tuple(2.0 ** (step / 2) for step in range(-4, 5))
"""Intervals tried, as multiples of the first guess."""
STANDBY_QUANTILE = 0.99  # ByteRobust (SOSP 2025) sizes its warm standbys so


def young_interval(stall_s: float, mttf_s: float) -> float:
    """Training between checkpoints by Young (1974): sqrt(2 * stall * mean time to failure)."""
    return math.sqrt(2 * stall_s * mttf_s)


def daly_interval(stall_s: float, mttf_s: float) -> float:
    """Training between checkpoints by Daly (2006), higher order: also right when stalls are not short to failures."""
    if stall_s >= 2 * mttf_s:
        return mttf_s
    part = math.sqrt(stall_s / (2 * mttf_s))
    return math.sqrt(2 * stall_s * mttf_s) * (1 + part / 3 + part**2 / 9) - stall_s


def returns_to_durable(run: FleetRun, cause: Cause) -> bool:
    """Whether a failure of this cause sends a part of the job back to its durable checkpoint."""
    hosts = run.group_nodes(cause)
    if cause.silent:
        return not run.corruption_contained
    if run.mode == "semi-synchronous":
        return hosts >= run.nodes
    if run.mode == "elastic":
        return hosts >= run.unit_nodes
    if run.checkpoint.peer_interval_s is None:
        return True
    return COMPONENTS.index(cause.component) > COMPONENTS.index(run.checkpoint.peer_survives)


def first_interval(run: FleetRun) -> float:
    """Daly's interval for the failures that go back to durable checkpoints, no shorter than writing allows.

    The whole run when no failure does; as short as writing allows when training never stands still for a checkpoint.
    """
    rate = sum(c.per_day * run.components(c) for c in run.causes if returns_to_durable(run, c)) / DAY
    if rate * run.horizon_s < NEVER:
        return max(run.horizon_s, run.checkpoint.write_s)
    guess = daly_interval(run.checkpoint.stall_s, 1 / rate)
    return max(min(run.horizon_s, max(guess, 1.0)), run.checkpoint.write_s)


def expected_goodput(run: FleetRun) -> float:
    """Goodput of a synchronous run in closed form: steady rates, durable checkpoints, spares enough.

    After Daly (2006): of a time to failure X (exponential, rate r) the useful part is interval * floor(X / cycle), and
    recovery D starts over when it is hit: r * interval * exp(-r * (D + lag)) / (exp(r * cycle) - 1). Work that silent
    corruption spoils is left out.
    """
    rate = run.failures_per_s()
    cycle = run.checkpoint.interval_s + run.checkpoint.stall_s
    if not rate:
        return run.checkpoint.interval_s / cycle
    if rate * cycle > 700:  # exp would overflow
        return 0.0
    down = rate * (run.recovery.detect_s + run.restart_s)
    training = math.exp(-down) if run.fails_while_stopped else 1 / (1 + down)
    useful = rate * run.checkpoint.interval_s / math.expm1(rate * cycle)
    return training * useful * math.exp(-rate * run.checkpoint.lag_s)


@dataclass(frozen=True)
class IntervalChoice:
    """The checkpoint interval chosen on the simulator, beside the first guesses. Seconds of training."""

    young_s: float
    daly_s: float
    """Daly's, as `first_interval` gives it."""
    best_s: float
    tried: tuple[tuple[float, Interval], ...]
    """Interval and goodput."""


def best_interval(run: FleetRun, replicas: int = 20, seed: int = 0) -> IntervalChoice:
    """Simulate intervals around Daly's with the same failures and take the best, between neighbours by a parabola."""
    guess = first_interval(run)
    least = max(run.checkpoint.write_s, 1.0)
    intervals = sorted({max(least, min(run.horizon_s, guess * factor)) for factor in FACTORS})
    results = [simulate_fleet(_saving_every(run, interval), replicas, seed) for interval in intervals]
    goodput = np.array([result.goodput.mean for result in results])
    rate = run.failures_per_s()
    young = young_interval(run.checkpoint.stall_s, 1 / rate) if rate * run.horizon_s > NEVER else run.horizon_s
    tried = tuple(zip(intervals, (result.goodput for result in results), strict=True))
    return IntervalChoice(young, guess, _peak(np.log(intervals), goodput), tried)


def _saving_every(run: FleetRun, interval: float) -> FleetRun:
    return replace(run, checkpoint=replace(run.checkpoint, interval_s=interval))


def _peak(x: np.ndarray, y: np.ndarray) -> float:
    """Exp of where y(x) is largest: the parabola through the best point and its neighbours, or the point at an edge."""
    best = int(np.argmax(y))
    if not 0 < best < len(x) - 1:
        return float(np.exp(x[best]))
    curve = np.polyfit(x[best - 1 : best + 2], y[best - 1 : best + 2], 2)
    top = -curve[1] / (2 * curve[0]) if curve[0] < 0 else x[best]
    return float(np.exp(np.clip(top, x[best - 1], x[best + 1])))


@dataclass(frozen=True)
class SparesTried:
    """One number of spare hosts and what it gives."""

    spares: int
    goodput: Interval
    paid: float
    """Useful time over the time of all hosts, spares counted."""
    worth: float | None
    """Hosts' worth of useful time that each host beyond the number before gives; above 1 it pays. None at first."""


@dataclass(frozen=True)
class SparesChoice:
    """The number of spare hosts that is worth most."""

    best: int
    standby: int
    """The 99% quantile of hosts in repair at once, as ByteRobust sizes its standbys."""
    tried: tuple[SparesTried, ...]


def best_spares(run: FleetRun, replicas: int = 20, seed: int = 0) -> SparesChoice:
    """Simulate numbers of spares around the hosts that are in repair at once; take the most useful time paid for."""
    away = _hosts_in_repair(run)
    counts = sorted({0, 1, 2, *(max(0, round(away + z * math.sqrt(away))) for z in (-2, -1, 0, 1, 2, 3, 4, 6))})
    runs = [replace(run, recovery=replace(run.recovery, spares=count)) for count in counts]
    tried = tuple(_worth(runs, (simulate_fleet(each, replicas, seed) for each in runs)))
    best = max(tried, key=lambda point: point.paid)
    return SparesChoice(best.spares, standby_spares(run), tried)


def standby_spares(run: FleetRun) -> int:
    """Spare hosts that are enough 99% of the time, as ByteRobust sizes its standbys.

    The quantile of a Poisson number, which the hosts in repair are when each stays away for a time of its own.
    """
    from scipy.special import pdtrik  # only who simulates a fleet waits for it

    away = _hosts_in_repair(run)
    return max(0, math.ceil(pdtrik(STANDBY_QUANTILE, away))) if away > NEVER else 0


def _hosts_in_repair(run: FleetRun) -> float:
    """At one moment, on average."""
    losses = sum(c.per_day * run.components(c) * run.group_nodes(c) for c in run.causes if c.replaced) / DAY
    return losses * run.recovery.repair_s


def _worth(runs: list[FleetRun], results: Iterable[FleetResult]) -> Iterable[SparesTried]:
    before, goodput_before = 0, None
    for run, result in zip(runs, results, strict=True):
        spares, goodput = run.recovery.spares, result.goodput
        worth = None if goodput_before is None else (goodput.mean - goodput_before) * run.nodes / (spares - before)
        yield SparesTried(spares, goodput, goodput.mean * run.nodes / (run.nodes + spares), worth)
        before, goodput_before = spares, goodput.mean
