"""Goodput against the size of the fleet, for synchronous, elastic and semi-synchronous training."""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

from tenfold.core import InputError, span, text_table
from tenfold.planner.fleet.choose import IntervalChoice, SparesChoice, expected_goodput, first_interval
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
    modes: Iterable[Mode] = MODES,
    replicas: int = 20,
    seed: int = 0,
) -> FleetCurves:
    """Simulate `run` at each size and in each mode; rates, spares and repair stay what they are for each device.

    Learners have `learner_devices` at every size (one learner below that), and the durable checkpoint interval is
    Daly's for each size and mode. Raises InputError for sizes that do not divide.
    """
    if not sizes or learner_devices < 1 or not 0 < quorum_share <= 1:
        raise InputError("goodput curves: give sizes, learner_devices of at least 1, and a quorum_share in (0, 1]")
    points: dict[Mode, tuple[CurvePoint, ...]] = {}
    for mode in modes:
        sized = [_sized(run, size, mode, learner_devices, quorum_share) for size in sorted(sizes)]
        points[mode] = tuple(_point(each, replicas, seed) for each in sized)
    return FleetCurves(points)


def _sized(run: FleetRun, size: int, mode: Mode, learner_devices: int, quorum_share: float) -> FleetRun:
    learners = max(1, size // learner_devices) if mode == "semi-synchronous" else 1
    spares = math.ceil(run.recovery.spares * size / run.devices)
    return replace(
        run,
        devices=size,
        mode=mode,
        learners=learners,
        quorum=max(1, math.ceil(quorum_share * learners)),
        recovery=replace(run.recovery, spares=spares),
    )


def _point(run: FleetRun, replicas: int, seed: int) -> CurvePoint:
    interval = first_interval(run)
    tuned = replace(run, checkpoint=replace(run.checkpoint, interval_s=interval))
    return CurvePoint(run.devices, simulate_fleet(tuned, replicas, seed).goodput, interval, run.extrapolation)


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
    raise InputError(f"--simulate {text}: no such file and no profile; profiles are {', '.join(profile_names())}")


def sizes_around(cluster: Cluster) -> list[int]:
    """Fleet sizes for the curves: whole hosts, from an eighth of the cluster to 64 times it."""
    host = cluster.node_devices
    sizes = {max(1, round(cluster.devices * factor / host)) * host for factor in _SIZE_FACTORS}
    return sorted(size for size in sizes if size <= LARGEST_FLEET)


def goodput_of(run: FleetRun) -> Callable[[int], float]:
    """Share of the time of so many devices that failures leave for training, simulated once for each size."""

    @cache
    def goodput(devices: int) -> float:
        spares = math.ceil(run.recovery.spares * devices / run.devices)
        sized = replace(run, devices=devices, recovery=replace(run.recovery, spares=spares))
        tuned = replace(sized, checkpoint=replace(sized.checkpoint, interval_s=first_interval(sized)))
        return simulate_fleet(tuned, FEW_REPLICAS).goodput.mean

    return goodput


def curves_around(run: FleetRun, cluster: Cluster, replica_devices: int) -> FleetCurves:
    """Goodput of three ways to train against the size of the fleet.

    `replica_devices` are those of one data-parallel replica where the run does not say; what divides all sizes counts.
    """
    sizes = sizes_around(cluster)
    replica = run.replica_devices or math.gcd(replica_devices, *sizes)
    return goodput_curves(
        replace(run, replica_devices=replica), sizes, learner_devices=_learner_devices(run, min(sizes))
    )


def _learner_devices(run: FleetRun, most: int) -> int:
    """The largest part of a fleet, halved from `most`, that alone would still spend STEADY of its time on training."""
    size = most
    while size % (2 * run.node_devices) == 0 and size > 2 * run.node_devices:
        alone = replace(run, devices=size, mode="synchronous", learners=1, quorum=1)
        checkpoint = replace(alone.checkpoint, interval_s=first_interval(alone))
        if expected_goodput(replace(alone, checkpoint=checkpoint)) >= STEADY:
            break
        size //= 2
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
