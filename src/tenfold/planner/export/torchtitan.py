"""A job as a configuration of torchtitan 0.2.2, the last release that reads TOML.

Keys are those of torchtitan/config/job_config.py in the wheel torchtitan-0.2.2 on PyPI. From 0.3.0 on, `--module` and
`--config` name a configuration in Python; the keys of [training] and [parallelism] are there too, as overrides on the
command line (`--parallelism.tensor_parallel_degree 8`; torchtitan/config/configs.py). Which recomputation and which
converters (fp8) a configuration has is said in Python only (torchtitan/models/NAME/config_registry.py).
"""

import math
from dataclasses import dataclass

from tenfold.planner.cost.layout import Shape
from tenfold.planner.export.job import Job, is_on, job_summary, latent_attention, toml_table, whole
from tenfold.planner.hardware.write import toml_comment

TORCHTITAN_VERSION = "0.2.2"


@dataclass(frozen=True)
class Flavor:
    """A shape that torchtitan ships: torchtitan/models/NAME/__init__.py of the same wheel."""

    name: str
    flavor: str
    shape: tuple[float, ...]
    """Values of FLAVOR_FIELDS."""
    pipelines: bool
    """Whether this model family can be cut into pipeline stages."""


FLAVOR_FIELDS = (
    *("layers", "width", "heads", "kv_heads", "head_dim", "mlp_width", "mlp_matrices", "vocabulary"),
    *("tied_embeddings", "experts", "experts_per_token", "expert_width", "shared_experts", "dense_layers"),
)
_DENSE = (0, 0, 0, 0, 0)
FLAVORS = (
    Flavor("llama3", "8B", (32, 4096, 32, 8, 128, 14336, 3, 128256, 0, *_DENSE), True),
    Flavor("llama3", "70B", (80, 8192, 64, 8, 128, 28672, 3, 128256, 0, *_DENSE), True),
    Flavor("llama3", "405B", (126, 16384, 128, 8, 128, 53248, 3, 128256, 0, *_DENSE), True),
    Flavor("qwen3", "0.6B", (28, 1024, 16, 8, 128, 3072, 3, 151936, 1, *_DENSE), False),
    Flavor("qwen3", "1.7B", (28, 2048, 16, 8, 128, 6144, 3, 151936, 1, *_DENSE), False),
    Flavor("qwen3", "4B", (36, 2560, 32, 8, 128, 9728, 3, 151936, 1, *_DENSE), False),
    Flavor("qwen3", "8B", (36, 4096, 32, 8, 128, 12288, 3, 151936, 0, *_DENSE), False),
    Flavor("qwen3", "14B", (40, 5120, 40, 8, 128, 17408, 3, 151936, 0, *_DENSE), False),
    Flavor("qwen3", "32B", (64, 5120, 64, 8, 128, 25600, 3, 151936, 0, *_DENSE), False),
    Flavor("qwen3", "30B-A3B", (48, 2048, 32, 4, 128, 6144, 3, 151936, 0, 128, 8, 768, 0, 0), False),
    Flavor("qwen3", "235B-A22B", (94, 4096, 64, 4, 128, 12288, 3, 151936, 0, 128, 8, 1536, 0, 0), False),
    # latent attention, planned as 128 heads of 96 with 8 of keys and values
    Flavor("deepseek_v3", "671B", (61, 7168, 128, 8, 96, 18432, 3, 129280, 0, 256, 8, 2048, 1, 3), True),
)
CURRENT_VERSION = "0.3.0"
CURRENT = {
    ("llama3", "8B"): "llama3_8b",
    ("llama3", "70B"): "llama3_70b",
    ("llama3", "405B"): "llama3_405b",
    ("qwen3", "0.6B"): "qwen3_0_6b",
    ("qwen3", "1.7B"): "qwen3_1_7b",
    ("qwen3", "14B"): "qwen3_14b",
    ("qwen3", "32B"): "qwen3_32b",
    ("qwen3", "30B-A3B"): "qwen3_30b_a3b",
    ("deepseek_v3", "671B"): "deepseek_v3_671b",
}
"""Functions of torchtitan/models/NAME/config_registry.py in the wheel torchtitan-0.3.0, by family and flavor."""
GONE = frozenset({"expert_tensor_parallel_degree"})
"""Keys of 0.2.2 that 0.3.0 no longer has."""


def torchtitan_toml(job: Job) -> str:
    """A job configuration. What torchtitan cannot do as planned is said in comments."""
    flavor = _flavor(job.shape)
    lines = toml_comment(f"torchtitan {TORCHTITAN_VERSION}. Planned: {job_summary(job)}")
    if why := _impossible(job, flavor):
        return "\n".join([*lines, *toml_comment(f"Not exported: {why}.")]) + "\n"
    for remark in _remarks(job, flavor):
        lines += toml_comment(remark)
    lines += toml_table("model", _model(job, flavor))
    lines += toml_table("training", _training(job))
    lines += toml_table("parallelism", _parallelism(job))
    lines += toml_table("activation_checkpoint", _checkpoint(job))
    lines += toml_table("compile", {"enable": True, "components": ["model", "loss"]})
    if job.precision == "fp8":
        lines += toml_table("quantize.linear.float8", {"recipe_name": "rowwise", "filter_fqns": ["output"]})
    lines += ["", *_current(job, flavor)]
    return "\n".join(lines) + "\n"


def torchtitan_overrides(job: Job) -> tuple[str, ...]:
    """The same for torchtitan 0.3.0: arguments of its command line. Empty where it ships no configuration for it."""
    flavor = _flavor(job.shape)
    config = CURRENT.get((flavor.name, flavor.flavor)) if flavor else None
    if flavor is None or config is None or _impossible(job, flavor):
        return ()
    sections = {"training": _training(job), "parallelism": _parallelism(job)}
    words = ["--module", flavor.name, "--config", config]
    for section, values in sections.items():
        for key, value in values.items():
            if value is not None and key not in GONE:
                words += [f"--{section}.{key}", str(value)]
    return tuple(words)


def _current(job: Job, flavor: Flavor | None) -> list[str]:
    words = torchtitan_overrides(job)
    if not words:
        return list(
            toml_comment(f"torchtitan {CURRENT_VERSION} reads no TOML and ships no configuration of this shape.")
        )
    mode = _checkpoint(job)["mode"]
    told = (
        f"torchtitan {CURRENT_VERSION} reads no TOML. Its arguments for [training] and [parallelism]; it has none for "
        f"recomputation (planned: {mode}) and precision (planned: {job.precision}), which are as in the Python of the "
        "configuration (llama3_405b: full, fp8):"
    )
    lines = [f"#   {' '.join(words[:4])}"] + [f"#   {' '.join(words[at : at + 2])}" for at in range(4, len(words), 2)]
    return [*toml_comment(told), *lines]


def _flavor(shape: Shape) -> Flavor | None:
    """The flavor with all of this shape: heads, vocabulary and tying too, else another model would be trained."""
    key = tuple(float(getattr(shape, name)) for name in FLAVOR_FIELDS)
    return next((each for each in FLAVORS if each.shape == key), None)


def _impossible(job: Job, flavor: Flavor | None) -> str | None:
    """Why torchtitan cannot train this at all; None if it can."""
    shape, piped = job.shape, whole(job.layout.pipeline) > 1
    if piped and (not flavor.pipelines if flavor else is_on(shape.experts)):
        kind = f"{flavor.name} {flavor.flavor}" if flavor else "a model with experts of this shape"
        return f"it cannot cut {kind} into pipeline stages: plan without a pipeline, or for another trainer"
    if whole(shape.mlp_matrices) != 3:
        return "its models have gated MLPs, and this one has none"
    if not latent_attention(shape) and whole(shape.kv_heads) % whole(job.layout.tensor):
        return (
            f"it shares out {whole(shape.kv_heads)} heads of keys and values, which {whole(job.layout.tensor)} "
            "tensor-parallel ranks do not divide"
        )
    if flavor is None and is_on(shape.experts) and is_on(shape.dense_layers):
        return "its qwen3 has experts in every layer, and this shape has leading layers without"
    if flavor is None and piped and whole(shape.head_dim) * whole(shape.heads) != whole(shape.width):
        return "its llama3 has heads that share out the width, and this shape's do not"
    if flavor is None and piped and is_on(shape.tied_embeddings):
        return "its llama3 has no tied embeddings, and qwen3 no pipeline"
    return None


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
        "fsdp_reshard_after_forward": "always" if float(layout.zero_stage) == 3 else "never",
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
    if pipeline > 1 and sharding == 3:
        found.append("Under a pipeline FSDP keeps weights and gradients whole until the step ends, and is forecast so.")
    if flavor is not None and latent_attention(job.shape):
        found.append("Forecast with 128 heads of 96 in place of this flavor's latent attention.")
    if sharding in (1, 2):
        found.append(
            f"ZeRO-{sharding} is planned; the nearest there is FSDP that keeps weights after the forward pass."
        )
    if is_on(job.layout.zero_bubble) and whole(job.layout.interleaving) == 1:
        found.append("The zero-bubble schedule there is ZBVZeroBubble: two model chunks on each rank.")
    if job.precision == "fp4":
        found.append("fp4 is planned; torchtitan has no such recipe, so bf16 is set.")
    if job.precision == "fp16":
        found.append("fp16 is planned; torchtitan mixes in bf16 or fp32, so bf16 is set.")
    return found


def _arguments(job: Job) -> str:
    shape = job.shape
    common = (
        f"dim={whole(shape.width)}, n_layers={whole(shape.layers)}, n_heads={whole(shape.heads)}, "
        f"n_kv_heads={whole(shape.kv_heads)}, vocab_size={whole(shape.vocabulary)}"
    )
    if _family(job, None) == "llama3":
        mlp = whole(shape.mlp_width)
        multiple = math.gcd(mlp, 256)
        inside = mlp - multiple / 2 if multiple > 1 else mlp + 0.5  # cut to whole numbers, rounded up to multiple
        multiplier = inside / int(8 * whole(shape.width) / 3)
        return f"TransformerModelArgs({common}, ffn_dim_multiplier={multiplier:.8f}, multiple_of={multiple})"
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
