"""Tables no law can be identified from, refused with the reason."""

import math

import numpy as np

from tenfold.core.errors import InputError
from tenfold.scaling.laws import LAWS
from tenfold.scaling.table import FloatArray, RunTable

MIN_RUNS = 5
MIN_SPAN = 1.5  # largest over smallest C, N and D


def check_identifiable(runs: RunTable) -> None:
    """Raise InputError, with the reason and what to add, where a fit would say nothing about larger runs."""
    reason = _reason(runs)
    if reason is not None:
        raise InputError(f"{runs.source}: {reason}")


def _reason(runs: RunTable) -> str | None:
    points = runs.points
    for name, values in (("N", points.n), ("D", points.d), ("C", points.c), ("loss", runs.log_loss)):
        if not np.isfinite(values).all():
            return (
                f"{int((~np.isfinite(values)).sum())} runs whose {name} is not a finite number above 0; leave them out"
            )
    if len(runs) < MIN_RUNS:
        return f"{len(runs)} runs are too few for a law; give {MIN_RUNS} or more, at four amounts of compute"
    for name, values in (("C", points.c), ("N", points.n), ("D", points.d)):
        if _span(values) < MIN_SPAN:
            return f"no spread in {name}: its largest is {_span(values):.2f}x its smallest, {MIN_SPAN}x needed"
    if not _falls(runs):
        return "the loss does not fall as compute grows, so no law of diminishing loss can be fitted; check the runs"
    obstacles = {law.name: law.obstacle(runs) for law in LAWS}
    if None not in obstacles.values():
        listed = "; ".join(f"{name}: {obstacle}" for name, obstacle in obstacles.items())
        return f"too few rungs to identify any law ({listed})"
    return None


def _span(values: FloatArray) -> float:
    return math.exp(float(values.max() - values.min()))


def _falls(runs: RunTable) -> bool:
    """The lowest loss among the half with more compute is below that of the other half. Runs are in order of C."""
    half = len(runs) // 2
    return float(np.min(runs.log_loss[half:])) < float(np.min(runs.log_loss[:half]))
