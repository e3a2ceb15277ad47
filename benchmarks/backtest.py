"""Backtest of the forecasts on published tables of real training runs.

    python benchmarks/backtest.py --tables DIR [--json FILE]

For each series in the tables under DIR: hold out every run with a tenth of the largest compute or more, fit the rest,
and compare forecasts of the held-out runs with what they reached. Beside tenfold stand a plain power law of compute by
least squares on logs, Hoffmann's law alone on all runs, and the loss of the largest run below the cut ("last value").
Ends with the recovery of the published Chinchilla coefficients. Tables and their public sources: docs/scaling.md.
"""

import argparse
import csv
import json
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from tenfold.core.errors import InputError
from tenfold.scaling.laws import HOFFMANN
from tenfold.scaling.predict import fit_scaling_law
from tenfold.scaling.solve import huber
from tenfold.scaling.table import FloatArray, Points, RunTable

Row = dict[str, str]
CHINCHILLA_RUNS = 240  # without the five highest losses, as in Besiroglu et al., arXiv 2404.10102
PUBLISHED = {"A": (482.01, 124.6), "B": (2085.43, 1293.0), "E": (1.8172, 0.026), "alpha": (0.3478, 0.015)}
PUBLISHED |= {"beta": (0.3658, 0.021)}
PUBLISHED_OBJECTIVE = 0.00101827
IN_DISTRIBUTION = "c4_val/shard-{0000000..0000010}.tar"  # the validation set of the paper's headline results


@dataclass(frozen=True)
class Series:
    """Runs of one recipe on one data set, from one table. `headline` is False for out-of-distribution losses."""

    table: str
    name: str
    runs: RunTable
    headline: bool = True


@dataclass(frozen=True)
class Result:
    """Relative errors of the held-out runs by method, coverage of the intervals, and what was chosen."""

    table: str
    name: str
    headline: bool
    fitted: int
    held_out: int
    form: str
    errors: dict[str, list[float]]
    inside: dict[str, list[bool]]
    half_width: float


def rows_of(path: Path) -> list[Row]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def table_of(rows: list[Row], n: str, d: str, loss: str, c: str | None = None, unique: str | None = None) -> RunTable:
    """Rows with a missing value left out."""
    names = [name for name in (n, d, loss, c, unique) if name is not None]
    values = {name: np.array([float(row[name]) for row in rows if all(row[k] for k in names)]) for name in names}
    points = Points.of(values[n], values[d], values[c] if c else None, values[unique] if unique else None)
    return RunTable.of(points, values[loss])


def grouped(rows: list[Row], *keys: str) -> Iterator[tuple[str, list[Row]]]:
    groups: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        groups["/".join(row[key] for key in keys)].append(row)
    yield from groups.items()


def chinchilla(path: Path) -> Iterator[Series]:
    rows = sorted(rows_of(path), key=lambda row: float(row["loss"]))[:CHINCHILLA_RUNS]
    yield Series("chinchilla", "massivetext", table_of(rows, "N", "D", "loss", "C"))


def isoflops(path: Path) -> Iterator[Series]:
    rows = [row for row in rows_of(path) if row["outlier"] == "False"]
    for name, group in grouped(rows, "experiment"):
        yield Series("isoflops", name, table_of(group, "params", "tokens", "loss", "budget"))


def porian(path: Path) -> Iterator[Series]:
    for name, group in grouped(rows_of(path), "hparams", "warmup", "decay", "param_count", "val"):
        yield Series("porian", name, table_of(group, "n", "t", "loss", "flops"))


def steplaw(path: Path) -> Iterator[Series]:
    cells: dict[tuple[str, str], Row] = {}
    for row in rows_of(path):
        best = cells.setdefault((row["N"], row["D"]), row)
        if float(row["loss"]) < float(best["loss"]):
            cells[row["N"], row["D"]] = row
    yield Series("steplaw", "best learning rate and batch", table_of(list(cells.values()), "N", "D", "loss"))


def gadre(path: Path) -> Iterator[Series]:
    for name, group in grouped(rows_of(path), "train", "val"):
        yield Series("gadre", name, table_of(group, "N", "D", "loss"), name.endswith(IN_DISTRIBUTION))


def datablations(path: Path) -> Iterator[Series]:
    yield Series("datablations", "C4, repeated", table_of(rows_of(path), "N", "D", "loss", unique="U"))


def nanochat(path: Path) -> Iterator[Series]:
    yield Series("nanochat", "isoflop", table_of(rows_of(path), "eff_params", "tokens", "val_bpb", "flops"))


READERS: dict[str, Callable[[Path], Iterator[Series]]] = {
    "chinchilla_epoch_svg.csv": chinchilla,
    "isoflops_openathena.csv": isoflops,
    "porian_isoflop_points.csv": porian,
    "steplaw_dense.csv": steplaw,
    "gadre_overtrain.csv": gadre,
    "datablations_paper_subset.csv": datablations,
    "nanochat_isoflop_jan2026.csv": nanochat,
}


def plain_power_law(below: RunTable, points: Points) -> FloatArray:
    """ln L = a - b ln C by least squares."""
    line = np.polynomial.polynomial.polyfit(below.points.c, below.log_loss, 1)
    return np.asarray(np.polynomial.polynomial.polyval(points.c, line))


def hoffmann_alone(below: RunTable, points: Points) -> FloatArray:
    """Hoffmann's law on all runs below the cut."""
    return HOFFMANN.log_loss(HOFFMANN.fit(below, np.ones((1, len(below)))), points)[0]


def last_value(below: RunTable, points: Points) -> FloatArray:
    """The loss of the run with the most compute below the cut."""
    return np.full(len(points), below.log_loss[-1])


BASELINES = {"power law": plain_power_law, "hoffmann alone": hoffmann_alone, "last value": last_value}


def relative_errors(forecast: FloatArray, measured: FloatArray) -> list[float]:
    return np.abs(np.expm1(forecast - measured)).tolist()


def backtest(series: Series) -> Result:
    """Raises InputError where the runs below the cut identify no law."""
    c = series.runs.points.c
    held = c >= c.max() - np.log(10) - 1e-9
    below, above = series.runs.take(~held), series.runs.take(held)
    law = fit_scaling_law(below)
    forecast = law.log_loss(above.points)
    errors = {"tenfold": relative_errors(forecast, above.log_loss)}
    for name, method in BASELINES.items():
        errors[name] = relative_errors(method(below, above.points), above.log_loss)
    widths = {level: law.half_widths(above.points, level) for level in (0.5, 0.8, 0.95)}
    inside = {f"{level:.0%}": (np.abs(forecast - above.log_loss) <= width).tolist() for level, width in widths.items()}
    width = float(np.median(widths[0.8]))
    form = law.committee.best.describe()
    return Result(series.table, series.name, series.headline, len(below), len(above), form, errors, inside, width)


def summary(results: list[Result]) -> dict[str, float]:
    """Held-out runs pooled: median and 90th percentile error of each method, coverage of each interval."""
    shown: dict[str, float] = {"series": len(results), "runs": sum(result.held_out for result in results)}
    for method in ("tenfold", *BASELINES):
        pooled = np.concatenate([result.errors[method] for result in results])
        shown[f"{method} median"] = float(np.median(pooled))
        shown[f"{method} p90"] = float(np.quantile(pooled, 0.9))
    for level in ("50%", "80%", "95%"):
        shown[f"coverage {level}"] = float(np.mean(np.concatenate([result.inside[level] for result in results])))
    shown["half width 80%"] = float(np.median([result.half_width for result in results]))
    return shown


def recovery(path: Path) -> dict[str, dict[str, float]]:
    """Chinchilla's coefficients from the reconstructed points, beside the published ones and their standard errors."""
    runs = next(chinchilla(path)).runs
    found = HOFFMANN.fit(runs, np.ones((1, len(runs))))
    values = dict(zip(("E", "A", "B", "alpha", "beta"), [*np.exp(found[0, :3]), *found[0, 3:]], strict=True))
    objective = float(huber(HOFFMANN.log_loss(found, runs.points) - runs.log_loss).sum())
    shown = {
        name: {"found": float(values[name]), "published": value, "in standard errors": (values[name] - value) / error}
        for name, (value, error) in PUBLISHED.items()
    }
    return shown | {"objective": {"found": objective, "published": PUBLISHED_OBJECTIVE}}


def print_results(results: list[Result]) -> None:
    for result in results:
        errors = np.array(result.errors["tenfold"])
        middle, high, inside = np.median(errors), np.quantile(errors, 0.9), np.mean(result.inside["80%"])
        print(
            f"{result.table:13s} {result.name[:58]:58s} {result.fitted:4d} {result.held_out:3d} "
            f"{middle:7.2%} {high:7.2%} {inside:5.0%}  {result.form}"
        )


def print_summary(name: str, shown: dict[str, float]) -> None:
    errors = "  ".join(f"{m} {shown[f'{m} median']:.2%}/{shown[f'{m} p90']:.2%}" for m in ("tenfold", *BASELINES))
    cover = " ".join(f"{level} {shown[f'coverage {level}']:.0%}" for level in ("50%", "80%", "95%"))
    print(f"{name:32s} {shown['series']:3.0f} series {shown['runs']:4.0f} runs  {errors}  covered: {cover}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("--tables", type=Path, required=True)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    results: list[Result] = []
    for file, reader in READERS.items():
        for series in reader(options.tables / file) if (options.tables / file).exists() else ():
            try:
                results.append(backtest(series))
            except InputError as error:
                print(f"{series.table} {series.name}: not fitted, {error}")
    print_results(results)
    headline = [result for result in results if result.headline]
    parts = {name: [r for r in headline if r.table == name] for name in dict.fromkeys(r.table for r in headline)}
    parts |= {"gadre, other validation sets": [r for r in results if not r.headline], "all but those": headline}
    shown = {name: summary(part) for name, part in parts.items() if part}
    for name, figures in shown.items():
        print_summary(name, figures)
    recovered = recovery(options.tables / "chinchilla_epoch_svg.csv")
    for name, figures in recovered.items():
        print(f"chinchilla {name}: " + ", ".join(f"{key} {value:.6g}" for key, value in figures.items()))
    if options.json:
        whole = {"series": [asdict(r) for r in results], "summary": shown, "chinchilla": recovered}
        options.json.write_text(json.dumps(whole, indent=1, sort_keys=True) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
