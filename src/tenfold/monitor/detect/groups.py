"""One e-detector for each group of signals: values of a step in, findings out."""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from tenfold.ledger import SignalIncident
from tenfold.monitor.detect.evalues import Floats
from tenfold.monitor.detect.finding import Finding, Values, finite, place_of
from tenfold.monitor.detect.streams import Streams, WatchedStream
from tenfold.monitor.detect.table import WATCHED, Group, Memories, Watched

TOLD_SHARE = 0.05
"""Streams with at least this share of a group's evidence are named."""
SMALLEST = 1e-12
FAMILIES = {"training": "training", "data": "training", "time": "speed", "storage": "storage"}
"""Training and data go together: bad data is seen in both."""
ANCHORS = 16
"""Streams whose return is waited for, at most."""


def transformed(watched: Watched, value: float, rate: float) -> float:
    """What is watched of a value, with its sign; NaN where there is nothing to watch."""
    if watched.transform == "share":
        return watched.sign * value
    if watched.transform == "log over rate":
        if not rate > 0:
            return math.nan
        value /= rate
    return watched.sign * math.log(max(value, SMALLEST)) if math.isfinite(value) else math.nan


def back(watched: Watched, level: float, rate: float) -> float:
    """The value that stands for a level."""
    level *= watched.sign
    if watched.transform == "share":
        return level
    return math.exp(level) * (rate if watched.transform == "log over rate" else 1.0)


def rows_of(signal: str, table: Sequence[Watched]) -> list[Watched]:
    """How a signal is watched: by rows of its very name or, without any, by those of its family."""
    own = [row for row in table if row.name == signal]
    return own or [row for row in table if "{" in row.name and row.matches(signal)]


class WatchedGroup:
    """The streams of one group, and its one alarm.

    A row of the table weighs as much as all its streams together, however many blocks a model has, and alarms come when
    the weighted mean of all e-detectors reaches 1/α.
    """

    def __init__(self, group: Group, false_alarms: float, memories: Memories, table: Sequence[Watched] = WATCHED):
        self.name, self._threshold = group, 1 / false_alarms
        self._table = [row for row in table if row.group == group]
        self.streams = Streams(memories)
        self._known: set[str] = set()
        self.latest: Floats = np.zeros(0)
        """(streams,) what was watched of the last step."""

    def update(self, step: int, values: Values) -> list[Finding]:
        """Take the values of a step; findings when the group alarms, the strongest evidence first."""
        if self._known.issuperset(values) is False:
            self._meet(values)
        if not self.streams.streams:
            return []
        rate = values.get("train/learning_rate", 1.0)
        self.latest = self.readings(values, rate)
        self.streams.update(self.latest)
        shares, jumps = self.streams.evidence
        total = float(shares.sum())
        if total < self._threshold:
            return []
        order = [int(i) for i in np.argsort(-shares, kind="stable") if shares[i] >= TOLD_SHARE * total]
        found = [self._finding(step, index, bool(jumps[index]), values, rate) for index in order]
        self.streams.forget_wealth()
        return found

    def _meet(self, names: Iterable[str]) -> None:
        """Begin to watch signals that come for the first time."""
        new = [name for name in names if name not in self._known]
        self._known.update(new)
        self.streams.add([WatchedStream(name, row) for name in new for row in rows_of(name, self._table)])

    def readings(self, values: Values, rate: float) -> Floats:
        """(streams,) what is watched of this step, NaN where nothing was read."""
        return np.array(
            [transformed(s.watched, values.get(s.signal, math.nan), rate) for s in self.streams.streams], float
        )

    def _finding(self, step: int, index: int, jump: bool, values: Values, rate: float) -> Finding:
        stream = self.streams.streams[index]
        watched, value = stream.watched, values.get(stream.signal)
        expected = back(watched, self.streams.expected(index, jump=jump), rate)
        kind: type[SignalIncident] = watched.jumps if jump else watched.drifts
        payload = kind(step, stream.signal, finite(value), finite(expected), **place_of(stream.signal))  # type: ignore[arg-type]
        shown = "not read in this step" if value is None else f"{value:.4g}"
        said = f"{stream.signal} {'jumped' if jump else 'drifted'} to {shown}, expected {expected:.4g}"
        return Finding(payload, FAMILIES[self.name], watched.rank, said, jump)

    def indices(self, signal: str) -> list[int]:
        """Streams of a signal."""
        return [i for i, stream in enumerate(self.streams.streams) if stream.signal == signal]

    def index(self, signal: str, sign: int) -> int:
        """The stream of a signal to one side."""
        return next(i for i in self.indices(signal) if self.streams.streams[i].watched.sign == sign)

    def relearn(self) -> None:
        """Forget all levels: something changed as it was planned to."""
        self.streams.relearn(range(len(self.streams.streams)))

    def state_dict(self) -> dict[str, Any]:
        return self.streams.state_dict() | {"known": sorted(self._known)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.streams.load_state_dict(state, self._table)
        self._known = set(state["known"])
