"""Numbers and times as text for people."""

import math


def duration(seconds: float) -> str:
    """Seconds as a person says them: 42s, 3m05s, 2h10m, 3d04h."""
    if not math.isfinite(seconds):
        return "?"
    whole = round(seconds)
    for unit, smaller, size, small in (("d", "h", 86400, 3600), ("h", "m", 3600, 60), ("m", "s", 60, 1)):
        if whole >= size:
            return f"{whole // size}{unit}{whole % size // small:02d}{smaller}"
    return f"{whole}s"
