"""From the units in the names of keys and columns (GB/s, µs, %) to base units and back, without rounding."""

from decimal import Decimal

GIGA, TERA, MICRO, MILLI, PERCENT = 9, 12, -6, -3, -2


def scaled(value: float, power: int) -> float:
    """`value` × 10^`power`, by moving the decimal point: 80.3 % is 0.803, where 80.3 * 0.01 is not."""
    return float(Decimal(repr(value)).scaleb(power))
