"""Numbers, times and sizes as text for people: one function for each way to write them."""

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

USER_OF_URL = re.compile(r"://[^/\s'\"]*@")
QUERY_OF_URL = re.compile(r"(\w://[^\s'\"?]*)\?[^\s'\"]*")
MISSING = "–"
SCALES = (("T", 1e12), ("B", 1e9), ("M", 1e6))
PREFIXES = (("T", 1e12), ("G", 1e9), ("M", 1e6), ("k", 1e3))
WORDS = (("trillion", 1e12), ("billion", 1e9), ("million", 1e6), ("thousand", 1e3))
SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
SECONDS = ("s", "seconds")
LONG = 600  # seconds from which on `figure` writes minutes and hours
WIDEST = 1e6  # multiples of compute are sought from 1e-6 to 1e6; either end stands for anything beyond
BINARY = (("TiB", 2**40), ("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10))


def duration(seconds: float, *, precise: bool = False) -> str:
    """Seconds as a person says them: 42s, 3m05s, 2h10m, 3d04h; ? for what is not finite.

    `precise` writes less than ten seconds with two digits: 0.43s, 5.2s.
    """
    if not math.isfinite(seconds):
        return "?"
    if precise and abs(seconds) < 9.95:
        return f"{seconds:.2g}s"
    whole = round(seconds)
    for unit, smaller, size, small in (("d", "h", 86400, 3600), ("h", "m", 3600, 60), ("m", "s", 60, 1)):
        if whole >= size:
            return f"{whole // size}{unit}{whole % size // small:02d}{smaller}"
    return f"{whole}s"


def clock(seconds: float) -> str:
    """Seconds as on a clock: 31.4 → 0:31, 3671 → 1:01:11."""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def span(seconds: float) -> str:
    """Seconds with three digits, in the unit that suits them: 0.00213 → 2.13 ms, 90 → 1.5 min, 7200 → 2 h."""
    for unit, size in (("h", 3600.0), ("min", 60.0), ("s", 1.0)):
        if seconds >= size:
            return f"{digits(seconds / size)} {unit}"
    return f"{seconds * 1e3:.3g} ms"


def count(number: int, what: str) -> str:
    """A number of things: 1 learner, 1,234 learners."""
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def times(number: int) -> str:
    """How often: once, twice, 3 times."""
    return {1: "once", 2: "twice"}.get(number, f"{number:,} times")


def amount(value: float) -> str:
    """Tokens, parameters or FLOPs: 1.2 T, 405 B, 16.8 M, 999,999."""
    return _scaled(value, SCALES, " ") or f"{value:,.0f}"


def amount_in_words(value: float) -> str:
    """405 billion, 16.8 million, 1.23e+03."""
    return _scaled(value, WORDS, " ") or f"{value:.3g}"


def short(value: float) -> str:
    """A number on an axis: 1234567 → 1.23M, 0.00012 → 1.2e-04."""
    return _scaled(value, PREFIXES, "") or (f"{value:.3g}" if abs(value) >= 1e-3 or value == 0 else f"{value:.1e}")


def _scaled(value: float, units: tuple[tuple[str, float], ...], space: str) -> str | None:
    return next((f"{value / size:.3g}{space}{unit}" for unit, size in units if abs(value) >= size), None)


def byte_size(value: float) -> str:
    """Bytes in powers of 1,024: 512 B, 1.5 GiB."""
    return next((f"{digits(value / size)} {unit}" for unit, size in BINARY if abs(value) >= size), f"{value:,.0f} B")


def digits(value: float) -> str:
    """Three digits, more from 1,000 on: 0.0312, 6.21, 1,234."""
    return f"{value:,.0f}" if abs(value) >= 999.5 else f"{value:.3g}"


def percent(share: float | None) -> str:
    """Two digits or so of a share: 0.0069 → 0.69%, 0.083 → 8.3%, 0.5 → 50%; – for None."""
    if share is None:
        return MISSING
    size = abs(100 * share)
    return f"{100 * share:.{2 if size < 1 else 1 if size < 10 else 0}f}%" if size else "0%"


def level_name(level: str | float) -> str:
    """The level of an interval: "0.95" → 95%."""
    return f"{float(level):.0%}"


def figure(value: float | None, width: float | None, unit: str = "") -> str:
    """A value whose uncertainty is `width` wide, to two digits of that: 4.2317 with 0.1 is 4.23.

    Without a width four significant digits; durations from LONG seconds on as 1h02m; – for None.
    """
    if value is None:
        return MISSING
    if not math.isfinite(value):
        return "not a number" if math.isnan(value) else "∞" if value > 0 else "−∞"
    if unit in SECONDS and value >= LONG:
        return duration(value)
    if not width or not math.isfinite(width):
        return f"{value:.4g}"
    return f"{value:,.{min(max(1 - math.floor(math.log10(width)), 0), 6)}f}"


def interval(edges: Sequence[float], unit: str = "") -> str:
    """[low, high], both to the digits that its width bears."""
    low, high = edges
    return f"[{figure(low, high - low, unit)}, {figure(high, high - low, unit)}]"


def multiple(value: float | None) -> str:
    """How many times: 1.04, 12.3; ∞ and 0 from the edge on up to which multiples are sought."""
    if value is None:
        return MISSING
    if value >= WIDEST * (1 - 1e-9):
        return "∞"
    if value <= (1 + 1e-9) / WIDEST:
        return "0"
    return f"{value:.2f}" if 0.1 <= value < 10 else f"{value:.3g}"


def multiple_in_interval(worth: Mapping[str, Any]) -> str:
    """1.04× [0.80, 1.30] from value, low and high; a narrow column breaks it before the interval only."""
    return f"{multiple(worth['value'])}× [{multiple(worth['low'])},\u00a0{multiple(worth['high'])}]"


def power_of_ten(power: int) -> str:
    """-3 → 10⁻³."""
    return "10" + str(power).translate(SUPERSCRIPTS)


def scientific(value: float) -> str:
    """3.2e19 → 3.2·10¹⁹."""
    power = math.floor(math.log10(value) + 1e-9)
    mantissa = f"{value / 10.0**power:.2g}"
    label = power_of_ten(power)
    return label if mantissa == "1" else f"{mantissa}·{label}"


def without_secrets(text: str) -> str:
    """A text as it may be shown: what stands before the host of a URL, and in its query, is left out."""
    return QUERY_OF_URL.sub(r"\1?…", USER_OF_URL.sub("://…@", text))


def shown(value: Any) -> Any:
    """A JSON value as it may be shown: `without_secrets` of every text in it."""
    if isinstance(value, str):
        return without_secrets(value)
    if isinstance(value, Mapping):
        return {key: shown(each) for key, each in value.items()}
    return [shown(each) for each in value] if isinstance(value, list | tuple) else value
