"""What others do: 6σ over 128 steps, ZClip, FOCuS. Each gives one score a step; an alarm is a score over a threshold.

Scores are of (steps,) values and use the past alone. The first WARM steps score 0, as with our own detectors.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Scores = NDArray[np.float64]
WARM = 300
WINDOW = 128


def sigma_scores(values: Scores) -> Scores:
    """Standard deviations above the mean of the last 128 values (OLMo-core's SkipStepOptimizer; threshold 6)."""
    windows = np.lib.stride_tricks.sliding_window_view(values, WINDOW)[:-1]
    scores = np.zeros(len(values))
    spread = windows.std(axis=1, ddof=1)
    scores[WINDOW:] = (values[WINDOW:] - windows.mean(axis=1)) / np.maximum(spread, 1e-12)
    scores[:WARM] = 0
    return scores


def zclip_scores(values: Scores, memory: float = 0.97) -> Scores:
    """z-score by exponential mean and variance; what is clipped enters them clipped (ZClip, 2504.02507; 2.5)."""
    mean, variance = float(values[:25].mean()), float(values[:25].var())
    scores = np.zeros(len(values))
    for index in range(25, len(values)):
        spread = max(variance**0.5, 1e-12)
        z = (values[index] - mean) / spread
        scores[index] = z
        value = mean + 2.5**2 / z * spread if z > 2.5 else values[index]
        variance = memory * variance + (1 - memory) * (value - mean) ** 2
        mean = memory * mean + (1 - memory) * value
    scores[:WARM] = 0
    return scores


def focus_scores(values: Scores, memory: int = 512) -> Scores:
    """FOCuS for a rise of a Gaussian mean from 0 (Romano et al., 2110.08205): max over τ of (S_t − S_τ)²/(2 (t − τ)).

    Candidates τ are the corners of the lower hull of (t, S_t). Values are standardised by a slow mean and deviation of
    the past, since training is not stationary; they are cut at 8, so that one value is no proof.
    """
    residuals = _standardised(values, memory)
    corners: list[tuple[int, float]] = [(0, 0.0)]
    total, scores = 0.0, np.zeros(len(values))
    for now, residual in enumerate(residuals, 1):
        total += residual
        while len(corners) > 1 and _is_above(corners[-2], corners[-1], (now, total)):
            corners.pop()
        rises = [(total - s) ** 2 / (2 * (now - t)) for t, s in corners if total > s]
        scores[now - 1] = max(rises, default=0.0)
        corners.append((now, total))
        if scores[now - 1] == 0.0:
            corners = [(now, total)]
    return scores


def _is_above(first: tuple[int, float], middle: tuple[int, float], last: tuple[int, float]) -> bool:
    """Whether `middle` lies above the line between the others, so that it is no corner of the lower hull."""
    slope = (last[1] - first[1]) / (last[0] - first[0])
    return middle[1] >= first[1] + slope * (middle[0] - first[0])


def _standardised(values: Scores, memory: int) -> Scores:
    residuals = np.zeros(len(values))
    mean, spread = float(values[0]), 0.0
    for index, value in enumerate(values):
        scale = max(1.2533 * spread, 1e-3)
        if index >= WARM:
            residuals[index] = np.clip((value - mean) / scale - 0.5, -8, 8)
        rate = max(1 / (index + 1), 1 / memory)
        step = np.clip(value - mean, -3 * scale, 3 * scale) if index >= 16 else value - mean
        mean += rate * step
        spread += rate * (abs(step) - spread)
    return residuals


Score = Callable[[Scores], Scores]
BASELINES: dict[str, tuple[tuple[str, ...], Score, float]] = {
    "6σ over 128 (loss, gradient norm)": (("train/loss", "train/grad_norm"), sigma_scores, 6.0),
    "ZClip (gradient norm)": (("train/grad_norm",), zclip_scores, 2.5),
    "FOCuS (loss, gradient norm)": (("train/loss", "train/grad_norm"), focus_scores, 15.0),
}
"""Name → signals, score, threshold as published (FOCuS has none: 15 gives white noise a run length of about 1e5)."""


def scores_of(name: str, values: dict[str, Scores]) -> Scores:
    """(steps,) the largest score of a baseline's signals, logarithms for norms in FOCuS and the loss as it is."""
    signals, score, _ = BASELINES[name]
    logs = score is focus_scores
    rows = [np.nan_to_num(values[s], nan=1e6, posinf=1e6) for s in signals]
    return np.max([score(np.log(np.maximum(row, 1e-12)) if logs else row) for row in rows], axis=0)


def incidents(scores: Scores, threshold: float, apart: int = 64) -> list[int]:
    """Indices at which an incident opens: an alarm with none in the `apart` steps before it."""
    alarms = np.flatnonzero(scores > threshold).tolist()
    return [a for index, a in enumerate(alarms) if index == 0 or a - alarms[index - 1] > apart]
