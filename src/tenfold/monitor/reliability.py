"""How reliable runs are: failures by cause over operating time, the time between them, its trend, plan and lemons."""

import bisect
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from tenfold.core import count, duration, interval, percent, text_table
from tenfold.monitor.failures import AtWork, Failure, History
from tenfold.monitor.growth import (
    FEWEST,
    LEVEL,
    Against,
    Estimate,
    Growth,
    Lemon,
    against_plan,
    crow_amsaa,
    lemons,
    mean_time_between,
    time_until,
)

HOUR = 3600.0
SLICES = 4
"""Equal parts of the operating time that a table of causes has."""


@dataclass(frozen=True)
class Reliability:
    """The answer. Hours are operating hours, of all runs together."""

    hours: float
    failures: int
    between: Estimate | None
    """Mean hours between failures at a steady rate; None without operating time."""
    causes: dict[str, tuple[int, ...]]
    """Cause → failures in each slice of the operating time, the most frequent first."""
    growth: Growth | None
    """None with fewer failures than a trend needs."""
    goal: float | None
    """Hours between failures that are good enough."""
    reached: Estimate | None
    """Further operating hours until then, should growth go on; 0 where it is so already."""
    plan: Against | None
    lemons: tuple[Lemon, ...]
    """Learners, the worst first; their time in hours."""

    def to_dict(self) -> dict[str, Any]:
        """As JSON."""
        growth = asdict(self.growth) | {"trend": self.growth.trend} if self.growth else None
        worst = [asdict(lemon) | {"is_lemon": lemon.is_lemon()} for lemon in self.lemons]
        return asdict(self) | {"growth": growth, "lemons": worst, "level": LEVEL}


def reliability_of(history: History, *, goal: float | None = None, planned_rate: float | None = None) -> Reliability:
    """Work it out. `goal`: hours between failures; `planned_rate`: failures an hour.

    Raises ValueError for a goal or rate that is not above 0.
    """
    clock = _Clock(history.running)
    hours = clock.total / HOUR
    times = [clock.at(failure.at) / HOUR for failure in history.failures]
    number = len(times)
    growth = crow_amsaa(times, hours) if number >= FEWEST and hours > 0 else None
    return Reliability(
        hours,
        number,
        mean_time_between(number, hours) if hours > 0 else None,
        _by_cause(history.failures, times, hours),
        growth,
        goal,
        _still_needed(growth, goal) if growth and goal else None,
        against_plan(number, hours, planned_rate) if planned_rate and hours > 0 else None,
        tuple(_lemons(history)),
    )


def _still_needed(growth: Growth, goal: float) -> Estimate:
    reached = time_until(growth, goal)
    return Estimate(*(max(0.0, each - growth.total) for each in (reached.value, reached.low, reached.high)))


class _Clock:
    """Operating time of all runs together up to a moment: runs at the same time count each."""

    def __init__(self, spans: Sequence[AtWork]) -> None:
        self._starts, self._ends = sorted(s.start for s in spans), sorted(s.end for s in spans)
        self._spans = [span for span in spans if span.seconds]
        self.total = math.fsum(span.seconds for span in self._spans)

    def at(self, moment: float) -> float:
        """Seconds of operating time before `moment`."""
        begun = math.fsum(moment - start for start in self._starts[: bisect.bisect_left(self._starts, moment)])
        over = math.fsum(moment - end for end in self._ends[: bisect.bisect_left(self._ends, moment)])
        return min(max(0.0, begun - over), self.total)


def _by_cause(failures: Sequence[Failure], times: Sequence[float], hours: float) -> dict[str, tuple[int, ...]]:
    number = Counter(failure.cause for failure in failures)
    slices = {cause: [0] * SLICES for cause, _ in number.most_common()}
    for failure, time in zip(failures, times, strict=True):
        slices[failure.cause][min(SLICES - 1, int(SLICES * time / hours)) if hours > 0 else 0] += 1
    return {cause: tuple(each) for cause, each in slices.items()}


def _lemons(history: History) -> list[Lemon]:
    totals: Counter[str] = Counter()
    for life in history.lives:
        totals[life.who] += life.seconds / HOUR  # type: ignore[assignment]
    failures = Counter(failure.who for failure in history.failures if failure.who)
    return lemons(failures, totals)


# For people


def reliability_lines(found: Reliability) -> list[str]:
    """A text for the console."""
    if found.between is None:
        return ["no run has been at work yet"]
    lines = [
        f"{count(found.failures, 'failure')} in {_hours(found.hours)} of operating time",
        f"time between failures  {_estimate(found.between)}",
        *_trend_lines(found),
        *_plan_lines(found.plan),
    ]
    return [*lines, *_cause_lines(found.causes), *_lemon_lines(found.lemons)]


def _trend_lines(found: Reliability) -> list[str]:
    growth = found.growth
    if growth is None:
        return [f"trend                  too few failures to say: {FEWEST} are needed"]
    beta = growth.beta
    words = {"improves": "it improves", "worsens": "it becomes worse", "steady": "no trend is shown"}[growth.trend]
    lines = [
        f"trend                  {words}: β {beta.value:.2f} {interval((beta.low, beta.high))} (Crow–AMSAA, below 1 is "
        f"growth), steady rate p = {growth.trend_p:.2g}",
        f"at the end             {_estimate(growth.current)}",
    ]
    if growth.fit_p < 0.1:
        lines.append(
            f"                       failures do not follow that law (Cramér–von Mises p = {growth.fit_p:.2g})"
        )
    return lines + _goal_lines(found)


def _goal_lines(found: Reliability) -> list[str]:
    if found.goal is None or found.reached is None:
        return []
    need = found.reached
    goal = f"{_hours(found.goal)} between failures"
    if need.value <= 0:
        return [f"goal                   {goal}: reached by the fit (at worst in {_hours(need.high)})"]
    return [f"goal                   {goal}: in {_estimate(need)} of further operating time, should growth go on"]


def _plan_lines(plan: Against | None) -> list[str]:
    if plan is None:
        return []
    ratio = plan.ratio
    return [
        f"against the plan       {plan.failures} where {plan.expected:.3g} were expected: {ratio.value:.2g}× "
        f"{interval((ratio.low, ratio.high))}, p = {plan.p:.2g}"
    ]


def _cause_lines(causes: dict[str, tuple[int, ...]]) -> list[str]:
    head = ("cause", "failures", *(f"{100 * i // SLICES}–{100 * (i + 1) // SLICES}%" for i in range(SLICES)))
    rows = [(cause, str(sum(each)), *map(str, each)) for cause, each in causes.items()]
    return ["", *text_table(head, rows)] if rows else []


def _lemon_lines(worst: Sequence[Lemon]) -> list[str]:
    failed = [lemon for lemon in worst if lemon.failures]
    rows = [
        (each.name, str(each.failures), _hours(each.total), f"{each.adjusted_p:.2g}", "lemon" * each.is_lemon())
        for each in failed
    ]
    return ["", *text_table(("learner", "failures", "time", "p", ""), rows, "lrrrl")] if rows else []


def _estimate(hours: Estimate) -> str:
    return f"{_hours(hours.value)} ({percent(LEVEL)}: {_hours(hours.low)} to {_hours(hours.high)})"


def _hours(hours: float) -> str:
    return "∞" if math.isinf(hours) else duration(hours * HOUR)
