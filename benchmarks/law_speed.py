"""How long fit, choice, bootstrap and calibration take, beside a plain bootstrap with scipy.

    python benchmarks/law_speed.py [--runs 500] [--replicates 300] [--json FILE]

tenfold's figure is all of `fit_scaling_law`: 72 candidates at each of seven origins, the chosen law's bootstrap, and
the calibration. The peer does one thing of these: bootstrap Hoffmann's law by L-BFGS with analytic gradient from a grid
of starts, as published fits do. It is timed on a few replicates and scaled to as many as tenfold draws. Needs scipy.
"""

import argparse
import json
import time
from pathlib import Path

import numpy as np
from scipy.optimize import minimize

from tenfold.scaling.laws import HOFFMANN
from tenfold.scaling.predict import fit_scaling_law
from tenfold.scaling.solve import HUBER_DELTA, huber
from tenfold.scaling.table import FloatArray, Points, RunTable

PEER_REPLICATES = 3
PEER_STARTS = [(e, a, a, x, x) for e in (0.0, 0.5) for a in (5.0, 10.0) for x in (0.3, 0.6)]


def made_runs(count: int) -> RunTable:
    """Runs of a Hoffmann law with 0.5% noise, over three decades of compute and 5 to 200 tokens per parameter."""
    random = np.random.default_rng(0)
    compute = np.exp(random.uniform(np.log(1e17), np.log(1e20), count))
    ratio = np.exp(random.uniform(np.log(5), np.log(200), count))
    n = np.sqrt(compute / 6 / ratio)
    loss = (1.8 + 480 / n**0.35 + 2000 / (ratio * n) ** 0.37) * np.exp(random.normal(0, 0.005, count))
    return RunTable.of(Points.of(n, ratio * n), loss)


def peer_fit(runs: RunTable, weights: FloatArray) -> FloatArray:
    """The best of L-BFGS from every start."""

    def objective(coefficients: FloatArray) -> tuple[float, FloatArray]:
        predicted, slopes = HOFFMANN.evaluate(coefficients[None], runs.points)
        residuals = predicted[0] - runs.log_loss
        pull = weights * np.clip(residuals, -HUBER_DELTA, HUBER_DELTA)
        return 1e3 * float((weights * huber(residuals)).sum()), 1e3 * (pull @ slopes[0])

    fits = [minimize(objective, np.array(start), jac=True, method="L-BFGS-B") for start in PEER_STARTS]
    return np.asarray(min(fits, key=lambda fit: fit.fun).x)


def time_peer(runs: RunTable, replicates: int) -> float:
    """Seconds for this many bootstrap replicates, from a few."""
    drawn = np.random.default_rng(0).multinomial(len(runs), np.full(len(runs), 1 / len(runs)), size=PEER_REPLICATES)
    start = time.perf_counter()
    for weights in drawn:
        peer_fit(runs, weights.astype(np.float64))
    return (time.perf_counter() - start) * replicates / PEER_REPLICATES


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("--runs", type=int, default=500)
    parser.add_argument("--replicates", type=int, default=300)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    runs = made_runs(options.runs)
    seconds = []
    for _ in range(3):
        start = time.perf_counter()
        fit_scaling_law(runs, replicates=options.replicates)
        seconds.append(time.perf_counter() - start)
    peer = time_peer(runs, options.replicates)
    shown = {
        "runs": options.runs,
        "replicates": options.replicates,
        "seconds": sorted(seconds)[1],
        "peer_seconds": peer,
    }
    shown["ratio"] = peer / shown["seconds"]
    print(json.dumps(shown, sort_keys=True))
    if options.json:
        options.json.write_text(json.dumps(shown, sort_keys=True) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
