"""When contributions to a fragment are merged, how much each weighs, and which are refused for their values."""

import math
import statistics
import threading
import time
from collections import defaultdict, deque
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

REMEMBERED_LAGS = 16  # lags kept of each learner
MARGIN = 1.5  # a window as long as the usual lag would miss half of those it is for
REMEMBERED_ARRIVALS = 4  # contributions of each learner: three windows, so that one late arrival changes little
RESOLUTION = 1e-6  # of the weights: what moves less is float32's rounding
REMEMBERED_NORMS = 32
LONGEST_PAUSE_S = 2.0  # between two looks at a clock that is looked at every second
ENOUGH = 8  # norms from which the usual size of a contribution is known


class AwakeClock:
    """Seconds in which this process was at work: a clock that nobody sets, and that stands still while the machine is
    suspended or the process is frozen.

    Somebody has to look at it about every second. A longer silence counts as LONGEST_PAUSE_S: nobody could have been
    heard meanwhile, so it says nothing about the pace of learners.
    """

    def __init__(self, start: float = 0.0, source: Callable[[], float] = time.monotonic) -> None:
        """Goes on from `start` seconds."""
        self._source, self._seconds, self._looked_at = source, start, source()
        self._lock = threading.Lock()

    def now(self) -> float:
        """Seconds at work so far."""
        with self._lock:
            at = self._source()
            self._seconds += min(max(0.0, at - self._looked_at), LONGEST_PAUSE_S)
            self._looked_at = at
            return self._seconds


@dataclass
class AdaptiveGrace:
    """How long to wait for those who are missing: as long as they usually need after the quorum, at most `limit`.

    A learner whose usual lag is beyond the limit is not waited for; one that is not known yet is, up to the limit.
    Times are seconds of any one clock.
    """

    limit: float
    _lags: dict[int, deque[float]] = field(default_factory=lambda: defaultdict(lambda: deque(maxlen=REMEMBERED_LAGS)))
    _quorum_at: float | None = None
    _missed_quorum_at: float | None = None
    _merged: frozenset[int] = frozenset()

    def quorum(self, at: float) -> None:
        """The present round has its quorum."""
        self._quorum_at = at if self._quorum_at is None else self._quorum_at

    def arrived(self, incarnation: int, at: float) -> None:
        """A learner's first contribution to the present round; one that comes after a merge was late for that."""
        if self._quorum_at is not None:
            self._lags[incarnation].append(max(0.0, at - self._quorum_at))
        elif self._missed_quorum_at is not None and incarnation not in self._merged:
            self._lags[incarnation].append(max(0.0, at - self._missed_quorum_at))

    def merged(self, incarnations: Collection[int]) -> None:
        """The round is over; another begins."""
        self._missed_quorum_at, self._quorum_at = self._quorum_at, None
        self._merged = frozenset(incarnations)

    def window(self, missing: Collection[int]) -> float:
        """Seconds to wait after the quorum."""
        return max((self._usual(incarnation) for incarnation in missing), default=0.0)

    def _usual(self, incarnation: int) -> float:
        lags = sorted(self._lags.get(incarnation, ()))
        if not lags:
            return self.limit
        usual = MARGIN * lags[len(lags) // 2]
        return usual if usual <= self.limit else 0.0


def merge_time(arrived: Mapping[int, float], expected: Collection[int], quorum: int, grace: AdaptiveGrace) -> float:
    """When to merge: a time in the clock of `arrived` (incarnation → when its first contribution came); inf: not known.

    `quorum` 0 asks for all. With fewer learners alive than the quorum, all of those are enough: a run never stands
    still while one learner trains.
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


@dataclass
class ThroughputShares:
    """Tokens per second of every learner, as its contributions to one fragment arrive.

    A pseudo-gradient that learner i made while all trained weighs r_i / (r_1 + … + r_n), with r the tokens per second:
    in a round of everybody that is the token-weighted mean, as in DiLoCo (arXiv 2311.08105). It holds as well where
    learners are merged one by one, in any order, and for one that comes late with the work of a long time: it shares
    the credit with what the others did in that time. To count what was merged between two contributions of the sender
    instead would give the same on average, but weigh whoever comes twice in a row as if it were alone.
    """

    _arrivals: dict[int, deque[tuple[float, int]]] = field(
        default_factory=lambda: defaultdict(lambda: deque(maxlen=REMEMBERED_ARRIVALS))
    )

    def note(self, incarnation: int, at: float, tokens: int) -> None:
        """A contribution that stands for so many tokens came at a time in seconds."""
        self._arrivals[incarnation].append((at, tokens))

    def forget(self, incarnation: int) -> None:
        """Forget an incarnation that is over."""
        self._arrivals.pop(incarnation, None)

    def share(self, incarnation: int, training: Collection[int]) -> float:
        """Weight of a pseudo-gradient of `incarnation` while those of `training` train, itself among them: in (0, 1].

        Whose pace is not known yet counts as the mean of the others.
        """
        known = {each: rate for each in {*training, incarnation} if (rate := self._rate(each)) is not None}
        usual = sum(known.values()) / len(known) if known else 1.0
        return known.get(incarnation, usual) / sum(known.get(each, usual) for each in {*training, incarnation})

    def _rate(self, incarnation: int) -> float | None:
        arrivals = list(self._arrivals.get(incarnation, ()))
        if len(arrivals) < 2:
            return None
        seconds = arrivals[-1][0] - arrivals[0][0]
        tokens = sum(tokens for _, tokens in arrivals[1:])
        return tokens / seconds if seconds > 0 and tokens > 0 else None


class NormGuard:
    """The recent distribution of root-mean-square pseudo-gradients, for each fragment (and part of it).

    What stands for more tokens may have moved further in proportion: after a syncer was away for a minute everybody
    sends the pseudo-gradient of a minute.
    """

    def __init__(self, limit: float) -> None:
        self._limit = limit
        self._recent: dict[tuple[int, int, int], deque[tuple[float, int]]] = defaultdict(
            lambda: deque(maxlen=REMEMBERED_NORMS)
        )

    def note(self, part: tuple[int, int, int], norm: float, tokens: int) -> None:
        """Remember the norm of an accepted contribution; `part` is (fragment, rank, ranks)."""
        self._recent[part].append((norm, tokens))

    def check(self, part: tuple[int, int, int], norm: float, tokens: int, weights_norm: float) -> str | None:
        """Why a norm is refused; None when it is usual. Before enough are known, a pseudo-gradient may be as large as
        the weights themselves times the limit.
        """
        recent = self._recent[part]
        if len(recent) < ENOUGH:
            usual, kind = max(weights_norm, 0.01), "the weights"
        else:
            longer = max(1.0, tokens / statistics.median(each for _, each in recent))
            usual, kind = longer * statistics.median(each for each, _ in recent), "recent contributions"
        usual = max(usual, RESOLUTION * max(weights_norm, 0.01))  # a model that has learned all it can stands still
        if norm > self._limit * usual:
            return f"norm {norm:.3g} is more than {self._limit:g} times that of {kind}, {usual:.3g}"
        return None


def root_mean_square(vector: Tensor) -> float:
    """RMS of a float32 vector; inf or NaN when it is not finite. Sums in float64, so that huge values stay finite."""
    return float(vector.double().square().mean().sqrt()) if vector.numel() else 0.0


def not_finite(vector: Tensor) -> str | None:
    """Why a vector is refused: how many of its values are NaN or infinite."""
    bad = int((~torch.isfinite(vector)).sum())
    return f"{bad} of {vector.numel()} values are NaN or infinite" if bad else None
