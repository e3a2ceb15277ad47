"""[model], [train] and [learners] of tenfold's own campaign.toml.

tenfold trains with data parallelism inside a host (DDP or FSDP under torchrun) and synchronises hosts as learners
through a syncer. What a planned layout has beyond that is said in a comment, as is whether the model fits that way.
"""

import math
from dataclasses import replace

from tenfold.planner.cost.layout import Layout
from tenfold.planner.cost.memory import MemoryConstants, memory_bytes
from tenfold.planner.export.job import Job, is_on, job_summary, toml_table, whole
from tenfold.planner.hardware.write import toml_comment

MOST_LEARNERS = 4096
"""The largest `count` that [learners] allows."""
FITS = 0.95
"""Share of a device's memory that a run may plan with; the allocator takes some for itself."""


def campaign_sections(job: Job, memory: MemoryConstants) -> str:
    """TOML that campaign.toml can start from: loads as it is, every other section at its default.

    `memory` are the constants of the memory model, which say whether a host's devices hold the model.
    """
    lines = toml_comment(f"Planned: {job_summary(job)}")
    missing = _cannot(job)
    for remark in missing:
        lines += toml_comment(f"Not in tenfold's trainer: {remark}")
    if missing:
        lines += toml_comment("So the forecast step time is not this run's.")
    if _learner_count(job) > 1:
        lines += toml_comment(
            "Each host is a learner; with inner_steps = 1 and quorum = 0 they train in step. More inner steps need "
            "less network and cost quality."
        )
    parallel, remark = _parallel(job, memory)
    lines += toml_comment(remark)
    lines += toml_table("data.tokenizer", {"vocab_size": whole(job.shape.vocabulary)})
    lines += toml_table("model", _model(job))
    lines += toml_table("train", _train(job, parallel))
    lines += toml_table("learners", _learners(job))
    return "\n".join(lines) + "\n"


def _model(job: Job) -> dict[str, object]:
    shape = job.shape
    return {
        "depth": whole(shape.layers),
        "width": whole(shape.width),
        "head_dim": whole(shape.head_dim),
        "heads": whole(shape.heads),
        "kv_heads": whole(shape.kv_heads),
        "mlp_width": whole(shape.mlp_width),
        "mlp": "swiglu" if whole(shape.mlp_matrices) == 3 else "gelu",
        "context": whole(shape.context),
        "tied_embeddings": is_on(shape.tied_embeddings),
    }


def _train(job: Job, parallel: str) -> dict[str, object]:
    batch = _sequences(job) * whole(job.shape.context)
    mine = _sequences(job) // (_learner_count(job) * _ranks(job))
    return {
        "tokens": math.ceil(job.tokens / batch) * batch,
        "batch_tokens": batch,
        "micro_batch": min(mine, whole(job.layout.micro_batch)),
        "precision": "float32" if job.precision == "fp32" else "bf16",
        "device": "auto",
        "parallel": parallel,
    }


def _learners(job: Job) -> dict[str, object]:
    learners = _learner_count(job)
    if learners == 1:
        return {"count": 0}
    return {
        "count": learners,
        "launch": "slurm",
        "slurm_ranks": _ranks(job),
        "inner_steps": 1,
        "quorum": 0,
    }


def _learner_count(job: Job) -> int:
    return min(job.hosts, MOST_LEARNERS)


def _ranks(job: Job) -> int:
    """Ranks of one learner: the devices of a host."""
    return job.devices // job.hosts


def _sequences(job: Job) -> int:
    """Sequences of one step: as planned, rounded up so that every rank of every learner has as many."""
    shares = _learner_count(job) * _ranks(job)
    return -(-job.sequences // shares) * shares


def _parallel(job: Job, memory: MemoryConstants) -> tuple[str, str]:
    """ddp if a device holds all of the model's state, else fsdp; and what is to be said of it."""
    ranks = _ranks(job)
    capacity = job.cluster.accelerator.memory_bytes
    needs = {each: float(memory_bytes(job.shape, _own_layout(job, each), memory).total) for each in ("ddp", "fsdp")}
    if needs["ddp"] <= FITS * capacity or ranks == 1:
        chosen, how = "ddp", "on each device"
    else:
        chosen, how = "fsdp", f"on each of the {ranks} devices of a host"
    verdict = "which fits" if needs[chosen] <= FITS * capacity else "which does NOT fit: use one of the other exports"
    return chosen, (
        f"parallel = {chosen}: by the planner's memory model {needs[chosen] / 1e9:.3g} GB {how}, "
        f"of {capacity / 1e9:.3g} GB, {verdict}."
    )


def _own_layout(job: Job, parallel: str) -> Layout:
    """How tenfold's trainer would lay out one host."""
    ranks = _ranks(job)
    plain = Layout(
        tensor=1.0,
        pipeline=1.0,
        data=float(ranks),
        micro_batch=job.layout.micro_batch,
        accumulation=float(max(1, _sequences(job) // (_learner_count(job) * ranks * whole(job.layout.micro_batch)))),
    )
    return replace(plain, sharding=3.0 if parallel == "fsdp" else 0.0)


def _cannot(job: Job) -> list[str]:
    """Parts of the plan that tenfold's trainer lacks."""
    layout, shape = job.layout, job.shape
    names = ("tensor", "pipeline", "context", "expert")
    found = [f"{name} parallelism ({whole(getattr(layout, name))})" for name in names if getattr(layout, name) > 1]
    if is_on(shape.experts):
        found.append(f"{whole(shape.experts)} experts a layer; [model] below is the dense part")
    if whole(layout.recomputation):
        found.append("recomputation of activations")
    if job.precision in ("fp8", "fp4"):
        found.append(f"{job.precision}; it computes in bf16")
    if job.hosts > MOST_LEARNERS:
        found.append(f"{job.hosts} learners; {MOST_LEARNERS} is the most")
    if _sequences(job) != job.sequences:
        found.append(f"a batch of {job.sequences} sequences over all ranks; {_sequences(job)} are set")
    return found
