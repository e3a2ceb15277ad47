"""Loss curves forecast from published runs: other schedules of one size, and a larger size from smaller ones.

    python benchmarks/curves.py --tables DIR [--json FILE]

DIR holds two tables: `multipower_lr_loss_curves.csv` (thu-yao-01-luo/MultiPowerLaw: columns model_M, curve, step, lr,
loss) and `supercollapse_c5m.csv.gz` (shikaiqiu/supercollapse: columns P, seed, step, test_loss).

schedules: the law is fitted on two or three curves of a size and predicts all others, beside two baselines: a power law
in steps, and the momentum law of Tissue et al. (arXiv 2408.11029). sizes: the k smallest of eight sizes forecast the
next and the largest one; once with the final loss known up to seed noise (the error is that of the shape alone), once
with the final loss itself extrapolated.
"""

import argparse
import csv
import gzip
import json
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import least_squares
from scipy.signal import lfilter
from scipy.special import ndtri, stdtrit

from tenfold.scaling.curve import Curve, CurveRun
from tenfold.scaling.curve_forecast import CurveForecast, FinalLoss, forecast_curve
from tenfold.scaling.curve_law import fit_law

Floats = NDArray[np.float64]
Predictor = Callable[[Curve], Floats]

FITTED_ON = {
    "constant, cosine, two-stage": ("constant_24000", "cosine_24000", "wsdcon_9"),
    "constant, two-stage": ("constant_24000", "wsdcon_9"),
}
WARMUP = 2160  # steps, linear to the peak; the table starts after it
PEAK = 3e-4
COLLAPSE_WARMUP = 1000
LEVELS = (0.5, 0.8, 0.95)
SEEDS_FITTED = 2
END_SHARE = 0.03


@dataclass(frozen=True)
class Score:
    """How a predicted curve compares with the measured one, after warm-up."""

    size: float
    fitted_on: str
    method: str
    curve: str
    mean_error: float
    worst_error: float
    end_error: float
    """Signed, the mean over the last END_SHARE of the steps."""
    r2: float


@dataclass(frozen=True)
class SizeScore:
    """Forecast of one size's curves from smaller sizes: error in nats, share of points inside each band."""

    sizes_fitted: int
    target: int
    final: str
    method: str
    mean_error: float
    worst_error: float
    final_error: float
    expected_error: float
    coverage: dict[str, float]
    seconds: float


def read_schedules(path: Path) -> dict[int, dict[str, Curve]]:
    """Curves by size and schedule."""
    rows: dict[tuple[int, str], list[tuple[float, float, float]]] = defaultdict(list)
    with path.open(newline="") as file:
        for row in csv.DictReader(file):
            key = int(row["model_M"]), row["curve"]
            rows[key].append((float(row["step"]), float(row["lr"]), float(row["loss"])))
    curves: dict[int, dict[str, Curve]] = defaultdict(dict)
    for (size, name), points in rows.items():
        steps, rates, losses = np.array(points).T
        curves[size][name] = Curve(CurveRun(every_rate(steps, rates)), steps.astype(np.int64), losses)
    return dict(curves)


def every_rate(steps: Floats, rates: Floats) -> Floats:
    """Rate of every step from the logged ones: linear between them, but a jump of over a fifth is a jump."""
    every = np.arange(1, int(steps[-1]) + 1)
    filled = np.interp(every, steps, rates)
    for at in np.flatnonzero(np.abs(np.diff(np.log(rates))) > 0.2):
        filled[int(steps[at]) - 1 : int(steps[at + 1]) - 1] = rates[at]
    filled[:WARMUP] = PEAK * every[:WARMUP] / WARMUP
    return filled


def predict_by_law(curves: Sequence[Curve]) -> Predictor:
    """The multi-power law."""
    law = fit_law(curves)
    return lambda curve: law.losses(curve.run, curve.steps)


def predict_by_steps(curves: Sequence[Curve]) -> Predictor:
    """L = E + A·t^−α: knows nothing of the schedule."""
    return fit_baseline(curves, lambda curve: (curve.steps / 1e4, np.zeros(len(curve.steps))))[1]


def predict_by_momentum(curves: Sequence[Curve]) -> Predictor:
    """L = E + A·S1^−α − C·S2 with the decay of S2 that fits best (arXiv 2408.11029, section 3)."""
    decays = (0.99, 0.995, 0.998, 0.999, 0.9995, 0.9998)
    fits = [fit_baseline(curves, lambda curve, decay=decay: momentum_sums(curve, decay)) for decay in decays]
    return min(fits, key=lambda fit: fit[0])[1]


def momentum_sums(curve: Curve, decay: float) -> tuple[Floats, Floats]:
    """Forward area and annealing area after each step of the curve."""
    rates = curve.run.learning_rates / PEAK
    falls = -np.diff(rates, prepend=rates[0])
    falls[: curve.run.warmup_steps] = 0
    annealing = np.cumsum(lfilter([1.0], [1.0, -decay], falls)) / 1e4
    at = curve.steps - 1
    return np.cumsum(rates)[at] / 1e4, annealing[at]


def fit_baseline(
    curves: Sequence[Curve], features: Callable[[Curve], tuple[Floats, Floats]]
) -> tuple[float, Predictor]:
    """Huber on log loss, as for our law; cost and predictor."""

    def losses(vector: Floats, curve: Curve) -> Floats:
        forward, annealing = features(curve)
        return np.asarray(np.exp(vector[0]) + np.exp(vector[1]) * forward ** -np.exp(vector[2]) - vector[3] * annealing)

    def residuals(vector: Floats) -> Floats:
        return np.concatenate([np.log(np.maximum(losses(vector, curve), 0.1) / curve.losses) for curve in thin])

    thin = [curve.averaged(64) for curve in curves]
    start = np.array([np.log(0.9 * min(curve.losses.min() for curve in curves)), np.log(0.3), np.log(0.5), 0.1])
    rough = least_squares(residuals, start, x_scale="jac")
    best = least_squares(residuals, rough.x, loss="huber", f_scale=1e-3, x_scale="jac")
    return float(best.cost), lambda curve: losses(best.x, curve)


METHODS: Mapping[str, Callable[[Sequence[Curve]], Predictor]] = {
    "multi-power law": predict_by_law,
    "momentum law": predict_by_momentum,
    "power law in steps": predict_by_steps,
}


def score_schedules(tables: Path) -> list[Score]:
    """Every method, fitted on each set, on every curve the fit did not see."""
    scores = []
    for size, curves in sorted(read_schedules(tables / "multipower_lr_loss_curves.csv").items()):
        for label, names in FITTED_ON.items():
            for method, fit in METHODS.items():
                predict = fit([curves[name] for name in names])
                unseen = [name for name in curves if name not in names]
                scores += [score(size, label, method, name, curves[name], predict) for name in unseen]
    return scores


def score(size: float, label: str, method: str, name: str, curve: Curve, predict: Predictor) -> Score:
    errors = predict(curve) - curve.losses
    around = curve.losses - curve.losses.mean()
    r2 = 1 - float(np.sum(errors**2) / np.sum(around**2))
    end = float(errors[curve.steps > (1 - END_SHARE) * curve.run.steps].mean())
    return Score(size, label, method, name, float(np.abs(errors).mean()), float(np.abs(errors).max()), end, r2)


def read_sizes(path: Path) -> dict[int, list[Curve]]:
    """Curves of each size, one per seed. Rates: warm-up of 1000 steps, then linear to zero."""
    rows: dict[tuple[int, float], list[tuple[int, float]]] = defaultdict(list)
    with gzip.open(path, "rt", newline="") as file:
        for row in csv.DictReader(file):
            rows[int(row["P"]), float(row["seed"])].append((int(row["step"]), float(row["test_loss"])))
    curves: dict[int, list[Curve]] = defaultdict(list)
    for (size, _), points in sorted(rows.items()):
        steps, losses = np.array(sorted(points)).T
        last = int(steps[-1])
        every = np.arange(1, last + 1)
        rates = np.minimum(every / COLLAPSE_WARMUP, 1) * np.clip((last - every) / (last - COLLAPSE_WARMUP), 0, 1)
        curves[size].append(Curve(CurveRun(rates, size), steps.astype(np.int64), losses))
    return dict(curves)


def known_final(curves: Sequence[Curve]) -> FinalLoss:
    """The mean over seeds, and intervals of seed noise alone."""
    lasts = np.array([curve.losses[-1] for curve in curves])
    value, noise = float(lasts.mean()), float(lasts.std(ddof=1))
    reach = {level: float(ndtri(0.5 + level / 2)) * noise for level in LEVELS}
    return FinalLoss(value, {level: (value - width, value + width) for level, width in reach.items()})


def extrapolated_final(rungs: Mapping[int, Sequence[Curve]], target: int) -> FinalLoss:
    """E + a·N^−b through the rungs' last losses, with intervals from the same fit without the largest rungs."""
    sizes = sorted(rungs)
    lasts = np.array([np.mean([curve.losses[-1] for curve in rungs[size]]) for size in sizes])
    value = power_law(sizes, lasts, target)
    misses = []
    for kept in range(3, len(sizes)):
        for number in range(kept, len(sizes)):
            miss = power_law(sizes[:kept], lasts[:kept], sizes[number]) - lasts[number]
            misses.append(miss * max(1.0, np.log(target / sizes[-1]) / np.log(sizes[number] / sizes[kept - 1])))
    spread, freedom = float(np.sqrt(np.mean(np.square(misses)))), len(sizes) - 3
    reach = {level: float(stdtrit(freedom, 0.5 + level / 2)) * spread for level in LEVELS}
    return FinalLoss(value, {level: (value - width, value + width) for level, width in reach.items()})


def power_law(sizes: Sequence[int], losses: Floats, target: int) -> float:
    """Value at `target` of E + a·(N/N0)^−b by least squares, b from a grid and the rest linear."""
    best = (np.inf, 0.0)
    ratio = np.array(sizes) / sizes[0]
    for exponent in np.geomspace(0.05, 3, 200):
        design = np.stack([np.ones(len(ratio)), ratio**-exponent], axis=1)
        solution = np.linalg.lstsq(design, losses, rcond=None)[0]
        miss = float(np.sum((design @ solution - losses) ** 2))
        best = min(best, (miss, float(solution @ [1, (target / sizes[0]) ** -exponent])))
    return best[1]


def score_sizes(tables: Path) -> list[SizeScore]:
    """The k smallest sizes forecast the next and the largest."""
    curves = read_sizes(tables / "supercollapse_c5m.csv.gz")
    sizes, scores = sorted(curves), []
    for count in range(4, len(sizes)):
        rungs = {size: curves[size][:SEEDS_FITTED] for size in sizes[:count]}
        for target in dict.fromkeys((sizes[count], sizes[-1])):
            finals = {"known": known_final(curves[target]), "extrapolated": extrapolated_final(rungs, target)}
            scores += [score_size(rungs, curves[target], name, final) for name, final in finals.items()]
    return scores


def score_size(
    rungs: Mapping[int, Sequence[Curve]], measured: Sequence[Curve], name: str, final: FinalLoss
) -> SizeScore:
    began = time.perf_counter()
    forecast = forecast_curve([curve for each in rungs.values() for curve in each], measured[0].run, final)
    seconds = time.perf_counter() - began
    after = [curve.after_warmup() for curve in measured]
    errors = np.concatenate([np.interp(c.steps, forecast.steps, forecast.losses) - c.losses for c in after])
    last = float(np.mean([curve.losses[-1] for curve in measured]))
    return SizeScore(
        len(rungs),
        int(measured[0].run.parameters),
        name,
        forecast.method,
        float(np.abs(errors).mean()),
        float(np.abs(errors).max()),
        abs(final.value - last),
        forecast.errors[forecast.method] * last,
        {f"{level:g}": coverage(forecast, after, level) for level in LEVELS},
        seconds,
    )


def coverage(forecast: CurveForecast, curves: Sequence[Curve], level: float) -> float:
    """Share of the measured points inside the band, the mean over curves."""
    band = forecast.band(level)
    shares = []
    for curve in curves:
        low, high = (np.interp(curve.steps, forecast.steps, edge) for edge in (band.low, band.high))
        shares.append(np.mean((low <= curve.losses) & (curve.losses <= high)))
    return float(np.mean(shares))


def print_schedules(scores: Sequence[Score]) -> None:
    groups: dict[tuple[float, str, str], list[Score]] = defaultdict(list)
    for each in scores:
        groups[each.size, each.fitted_on, each.method].append(each)
    names = f"{'size':>5} {'fitted on':28} {'method':20} {'MAE':>8} {'worst MAE':>10}"
    print(f"{names} {'end':>8} {'worst end':>9} {'R²':>8} {'worst R²':>9}")
    for (size, label, method), each in groups.items():
        errors, fits = [s.mean_error for s in each], [s.r2 for s in each]
        ends = [s.end_error for s in each]
        end = f"{np.mean(np.abs(ends)):8.4f} {max(ends, key=abs):+9.4f}"
        row = f"{np.mean(errors):8.4f} {max(errors):10.4f} {end} {np.mean(fits):8.4f} {min(fits):9.4f}"
        print(f"{size:>4g}M {label:28} {method:20} {row}")


def print_sizes(scores: Sequence[SizeScore]) -> None:
    print(
        f"{'sizes':>5} {'target':>8} {'final loss':13} {'MAE':>8} {'expected':>9} {'in 50/80/95%':>15} {'s':>5}  form"
    )
    for each in scores:
        inside = "/".join(f"{100 * each.coverage[f'{level:g}']:.0f}" for level in LEVELS)
        numbers = f"{each.mean_error:8.5f} {each.expected_error:9.5f} {inside:>15} {each.seconds:5.1f}"
        print(f"{each.sizes_fitted:>5} {each.target / 1e6:7.1f}M {each.final:13} {numbers}  {each.method}")
    for name in ("known", "extrapolated"):
        own = [each for each in scores if each.final == name]
        shares = ", ".join(f"{np.mean([e.coverage[f'{level:g}'] for e in own]):.0%} at {level:.0%}" for level in LEVELS)
        print(f"final loss {name}: MAE {np.mean([e.mean_error for e in own]):.5f} nats, inside: {shares}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], allow_abbrev=False)
    parser.add_argument("--tables", type=Path, required=True, help="folder with the two tables")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    schedules = score_schedules(arguments.tables)
    print_schedules(schedules)
    print()
    sizes = score_sizes(arguments.tables)
    print_sizes(sizes)
    if arguments.json:
        result = {"schedules": [asdict(each) for each in schedules], "sizes": [asdict(each) for each in sizes]}
        arguments.json.write_text(json.dumps(result, indent=2))
        print(f"wrote {arguments.json}", file=sys.stderr)


if __name__ == "__main__":
    main()
