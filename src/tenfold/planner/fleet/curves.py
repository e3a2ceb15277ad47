"""Goodput against the size of the fleet, for synchronous, elastic and semi-synchronous training."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from tenfold.core.errors import InputError
from tenfold.planner.fleet.choose import first_interval
from tenfold.planner.fleet.result import Interval
from tenfold.planner.fleet.run import MODES, FleetRun, Mode
from tenfold.planner.fleet.simulate import simulate_fleet

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
        """For JSON."""
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
        lines = [f"{'devices':>12}  " + "  ".join(f"{mode:>24}" for mode in modes)]
        for row in zip(*self.points.values(), strict=True):
            cells = (f"{100 * p.goodput.mean:.1f}% ({100 * p.goodput.low:.1f}-{100 * p.goodput.high:.1f})" for p in row)
            mark = "  extrapolation" if row[0].extrapolation else ""
            lines.append(f"{row[0].devices:>12,}  " + "  ".join(f"{cell:>24}" for cell in cells) + mark)
        for mode in modes:
            size = self.crossing(mode)
            if size is not None:
                lines.append(f"{mode} beats synchronous from {size:,} devices on")
        return lines


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
