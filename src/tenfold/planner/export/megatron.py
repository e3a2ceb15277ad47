"""A job as command-line arguments of Megatron-LM (`pretrain_gpt.py`), as of megatron-core 0.16.

Names are those of megatron/training/arguments.py in NVIDIA/Megatron-LM at commit
000c4ac24f61159c138b0975def722c65245983c, and of the options that megatron-core 0.16.1 (PyPI) has in
transformer_config.py and model_parallel_config.py.
"""

import shlex

from tenfold.planner.export.job import Job, is_on, job_summary, latent_attention, whole

MEGATRON_VERSION = "megatron-core 0.16"
Flag = tuple[str, ...]
"""One argument and its values."""


def megatron_arguments(job: Job) -> tuple[str, ...]:
    """Arguments in order, each word apart. Data parallelism follows from what is left of the devices."""
    return tuple(word for flag in _flags(job) for word in flag)


def megatron_text(job: Job) -> str:
    """The same as a file of arguments, one a line, with what Megatron-LM cannot do as planned said in comments."""
    lines = [f"# {MEGATRON_VERSION}. Planned: {job_summary(job)}"]
    lines += [f"# {remark}" for remark in _remarks(job)]
    lines.append(
        f"# torchrun with {job.devices} ranks in all; to be added are data and a tokenizer of "
        f"{whole(job.shape.vocabulary):,} tokens."
    )
    lines.append(f"# {_connections(job)}")
    return "\n".join([*lines, *(shlex.join(flag) for flag in _flags(job))]) + "\n"


def _flags(job: Job) -> list[Flag]:
    return [*_model(job), *_experts(job), *_parallel(job), *_sharding(job), *_memory(job), *_training(job)]


def _model(job: Job) -> list[Flag]:
    shape = job.shape
    flags = [
        ("--num-layers", f"{whole(shape.layers)}"),
        ("--hidden-size", f"{whole(shape.width)}"),
        ("--ffn-hidden-size", f"{whole(shape.mlp_width)}"),
        ("--num-attention-heads", f"{whole(shape.heads)}"),
        ("--seq-length", f"{whole(shape.context)}"),
        ("--max-position-embeddings", f"{whole(shape.context)}"),
        ("--position-embedding-type", "rope"),
        ("--normalization", "RMSNorm"),
        ("--disable-bias-linear",),
        ("--attention-dropout", "0"),
        ("--hidden-dropout", "0"),
    ]
    flags += _attention(job)
    if whole(shape.mlp_matrices) == 3:
        flags.append(("--swiglu",))
    if not is_on(shape.tied_embeddings):
        flags.append(("--untie-embeddings-and-output-weights",))
    return flags


def _attention(job: Job) -> list[Flag]:
    """Heads of one width, in groups; or the latent attention of a model that has it."""
    shape, latent = job.shape, latent_attention(job.shape)
    if latent:
        return [
            ("--multi-latent-attention",),
            ("--q-lora-rank", f"{latent.query_rank}"),
            ("--kv-lora-rank", f"{latent.key_value_rank}"),
            ("--qk-head-dim", f"{latent.key_width}"),
            ("--qk-pos-emb-head-dim", f"{latent.position_width}"),
            ("--v-head-dim", f"{latent.value_width}"),
            ("--qk-layernorm",),
        ]
    flags: list[Flag] = [("--kv-channels", f"{whole(shape.head_dim)}")]
    if whole(shape.kv_heads) != whole(shape.heads):
        flags += [("--group-query-attention",), ("--num-query-groups", f"{whole(shape.kv_heads)}")]
    return flags


def _experts(job: Job) -> list[Flag]:
    shape = job.shape
    if not is_on(shape.experts):
        return []
    flags: list[Flag] = [
        ("--num-experts", f"{whole(shape.experts)}"),
        ("--moe-router-topk", f"{whole(shape.experts_per_token)}"),
        ("--moe-ffn-hidden-size", f"{whole(shape.expert_width)}"),
        ("--expert-model-parallel-size", f"{whole(job.layout.expert)}"),
        ("--expert-tensor-parallel-size", f"{whole(job.layout.tensor)}"),
        ("--moe-token-dispatcher-type", "alltoall"),
        ("--moe-grouped-gemm",),
    ]
    if is_on(shape.shared_experts):
        total = whole(shape.shared_experts) * whole(shape.expert_width)
        flags.append(("--moe-shared-expert-intermediate-size", f"{total}"))
    if is_on(shape.dense_layers):
        dense = whole(shape.dense_layers)
        flags.append(("--moe-layer-freq", f"([0]*{dense}+[1]*{whole(shape.layers) - dense})"))
    return flags


def _parallel(job: Job) -> list[Flag]:
    layout = job.layout
    tensor, pipeline = whole(layout.tensor), whole(layout.pipeline)
    flags: list[Flag] = [
        ("--tensor-model-parallel-size", f"{tensor}"),
        ("--pipeline-model-parallel-size", f"{pipeline}"),
        ("--context-parallel-size", f"{whole(layout.context)}"),
    ]
    if tensor > 1 and is_on(layout.sequence_parallel):
        flags.append(("--sequence-parallel",))
    if pipeline > 1:
        flags += _stages(job)
    return flags


def _stages(job: Job) -> list[Flag]:
    """How layers are shared out: evenly; with embedding and head in the place of a layer each; or one by one."""
    layers, chunks = whole(job.shape.layers), whole(job.layout.interleaving)
    if layers % job.stages == 0:
        return [("--num-layers-per-virtual-pipeline-stage", f"{layers // job.stages}")] if chunks > 1 else []
    if (layers + 2) % job.stages:
        return [("--pipeline-model-parallel-layout", _split(layers, job.stages))]
    split: list[Flag] = [("--account-for-embedding-in-pipeline-split",), ("--account-for-loss-in-pipeline-split",)]
    if chunks > 1:
        split.append(("--num-virtual-stages-per-pipeline-rank", f"{chunks}"))
    return split


def _split(layers: int, stages: int) -> str:
    """Embedding, layers and head in turn; the first stages take one more of them than the last."""
    units = f"E{'t' * layers}L"
    least, more = divmod(len(units), stages)
    sizes = [least + (number < more) for number in range(stages)]
    ends = [sum(sizes[: number + 1]) for number in range(stages)]
    return "|".join(units[end - size : end] for size, end in zip(sizes, ends, strict=True))


def _sharding(job: Job) -> list[Flag]:
    """ZeRO 1 is the distributed optimizer; 2 and 3 are Megatron FSDP, which takes no pipeline and has checkpoints of
    its own."""
    sharding = min(whole(job.layout.sharding), 1 if whole(job.layout.pipeline) > 1 else 3)
    groups = whole(job.layout.replicas) // whole(job.layout.shards)
    overlap: list[Flag] = [("--overlap-grad-reduce",)]
    if sharding == 0:
        return overlap
    flags: list[Flag] = [("--use-distributed-optimizer",), *overlap, ("--overlap-param-gather",)]
    if sharding >= 2:
        kind = "optim_grads" if sharding == 2 else "optim_grads_params"
        flags += [("--use-megatron-fsdp",), ("--data-parallel-sharding-strategy", kind)]
        flags += [("--ckpt-format", "fsdp_dtensor"), ("--no-gradient-accumulation-fusion",)]
    if groups > 1:
        flags.append(("--num-distributed-optimizer-instances", f"{groups}"))
    return flags


def _memory(job: Job) -> list[Flag]:
    recomputation = whole(job.layout.recomputation)
    if recomputation == 1:
        return [("--recompute-granularity", "selective")]
    if recomputation == 2:
        return [
            ("--recompute-granularity", "full"),
            ("--recompute-method", "uniform"),
            ("--recompute-num-layers", "1"),
        ]
    return []


def _training(job: Job) -> list[Flag]:
    flags: list[Flag] = [
        ("--micro-batch-size", f"{whole(job.layout.micro_batch)}"),
        ("--global-batch-size", f"{job.sequences}"),
        ("--train-iters", f"{job.steps}"),
    ]
    if job.precision != "fp32":
        flags.append(("--fp16",) if job.precision == "fp16" else ("--bf16",))
    if job.precision == "fp8":
        flags.append(("--fp8-format", "hybrid"))
    if is_on(job.layout.fused_attention):
        flags.append(("--use-flash-attn",))
    if float(job.layout.gradient_bytes) == 2:
        flags.append(("--grad-reduce-in-bf16",))
    return flags


def _connections(job: Job) -> str:
    """What validate_args asks of the environment: one queue keeps collectives in order; FSDP takes several."""
    if min(whole(job.layout.sharding), 1 if whole(job.layout.pipeline) > 1 else 3) >= 2:
        return "Leave CUDA_DEVICE_MAX_CONNECTIONS unset: Megatron FSDP does not run with 1."
    return "Set CUDA_DEVICE_MAX_CONNECTIONS=1 where tensor or context parallelism runs on GPUs before Blackwell."


def _remarks(job: Job) -> list[str]:
    """Remarks for the reader."""
    found = []
    if is_on(job.layout.zero_bubble):
        found.append("A zero-bubble schedule is planned; Megatron-LM has none, so the bubble will be larger.")
    if job.precision == "fp4":
        found.append("fp4 is planned; the arguments here set bf16.")
    if whole(job.layout.pipeline) > 1 and whole(job.layout.sharding) >= 2:
        found.append("Megatron FSDP takes no pipeline: with one, ZeRO 1 is set, as which it is forecast.")
    if latent_attention(job.shape):
        found.append(
            "Forecast with 128 heads of 96 in place of its latent attention, which is set here; how experts are chosen "
            "(groups, scores, bias) is left at Megatron-LM's defaults."
        )
    return found
