"""Goodput against the size of the fleet, for synchronous, elastic and semi-synchronous training."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

from tenfold.core import InputError, span, text_table
from tenfold.planner.fleet.choose import IntervalChoice, SparesChoice, expected_goodput, first_interval, standby_spares
from tenfold.planner.fleet.events import expected_events
from tenfold.planner.fleet.result import Interval
from tenfold.planner.fleet.run import MODES, FleetRun, Mode, profile_names
from tenfold.planner.fleet.section import FleetSection, fleet_run, load_fleet
from tenfold.planner.fleet.simulate import simulate_fleet
from tenfold.planner.hardware.cluster import Cluster

SOMETHING = 0.01
"""Goodput below which nobody would say that a way of training works at all."""


@dataclass(frozen=True)
class CurvePoint:
    """Goodput of one mode at one size."""

    devices: int
    goodput: Interval
    interval_s: float
    """Between durable checkpoints, tuned to the size."""
    extrapolation: bool


@dataclass(frozen=True)
class FleetCurves:
    """Points of each mode, by size."""

    points: dict[Mode, tuple[CurvePoint, ...]]
    left_out: tuple[int, ...] = ()
    """Sizes with more failures than can be simulated in seconds."""

    def crossing(self, other: Mode) -> int | None:
        """Smallest size from which on `other` beats synchronous training, intervals apart; None if it never does."""
        if "synchronous" not in self.points or other not in self.points:
            return None
        found = None
        for ours, theirs in zip(reversed(self.points["synchronous"]), reversed(self.points[other]), strict=True):
            if theirs.goodput.low <= ours.goodput.high or theirs.goodput.mean < SOMETHING:
                break
            found = ours.devices
        return found

    def to_dict(self) -> dict[str, Any]:
        """The curves as JSON values."""
        return {
            "modes": {
                mode: [{**vars(point), "goodput": vars(point.goodput)} for point in points]
                for mode, points in self.points.items()
            },
            "left_out": list(self.left_out),
            "synchronous_beaten_from": {mode: self.crossing(mode) for mode in self.points if mode != "synchronous"},
        }

    def lines(self) -> list[str]:
        """A table: sizes down, modes across, then where synchronous training stops making sense."""
        modes = list(self.points)
        rows = [
            (f"{row[0].devices:,}", *map(_goodput_text, row), "extrapolation" if row[0].extrapolation else "")
            for row in zip(*self.points.values(), strict=True)
        ]
        lines = text_table(("devices", *modes, ""), rows, "r" * (1 + len(modes)) + "l")
        for mode in modes:
            size = self.crossing(mode)
            if size is not None:
                lines.append(f"{mode} beats synchronous from {size:,} devices on")
        if self.left_out:
            sizes = ", ".join(f"{size:,}" for size in self.left_out)
            lines.append(f"left out, with too many failures to simulate: {sizes} devices")
        return lines


def _goodput_text(point: CurvePoint) -> str:
    goodput = point.goodput
    return f"{100 * goodput.mean:.1f}% ({100 * goodput.low:.1f}-{100 * goodput.high:.1f})"


def goodput_curves(
    run: FleetRun,
    sizes: Sequence[int],
    *,
    learner_devices: int,
    quorum_share: float = 0.5,
    modes: Sequence[Mode] = MODES,
    replicas: int = 20,
    seed: int = 0,
) -> FleetCurves:
    """Simulate `run` at each size and in each mode; rates, spares and repair stay what they are for each device.

    Learners have `learner_devices` or little more at every size (one learner below twice that), and the durable
    checkpoint interval is Daly's for each size and mode. Raises InputError for sizes that are no whole hosts.
    """
    if not sizes or learner_devices < 1 or not 0 < quorum_share <= 1:
        raise InputError("goodput curves: give sizes, learner_devices of at least 1, and a quorum_share in (0, 1]")
    sized = {size: [_sized(run, size, mode, learner_devices, quorum_share) for mode in modes] for size in sorted(sizes)}
    shown = [size for size, runs in sized.items() if max(map(expected_events, runs)) <= MOST_EVENTS]
    points = {
        mode: tuple(_point(sized[size][place], replicas, seed) for size in shown) for place, mode in enumerate(modes)
    }
    return FleetCurves(points, tuple(size for size in sized if size not in shown))


def _sized(run: FleetRun, size: int, mode: Mode, learner_devices: int, quorum_share: float) -> FleetRun:
    learners = max(1, size // learner_devices) if mode == "semi-synchronous" else 1
    return replace(
        _alone(run, size),
        mode=mode,
        learners=learners,
        quorum=max(1, math.ceil(quorum_share * learners)),
        replica_devices=min(run.replica_devices, size // learners),
    )


def _alone(run: FleetRun, size: int) -> FleetRun:
    """The run in step on so many devices. Spares grow with them; where they are as many as stand by 99% of the time,
    so are those of the other size."""
    usual = run.recovery.spares == standby_spares(run)
    node = min(run.node_devices, size)
    sized = replace(
        run,
        devices=size,
        node_devices=node,
        sites=min(run.sites, size // node),
        mode="synchronous",
        learners=1,
        quorum=1,
        checkpoint=run.checkpoint.in_fleet(size / run.devices),
    )
    spares = standby_spares(sized) if usual else math.ceil(run.recovery.spares * size / run.devices)
    return replace(sized, recovery=replace(run.recovery, spares=spares))


def _tuned(run: FleetRun) -> FleetRun:
    """With Daly's interval between checkpoints."""
    return replace(run, checkpoint=replace(run.checkpoint, interval_s=first_interval(run)))


def _point(run: FleetRun, replicas: int, seed: int) -> CurvePoint:
    tuned = _tuned(run)
    enough = max(FEWEST_REPLICAS, int(EVENTS_OF_A_POINT / max(1.0, expected_events(run))))
    goodput = simulate_fleet(tuned, min(replicas, enough), seed).goodput
    return CurvePoint(run.devices, goodput, tuned.checkpoint.interval_s, run.extrapolation)


MOST_EVENTS = 1_500_000
"""Failures of one replica beyond which a size is left out: about a second."""
EVENTS_OF_A_POINT, FEWEST_REPLICAS = 500_000, 4
"""Failures of all replicas of a point, and how few replicas may be: the more failures, the less they differ."""
LARGEST_FLEET = 10_000_000
STEADY = 0.97
FEW_REPLICAS = 10
_SIZE_FACTORS = (1 / 8, 1 / 2, 1, 4, 16, 64)


def fleet_of(text: str, cluster: Cluster, checkpoint_bytes: float = 0.0) -> FleetRun:
    """A TOML file with a [fleet] table, or the name of a profile of failure rates. Raises InputError for neither.

    `checkpoint_bytes` go with a profile: those of the model, if one is known.
    """
    if Path(text).exists() or text.endswith(".toml"):
        return load_fleet(Path(text), cluster)
    if text in profile_names():
        return fleet_run(FleetSection(profile=text, checkpoint_bytes=checkpoint_bytes), cluster)
    raise InputError(f"fleet {text!r}: no such file and no profile; profiles are {', '.join(profile_names())}")


def sizes_around(cluster: Cluster) -> list[int]:
    """Fleet sizes for the curves: whole hosts, from an eighth of the cluster to 64 times it."""
    host = cluster.node_devices
    sizes = {max(1, round(cluster.devices * factor / host)) * host for factor in _SIZE_FACTORS}
    return sorted(size for size in sizes if size <= LARGEST_FLEET)


def goodput_of(run: FleetRun) -> Callable[[int], float]:
    """Share of the time of so many devices that failures leave for training, simulated once for each size."""

    @cache
    def goodput(devices: int) -> float:
        sized = _alone(run, devices)
        learners = min(run.learners, sized.nodes)
        moded = replace(
            sized,
            mode=run.mode,
            learners=learners,
            quorum=min(run.quorum, learners),
            replica_devices=min(run.replica_devices, devices // learners),
        )
        return simulate_fleet(_tuned(moded), FEW_REPLICAS).goodput.mean

    return goodput


def curves_around(run: FleetRun, cluster: Cluster, replica_devices: int) -> FleetCurves:
    """Goodput of three ways to train against the size of the fleet.

    `replica_devices` are those of one data-parallel replica where the run does not say. The figures of a size do not
    depend on the size of the cluster that they are asked from.
    """
    replica = run.replica_devices or replica_devices
    in_step = replace(run, mode="synchronous", learners=1, quorum=1, replica_devices=replica)
    return goodput_curves(in_step, sizes_around(cluster), learner_devices=learner_size(in_step))


def learner_size(run: FleetRun) -> int:
    """Devices of the largest learner, doubled from two hosts, that alone spends STEADY of its time on training."""
    size = 2 * run.node_devices
    while 2 * size <= LARGEST_FLEET and expected_goodput(_tuned(_alone(run, 2 * size))) >= STEADY:
        size *= 2
    return size


def assumed_line(run: FleetRun) -> str:
    """The assumptions that the figures rest on most."""
    recovery, checkpoint = run.recovery, run.checkpoint
    return (
        f"assumes: found in {span(recovery.detect_s)}, restarted in {span(run.restart_s)}, a checkpoint every "
        f"{span(checkpoint.interval_s)} stalls {checkpoint.stall_s:.0f} s, {recovery.spares} spare hosts"
    )


def interval_line(choice: IntervalChoice) -> str:
    """The checkpoint interval that the simulator prefers, beside the formulas'."""
    young, daly, best = (span(seconds) for seconds in (choice.young_s, choice.daly_s, choice.best_s))
    return f"checkpoint every {best} (Young {young}, Daly {daly})"


def spares_line(choice: SparesChoice) -> str:
    """The number of spare hosts that is worth most."""
    return f"spare hosts: {choice.best} worth most; {choice.standby} are enough 99% of the time"
