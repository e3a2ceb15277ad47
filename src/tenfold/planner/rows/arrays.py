"""Rows as the cost model takes them: one array for each field."""

from collections.abc import Sequence

import numpy as np

from tenfold.core.errors import InputError
from tenfold.planner.cost.device import Device, Hop
from tenfold.planner.cost.layout import Layout
from tenfold.planner.cost.numbers import Array
from tenfold.planner.cost.shape import Shape
from tenfold.planner.hardware import Cluster, Precision, default_cluster
from tenfold.planner.rows.run import Run


def shape_of(runs: Sequence[Run]) -> Shape:
    """Their shapes."""
    return Shape(
        layers=_column(runs, "layers"),
        width=_column(runs, "width"),
        heads=_column(runs, "heads"),
        kv_heads=_column(runs, "kv_heads"),
        head_dim=_column(runs, "head_dim"),
        mlp_width=_column(runs, "mlp_width"),
        mlp_matrices=_column(runs, "mlp_matrices"),
        vocabulary=_column(runs, "vocabulary"),
        context=_column(runs, "context_length"),
        experts=_column(runs, "experts"),
        experts_per_token=_column(runs, "experts_per_token"),
        shared_experts=_column(runs, "shared_experts"),
        expert_width=_column(runs, "expert_width"),
        dense_layers=_column(runs, "dense_layers"),
        tied_embeddings=_column(runs, "tied_embeddings"),
    )


def layout_of(runs: Sequence[Run]) -> Layout:
    """Their layouts."""
    return Layout(
        tensor=_column(runs, "tensor"),
        pipeline=_column(runs, "pipeline"),
        data=_column(runs, "data"),
        micro_batch=_column(runs, "micro_batch"),
        accumulation=_column(runs, "accumulation"),
        context=_column(runs, "context"),
        expert=_column(runs, "expert"),
        interleaving=_column(runs, "interleaving"),
        balanced_stages=_column(runs, "balanced_stages"),
        sharding=_column(runs, "sharding"),
        shard_group=_column(runs, "shard_group"),
        sequence_parallel=_column(runs, "sequence_parallel"),
        recomputation=_column(runs, "recomputation"),
        fused_attention=_column(runs, "fused_attention"),
        reductions=_column(runs, "reductions"),
        gradient_bytes=_column(runs, "gradient_bytes"),
        element_bytes=np.array([4.0 if run.precision == "fp32" else 2.0 for run in runs]),
    )


def device_of(runs: Sequence[Run]) -> Device:
    """Their devices in the clusters that their hardware's name stands for. Raises InputError for an unknown one."""
    known: dict[tuple[str, float], Cluster] = {}
    for run in runs:
        key = (run.hardware, run.devices)
        if key not in known:
            known[key] = default_cluster(run.hardware, round(run.devices))
    clusters = [known[run.hardware, run.devices] for run in runs]
    return Device(
        matmul_flops=np.array([_peak(c, run.precision) for c, run in zip(clusters, runs, strict=True)]),
        attention_flops=np.array([_peak(c, _sixteen(run.precision)) for c, run in zip(clusters, runs, strict=True)]),
        memory_bandwidth=np.array([c.accelerator.memory_bandwidth for c in clusters]),
        hops=tuple(_hop(clusters, number) for number in range(2)),
    )


def _sixteen(precision: Precision) -> Precision:
    """What attention, embeddings and logits are computed in."""
    return "fp32" if precision == "fp32" else "bf16"


def _peak(cluster: Cluster, precision: Precision) -> float:
    """Of the cluster's accelerator; bf16 and fp16 stand for each other where one is missing (V100 has no bf16)."""
    peaks = cluster.accelerator.peak_flops
    either: tuple[Precision, ...] = ("bf16", "fp16") if precision in ("bf16", "fp16") else (precision,)
    found = [peaks[each] for each in sorted(either, key=lambda each: each != precision) if each in peaks]
    if not found:
        raise InputError(f"{cluster.accelerator.name} has no published peak in {precision}; it has {', '.join(peaks)}")
    return float(found[0])


def _hop(clusters: Sequence[Cluster], number: int) -> Hop:
    """Of each cluster the tier with this number; where there are fewer, the last, which joins all."""
    tiers = [cluster.tiers[min(number, len(cluster.tiers) - 1)] for cluster in clusters]
    return Hop(
        devices=np.array([float(tier.devices) for tier in tiers]),
        bandwidth=np.array([tier.usable_bandwidth for tier in tiers]),
        latency=np.array([tier.latency for tier in tiers]),
    )


def _column(runs: Sequence[Run], name: str) -> Array:
    return np.array([getattr(run, name) for run in runs], dtype=np.float64)
