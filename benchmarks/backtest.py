"""Backtest of the forecasts on published tables of real training runs, ten and a hundred times beyond.

    python benchmarks/backtest.py --tables DIR [--json FILE] [--units]

For each series in the tables under DIR: hold out every run with a tenth (then a hundredth) of the largest compute or
more, fit the rest, and compare forecasts of the held-out runs with what they reached (a hundred times beyond: of those
more than a decade beyond the runs). What the package learnt from published tables (how well a form usually does, how
far the scale of intervals is stretched) is measured anew without the table that is forecast: each table's series are
left out together. Beside tenfold stand a plain power law of compute by least squares on logs, Hoffmann's law alone on
all runs, and the loss of the largest run below the cut ("last value"). `--units` counts every table in other units,
drawn at random, and says how far the forecasts move. Ends with the recovery of the published Chinchilla coefficients.
Tables and their public sources: docs/scaling.md.
"""

import argparse
import csv
import json
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from table_constants import Fitted, Scored, handicaps_of, multipliers_of, score
from tenfold.core.errors import InputError
from tenfold.scaling.backtest import check_finite, check_identifiable, fit_candidates, run_backtest
from tenfold.scaling.laws import HOFFMANN
from tenfold.scaling.outliers import without_odd_rows
from tenfold.scaling.predict import fit_scaling_law
from tenfold.scaling.solve import huber
from tenfold.scaling.table import LN10, FloatArray, Points, RunTable

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
    """Signed errors of ln loss of the held-out runs by method, 80% half-widths, and which intervals held them."""

    table: str
    name: str
    headline: bool
    decades: int
    fitted: int
    form: str
    errors: dict[str, list[float]]
    inside: dict[str, list[bool]]
    half_widths: list[float]


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


def fitted(series: Series, decades: int) -> Fitted:
    """Everything about a series that does not depend on other tables. Raises InputError where no law is identified."""
    c = series.runs.points.c
    held = c >= c.max() - decades * LN10 - 1e-9
    below, _ = without_odd_rows(series.runs.take(~held))
    check_finite(below)
    check_identifiable(below)
    beyond = held & (c >= below.points.c.max() + (decades - 1) * LN10)
    key = (series.table, series.name)
    return Fitted(key, decades, below, series.runs.take(beyond), run_backtest(below), fit_candidates(below))


def result_of(series: Series, scored: Scored, multipliers: dict[float, float]) -> Result:
    case = scored.fitted
    errors = {"tenfold": scored.errors.tolist()}
    for name, method in BASELINES.items():
        errors[name] = (method(case.below, case.above.points) - case.above.log_loss).tolist()
    inside = {
        f"{level:.0%}": (np.abs(scored.errors) <= multipliers[level] * scored.scale(multipliers)).tolist()
        for level in multipliers
    }
    widths = (multipliers[0.8] * scored.scale(multipliers)).tolist()
    names = (series.table, series.name, series.headline, case.decades, len(case.below))
    return Result(*names, scored.committee.best.describe(), errors, inside, widths)


def left_out(series: list[Series], decades: int) -> list[Result]:
    """Every series forecast with constants from the other tables."""
    cases: list[tuple[Series, Fitted]] = []
    for one in series:
        try:
            cases.append((one, fitted(one, decades)))
        except InputError as error:
            print(f"{one.table} {one.name}, {decades} decades: not fitted, {error}", file=sys.stderr)
    results = []
    for table in dict.fromkeys(one.table for one, _ in cases):
        others = [case for one, case in cases if one.table != table]
        handicaps = handicaps_of(others)
        multipliers = multipliers_of([score(case, handicaps) for case in others])
        own = [(one, case) for one, case in cases if one.table == table]
        results += [result_of(one, score(case, handicaps), multipliers) for one, case in own]
    print_constants([case for _, case in cases], decades)
    return results


def print_constants(cases: list[Fitted], decades: int) -> None:
    """What all tables together give, as the package has it."""
    handicaps = handicaps_of(cases)
    by_law: dict[str, list[float]] = defaultdict(list)
    by_view: dict[str, list[float]] = defaultdict(list)
    for candidate, value in handicaps.items():
        by_law[candidate.law.name].append(value)
        by_view[candidate.view.describe()].append(value)
    for name, values in [*by_law.items(), *by_view.items()]:
        print(f"{decades} decades, handicap of {name}: {np.mean(values):+.2f}")
    multipliers = multipliers_of([score(case, handicaps) for case in cases])
    print(f"{decades} decades, multipliers: {multipliers}")


def moved_by_units(series: list[Series]) -> float:
    """Largest change of a forecast or half-width, in ln loss, when each table is counted in other units."""
    random, most = np.random.default_rng(0), 0.0
    for one in series:
        c = one.runs.points.c
        below, above = (one.runs.take(kept) for kept in (c < c.max() - LN10 - 1e-9, c >= c.max() - LN10 - 1e-9))
        try:
            first = forecast_of(below, above.points, np.zeros(4))
        except InputError:
            continue
        units = random.uniform(-15, 15, 4)
        most = max(most, float(np.abs(first - forecast_of(below, above.points, units)).max()))
    return most


def forecast_of(runs: RunTable, points: Points, units: FloatArray) -> FloatArray:
    """Forecasts and 80% half-widths with N, D, C and loss counted in units e^units times smaller."""
    n, d, c, loss = units
    table = RunTable.of(moved(runs.points, n, d, c), np.exp(runs.log_loss + loss), run=runs.run.tolist())
    law = fit_scaling_law(table, replicates=40)
    there = moved(points, n, d, c)
    return np.concatenate([law.log_loss(there) - loss, law.half_widths(there, 0.8)])


def moved(points: Points, n: float, d: float, c: float) -> Points:
    return Points.of(np.exp(points.n + n), np.exp(points.d + d), np.exp(points.c + c), np.exp(points.u + d))


def summary(results: list[Result]) -> dict[str, float]:
    """Held-out runs pooled: median and 90th percentile error of each method; coverage, signed bias and widths."""
    shown: dict[str, float] = {"series": len(results), "runs": sum(len(result.half_widths) for result in results)}
    for method in ("tenfold", *BASELINES):
        pooled = np.abs(np.expm1(np.concatenate([result.errors[method] for result in results])))
        shown[f"{method} median"] = float(np.median(pooled))
        shown[f"{method} p90"] = float(np.quantile(pooled, 0.9))
    for level in ("50%", "80%", "95%"):
        shown[f"coverage {level}"] = float(np.mean(np.concatenate([result.inside[level] for result in results])))
    by_series = np.array([np.mean(result.inside["80%"]) for result in results])
    shown["mean coverage 80% by series"] = float(by_series.mean())
    shown["series covered 60-95%"] = float(np.mean((by_series >= 0.6) & (by_series <= 0.95)))
    shown["series covered over 95%"] = float(np.mean(by_series > 0.95))
    signed = [np.array(result.errors["tenfold"]) for result in results]
    shown["mean signed error by series"] = float(np.mean([errors.mean() for errors in signed]))
    shown["too high"] = float(np.mean(np.concatenate(signed) > 0))
    widths = [float(np.median(result.half_widths)) for result in results]
    shown["half width 80%"], shown["largest half width 80%"] = float(np.median(widths)), max(widths)
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
        signed = np.array(result.errors["tenfold"])
        errors, inside = np.abs(np.expm1(signed)), np.mean(result.inside["80%"])
        print(
            f"{10**result.decades:4d}x {result.table:13s} {result.name[:40]:40s} {result.fitted:4d} {len(errors):3d} "
            f"{np.median(errors):7.2%} {np.quantile(errors, 0.9):7.2%} signed {signed.mean():+7.2%} {inside:5.0%} "
            f"within {np.median(result.half_widths):6.2%}  {result.form}"
        )


def print_summary(name: str, shown: dict[str, float]) -> None:
    errors = "  ".join(f"{m} {shown[f'{m} median']:.2%}/{shown[f'{m} p90']:.2%}" for m in ("tenfold", *BASELINES))
    cover = " ".join(f"{level} {shown[f'coverage {level}']:.0%}" for level in ("50%", "80%", "95%"))
    print(f"{name:32s} {shown['series']:3.0f} series {shown['runs']:4.0f} runs  {errors}  covered: {cover}")
    print(
        f"{'':32s} by series: 80% covers {shown['mean coverage 80% by series']:.0%}, in 60-95% on "
        f"{shown['series covered 60-95%']:.0%}, over 95% on {shown['series covered over 95%']:.0%}; signed error "
        f"{shown['mean signed error by series']:+.2%}, too high {shown['too high']:.0%}; half-width "
        f"{shown['half width 80%']:.2%}, largest {shown['largest half width 80%']:.1%}"
    )


def summaries(results: list[Result], decades: int) -> dict[str, dict[str, float]]:
    headline = [result for result in results if result.headline]
    parts = {name: [r for r in headline if r.table == name] for name in dict.fromkeys(r.table for r in headline)}
    parts |= {"gadre, other validation sets": [r for r in results if not r.headline], "all but those": headline}
    return {f"{10**decades}x {name}": summary(part) for name, part in parts.items() if part}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("--tables", type=Path, required=True)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--units", action="store_true")
    options = parser.parse_args()
    there = [(options.tables / file, reader) for file, reader in READERS.items() if (options.tables / file).exists()]
    series = [one for path, reader in there for one in reader(path)]
    results, shown = [], {}
    for decades in (1, 2):
        found = left_out(series, decades)
        results += found
        shown |= summaries(found, decades)
    print_results(results)
    for name, figures in shown.items():
        print_summary(name, figures)
    recovered = recovery(options.tables / "chinchilla_epoch_svg.csv")
    for name, figures in recovered.items():
        print(f"chinchilla {name}: " + ", ".join(f"{key} {value:.6g}" for key, value in figures.items()))
    if options.units:
        print(f"other units move forecasts and half-widths by {moved_by_units(series):.1e} of ln loss at most")
    if options.json:
        whole = {"series": [asdict(r) for r in results], "summary": shown, "chinchilla": recovered}
        options.json.write_text(json.dumps(whole, indent=1, sort_keys=True) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
