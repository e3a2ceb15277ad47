"""Words of tables of runs mean what their writers meant; words that say nothing known mean unknown."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenfold.planner.calibration.cells import (
    BadCell,
    column_of,
    flag_of,
    framework_in,
    number_of,
    precision_of,
    recomputation_of,
    sequence_parallel_of,
    sharding_of,
    text_of,
    unlike_pretraining,
)


@pytest.mark.parametrize(
    ("text", "stage"),
    [
        ("ZeRO-1", 1),
        ("ZeRO 1", 1),
        ("zero_2", 2),
        ("ZeRO stage 3 (DeepSpeed)", 3),
        ("z3", 3),
        ("1", 1),
        ("zero1=8 (optimizer sharded inside node)", 1),
        ("FSDP FULL_SHARD", 3),
        ("FSDP2, fully sharded", 3),
        ("HSDP (shard 256)", 3),
        ("Megatron-FSDP optim_grads_params", 3),
        ("FSDP SHARD_GRAD_OP", 2),
        ("FSDP (optimizer+grads sharded; params not resharded)", 2),
        ("fsdp, reshard_after_forward=False", 2),
        ("FSDP without resharding", 2),
        ("gradients sharded", 2),
        ("distributed optimizer", 1),
        ("Distributed Optimiser (mcore)", 1),
        ("DDP/dist-opt", 1),
        ("optimizer states sharded", 1),
        ("none (DDP, no bucketing)", 0),
        ("NO_SHARD", 0),
        ("replicated", 0),
        ("DeepSpeed stage3", 3),
        ("FSDP, no offload", 3),
        ("clever sharding of our own", None),
        ("n/a", None),
        ("", None),
    ],
)
def test_sharding(text: str, stage: int | None) -> None:
    found = sharding_of({"sharding": text})
    assert (None if found is None else found.stage) == stage


def test_groups_of_shards() -> None:
    groups = {"zero1=8": 8, "zero1=-1": 0, "HSDP (shard 256)": 256, "HYBRID_SHARD": -1, "FSDP": 0}
    found = {text: sharding_of({"sharding": text}) for text in groups}
    assert {text: sharding.group for text, sharding in found.items() if sharding} == groups


@pytest.mark.parametrize("text", ["zero_4", "ZeRO-9", "zero stage 12", "ZeRO-1.5"])
def test_a_stage_that_there_is_not(text: str) -> None:
    with pytest.raises(BadCell, match="stages 0 to 3"):
        sharding_of({"sharding": text})


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("selective (per-op SAC)", 1),
        ("Selective AC", 1),
        ("core attention only", 1),
        ("full (no seq-par)", 2),
        ("Full activation checkpointing", 2),
        ("activation checkpointing", 2),
        ("true", 2),
        ("none", 0),
        ("no recompute", 0),
        ("off (fits without)", 0),
        ("some of it, see text", None),
        ("full (uniform, 1 layer)", 2),
        ("block, 12 of 32 layers", None),
        ("full, 16/32 layers", None),
        ("every other layer", None),
        ("-", None),
    ],
)
def test_recomputation(text: str, value: float | None) -> None:
    assert recomputation_of({"recompute": text}) == value


def test_sequence_parallelism_is_said_in_passing() -> None:
    assert sequence_parallel_of({"recompute": "full (no seq-par)"}) == 0
    assert sequence_parallel_of({"sharding": "ZeRO-1 with sequence parallelism"}) == 1
    assert sequence_parallel_of({"notes": "long sequences"}) is None


@pytest.mark.parametrize(
    ("text", "precision"),
    [("bfloat16", "bf16"), ("MXFP8", "fp8"), ("NVFP4", "fp4"), ("amp_fp16", "fp16"), ("TF32", "fp32"), ("int3", None)],
)
def test_precision(text: str, precision: str | None) -> None:
    assert precision_of({"precision": text}) == precision


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("4096", 4096),
        ("4,096", 4096),
        ("4_096.0", 4096),
        ("4096 (padded)", 4096),
        ("8k", 8192),
        ("8K tokens", None),
        ("~4096 tokens", 4096),
        ("1e3", 1000),
        ("none", "blank"),
        ("N/A", "blank"),
        ("?", "blank"),
        ("four", None),
        ("-3", None),
        ("²", None),
        ("1e400", None),
    ],
)
def test_numbers(text: str, value: float | str | None) -> None:
    if value is None:
        with pytest.raises(BadCell, match="seq is"):
            number_of({"seq": text}, "seq")
    else:
        assert number_of({"seq": text}, "seq") == (None if value == "blank" else value)


def test_what_the_host_keeps_is_not_forecast_as_if_devices_kept_it() -> None:
    with pytest.raises(BadCell, match="host's memory"):
        sharding_of({"sharding": "ZeRO-3 + CPU offload"})


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("5,2", 5.2),
        ("0,350", 0.35),
        ("5,200", 5200),
        ("1,024,000.5", 1_024_000.5),
        ("1,02,4", None),
        ("1.234,5", None),
        ("5.2 ± 0.1 s", 5.2),
        ("5.2 +/- 0.1", 5.2),
        ("5.1-5.3", 5.2),
        ("510 – 530 ms", 0.52),
        ("-5", None),
        ("inf", None),
        ("OOM", "unknown"),
        ("did not run", "unknown"),
    ],
)
def test_what_was_measured_is_read_as_people_write_it(text: str, value: float | str | None) -> None:
    cells = {"step_time_s": text}
    if value is None:
        with pytest.raises(BadCell, match="step_time_s is"):
            number_of(cells, "step_time_s")
    else:
        assert number_of(cells, "step_time_s") == (None if value == "unknown" else pytest.approx(value))


def test_words_in_place_of_a_degree_mean_unknown_but_not_of_the_shape() -> None:
    assert number_of({"micro_batch": "tuned"}, "micro_batch") is None
    assert number_of({"layers": "32L"}, "layers") == 32
    for column, text in (("layers", "many"), ("layers", "28-32"), ("n_gpus", "64²")):
        with pytest.raises(BadCell, match=f"{column} is"):
            number_of({column: text}, column)


def test_units() -> None:
    assert number_of({"step_time_s": "350 ms"}, "step_time_s") == pytest.approx(0.35)
    assert number_of({"mem_GB_gpu": "64 GiB"}, "mem_GB_gpu") == pytest.approx(68.7, rel=0.001)


def test_flags() -> None:
    said = {"SwiGLU": 1, "yes": 1, "1.0": 1, "GELU": 0, "false": 0, "perhaps": None}
    assert {text: flag_of({"gated_mlp": text}, "gated_mlp") for text in said} == said


@pytest.mark.parametrize(
    ("column", "text"),
    [
        ("row_type", "LoRA"),
        ("row_type", "SFT"),
        ("row_type", "fine-tuning"),
        ("row_type", "GRPO"),
        ("row_type", "projected"),
        ("model", "Llama2-70B LoRA"),
        ("source", "vendor/recipes finetuning/README.md"),
        ("arch", "hybrid (Mamba)"),
    ],
)
def test_what_is_no_pretraining_says_so(column: str, text: str) -> None:
    why = unlike_pretraining({column: text})
    assert why and why.startswith(f"{column} is {text!r}")


@pytest.mark.parametrize("text", ["measured", "pretraining", "published", "benchmark run", ""])
def test_what_is_pretraining(text: str) -> None:
    assert unlike_pretraining({"row_type": text, "model": "Llama 3", "arch": "dense"}) is None


def test_frameworks_named_in_passing() -> None:
    assert framework_in("NVIDIA/dgxc-benchmarking paxml/README_175b.md") == "paxml"
    assert framework_in("Megatron-DeepSpeed fork") == "megatron-deepspeed"
    assert framework_in("NeMo 24.09 container") == "megatron-core"
    assert framework_in("a page of somebody's") is None


def test_columns_by_their_other_names() -> None:
    names = {"GPUs": "n_gpus", "Hidden size": "hidden", "n_layer": "layers", "MBS": "micro_batch", "seq len": "seq"}
    assert {head: column_of(head) for head in names} == names
    assert column_of("my own column") == "my own column"


@given(text=st.text(max_size=40), column=st.sampled_from(["sharding", "recompute", "precision", "seq", "row_type"]))
def test_any_words_are_understood_unknown_or_bad(text: str, column: str) -> None:
    cells = {column: text}
    for reader in (sharding_of, recomputation_of, precision_of, unlike_pretraining):
        try:
            reader(cells)
        except BadCell as error:
            assert column == "sharding" and ("stages" in str(error) or "host's memory" in str(error))
    try:
        value = number_of(cells, column)
    except BadCell:
        return
    assert value is None or value >= 0 or not text_of(cells, column)
