"""Figures as the report writes them: no more digits than their interval bears, open ends as ∞ and 0."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from tenfold.core.text import duration
from tenfold.scaling.multiplier import WIDEST

MISSING = "–"
SECONDS = ("s", "seconds")
LONG = 600  # seconds from which on a duration is written in minutes and hours


def figure(value: float | None, width: float | None, unit: str = "") -> str:
    """A value whose uncertainty is `width` wide, to two digits of that: 4.2317 with 0.1 is 4.23.

    Without a width four significant digits; durations from LONG seconds on as 1h02m; MISSING for None.
    """
    if value is None:
        return MISSING
    if not math.isfinite(value):
        return signless_infinity(value)
    if unit in SECONDS and value >= LONG:
        return duration(value)
    if not width or not math.isfinite(width):
        return f"{value:.4g}"
    return f"{value:,.{min(max(1 - math.floor(math.log10(width)), 0), 6)}f}"


def signless_infinity(value: float) -> str:
    """∞, −∞ or "not a number"."""
    return "not a number" if math.isnan(value) else "∞" if value > 0 else "−∞"


def interval(edges: Sequence[float], unit: str = "") -> str:
    """[low, high], both to the digits of the width."""
    low, high = edges
    return f"[{figure(low, high - low, unit)}, {figure(high, high - low, unit)}]"


def percent(share: float | None) -> str:
    """0.0069 → 0.69%, 0.083 → 8.3%, 0.5 → 50%."""
    if share is None:
        return MISSING
    size = abs(100 * share)
    return f"{100 * share:.{2 if size < 1 else 1 if size < 10 else 0}f}%" if size else "0%"


def level_name(level: str | float) -> str:
    """ "0.95" → 95%."""
    return f"{float(level):.0%}"


def multiple(value: float | None) -> str:
    """1.04, 12.3, ∞ and 0 from the edge on up to which multiples are sought."""
    if value is None:
        return MISSING
    if value >= WIDEST * (1 - 1e-9):
        return "∞"
    if value <= (1 + 1e-9) / WIDEST:
        return "0"
    return f"{value:.2f}" if 0.1 <= value < 10 else f"{value:.3g}"


def times(worth: Mapping[str, Any]) -> str:
    """1.04× [0.80, 1.30] from value, low and high; a narrow column breaks it before the interval only."""
    return f"{multiple(worth['value'])}× [{multiple(worth['low'])},\u00a0{multiple(worth['high'])}]"
