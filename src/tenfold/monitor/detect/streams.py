"""Trackers of many signals at once: level, scale and tail from past values only, e-values, e-detectors.

A stream is one signal watched to one side. All are arrays of (streams,), so that a step costs some forty numpy calls
however many there are. State is plain numbers; the same values give the same bits.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tenfold.monitor.detect.evalues import (
    DRIFT_BETS,
    TAIL_SHARE,
    Floats,
    drift_e_value,
    jump_e_value,
    shiryaev_roberts,
)
from tenfold.monitor.detect.table import Memories, Watched

NORMAL = 1.2533
"""Standard deviation over mean absolute deviation, of a normal distribution."""
CLIPPED = 3.0
"""Scales by which one value may move a tracker, at most."""
SMALLEST_SCALE = 1e-30
"""For a signal without a floor that never moved."""
QUANTILE_RATE = 0.02
EXCESS_RATE = 1 / 32
SMALLEST_EXCESS, LARGEST_EXCESS = 0.25, 4.0
LOWEST_QUANTILE, HIGHEST_QUANTILE = 0.5, 12.0
TRACKED = ("count", "near", "spread", "far", "wide", "quantile", "excess")
"""Arrays of one figure a stream; what is set back when an incident passes."""


@dataclass(frozen=True)
class WatchedStream:
    """One signal, watched to one side."""

    signal: str
    watched: Watched


class Streams:
    """Trackers and e-detectors of one group's streams, which come when their signal is first seen."""

    def __init__(self, memories: Memories) -> None:
        self._memories = memories
        self.streams: list[WatchedStream] = []
        self._trackers: dict[str, Floats] = {name: np.zeros(0) for name in TRACKED}
        self.need: Floats = np.zeros(0)
        """(streams,) values before the first bet."""
        self.wealth: Floats = np.zeros((1 + len(DRIFT_BETS), 0))
        """(1 jump + drifts, streams) e-detectors."""
        self._fix()

    def _fix(self) -> None:
        """Columns of the table, as arrays."""
        rows = [stream.watched for stream in self.streams]
        self._floor, self._jump, self._drift, self._wander = (
            np.array([getattr(row, name) for row in rows], float) for name in ("floor", "jump", "drift", "wander")
        )
        self._floor = np.maximum(self._floor, SMALLEST_SCALE)
        self.weights = np.array([row.weight / rows.count(row) for row in rows], float)
        self._tail = np.array([1.0 if row.tail is None else row.tail for row in rows])
        self._jumps = np.array([row.tail is not None for row in rows], bool)

    def add(self, streams: Sequence[WatchedStream]) -> None:
        """Begin to watch these too."""
        more = len(streams)
        self.streams += streams
        start = {"quantile": 1.7, "excess": 0.6}
        self._trackers = {
            name: np.append(values, np.full(more, start.get(name, 0.0))) for name, values in self._trackers.items()
        }
        warm = [self._memories.warm if s.watched.warm is None else s.watched.warm for s in streams]
        self.need = np.append(self.need, np.array(warm, float))
        self.wealth = np.concatenate([self.wealth, np.zeros((len(self.wealth), more))], axis=1)
        self._fix()

    def update(self, x: Floats) -> None:
        """Take one value for each stream, NaN where its signal was not read: bet on it, then learn from it."""
        seen = np.isfinite(x)
        if not seen.any():
            return
        x = np.where(seen, x, 0.0)
        residual, scale = self._standardised(x)
        e_values = np.vstack([self._jump_e(residual, scale), self._drift_e(x)])
        ready = seen & (self._trackers["count"] >= self.need)
        self.wealth = np.where(ready, shiryaev_roberts(self.wealth, e_values), self.wealth)
        self._learn(x, residual, scale, seen)

    def _standardised(self, x: Floats) -> tuple[Floats, Floats]:
        """Residuals from the near level in units of their scale, and that scale."""
        scale = NORMAL * np.maximum(self._trackers["spread"], self._floor)
        return (x - self._trackers["near"]) / scale, scale

    def _jump_e(self, residual: Floats, scale: Floats) -> Floats:
        t = self._trackers
        above = (residual - t["quantile"] - self._jump / scale) / t["excess"]
        return np.where(self._jumps, jump_e_value(above, self._tail), 1.0)

    def _drift_e(self, x: Floats) -> Floats:
        margin, scale = self._drift_margin()
        return drift_e_value((x - self._trackers["far"] - margin) / scale)

    def _drift_margin(self) -> tuple[Floats, Floats]:
        scale = NORMAL * np.maximum(self._trackers["wide"], self._floor)
        return np.maximum(self._wander * scale, self._drift), np.maximum(scale, self._drift / 2)

    def _learn(self, x: Floats, residual: Floats, scale: Floats, seen: NDArray[np.bool_]) -> None:
        """Move the trackers towards the value, by as much as one value may."""
        t, memories = self._trackers, self._memories
        first = 1 / (t["count"] + 1)
        early = t["count"] < 16
        bounded = np.where(early, residual, np.clip(residual, -CLIPPED, CLIPPED)) * scale
        wide = NORMAL * np.maximum(t["wide"], self._floor)
        distance = x - t["far"]
        far = np.where(early, distance, np.clip(distance, -CLIPPED * wide, CLIPPED * wide))
        over = residual - t["quantile"]
        excess = np.clip(over, 0.0, 4 * t["excess"])
        moved = {
            "count": np.ones_like(x),
            "near": np.maximum(first, 1 / memories.near) * bounded,
            "spread": np.where(t["count"] < 1, 0.0, np.maximum(first, 1 / memories.spread))
            * (np.abs(bounded) - t["spread"]),
            "far": np.maximum(first, 1 / memories.far) * far,
            "wide": np.where(t["count"] < 1, 0.0, np.maximum(first, 1 / memories.far)) * (np.abs(far) - t["wide"]),
            "quantile": np.where(early, 0.0, QUANTILE_RATE * ((over > 0) - TAIL_SHARE)),
            "excess": np.where(early | (over <= 0), 0.0, EXCESS_RATE * (excess - t["excess"])),
        }
        self._trackers = {name: np.where(seen, t[name] + moved[name], t[name]) for name in TRACKED}
        self._trackers["quantile"].clip(LOWEST_QUANTILE, HIGHEST_QUANTILE, out=self._trackers["quantile"])
        self._trackers["excess"].clip(SMALLEST_EXCESS, LARGEST_EXCESS, out=self._trackers["excess"])

    @property
    def evidence(self) -> tuple[Floats, NDArray[np.bool_]]:
        """(streams,) weighted share of each stream in the group's e-detector, and whether a jump has most of it."""
        jumps, drifts = self.wealth[0], self.wealth[1:].mean(axis=0)
        total = float(self.weights.sum()) or 1.0
        return self.weights * (jumps + drifts) / 2 / total, jumps >= drifts

    def expected(self, index: int, *, jump: bool) -> float:
        """The level that a stream was measured from, with its sign and transform."""
        return float(self._trackers["near" if jump else "far"][index])

    def tolerance(self, index: int) -> float:
        """How far from its level the mean of some values may be and still count as back."""
        scale = NORMAL * max(self._trackers["wide"][index], self._floor[index])
        return float(max(self._drift[index] / 2, scale * (0.3 + self._wander[index] / 2)))

    def forget_wealth(self) -> None:
        """Begin all e-detectors anew, as after an alarm."""
        self.wealth = np.zeros_like(self.wealth)

    def kept(self, index: int) -> dict[str, float]:
        """A stream's trackers, to set them back."""
        return {name: float(values[index]) for name, values in self._trackers.items()}

    def set_back(self, index: int, kept: Mapping[str, float]) -> None:
        """A stream's trackers as they were."""
        for name, value in kept.items():
            self._trackers[name][index] = value
        self.need[index] = min(self.need[index], kept["count"])
        self.wealth[:, index] = 0.0

    def relearn(self, indices: Sequence[int]) -> None:
        """Learn the level of these streams anew, and bet on none of them until it is known."""
        for index in indices:
            warm = self.streams[index].watched.warm
            if self._trackers["count"][index] >= self.need[index]:  # one that still warms up needs as much as before
                self.need[index] = self._memories.relearn if warm is None else warm
            self._trackers["count"][index] = 0.0
            self.wealth[:, index] = 0.0

    def state_dict(self) -> dict[str, Any]:
        """Plain values, as JSON has them."""
        return {
            "streams": [[stream.signal, stream.watched.name, stream.watched.sign] for stream in self.streams],
            "trackers": {name: values.tolist() for name, values in self._trackers.items()},
            "need": self.need.tolist(),
            "wealth": self.wealth.tolist(),
        }

    def load_state_dict(self, state: Mapping[str, Any], table: Sequence[Watched]) -> None:
        """Take back what `state_dict` gave. Raises KeyError for a stream that the table has no more."""
        rows = {(row.name, row.sign): row for row in table}
        self.streams = [WatchedStream(signal, rows[name, sign]) for signal, name, sign in state["streams"]]
        self._trackers = {name: np.array(state["trackers"][name], float) for name in TRACKED}
        self.need = np.array(state["need"], float)
        self.wealth = np.array(state["wealth"], float).reshape(1 + len(DRIFT_BETS), len(self.streams))
        self._fix()
