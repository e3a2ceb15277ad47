"""When a round of contributions to one fragment is merged: quorum first, then an adaptive grace window."""

import math
from collections import defaultdict, deque
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

REMEMBERED = 16  # lags kept of each learner
MARGIN = 1.5  # a window as long as the usual lag would miss half of those it is for


@dataclass
class AdaptiveGrace:
    """How long to wait for those who are missing: as long as they usually need after the quorum, at most `limit`.

    A learner whose usual lag is beyond the limit is not waited for; one that is not known yet is, up to the limit.
    Times are seconds of any one clock.
    """

    limit: float
    _lags: dict[int, deque[float]] = field(default_factory=lambda: defaultdict(lambda: deque(maxlen=REMEMBERED)))
    _quorum_at: float | None = None
    _missed_quorum_at: float | None = None
    _merged: frozenset[int] = frozenset()

    def quorum(self, at: float) -> None:
        """The present round has its quorum."""
        self._quorum_at = at if self._quorum_at is None else self._quorum_at

    def arrived(self, life: int, at: float) -> None:
        """A learner's first contribution to the present round; one that comes after a merge was late for that."""
        if self._quorum_at is not None:
            self._lags[life].append(max(0.0, at - self._quorum_at))
        elif self._missed_quorum_at is not None and life not in self._merged:
            self._lags[life].append(max(0.0, at - self._missed_quorum_at))

    def merged(self, lives: Collection[int]) -> None:
        """The round is over; another begins."""
        self._missed_quorum_at, self._quorum_at = self._quorum_at, None
        self._merged = frozenset(lives)

    def window(self, missing: Collection[int]) -> float:
        """Seconds to wait after the quorum."""
        return max((self._usual(life) for life in missing), default=0.0)

    def _usual(self, life: int) -> float:
        lags = sorted(self._lags.get(life, ()))
        if not lags:
            return self.limit
        usual = MARGIN * lags[len(lags) // 2]
        return usual if usual <= self.limit else 0.0


def merge_time(arrived: Mapping[int, float], expected: Collection[int], quorum: int, grace: AdaptiveGrace) -> float:
    """When to merge: a time, in the clock of `arrived` (life → when its first contribution came); inf: not yet known.

    `quorum` 0 asks for all. With fewer learners alive than the quorum, all of those are enough: a run never stands
    still while one learner lives.
    """
    if not arrived:
        return math.inf
    alive = set(expected) | arrived.keys()
    needed = len(alive) if quorum == 0 else min(quorum, len(alive))
    if len(arrived) < needed:
        return math.inf
    times = sorted(arrived.values())
    missing = alive - arrived.keys()
    return times[needed - 1] + grace.window(missing) if missing else times[-1]
