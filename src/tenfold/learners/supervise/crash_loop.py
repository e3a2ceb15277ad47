"""When to start a child that died again, and when to give it up. Pure: the clock is passed in."""

from dataclasses import dataclass, field

from tenfold.learners.supervise.children import Ended

FIRST_DELAY_S = 0.1
LONGEST_DELAY_S = 5.0


@dataclass
class _Record:
    """Deaths of one child: their times (s) within the window, and the delay (s) before the last restart."""

    deaths: list[float] = field(default_factory=list)
    delay: float = 0.0
    waited: float = 0.0
    """Seconds in all its lives that do not count."""


class CrashLoop:
    """Delays before restarts: 0.1 s, doubling up to 5 s while lives are quick, 0.1 s again after a long one.

    `limit` deaths within `within` seconds: the child is given up. A life is long when it lasted `within / limit`
    seconds: at that pace a child is never given up.
    """

    def __init__(self, limit: int, within: float) -> None:
        self.limit, self.within = limit, within
        self._records: dict[str, _Record] = {}

    def note(self, name: str, now: float, waited: float = 0.0) -> float | None:
        """A child died at `now` (s, any clock that does not go back): seconds to wait, or None when it is given up.

        `waited` seconds of that, since it was started, it stood in a queue: they make no death a rare one.
        """
        record = self._records.setdefault(name, _Record())
        record.waited += waited
        now -= record.waited
        was_long = bool(record.deaths) and now - record.deaths[-1] - record.delay >= self.within / self.limit
        record.deaths = [death for death in record.deaths if now - death < self.within] + [now]
        if len(record.deaths) >= self.limit:
            return None
        quick_before = len(record.deaths) > 1 and not was_long
        record.delay = min(LONGEST_DELAY_S, 2 * record.delay) if quick_before else FIRST_DELAY_S
        return record.delay

    def report(self, last: Ended) -> str:
        """One line on a child that was given up: name, deaths, how it ended last, its last log line."""
        record = self._records.get(last.name, _Record())
        words = f"its last line: {last.last_line}" if last.last_line else "it wrote nothing"
        return (
            f"{last.name}: given up after {len(record.deaths)} deaths within {self.within:g} s; "
            f"the last: {last.how} after {last.seconds:.1f} s; {words}"
        )
