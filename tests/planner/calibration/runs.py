"""Runs made up for tests of the calibration: step times follow from known constants."""

from dataclasses import replace
from itertools import product

import numpy as np

from tenfold.planner.calibration.arrays import MeasuredRuns, measured_runs
from tenfold.planner.calibration.runs import MeasuredRun
from tenfold.planner.cost.layout import Layout, Shape

BASE = MeasuredRun(
    name="0",
    source="made up",
    release="1",
    group="mine",
    framework="megatron-core",
    model="GPT",
    hardware="A100-80GB-SXM",
    precision="bf16",
    devices=64,
    shape=Shape(24.0, 2048.0, 16.0, 16.0, 128.0, 8192.0, 2.0, 51200.0, 2048.0),
    layout=Layout(tensor=1.0, pipeline=1.0, data=64.0, micro_batch=2.0, accumulation=4.0),
    step_seconds=1.0,
    memory_bytes=None,
)


def shape_of(width: float) -> Shape:
    """The base's shape at another width."""
    heads = width / 128
    return replace(BASE.shape, width=width, heads=heads, kv_heads=heads, mlp_width=4 * width)


def made_up(
    frameworks: tuple[str, ...] = ("one", "two"), widths: tuple[int, ...] = (1024, 2048, 4096)
) -> list[MeasuredRun]:
    """A small sweep over layouts, shapes and frameworks, not yet timed."""
    runs: list[MeasuredRun] = []
    for framework, width, tensor, pipeline, micro_batch in product(frameworks, widths, (1, 2, 4), (1, 2, 4), (1, 4)):
        layout = replace(
            BASE.layout, tensor=tensor, pipeline=pipeline, data=64 / tensor / pipeline, micro_batch=micro_batch
        )
        name = str(len(runs))
        runs.append(
            replace(BASE, name=name, framework=framework, group=framework, shape=shape_of(width), layout=layout)
        )
    return runs


def timed(
    runs: list[MeasuredRun], logarithms: dict[str, np.ndarray], noise: float = 0.0, seed: int = 0
) -> MeasuredRuns:
    """The runs with the step times that each framework's constants give, times a little noise."""
    from tenfold.planner.calibration.priors import constants_from

    known = measured_runs(runs)
    each = np.stack([logarithms[run.framework] for run in runs])
    seconds = known.model(constants_from(each)) * np.exp(np.random.default_rng(seed).normal(0, noise, len(runs)))
    return measured_runs([replace(run, step_seconds=float(s)) for run, s in zip(runs, seconds, strict=True)])
