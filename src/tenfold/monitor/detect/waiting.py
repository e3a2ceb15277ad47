"""A run that hangs, and learners that flap: what shows in times and ends, not in signals. Times are given as values."""

from collections import deque
from collections.abc import Mapping
from typing import Any

from tenfold.ledger import LearnerFlaps, RunHangs
from tenfold.monitor.detect.finding import Finding
from tenfold.monitor.detect.table import Limits


class Hang:
    """No step for longer than the last ones allow. It is shown the time of every step, and asked in between."""

    name = "hang"

    def __init__(self, limits: Limits = Limits()) -> None:
        self._limits = limits
        self._gaps: deque[float] = deque(maxlen=limits.hang_history)
        self._last: float | None = None
        self._step = 0

    def stepped(self, step: int, now: float) -> None:
        """A step was done at `now`, in seconds of any clock that does not go back."""
        if self._last is not None:
            self._gaps.append(max(0.0, now - self._last))
        self._last, self._step = now, step

    @property
    def allowed(self) -> float | None:
        """Seconds that may pass without a step; None before there is a history of two steps."""
        if not self._gaps:
            return None
        return max(self._limits.hang_seconds, self._limits.hang_factor * max(self._gaps))

    def overdue(self, now: float) -> list[Finding]:
        """Whether a step is overdue at `now`."""
        if self._last is None or self.allowed is None or now - self._last <= self.allowed:
            return []
        waited = now - self._last
        payload = RunHangs(self._step, "time/step", round(waited, 3), round(self.allowed, 3))
        said = f"no step for {waited:.0f} s; the longest of the last {len(self._gaps)} took {max(self._gaps):.1f} s"
        return [Finding(payload, "hang", 100, said)]

    def state_dict(self) -> dict[str, Any]:
        """The history of gaps; the time itself belongs to one process."""
        return {"gaps": list(self._gaps), "step": self._step}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take back what `state_dict` gave; the first gap begins with the next step."""
        self._gaps = deque(state["gaps"], maxlen=self._limits.hang_history)
        self._last, self._step = None, state["step"]


class Lemons:
    """Learners that end more often than their share: a host, not bad luck.

    With L learners, given the past, the next failure hits each with probability 1/L while all are alike. The e-value of
    a learner is 1 − λ + λ L if it was hit, 1 − λ else, with λ = 1/2; the mean of the e-detectors over the learners
    alarms after 1/α failures, at the earliest on average. With few learners that takes long, so that several ends in a
    row of one learner, none of another between them, are enough by themselves.
    """

    name = "lemons"
    bet = 0.5

    def __init__(self, limits: Limits = Limits()) -> None:
        self._limits = limits
        self._wealth: dict[str, float] = {}
        self._row: tuple[str, int] = ("", 0)

    def joined(self, learner: str) -> None:
        """A learner takes part."""
        self._wealth.setdefault(learner, 0.0)

    def ended(self, learner: str, step: int) -> list[Finding]:
        """A learner's process died, stalled or was quarantined."""
        self.joined(learner)
        count = len(self._wealth)
        for name in self._wealth:
            hit = count * self.bet if name == learner else 0.0
            self._wealth[name] = (self._wealth[name] + 1) * (1 - self.bet + hit)
        self._row = (learner, self._row[1] + 1 if learner == self._row[0] else 1)
        often = count > 1 and sum(self._wealth.values()) / count >= 1 / self._limits.lemon_alarm
        if (
            not (often and self._wealth[learner] == max(self._wealth.values()))
            and self._row[1] < self._limits.lemon_ends
        ):
            return []
        ends, self._row = self._row[1], ("", 0)
        self._wealth = dict.fromkeys(self._wealth, 0.0)
        said = f"{learner} ends again and again, {ends} times in a row" if ends > 1 else f"{learner} ends too often"
        return [Finding(LearnerFlaps(step, "ends", float(ends), learner=learner), f"learner {learner}", 30, said)]

    def state_dict(self) -> dict[str, Any]:
        """Plain values."""
        return {"wealth": self._wealth, "row": list(self._row)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take back what `state_dict` gave."""
        self._wealth, self._row = dict(state["wealth"]), (state["row"][0], int(state["row"][1]))
