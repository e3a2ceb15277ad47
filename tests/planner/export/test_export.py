"""Exports: they parse, multiply to the devices in use, and say what the program cannot do."""

import re
import tomllib
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tenfold.config import parse_campaign
from tenfold.core.errors import InputError
from tenfold.planner.calibration.calibrated import shipped_calibration
from tenfold.planner.codesign.known import known_model
from tenfold.planner.cost.layout import Layout, Shape
from tenfold.planner.export.campaign import campaign_sections
from tenfold.planner.export.job import Job
from tenfold.planner.export.megatron import megatron_arguments, megatron_text
from tenfold.planner.export.torchtitan import torchtitan_overrides, torchtitan_toml
from tenfold.planner.hardware.cluster import Cluster, default_cluster, fewer_devices, largest_divisor

# Of torchtitan/config/job_config.py in torchtitan 0.2.2: the keys of the sections that are written.
TORCHTITAN = {
    "model": {"name", "flavor", "converters"},
    "training": {
        "local_batch_size",
        "global_batch_size",
        "seq_len",
        "steps",
        "mixed_precision_param",
        "mixed_precision_reduce",
    },
    "parallelism": {
        "data_parallel_replicate_degree",
        "data_parallel_shard_degree",
        "fsdp_reshard_after_forward",
        "tensor_parallel_degree",
        "context_parallel_degree",
        "pipeline_parallel_degree",
        "pipeline_parallel_schedule",
        "pipeline_parallel_microbatch_size",
        "pipeline_parallel_first_stage_less_layers",
        "pipeline_parallel_last_stage_less_layers",
        "pipeline_parallel_layers_per_stage",
        "expert_parallel_degree",
        "expert_tensor_parallel_degree",
    },
    "activation_checkpoint": {"mode", "selective_ac_option"},
    "compile": {"enable", "components"},
    "quantize": {"linear"},
}
# Of torchtitan/config/configs.py in torchtitan 0.3.0: keys of its command line.
TORCHTITAN_CURRENT = {
    *(f"training.{key}" for key in TORCHTITAN["training"]),
    *(f"parallelism.{key}" for key in TORCHTITAN["parallelism"] - {"expert_tensor_parallel_degree"}),
}
LLAMA_70B = known_model("Llama-3-70B").shape
PLAIN = Layout(tensor=1.0, pipeline=1.0, data=8.0, micro_batch=1.0, accumulation=4.0)


def exactly(devices: int) -> Cluster:
    """So many devices in hosts that divide them."""
    part = fewer_devices(default_cluster("H100-SXM", -(-devices // 8) * 8), devices)
    return replace(part, node_devices=largest_divisor(devices, 8))


def job(shape: Shape = LLAMA_70B, layout: Layout = PLAIN, precision: str = "bf16", tokens: float = 1e12) -> Job:
    return Job(shape, layout, tokens, precision, exactly(int(layout.devices)))  # type: ignore[arg-type]


@st.composite
def jobs(draw: st.DrawFn) -> Job:
    """Any that a search could find: degrees are powers of two, experts or none, stages even or not."""
    name = draw(st.sampled_from(["Llama-3-8B", "Llama-3-70B", "Mixtral-8x7B", "Qwen3-30B-A3B", "nanoGPT-124M"]))
    shape = known_model(name).shape
    pipeline = draw(st.sampled_from([1, 2, 4, 5, 8]))
    chunks = [n for n in range(2, 9) if shape.layers % (pipeline * n) == 0] if pipeline > 1 else []
    data = 2 ** draw(st.integers(0, 4))
    sharding = draw(st.sampled_from([0, 1, 2, 3]))
    group = draw(st.sampled_from([0, max(1, data // 2)])) if sharding == 3 else 0
    context = draw(st.sampled_from([1, 2]))
    layout = Layout(
        tensor=float(draw(st.sampled_from([1, 2, 4]))),
        pipeline=float(pipeline),
        data=float(data),
        micro_batch=float(draw(st.sampled_from([1, 2, 3]))),
        accumulation=float(pipeline * draw(st.integers(1, 4))),
        context=float(context),
        expert=float(draw(st.sampled_from([1, data]))) if shape.experts and shape.experts % data == 0 else 1.0,
        interleaving=float(draw(st.sampled_from([1, *chunks]))),
        sharding=float(sharding),
        shard_group=float(group * context),
        recomputation=float(draw(st.sampled_from([0, 1, 2]))),
    )
    return job(shape, layout, draw(st.sampled_from(["bf16", "fp8"])), draw(st.floats(1e9, 1e13)))


@settings(max_examples=80, deadline=None)
@given(jobs())
def test_campaign_sections_load(job: Job) -> None:
    campaign = parse_campaign(
        campaign_sections(job, shipped_calibration().memory_constants("tenfold")), "campaign.toml"
    )
    model, learners = campaign.model, campaign.learners
    assert (model.depth, model.resolved_width) == (job.shape.layers, job.shape.width)
    assert (model.resolved_heads, model.resolved_kv_heads) == (job.shape.heads, job.shape.kv_heads)
    assert (model.resolved_mlp_width, model.context) == (job.shape.mlp_width, job.shape.context)
    assert model.mlp == ("gelu" if job.shape.mlp_matrices == 2 else "swiglu")
    assert campaign.data.tokenizer.vocab_size == job.shape.vocabulary
    assert campaign.train.tokens is not None and campaign.train.tokens >= job.tokens
    ranks = max(1, learners.count) * learners.slurm_ranks if learners.count else job.devices
    sequences = campaign.train.batch_tokens // model.context
    assert ranks == job.devices and sequences % ranks == 0 and sequences >= job.sequences


@settings(max_examples=150, deadline=None)
@given(jobs())
def test_torchtitan_parses_and_multiplies_to_the_devices(job: Job) -> None:
    config = tomllib.loads(torchtitan_toml(job))
    if not config:  # what it cannot train is not exported, with the reason
        assert job.layout.pipeline > 1 or job.shape.mlp_matrices == 2
        assert "Not exported: " in torchtitan_toml(job)
        return
    assert all(set(section) <= TORCHTITAN[name] for name, section in config.items())
    degrees, training = config["parallelism"], config["training"]
    data = degrees["data_parallel_replicate_degree"] * degrees["data_parallel_shard_degree"]
    model_parallel = degrees["tensor_parallel_degree"] * degrees["pipeline_parallel_degree"]
    assert data * model_parallel * degrees["context_parallel_degree"] == job.devices
    assert training["global_batch_size"] == job.sequences
    rounds, rest = divmod(job.sequences, training["local_batch_size"] * data)
    assert rest == 0 and rounds == (1 if job.layout.pipeline > 1 else job.layout.accumulation)
    assert training["steps"] * training["global_batch_size"] * training["seq_len"] >= job.tokens


@settings(max_examples=150, deadline=None)
@given(jobs())
def test_megatron_multiplies_to_the_devices(job: Job) -> None:
    values = flags(job)
    model_parallel = int(values["--tensor-model-parallel-size"]) * int(values["--pipeline-model-parallel-size"])
    model_parallel *= int(values["--context-parallel-size"])
    assert job.devices % model_parallel == 0
    data = job.devices // model_parallel
    batch = int(values["--global-batch-size"])
    assert batch == job.sequences and batch % (int(values["--micro-batch-size"]) * data) == 0
    if "--expert-model-parallel-size" in values:
        experts = int(values["--expert-model-parallel-size"]) * int(values["--expert-tensor-parallel-size"])
        assert job.devices % (experts * int(values["--pipeline-model-parallel-size"])) == 0
    assert int(values["--train-iters"]) * batch * int(values["--seq-length"]) >= job.tokens
    assert ("--use-distributed-optimizer" in values) == (job.layout.sharding > 0)


@settings(max_examples=100, deadline=None)
@given(layers=st.integers(1, 140), pipeline=st.integers(2, 16))
def test_megatron_stages_hold_every_layer_once(layers: int, pipeline: int) -> None:
    layout = replace(PLAIN, pipeline=float(pipeline), accumulation=float(pipeline))
    if layers < pipeline:
        return
    values = flags(job(replace(LLAMA_70B, layers=float(layers)), layout))
    split = values.get("--pipeline-model-parallel-layout")
    if split is None:
        with_ends = "--account-for-embedding-in-pipeline-split" in values
        assert (layers + 2 * with_ends) % pipeline == 0
        return
    stages = split.split("|")
    assert len(stages) == pipeline and split.replace("|", "") == "E" + "t" * layers + "L"
    assert max(map(len, stages)) - min(map(len, stages)) == 1


def test_megatron_interleaves() -> None:
    layout = replace(PLAIN, pipeline=4.0, interleaving=5.0)
    assert flags(job(layout=layout))["--num-layers-per-virtual-pipeline-stage"] == "4"
    uneven = flags(job(replace(LLAMA_70B, layers=78.0), layout))
    assert uneven["--num-virtual-stages-per-pipeline-rank"] == "5"


def test_megatron_text_is_the_same_arguments_one_a_line() -> None:
    deepseek = known_model("DeepSeek-V3").shape
    made = job(deepseek, replace(PLAIN, data=16.0, expert=16.0), "fp8")
    lines = [line for line in megatron_text(made).splitlines() if not line.startswith("#")]
    assert [line.split()[0] for line in lines] == [word for word in megatron_arguments(made) if word.startswith("--")]
    assert "--moe-layer-freq '([0]*3+[1]*58)'" in lines and "--fp8-format hybrid" in lines
    assert "--moe-shared-expert-intermediate-size 2048" in lines


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("Llama-3-8B", ("llama3", "8B")),
        ("Llama-3-405B", ("llama3", "405B")),
        ("DeepSeek-V3", ("deepseek_v3", "671B")),
        ("Qwen3-30B-A3B", ("qwen3", "30B-A3B")),
        ("Mixtral-8x7B", ("qwen3", "planned")),
    ],
)
def test_torchtitan_knows_its_flavors(name: str, expected: tuple[str, str]) -> None:
    model = tomllib.loads(torchtitan_toml(job(known_model(name).shape)))["model"]
    assert (model["name"], model["flavor"]) == expected


@pytest.mark.parametrize(
    "changed",
    [{"heads": 64.0}, {"kv_heads": 32.0}, {"vocabulary": 32000.0}, {"tied_embeddings": 1.0}, {"head_dim": 64.0}],
    ids=str,
)
def test_a_model_that_is_not_quite_a_flavor_is_not_taken_for_it(changed: dict[str, float]) -> None:
    shape = replace(known_model("Llama-3-8B").shape, **changed)  # type: ignore[arg-type]
    assert tomllib.loads(torchtitan_toml(job(shape)))["model"]["flavor"] == "planned"
    assert torchtitan_overrides(job(shape)) == ()


def test_experts_in_a_pipeline_are_not_exported_as_a_dense_model() -> None:
    text = torchtitan_toml(job(known_model("Mixtral-8x7B").shape, replace(PLAIN, pipeline=4.0)))
    assert tomllib.loads(text) == {} and "Not exported: it cannot cut a model with experts" in " ".join(text.split())


def test_arguments_of_the_current_torchtitan_are_keys_that_it_has() -> None:
    words = torchtitan_overrides(job(known_model("Llama-3-8B").shape, replace(PLAIN, pipeline=2.0)))
    assert words[:4] == ("--module", "llama3", "--config", "llama3_8b")
    keys = [word.removeprefix("--") for word in words[4::2]]
    assert keys and set(keys) <= TORCHTITAN_CURRENT
    assert f"--{keys[0]} {words[5]}" in torchtitan_toml(
        job(known_model("Llama-3-8B").shape, replace(PLAIN, pipeline=2.0))
    )


@pytest.mark.parametrize("sharding", [2.0, 3.0])
def test_megatron_fsdp_gets_the_checkpoints_that_it_takes_and_no_pipeline(sharding: float) -> None:
    values = flags(job(layout=replace(PLAIN, sharding=sharding)))
    assert values["--ckpt-format"] == "fsdp_dtensor" and "--use-megatron-fsdp" in values
    piped = flags(job(layout=replace(PLAIN, sharding=sharding, pipeline=2.0)))
    assert "--use-megatron-fsdp" not in piped and "--use-distributed-optimizer" in piped


def test_latent_attention_goes_to_megatron_as_what_it_is() -> None:
    deepseek = job(known_model("DeepSeek-V3").shape, replace(PLAIN, data=16.0, expert=16.0))
    values = flags(deepseek)
    assert "--multi-latent-attention" in values and values["--kv-lora-rank"] == "512"
    assert "--group-query-attention" not in values and "--kv-channels" not in values
    assert "latent attention" in megatron_text(deepseek) and "latent attention" in torchtitan_toml(deepseek)
    other = job(replace(known_model("DeepSeek-V3").shape, layers=60.0), replace(PLAIN, data=16.0, expert=16.0))
    assert "--multi-latent-attention" not in flags(other)


@pytest.mark.parametrize("mlp_width", [21504, 5000, 5001, 5002])
def test_torchtitan_says_what_to_add_for_a_shape_it_lacks(mlp_width: int) -> None:
    shape = replace(LLAMA_70B, width=6144.0, heads=48.0, mlp_width=float(mlp_width))
    text = torchtitan_toml(job(shape, replace(PLAIN, pipeline=2.0)))
    found = re.search(r"ffn_dim_multiplier=([\d.]+), multiple_of=(\d+)", " ".join(text.split()))
    assert found is not None
    hidden = int(float(found[1]) * int(8 * 6144 / 3))  # as torchtitan's FeedForward computes it
    multiple = int(found[2])
    assert multiple * ((hidden + multiple - 1) // multiple) == mlp_width
    assert f"hidden_dim={mlp_width}" in torchtitan_toml(job(shape))


def test_what_torchtitan_cannot_train_as_it_is_is_not_exported_as_something_else() -> None:
    few_keys = job(replace(LLAMA_70B, kv_heads=2.0), replace(PLAIN, tensor=4.0))
    text = torchtitan_toml(few_keys)
    assert tomllib.loads(text) == {} and "2 heads of keys and values" in " ".join(text.split())
    assert flags(few_keys)["--num-query-groups"] == "2"
    leading = replace(known_model("Mixtral-8x7B").shape, dense_layers=2.0)
    text = torchtitan_toml(job(leading))
    assert tomllib.loads(text) == {} and "experts in every layer" in " ".join(text.split())
    assert "--moe-layer-freq" in flags(job(leading))


def test_what_a_command_line_does_not_set_is_said() -> None:
    full = job(known_model("Llama-3-8B").shape, replace(PLAIN, recomputation=2.0), "fp16")
    text = " ".join(torchtitan_toml(full).replace("#", " ").split())
    assert "none for recomputation (planned: full) and precision (planned: fp16)" in text
    assert "fp16 is planned; torchtitan mixes in bf16" in text
    assert "a tokenizer of 128,256 tokens" in megatron_text(full)
    assert "Set CUDA_DEVICE_MAX_CONNECTIONS=1" in megatron_text(full)
    assert "unset" in megatron_text(job(layout=replace(PLAIN, sharding=3.0)))


def test_schedules_of_torchtitan() -> None:
    def schedule(**changes: float) -> str:
        layout = replace(PLAIN, pipeline=4.0, **changes)
        return str(tomllib.loads(torchtitan_toml(job(layout=layout)))["parallelism"]["pipeline_parallel_schedule"])

    assert schedule() == "1F1B"
    assert schedule(interleaving=5.0) == "Interleaved1F1B"
    assert schedule(zero_bubble=1.0) == "ZBVZeroBubble"
    assert schedule(zero_bubble=1.0, interleaving=5.0) == "InterleavedZeroBubble"


def test_what_cannot_be_done_is_said() -> None:
    mixed = job(known_model("Qwen3-30B-A3B").shape, replace(PLAIN, pipeline=2.0, tensor=2.0, sharding=2.0), "fp8")
    ours = " ".join(
        campaign_sections(mixed, shipped_calibration().memory_constants("tenfold")).replace("#", "").split()
    )
    for missing in ("tensor parallelism (2)", "pipeline parallelism (2)", "128 experts a layer", "fp8"):
        assert missing in ours
    theirs = " ".join(torchtitan_toml(mixed).replace("#", "").split())
    assert "cannot cut qwen3 30B-A3B into pipeline stages" in theirs
    flat = torchtitan_toml(job(known_model("Qwen3-30B-A3B").shape, replace(PLAIN, sharding=2.0)))
    assert "ZeRO-2 is planned" in " ".join(flat.replace("#", "").split())
    assert "Megatron FSDP takes no pipeline" in megatron_text(mixed)
    assert "zero-bubble" in megatron_text(job(layout=replace(PLAIN, pipeline=4.0, zero_bubble=1.0)))


def test_our_trainer_shards_only_what_does_not_fit_on_a_device() -> None:
    small = replace(known_model("nanoGPT-124M").shape, mlp_matrices=3.0)
    assert 'parallel = "ddp"' in campaign_sections(job(small), shipped_calibration().memory_constants("tenfold"))
    large = campaign_sections(
        job(replace(LLAMA_70B, context=1024.0)), shipped_calibration().memory_constants("tenfold")
    )
    assert 'parallel = "fsdp"' in large and "does NOT fit" in " ".join(large.replace("#", "").split())


def test_one_device_needs_no_learners() -> None:
    one = job(known_model("nanoGPT-124M").shape, replace(PLAIN, data=1.0))
    assert (
        parse_campaign(campaign_sections(one, shipped_calibration().memory_constants("tenfold")), "x").learners.count
        == 0
    )


@pytest.mark.parametrize(
    ("layout", "message"),
    [
        (replace(PLAIN, tensor=3.0), "tensor = 3 does not divide heads = 64"),
        (replace(PLAIN, data=7.5), "not a whole number"),
        (replace(PLAIN, expert=16.0), "expert = 16 does not divide data x context = 8"),
    ],
)
def test_impossible_layouts_are_refused_in_one_line(layout: Layout, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        Job(LLAMA_70B, layout, 1e9, "bf16", default_cluster("H100-SXM", 64))
    assert "\n" not in str(caught.value)


def test_more_devices_than_there_are_is_refused() -> None:
    with pytest.raises(InputError, match="the layout needs 8 devices; 4 x H100-SXM has 4"):
        Job(LLAMA_70B, PLAIN, 1e9, "bf16", default_cluster("H100-SXM", 4))


def flags(job: Job) -> dict[str, str]:
    """Arguments by name; switches are empty."""
    words = megatron_arguments(job)
    starts = [number for number, word in enumerate(words) if word.startswith("--")]
    return {words[at]: " ".join(words[at + 1 : end]) for at, end in zip(starts, [*starts[1:], len(words)], strict=True)}
