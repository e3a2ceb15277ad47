"""How the planner answers measured runs whose cells are written as strangers write them.

    python benchmarks/plan_strange.py measured_runs.csv [--share 0.2] [--rows 800] [--seed 0]

Of a sample of the rows that can be modelled, this share of the cells is made strange: accelerators with sites and
makers; other words for the same sharding, recomputation, precision; numbers with separators and units; and cells that
are not needed left blank. Families count evenly in the sample. Reports rows answered, errors and coverage of the 90%
interval beside the same rows as they were.
"""

import argparse
import csv
import random
import tempfile
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from tenfold.planner.calibration.evaluation import Evaluation, evaluate_rows
from tenfold.planner.calibration.runs import read_runs

Row = dict[str, str]
OPTIONAL = (
    "tp",
    "pp",
    "vpp",
    "cp",
    "ep",
    "micro_batch",
    "grad_accum",
    "dp",
    "kv_heads",
    "vocab",
    "recompute",
    "sharding",
)
NUMBERS = (
    "layers",
    "hidden",
    "heads",
    "seq",
    "gbs_seqs",
    "n_gpus",
    "ffn",
    "step_time_any_s",
    "tokens_s_gpu",
    "mem_GB_gpu",
)
UNITS = {
    "layers": "layers",
    "n_gpus": "GPUs",
    "gbs_seqs": "sequences",
    "seq": "tokens",
    "step_time_any_s": "s",
    "mem_GB_gpu": "GB",
    "tokens_s_gpu": "tok/s/GPU",
}
NOTHING = ("", "-", "n/a", "unknown", "not published", "?")
SITES = ("Selene", "our lab", "on-prem, rail-optimised", "cloud, spot", "nodes of 8", "Eos-like")
SHARDING = {
    "zero-0": ("DDP", "none", "ZeRO stage 0", "replicated"),
    "zero-1": ("ZeRO 1", "zero_1", "distributed optimizer", "optimizer states sharded", "ZeRO stage 1 (DeepSpeed)"),
    "fsdp full_shard": ("FSDP", "ZeRO-3", "fully sharded (FSDP2)", "FSDP (params, grads, optimizer sharded)", "zero_3"),
    "fsdp shard_grad_op": ("ZeRO-2", "FSDP (params not resharded)", "SHARD_GRAD_OP", "reshard_after_forward=False"),
    "none (ddp, no bucketing)": ("DDP", "plain DDP", "no sharding", "NO_SHARD"),
    "ddp/dist-opt": ("distributed optimizer", "DDP + sharded optimizer", "dist-opt", "Zero1"),
}
RECOMPUTE = {
    "none": ("None", "no", "off", "no recompute", "disabled (fits)"),
    "full": ("Full", "full (uniform, 1 layer)", "full activation checkpointing", "activation checkpointing", "full AC"),
    "selective": ("selective (attention)", "selective (per-op SAC)", "Selective AC"),
}
PRECISION = {
    "bf16": ("BF16", "bfloat16", "bf16 mixed", "bf16 (fp32 accumulation)"),
    "fp16": ("FP16", "float16", "fp16 + loss scaling", "half"),
    "fp8": ("FP8", "fp8 (delayed scaling)", "float8", "FP8-E4M3"),
}


def hardware(cell: str, draw: random.Random) -> str:
    """The accelerator with something around its name that changes nothing; a network in brackets stays."""
    if "(" in cell:
        return draw.choice((cell.upper(), f"NVIDIA {cell}", cell.replace(",", ";"), f"{cell} "))
    site = draw.choice(SITES)
    return draw.choice((f"{cell} ({site})", f"NVIDIA {cell}", cell.lower(), cell.replace("-", " "), f"{cell} [{site}]"))


def words(table: dict[str, tuple[str, ...]]) -> Callable[[str, random.Random], str]:
    """Another word for a cell that the table knows."""

    def other(cell: str, draw: random.Random) -> str:
        known = table.get(cell.strip().casefold())
        return draw.choice(known) if known else cell

    return other


def number(column: str) -> Callable[[str, random.Random], str]:
    """The number as people write it."""

    def other(cell: str, draw: random.Random) -> str:
        value = float(cell)
        plain = f"{value:g}" if value < 1e5 else repr(value)
        grouped = f"{int(value):,}" if value == int(value) else plain
        return draw.choice((grouped, f"{plain} {UNITS.get(column, '')}", f"{grouped} (see notes)", f"~{plain}"))

    return other


MAKERS: dict[str, Callable[[str, random.Random], str]] = {
    "hardware": hardware,
    "sharding": words(SHARDING),
    "recompute": words(RECOMPUTE),
    "precision": words(PRECISION),
    **{column: number(column) for column in NUMBERS},
}


def made_strange(row: Row, share: float, draw: random.Random) -> Row:
    """The row with about this share of its filled cells made strange."""
    strange = dict(row)
    for column in (*MAKERS, *OPTIONAL):
        if not row.get(column) or draw.random() >= share:
            continue
        if column in OPTIONAL and (column not in MAKERS or draw.random() < 0.5):
            strange[column] = draw.choice(NOTHING)
        elif column in MAKERS:
            strange[column] = MAKERS[column](row[column], draw)
    return strange


def sample(table: Sequence[Row], path: Path, rows: int, draw: random.Random) -> list[Row]:
    """Rows that can be modelled and were timed, as many of each group as there are places for."""
    answered = {run.name for run in read_runs(path)[0] if run.step_seconds is not None}
    groups: dict[str, list[Row]] = defaultdict(list)
    for row in table:
        if row["id"] in answered:
            groups[row["group"]].append(row)
    each = -(-rows // len(groups))
    return [row for group in groups.values() for row in draw.sample(group, min(each, len(group)))]


def written(rows: Sequence[Row], path: Path) -> Path:
    with path.open("w", encoding="utf-8", newline="") as handle:
        writer = csv.DictWriter(handle, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


def line(name: str, found: Evaluation, of: int) -> str:
    errors = np.array([abs(each.error) for each in found.answers if each.error is not None])
    inside = np.array([each.inside for each in found.answers if each.inside is not None])
    width = np.median([each.high / each.low for each in found.answers])
    return (
        f"{name:8} {len(found.answers) / of:6.1%} answered  median {np.median(errors):.1%}  p90 "
        f"{np.quantile(errors, 0.9):.1%}  in 90%: {inside.mean():.1%}  median width {width:.2f}x"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rows_csv", type=Path)
    parser.add_argument("--share", type=float, default=0.2)
    parser.add_argument("--rows", type=int, default=800)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    draw = random.Random(given.seed)
    table = list(csv.DictReader(given.rows_csv.read_text(encoding="utf-8").splitlines()))
    clean = sample(table, given.rows_csv, given.rows, draw)
    strange = [made_strange(row, given.share, draw) for row in clean]
    with tempfile.TemporaryDirectory() as folder:
        before = evaluate_rows(written(clean, Path(folder) / "clean.csv"))
        after = evaluate_rows(written(strange, Path(folder) / "strange.csv"))
    print(f"{len(clean)} rows, {given.share:.0%} of the cells made strange, seed {given.seed}")
    print(line("clean", before, len(clean)))
    print(line("strange", after, len(clean)))
    for each in (before, after):
        print("\n" + "\n".join(each.lines()))


if __name__ == "__main__":
    main()
