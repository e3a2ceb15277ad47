"""A job as a configuration of torchtitan 0.2.2, the last release that reads TOML.

Keys are those of torchtitan/config/job_config.py in the wheel torchtitan-0.2.2 on PyPI. From 0.3.0 on, `--module` and
`--config` name a configuration in Python; the keys of [training], [parallelism] and [activation_checkpoint] are there
too, as overrides on the command line (`--parallelism.tensor_parallel_degree 8`; torchtitan/config/configs.py).
"""

from dataclasses import dataclass

from tenfold.planner.cost.layout import Shape
from tenfold.planner.export.job import Job, is_on, job_summary, toml_table, whole
from tenfold.planner.hardware.write import toml_comment

TORCHTITAN_VERSION = "0.2.2"


@dataclass(frozen=True)
class Flavor:
    """A shape that torchtitan ships: torchtitan/models/NAME/__init__.py of the same wheel."""

    name: str
    flavor: str
    layers: int
    width: int
    experts: int
    mlp_width: int
    pipelines: bool
    """Whether this model family can be cut into pipeline stages."""


FLAVORS = (
    Flavor("llama3", "8B", 32, 4096, 0, 14336, True),
    Flavor("llama3", "70B", 80, 8192, 0, 28672, True),
    Flavor("llama3", "405B", 126, 16384, 0, 53248, True),
    Flavor("qwen3", "30B-A3B", 48, 2048, 128, 6144, False),
    Flavor("deepseek_v3", "671B", 61, 7168, 256, 18432, True),
)


def torchtitan_toml(job: Job) -> str:
    """A job configuration. What torchtitan cannot do as planned is said in comments."""
    flavor = _flavor(job.shape)
    lines = toml_comment(f"torchtitan {TORCHTITAN_VERSION}. Planned: {job_summary(job)}")
    for remark in _remarks(job, flavor):
        lines += toml_comment(remark)
    lines += toml_table("model", _model(job, flavor))
    lines += toml_table("training", _training(job))
    lines += toml_table("parallelism", _parallelism(job))
    lines += toml_table("activation_checkpoint", _checkpoint(job))
    lines += toml_table("compile", {"enable": True, "components": ["model", "loss"]})
    if job.precision == "fp8":
        lines += toml_table("quantize.linear.float8", {"recipe_name": "rowwise", "filter_fqns": ["output"]})
    return "\n".join(lines) + "\n"


def _flavor(shape: Shape) -> Flavor | None:
    key = tuple(whole(value) for value in (shape.layers, shape.width, shape.experts, shape.mlp_width))
    return next((each for each in FLAVORS if (each.layers, each.width, each.experts, each.mlp_width) == key), None)


def _family(job: Job, flavor: Flavor | None) -> str:
    """qwen3 takes any MLP width and experts, but cannot be cut into stages; llama3 can."""
    if flavor is not None:
        return flavor.name
    return "llama3" if whole(job.layout.pipeline) > 1 else "qwen3"


def _model(job: Job, flavor: Flavor | None) -> dict[str, object]:
    return {
        "name": _family(job, flavor),
        "flavor": flavor.flavor if flavor else "planned",
        "converters": ["quantize.linear.float8"] if job.precision == "fp8" else None,
    }


def _training(job: Job) -> dict[str, object]:
    """[training]. With a pipeline the local batch passes through it in one step; without, it is one micro-batch."""
    layout = job.layout
    piped = whole(layout.pipeline) > 1
    return {
        "local_batch_size": whole(layout.micro_batch) * (whole(layout.accumulation) if piped else 1),
        "global_batch_size": job.sequences,
        "seq_len": whole(job.shape.context),
        "steps": job.steps,
        "mixed_precision_param": "float32" if job.precision == "fp32" else "bfloat16",
        "mixed_precision_reduce": "float32",
    }


def _parallelism(job: Job) -> dict[str, object]:
    layout = job.layout
    replicas, shards = _data(job)
    pipeline, expert = whole(layout.pipeline), whole(layout.expert)
    piped = pipeline > 1
    schedule, chunks = _schedule(job)
    less = 0 if whole(job.shape.layers) % (pipeline * chunks) == 0 else 1
    return {
        "data_parallel_replicate_degree": replicas,
        "data_parallel_shard_degree": shards,
        "fsdp_reshard_after_forward": "always" if whole(layout.sharding) == 3 else "never",
        "tensor_parallel_degree": whole(layout.tensor),
        "context_parallel_degree": whole(layout.context),
        "pipeline_parallel_degree": pipeline,
        "pipeline_parallel_schedule": schedule if piped else None,
        "pipeline_parallel_microbatch_size": whole(layout.micro_batch) if piped else None,
        "pipeline_parallel_first_stage_less_layers": less if piped else None,
        "pipeline_parallel_last_stage_less_layers": less if piped else None,
        "pipeline_parallel_layers_per_stage": _layers_per_stage(job, less),
        "expert_parallel_degree": expert,
        "expert_tensor_parallel_degree": whole(layout.tensor) if expert > 1 else 1,
    }


def _layers_per_stage(job: Job, less: int) -> int | None:
    """Needed where stages are more than torchtitan makes of itself: one of a rank, two if the schedule interleaves."""
    chunks = _schedule(job)[1]
    if chunks <= 2:
        return None
    return (whole(job.shape.layers) + 2 * less) // (whole(job.layout.pipeline) * chunks)


def _data(job: Job) -> tuple[int, int]:
    """Data-parallel ranks that hold copies, and those that share one; torchtitan shards over context ranks besides."""
    data = whole(job.layout.data)
    if not is_on(job.layout.sharding):
        return data, 1
    shards = whole(job.layout.shards) // whole(job.layout.context)
    return data // shards, shards


def _schedule(job: Job) -> tuple[str, int]:
    """Name of the schedule (torch.distributed.pipelining), and model chunks of one rank that it needs."""
    chunks = whole(job.layout.interleaving)
    if is_on(job.layout.zero_bubble):
        return ("InterleavedZeroBubble", chunks) if chunks > 1 else ("ZBVZeroBubble", 2)
    return ("Interleaved1F1B", chunks) if chunks > 1 else ("1F1B", 1)


def _checkpoint(job: Job) -> dict[str, object]:
    mode = ("none", "selective", "full")[whole(job.layout.recomputation)]
    return {"mode": mode, "selective_ac_option": "op" if mode == "selective" else None}


def _remarks(job: Job, flavor: Flavor | None) -> list[str]:
    """Remarks for the reader: steps to take and limits to know."""
    found = []
    pipeline, sharding = whole(job.layout.pipeline), whole(job.layout.sharding)
    if flavor is None:
        found.append(
            f"No flavor that torchtitan ships has this shape. Add to torchtitan/models/{_family(job, flavor)}/"
            f'__init__.py: "planned": {_arguments(job)}'
        )
    if pipeline > 1 and flavor is not None and not flavor.pipelines:
        found.append(
            f"torchtitan {TORCHTITAN_VERSION} cannot cut {flavor.name} into pipeline stages: it will refuse this "
            "layout."
        )
    if sharding in (1, 2):
        found.append(
            f"ZeRO-{sharding} is planned; the nearest there is FSDP that keeps weights after the forward pass."
        )
    if is_on(job.layout.zero_bubble) and whole(job.layout.interleaving) == 1:
        found.append("The zero-bubble schedule there is ZBVZeroBubble: two model chunks on each rank.")
    if job.precision == "fp4":
        found.append("fp4 is planned; torchtitan has no such recipe, so bf16 is set.")
    return found


def _arguments(job: Job) -> str:
    shape = job.shape
    common = (
        f"dim={whole(shape.width)}, n_layers={whole(shape.layers)}, n_heads={whole(shape.heads)}, "
        f"n_kv_heads={whole(shape.kv_heads)}, vocab_size={whole(shape.vocabulary)}"
    )
    if _family(job, None) == "llama3":
        multiplier = (whole(shape.mlp_width) - 128) / (8 * whole(shape.width) / 3)  # rounded up to multiple_of
        experts = "; experts have no pipeline there" if is_on(shape.experts) else ""
        return f"TransformerModelArgs({common}, ffn_dim_multiplier={multiplier:.6f}, multiple_of=256){experts}"
    tied = ", enable_weight_tying=True" if is_on(shape.tied_embeddings) else ""
    hidden = f"head_dim={whole(shape.head_dim)}, hidden_dim={whole(shape.mlp_width)}"
    return f"Qwen3ModelArgs({common}, {hidden}{tied}{_experts(shape)})"


def _experts(shape: Shape) -> str:
    if not is_on(shape.experts):
        return ""
    return (
        f", moe_enabled=True, moe_inter_dim={whole(shape.expert_width)}, moe_args=MoEArgs("
        f"num_experts={whole(shape.experts)}, num_shared_experts={whole(shape.shared_experts)}, "
        f"top_k={whole(shape.experts_per_token)})"
    )
