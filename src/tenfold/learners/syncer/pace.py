"""What each learner's movement weighs in a merge: its share of all the training that goes on."""

from collections import defaultdict, deque
from collections.abc import Collection
from dataclasses import dataclass, field

REMEMBERED = 4  # contributions of each learner: three windows, so that one late arrival changes little


@dataclass
class Pace:
    """Tokens per second of every learner, as its contributions to one fragment arrive.

    A movement that learner i made while all trained weighs r_i / (r_1 + … + r_n), with r the tokens per second: in a
    round of everybody that is the token-weighted mean, as in DiLoCo (arXiv 2311.08105). It holds as well where learners
    are merged one by one, in any order, and for one that comes late with the work of a long time: it shares the credit
    with what the others did in that time. To count what was merged between two contributions of the sender instead
    would give the same on average, but weigh whoever comes twice in a row as if it were alone.
    """

    _arrivals: dict[int, deque[tuple[float, int]]] = field(
        default_factory=lambda: defaultdict(lambda: deque(maxlen=REMEMBERED))
    )

    def note(self, life: int, at: float, tokens: int) -> None:
        """A contribution that stands for so many tokens came at a time in seconds."""
        self._arrivals[life].append((at, tokens))

    def forget(self, life: int) -> None:
        """A life that is over."""
        self._arrivals.pop(life, None)

    def share(self, life: int, training: Collection[int]) -> float:
        """Weight of a movement of `life` while those of `training` train, itself among them: above 0, at most 1.

        Whose pace is not known yet counts as the mean of the others.
        """
        known = {each: rate for each in {*training, life} if (rate := self._rate(each)) is not None}
        usual = sum(known.values()) / len(known) if known else 1.0
        return known.get(life, usual) / sum(known.get(each, usual) for each in {*training, life})

    def _rate(self, life: int) -> float | None:
        arrivals = list(self._arrivals.get(life, ()))
        if len(arrivals) < 2:
            return None
        seconds = arrivals[-1][0] - arrivals[0][0]
        tokens = sum(tokens for _, tokens in arrivals[1:])
        return tokens / seconds if seconds > 0 and tokens > 0 else None
