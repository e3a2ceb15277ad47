"""Numbers, times and sizes as text for people: one function for each way to write them."""

import math

MISSING = "–"
SCALES = (("T", 1e12), ("B", 1e9), ("M", 1e6))
PREFIXES = (("T", 1e12), ("G", 1e9), ("M", 1e6), ("k", 1e3))
WORDS = (("trillion", 1e12), ("billion", 1e9), ("million", 1e6))
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
