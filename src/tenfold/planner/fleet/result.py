"""What a simulated fleet run comes to: means and intervals over replicas, for people and as JSON."""

from dataclasses import dataclass
from typing import Any, Literal, Self, get_args

import numpy as np

from tenfold.core import span, text_table
from tenfold.planner.fleet.events import FloatArray
from tenfold.planner.fleet.run import MEASURED_DEVICES, FleetRun
from tenfold.planner.hardware.accelerator import HOUR

Kind = Literal[
    "detection",
    "restart",
    "waiting_for_spares",
    "rework",
    "checkpoint_stall",
    "silent_corruption",
    "replicas_out",
    "straggling",
    "merging",
    "idle_learners",
]
KINDS: tuple[Kind, ...] = get_args(Kind)
WORDS: dict[Kind, str] = {
    "detection": "failures not yet found",
    "restart": "restarting",
    "waiting_for_spares": "waiting for spares",
    "rework": "work done twice",
    "checkpoint_stall": "writing checkpoints",
    "silent_corruption": "work that was silently corrupt",
    "replicas_out": "replicas away",
    "straggling": "slow hosts",
    "merging": "merging learners",
    "idle_learners": "learners without quorum",
}
LEVEL = 0.90
SHOWN_CAUSES = 8


@dataclass(frozen=True)
class Interval:
    """Mean over replicas and the interval that holds 90% of them."""

    mean: float
    low: float
    high: float

    @classmethod
    def of(cls, values: FloatArray) -> Self:
        """Of one value for each replica."""
        low, high = np.quantile(values, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
        return cls(float(values.mean()), float(low), float(high))

    def scaled(self, factor: float) -> "Interval":
        """The interval times a factor."""
        return Interval(self.mean * factor, self.low * factor, self.high * factor)


@dataclass(frozen=True)
class FleetResult:
    """Where the device time of a run goes."""

    run: FleetRun
    replicas: int
    goodput: Interval
    """Useful device time over all device time of the job (spares not counted)."""
    effective_days: Interval
    failures: Interval
    mttf_hours: float
    """Hours of the run for each failure of the fleet; infinite without failures."""
    lost_by_kind: dict[Kind, Interval]
    """Device-hours."""
    lost_by_cause: dict[str, Interval]
    """Device-hours of recovery, rework and corrupt work, by what failed."""

    @classmethod
    def of(
        cls,
        run: FleetRun,
        names: tuple[str, ...],
        goodput: FloatArray,
        kinds: FloatArray,
        causes: FloatArray,
        failures: FloatArray,
    ) -> Self:
        """From arrays over replicas: shares (R,), (R, KINDS), (R, C), and counts (R,)."""
        hours = run.devices * run.days * 24
        mean = float(failures.mean())
        return cls(
            run,
            len(goodput),
            Interval.of(goodput),
            Interval.of(goodput * run.days),
            Interval.of(failures),
            run.days * 24 / mean if mean else float("inf"),
            {kind: Interval.of(kinds[:, place] * hours) for place, kind in enumerate(KINDS)},
            {name: Interval.of(causes[:, place] * hours) for place, name in enumerate(names) if causes[:, place].any()},
        )

    @property
    def extrapolation(self) -> bool:
        """Whether the fleet is larger than anybody has measured."""
        return self.run.extrapolation

    def to_dict(self) -> dict[str, Any]:
        """For JSON; an infinite time to failure becomes null."""
        return {
            "devices": self.run.devices,
            "mode": self.run.mode,
            "days": self.run.days,
            "replicas": self.replicas,
            "level": LEVEL,
            "extrapolation": self.extrapolation,
            "goodput": vars(self.goodput),
            "effective_days": vars(self.effective_days),
            "failures": vars(self.failures),
            "mttf_hours": self.mttf_hours if np.isfinite(self.mttf_hours) else None,
            "lost_device_hours": {
                "by_kind": {kind: vars(lost) for kind, lost in self.lost_by_kind.items()},
                "by_cause": {name: vars(lost) for name, lost in self.lost_by_cause.items()},
            },
        }

    def _rate(self) -> str:
        return f"one every {span(self.mttf_hours * HOUR)}" if np.isfinite(self.mttf_hours) else "none in a run"

    def lines(self) -> list[str]:
        """For people: the answer first, then where the rest went."""
        run, hours = self.run, self.run.devices * self.run.days * 24
        lines = [
            f"{run.devices:,} devices, {_mode(run)}, {run.days:g} days ({self.replicas} replicas)"
            + (f" - extrapolation: nobody has measured beyond {MEASURED_DEVICES:,}" if self.extrapolation else ""),
            f"  goodput         {_percent(self.goodput)}",
            f"  effective days  {_numbers(self.effective_days)} of {run.days:g}",
            f"  failures        {_numbers(self.failures)}, {self._rate()}",
        ]
        kinds = {WORDS[kind]: lost for kind, lost in self.lost_by_kind.items() if lost.mean}
        for title, table in (("lost to", kinds), ("by cause", self.lost_by_cause)):
            shown = sorted(table.items(), key=lambda item: -item[1].mean)[:SHOWN_CAUSES]
            rows = [(name, f"{lost.mean:,.0f}", f"{100 * lost.mean / hours:.2f}%") for name, lost in shown]
            lines += [f"  {line}" for line in text_table((title, "device-hours", "share"), rows)] if shown else []
        return lines


def _mode(run: FleetRun) -> str:
    if run.mode == "semi-synchronous":
        return f"{run.mode} ({run.learners:,} learners, quorum {run.quorum:,})"
    return run.mode


def _percent(interval: Interval) -> str:
    return f"{100 * interval.mean:.1f}% ({100 * interval.low:.1f} to {100 * interval.high:.1f})"


def _numbers(interval: Interval) -> str:
    return f"{_number(interval.mean)} ({_number(interval.low)} to {_number(interval.high)})"


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 1000 else f"{value:.1f}"
