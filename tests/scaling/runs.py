"""Runs to fit: excerpts of published tables, and runs made from a known law."""

from pathlib import Path

import numpy as np

from tenfold.scaling.table import FloatArray, Points, RunTable, read_runs

DATA = Path(__file__).parent / "data"
KNOWN = np.array([[np.log(1.8), np.log(480.0), np.log(2000.0), 0.35, 0.37]])  # ln E, ln A, ln B, alpha, beta


def published(name: str) -> RunTable:
    """One of the excerpts in tests/scaling/data."""
    return read_runs(DATA / f"{name}.csv")


def grid(sizes: int = 8, ratios: int = 6) -> Points:
    """A ladder spread over N and D: N from 5 M to 1 G, 4 to 200 tokens per parameter."""
    n, ratio = np.meshgrid(np.geomspace(5e6, 1e9, sizes), np.geomspace(4, 200, ratios))
    return Points.of(n.ravel(), (n * ratio).ravel())


def loss_by_known_law(points: Points) -> FloatArray:
    """E + A/N^alpha + B/D^beta at the coefficients of KNOWN."""
    e, a, b, alpha, beta = KNOWN[0]
    return np.exp(e) + np.exp(a - alpha * points.n) + np.exp(b - beta * points.d)


def made(points: Points, noise: float = 0.0, seed: int = 0) -> RunTable:
    """Runs that follow the known law but for this much noise in ln loss."""
    scatter = np.random.default_rng(seed).normal(0.0, noise, len(points)) if noise else 0.0
    return RunTable.of(points, loss_by_known_law(points) * np.exp(scatter))


def split_at_tenth(runs: RunTable) -> tuple[RunTable, RunTable]:
    """Runs below a tenth of the largest compute, and the rest."""
    cut = runs.points.c.max() - np.log(10)
    return runs.take(runs.points.c < cut - 1e-9), runs.take(runs.points.c >= cut - 1e-9)
