"""Learning rate over the run, as a factor of the peak: numbers alone, so that laws of curves start without torch."""

import math

from tenfold.config import Schedule


def learning_rate_factor(schedule: Schedule, step: int, steps: int) -> float:
    """Learning rate as a share of its peak, in [0, 1], for `step` (counted from 0) of a run of `steps`.

    wsd decays by 1 − sqrt of the share done, which ends lower than a linear decay (Hägele et al., arXiv 2405.18392,
    section 4). Warm-up is linear and never starts at zero, so no step is wasted.
    """
    warmup_steps = round(schedule.warmup * steps)
    if step < warmup_steps:
        return (step + 1) / warmup_steps
    decay_steps = round(schedule.decay * steps) if schedule.kind == "wsd" else steps - warmup_steps
    into_decay = step - (steps - decay_steps)
    if decay_steps == 0 or into_decay < 0:
        return 1.0
    return schedule.final + (1 - schedule.final) * _decay(schedule, (into_decay + 1) / (decay_steps + 1))


def _decay(schedule: Schedule, done: float) -> float:
    """From 1 to 0 as `done` goes from 0 to 1."""
    match schedule.kind:
        case "wsd":
            return 1 - math.sqrt(done)
        case "cosine":
            return 0.5 * (1 + math.cos(math.pi * done))
        case "linear":
            return 1 - done
