"""Draw what fails in one replica of a run: when, why, and which hosts.

The components of one cause are many, alike and seldom fail, so that their failures together are a Poisson process
(exact for steady rates; for early failures it leaves out that a replaced device is new again). Silent corruption is
drawn as a chain: a clean state, a corruption, its discovery, a clean state again; what strikes a state that is corrupt
already changes nothing.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tenfold.core import InputError
from tenfold.planner.fleet.run import COMPONENTS, INFANT_CAUSE, FleetRun
from tenfold.planner.hardware.accelerator import DAY

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]


NEVER = 1e-12
"""Failures expected in a run below which there are none: the reciprocal of a smaller rate may overflow."""


@dataclass(frozen=True)
class Causes:
    """The causes of a run as arrays, (C,): those of the run, then early failures."""

    names: tuple[str, ...]
    replaced: BoolArray
    silent: BoolArray
    rank: IntArray
    """Place of the component among COMPONENTS, small to large."""
    group: IntArray
    """Hosts that go at once."""

    @classmethod
    def of(cls, run: FleetRun) -> "Causes":
        """Causes of `run`, as arrays."""
        return cls(
            (*(cause.name for cause in run.causes), INFANT_CAUSE),
            np.array([*(cause.replaced for cause in run.causes), True]),
            np.array([*(cause.silent for cause in run.causes), False]),
            np.array([*(COMPONENTS.index(cause.component) for cause in run.causes), 0]),
            np.array([*(run.group_nodes(cause) for cause in run.causes), 1]),
        )


@dataclass(frozen=True)
class Events:
    """Failures as they strike each part (unit) of the job, ordered by unit, then time. All (E,)."""

    time: FloatArray
    cause: IntArray
    unit: IntArray
    nodes: IntArray
    """Hosts of this unit that go."""
    since: FloatArray
    """When the work began to be wrong: `time` except for silent corruption."""
    failures: int
    """Failures of the fleet; one may strike several units."""


EVENTS_LIMIT = 10_000_000
"""Failures that replicas simulated at the same time may have together: about 4 GiB of arrays."""


def expected_events(run: FleetRun) -> float:
    """Failures of one replica, each counted for every unit it strikes."""
    spread = 1 if run.corruption_contained else run.units
    expected = run.failures_per_s(silent=False) + run.failures_per_s(silent=True) * spread
    return expected * run.horizon_s + run.devices * run.infant.share + run.nodes * run.stragglers.per_day * run.days


def bounded_events(run: FleetRun, factor: float = 1.0) -> float:
    """`expected_events` at so many times the rates. Raises InputError when they are too many."""
    expected = expected_events(run) * factor
    if expected > EVENTS_LIMIT:
        raise InputError(
            f"fleet: {expected:.3g} failures expected in {run.days:g} days, at most {EVENTS_LIMIT:.0e} can be "
            f"simulated; simulate fewer days{', or lower rate_log_sd' if run.rate_log_sd else ''}"
        )
    return expected


def draw_events(run: FleetRun, causes: Causes, random: np.random.Generator) -> Events:
    """Draw all failures from 0 to the horizon."""
    factor = np.exp(random.normal(0.0, run.rate_log_sd)) if run.rate_log_sd else 1.0
    bounded_events(run, factor)
    times, kinds, nodes = _plain(run, causes, factor, random)
    unit, first, many = _struck_units(run, causes, kinds, nodes)
    silent = _corruptions(run, causes, factor, random)
    time = np.concatenate([np.repeat(times, many), silent.time])
    unit = np.concatenate([unit, silent.unit])
    order = np.argsort(time + unit * 2 * run.horizon_s)
    return Events(
        time[order],
        np.concatenate([np.repeat(kinds, many), silent.cause])[order],
        unit[order],
        np.concatenate([first, silent.nodes])[order],
        np.concatenate([np.repeat(times, many), silent.since])[order],
        len(times) + silent.failures,
    )


def _plain(
    run: FleetRun, causes: Causes, factor: float, random: np.random.Generator
) -> tuple[FloatArray, IntArray, IntArray]:
    """Times, causes and first hosts of the failures that are seen at once."""
    times, kinds, nodes = [], [], []
    for index, cause in enumerate(run.causes):
        if cause.silent or not cause.per_day:
            continue
        components = run.components(cause)
        count = random.poisson(factor * cause.per_day / DAY * components * run.horizon_s)
        groups = run.sites if cause.component == "site" else run.nodes // causes.group[index] or 1
        times.append(random.random(count) * run.horizon_s)
        kinds.append(np.full(count, index, np.int64))
        nodes.append(random.integers(0, groups, count) * causes.group[index])
    early = _early_times(run, factor, random)
    times.append(early)
    kinds.append(np.full(len(early), len(run.causes), np.int64))
    nodes.append(random.integers(0, run.nodes, len(early)))
    return np.concatenate(times), np.concatenate(kinds), np.concatenate(nodes)


def _early_times(run: FleetRun, factor: float, random: np.random.Generator) -> FloatArray:
    """Times of early failures: density share / mean * exp(-age / mean) for each device."""
    infant = run.infant
    if not infant.share or not infant.mean_s:
        return np.zeros(0)
    alive = np.exp(-infant.age_s / infant.mean_s)
    until = np.exp(-(infant.age_s + run.horizon_s) / infant.mean_s)
    count = random.poisson(factor * run.devices * infant.share * (alive - until))
    left = until + (alive - until) * random.random(count)
    times: FloatArray = -infant.mean_s * np.log(left) - infant.age_s
    return np.clip(times, 0.0, run.horizon_s)


def _struck_units(
    run: FleetRun, causes: Causes, kinds: IntArray, nodes: IntArray
) -> tuple[IntArray, IntArray, IntArray]:
    """Units that each failure strikes (repeated), its hosts in each, and how many units it strikes."""
    group = np.minimum(causes.group[kinds], run.nodes)
    last_node = np.minimum(nodes + group - 1, run.nodes - 1)
    first, last = unit_of(run, nodes), unit_of(run, last_node)
    many = last - first + 1
    starts = np.cumsum(many) - many
    unit = np.repeat(first, many) + np.arange(many.sum()) - np.repeat(starts, many)
    begin = np.maximum(np.repeat(nodes, many), first_node(run, unit))
    end = np.minimum(np.repeat(last_node, many), first_node(run, unit + 1) - 1)
    return unit, end - begin + 1, many


def first_node(run: FleetRun, unit: IntArray) -> IntArray:
    """First host of each unit: hosts are shared out as evenly as they can be."""
    return np.asarray(unit * run.nodes // run.units)


def unit_of(run: FleetRun, node: IntArray) -> IntArray:
    """Unit that each host belongs to."""
    return np.asarray(((node + 1) * run.units - 1) // run.nodes)


def unit_weights(run: FleetRun, unit: IntArray) -> FloatArray:
    """Hosts of each unit over the mean of all."""
    return np.asarray((first_node(run, unit + 1) - first_node(run, unit)) * (run.units / run.nodes))


def _corruptions(run: FleetRun, causes: Causes, factor: float, random: np.random.Generator) -> Events:
    """Discoveries of silent corruption, each with the time since which work was wrong, unordered."""
    chains = run.units if run.corruption_contained else 1
    rates = np.array([c.per_day * run.components(c) if c.silent else 0.0 for c in run.causes]) * factor / DAY
    if rates.sum() * run.horizon_s < NEVER:
        return _no_events()
    found, since, chain = _corruption_chain(chains, rates.sum() / chains, run, random)
    kinds = random.choice(len(rates), len(found), p=rates / rates.sum())
    struck = 1 if run.corruption_contained else run.units
    unit = chain.repeat(struck) if struck == 1 else np.tile(np.arange(run.units), len(found))
    nodes = np.zeros((len(found), struck), np.int64)  # it may strike every unit, but only one of them loses hosts
    nodes[np.arange(len(found)), random.integers(0, struck, len(found))] = causes.group[kinds]
    return Events(
        found.repeat(struck),
        kinds.repeat(struck),
        unit,
        nodes.ravel(),
        since.repeat(struck),
        len(found),
    )


def _corruption_chain(
    chains: int, rate: float, run: FleetRun, random: np.random.Generator
) -> tuple[FloatArray, FloatArray, IntArray]:
    """Clean, corrupted, found, clean again, in all chains at once: times found, times corrupted, and chain of each."""
    found, since, chain = [np.zeros(0)], [np.zeros(0)], [np.zeros(0, np.int64)]
    clock = np.zeros(chains)
    running = np.arange(chains)
    while len(running):
        began = clock[running] + random.exponential(1 / rate, len(running))
        seen = began + run.recovery.corruption_s * random.exponential(1.0, len(running))
        within = seen < run.horizon_s
        running = running[within]
        clock[running] = seen[within]
        found.append(seen[within])
        since.append(began[within])
        chain.append(running)
    return np.concatenate(found), np.concatenate(since), np.concatenate(chain)


def _no_events() -> Events:
    none, no_index = np.zeros(0), np.zeros(0, np.int64)
    return Events(none, no_index, no_index, no_index, none, 0)
