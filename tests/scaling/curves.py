"""Loss curves that follow a known law, for the tests of curves."""

import numpy as np

from tenfold.config import Schedule
from tenfold.scaling.curve import Curve, CurveRun, schedule_rates, trace
from tenfold.scaling.curve_forecast import FinalLoss
from tenfold.scaling.curve_law import CurveShape

TRUE = CurveShape(amplitude=0.25, exponent=0.45, drop=0.16, speed=400.0, drop_exponent=0.5, rate_exponent=0.6)
CONSTANT = Schedule(kind="wsd", warmup=0.05, decay=0.0)
WSD = Schedule(kind="wsd", warmup=0.05, decay=0.3)
COSINE = Schedule(kind="cosine", warmup=0.05, final=0.1)
LINEAR = Schedule(kind="linear", warmup=0.05)
LEVELS = (0.5, 0.8, 0.95)


def two_stage(steps: int) -> np.ndarray:
    """Constant, then 0.3 of it from two thirds on."""
    rates = schedule_rates(CONSTANT, steps)
    rates[2 * steps // 3 :] *= 0.3
    return rates


def made(
    rates: np.ndarray,
    *,
    size: float = 1.0,
    floor: float = 2.8,
    shape: CurveShape = TRUE,
    noise: float = 0.0,
    seed: int = 0,
) -> Curve:
    """A curve that follows the law, with reference rate 1 and reference sum 5000; every step's drop counted exactly."""
    run = CurveRun(rates, size)
    path = trace(run, 1.0, 5000.0, merged=0)
    steps = np.unique(np.linspace(run.warmup_steps, run.steps, 90).astype(np.int64))
    losses = floor + shape.above_floor(path, path.sums[steps - 1], float(np.log(size)))
    return Curve(run, steps, losses * np.exp(noise * np.random.default_rng(seed).standard_normal(len(steps))))


def three_schedules(noise: float = 0.0) -> list[Curve]:
    rates = schedule_rates(CONSTANT, 6000), two_stage(4000), schedule_rates(COSINE, 5000)
    return [made(each, noise=noise, seed=seed) for seed, each in enumerate(rates)]


def ladder(sizes: tuple[float, ...], shape: CurveShape, schedule: Schedule, noise: float = 3e-4) -> list[Curve]:
    """One curve per size, trained for steps in proportion to it."""
    return [
        made(
            schedule_rates(schedule, int(1500 * size)),
            size=size,
            floor=2.5 + 0.6 * size**-0.4,
            shape=shape,
            noise=noise,
            seed=int(1000 * size),
        )
        for size in sizes
    ]


def final_loss(value: float, noise: float = 1e-3) -> FinalLoss:
    return FinalLoss(
        value,
        {level: (value - z * noise, value + z * noise) for level, z in zip(LEVELS, (0.67, 1.28, 1.96), strict=True)},
    )
