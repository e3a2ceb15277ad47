"""Runs made up for tests of the calibration: step times follow from known constants."""

from dataclasses import replace

import numpy as np

from tenfold.planner.calibration.measured import Measured, measured
from tenfold.planner.rows import Run

BASE = Run(
    name="0",
    source="made up",
    release="1",
    group="mine",
    framework="megatron-core",
    model="GPT",
    hardware="A100-80GB-SXM",
    precision="bf16",
    layers=24,
    width=2048,
    heads=16,
    kv_heads=16,
    head_dim=128,
    mlp_width=8192,
    mlp_matrices=2,
    vocabulary=51200,
    context_length=2048,
    experts=0,
    experts_per_token=0,
    shared_experts=0,
    expert_width=0,
    dense_layers=0,
    tied_embeddings=0,
    devices=64,
    tensor=1,
    pipeline=1,
    interleaving=1,
    data=64,
    context=1,
    expert=1,
    micro_batch=2,
    accumulation=4,
    balanced_stages=0,
    sharding=1,
    shard_group=0,
    sequence_parallel=1,
    fused_attention=1,
    reductions=1,
    gradient_bytes=4,
    recomputation=0,
    step_seconds=1.0,
    memory_bytes=None,
)


def made_up(frameworks: tuple[str, ...] = ("one", "two"), widths: tuple[int, ...] = (1024, 2048, 4096)) -> list[Run]:
    """A small sweep over layouts, shapes and frameworks, not yet timed."""
    runs = []
    for framework in frameworks:
        for width in widths:
            for tensor in (1, 2, 4):
                for pipeline in (1, 2, 4):
                    for micro_batch in (1, 4):
                        runs.append(
                            replace(
                                BASE,
                                name=str(len(runs)),
                                framework=framework,
                                group=framework,
                                width=width,
                                heads=width / 128,
                                kv_heads=width / 128,
                                mlp_width=4 * width,
                                tensor=tensor,
                                pipeline=pipeline,
                                data=64 / tensor / pipeline,
                                micro_batch=micro_batch,
                            )
                        )
    return runs


def timed(runs: list[Run], logarithms: dict[str, np.ndarray], noise: float = 0.0, seed: int = 0) -> Measured:
    """The runs with the step times that each framework's constants give, times a little noise."""
    from tenfold.planner.calibration.fit import constants_from

    known = measured(runs)
    each = np.stack([logarithms[run.framework] for run in runs])
    seconds = known.model(constants_from(each)) * np.exp(np.random.default_rng(seed).normal(0, noise, len(runs)))
    return measured([replace(run, step_seconds=float(s)) for run, s in zip(runs, seconds, strict=True)])
