"""How well the planner forecasts runs that its constants were not fitted to.

    python benchmarks/plan_accuracy.py measured_runs.csv --failures nanotron_sweep_with_failures.csv

Step time by family with model shapes, sources and the largest runs held out, beside constant utilisation on the same
rows; the ranking of layouts in the nanotron sweep; memory, and which failed configurations it calls too large. Fits
start from the priors each time. Takes minutes.
"""

import argparse
import csv
import sys
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from scipy.stats import spearmanr

from tenfold.planner.calibration.evaluation import HELD_OUT, evaluate_rows
from tenfold.planner.calibration.fit import fit_memory
from tenfold.planner.calibration.forecasts import RowForecast
from tenfold.planner.calibration.readings import USABLE
from tenfold.planner.calibration.runs import read_runs
from tenfold.planner.cost.layout import Array, Layout, Shape
from tenfold.planner.cost.memory import memory_bytes

TIED = ("1.34B", "3.57B")  # nanotron's benchmark ties embeddings below 4 B
FULL = USABLE * 80e9


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rows", type=Path)
    parser.add_argument("--failures", type=Path)
    parser.add_argument("--held-out", choices=HELD_OUT, action="append", help="Default: each in turn.")
    arguments = parser.parse_args()
    for out in arguments.held_out or HELD_OUT:
        evaluation = evaluate_rows(arguments.rows, out, told)
        print("\n" + "\n".join(evaluation.lines()), flush=True)
        if out == "shape":
            sweep = [each for each in evaluation.answers if each.family == "nanotron"]
            print(ranking(sweep, arguments.rows))
            print(pooled(evaluation.answers))
    if arguments.failures:
        print(failures(arguments.failures, arguments.rows))


def told(done: int, of: int) -> None:
    end = "\n" if done == of else ""
    print(f"\r  fitted without {done} of {of} ", end=end, file=sys.stderr, flush=True)


def pooled(answers: Sequence[RowForecast]) -> str:
    """The families that have no goal of their own, together."""
    named = ("vtrain", "llmfoundry", "dgxc", "nanotron")
    others = [abs(each.error) for each in answers if each.error is not None and not each.family.startswith(named)]
    return (
        f"all other families together: {len(others)} rows, median {np.median(others):.1%}, MAPE {np.mean(others):.1%}"
    )


def ranking(answers: Sequence[RowForecast], rows: Path) -> str:
    """Within each model and number of devices: rank correlation, and the best of the five forecast best."""
    devices = {run.name: run.devices for run in read_runs(rows)[0]}
    groups: dict[tuple[str, float], list[RowForecast]] = defaultdict(list)
    for each in answers:
        groups[each.model, devices[each.row]].append(each)
    large = [group for group in groups.values() if len(group) >= 6]
    rank, regret = [], []
    for group in large:
        told_, seen = (
            np.array([g.step_seconds for g in group]),
            np.array([g.measured_seconds for g in group], dtype=float),
        )
        rank.append(spearmanr(told_, seen).statistic)
        regret.append(seen[np.argsort(told_)[:5]].min() / seen.min())
    everything = spearmanr([a.step_seconds for a in answers], [a.measured_seconds for a in answers]).statistic
    return (
        f"nanotron sweep, model shapes held out: Spearman {everything:.3f} over all rows; in the {len(large)} groups "
        f"of one model and device count mean {np.mean(rank):.3f}, median {np.median(rank):.3f}; top-5 regret mean "
        f"{np.mean(regret):.3f}, median {np.median(regret):.3f}, largest {max(regret):.2f}"
    )


def failures(path: Path, rows: Path) -> str:
    """Failed configurations that memory can explain, and how many of them are forecast as too large.

    A failure counts as plausibly out of memory if every stage has a layer and nothing that needs at least as much ran.
    """
    table = list(csv.DictReader(path.read_text(encoding="utf-8").splitlines()))
    bytes_ = np.empty(len(table))
    models = np.array([row["model"] for row in table])
    for model in sorted(set(models)):  # constants that have not seen the model
        hidden = next(float(row["hidden"]) for row in table if row["model"] == model)
        constants = fit_memory([run for run in read_runs(rows)[0] if run.shape.width != hidden])
        chosen = models == model
        bytes_[chosen] = _bytes([row for row, take in zip(table, chosen, strict=True) if take], constants)
    ran = np.array([row["status"] == "ok" for row in table])
    plausible = np.array([not ok and _plausible(row, table) for row, ok in zip(table, ran, strict=True)])
    flagged = bytes_ > FULL
    return (
        f"memory, models held out: of {int((~ran).sum())} failed configurations {int(plausible.sum())} are plausibly "
        f"out of memory; above {FULL / 1e9:.1f} GB: {flagged[plausible].mean():.1%} of them, and "
        f"{flagged[ran].mean():.1%} of the {int(ran.sum())} that ran"
    )


def _plausible(row: dict[str, str], table: Sequence[dict[str, str]]) -> bool:
    if int(row["pp"]) > int(row["layers"]):
        return False
    return not any(
        other["status"] == "ok"
        and all(other[key] == row[key] for key in ("model", "tp", "pp"))
        and int(other["micro_batch"]) >= int(row["micro_batch"])
        and int(other["zero"]) <= int(row["zero"])
        and int(other["dp"]) <= int(row["dp"])
        for other in table
    )


def _bytes(table: Sequence[dict[str, str]], constants: object) -> Array:
    def column(name: str) -> Array:
        return np.array([float(row[name]) for row in table])

    width, heads = column("hidden"), column("heads")
    shape = Shape(
        layers=column("layers"),
        width=width,
        heads=heads,
        kv_heads=heads,
        head_dim=width / heads,
        mlp_width=column("ffn"),
        mlp_matrices=3.0,
        vocabulary=column("vocab"),
        context=column("seq"),
        tied_embeddings=np.array([float(row["model"] in TIED) for row in table]),
    )
    layout = Layout(
        tensor=column("tp"),
        pipeline=column("pp"),
        data=column("dp"),
        micro_batch=column("micro_batch"),
        accumulation=column("grad_accum"),
        sharding=column("zero"),
        balanced_stages=1.0,
    )
    return np.asarray(memory_bytes(shape, layout, constants).total)  # type: ignore[arg-type]


if __name__ == "__main__":
    main()
