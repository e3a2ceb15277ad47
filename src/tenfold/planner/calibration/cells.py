"""Cells of a table of runs: what the words that people write there mean. Words that say nothing known mean unknown.

Functions give None for what is blank or not understood, and raise BadCell for what is understood and cannot be.
"""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tenfold.planner.hardware.accelerator import Precision

Cells = Mapping[str, str]
LARGEST = 1e15
_BLANK = frozenset(
    {"", "-", "--", "–", "—", "?", "n/a", "na", "nan", "null", "none given", "not given", "not published"}
)
_BLANK_TOO = frozenset({"unknown", "unspecified", "not reported", "n.a.", "tbd", "unpublished", "#n/a", "any", "auto"})
_NOTHING = frozenset({"none", "no", "off"})  # of a number: blank; of sharding or recomputation: none of it
_BRACKETS = re.compile(r"[(\[{][^()\[\]{}]*[)\]}]")
DEGREES = frozenset({"tp", "pp", "vpp", "cp", "ep", "dp", "micro_batch", "grad_accum"})
MEASURED = frozenset({"step_time_s", "step_time_any_s", "tokens_s_gpu", "tflops_gpu", "mem_GB_gpu"})
_NUMBER = re.compile(r"[~≈+]?\s*([0-9][0-9_,]*\.?[0-9]*(?:e[+-]?[0-9]{1,3})?|\.[0-9]+)\s*(.*)", re.I | re.S)
_ERROR = re.compile(r"\s*(?:±|\+/-|\+-).*", re.S)
_RANGE = re.compile(r"([0-9.,]+)\s*(?:-|–|—|to|\.\.)\s*([0-9].*)", re.I | re.S)
_THOUSANDS = re.compile(r"[1-9][0-9]{0,2}(?:,[0-9]{3})+(?:\.[0-9]*)?")
_UNITS: Mapping[str, float] = {
    **dict.fromkeys(
        ("", "l", "layers", "heads", "gpus", "gpu", "devices", "chips", "accelerators", "ranks", "ways"), 1.0
    ),
    **dict.fromkeys(("way", "experts", "stages", "sequences", "seqs", "seq", "samples", "tokens", "tok", "nodes"), 1.0),
    **dict.fromkeys(("s", "sec", "secs", "second", "seconds", "s/step", "s/iter", "gb", "tokens/s", "tok/s"), 1.0),
    **dict.fromkeys(("tokens/s/gpu", "tok/s/gpu", "tokens/sec/gpu", "gb/gpu", "x"), 1.0),
    **dict.fromkeys(("ms", "msec", "milliseconds"), 1e-3),
    "gib": 1.073741824,
    "mib": 1.048576e-3,
    "mb": 1e-3,
}


class BadCell(Exception):
    """A cell that is understood and cannot be, or cells that contradict each other."""


def text_of(cells: Cells, column: str) -> str:
    """The cell without spaces around it; empty where it only says that nothing is known."""
    text = (cells.get(column) or "").strip()
    return "" if text.casefold() in _BLANK or text.casefold() in _BLANK_TOO else text


def number_of(cells: Cells, column: str) -> float | None:
    """A number that is not negative: 4096, 4,096, "4096 (padded)", "8k", "350 ms". None where the cell is blank.

    None too where words stand in place of a degree or of what was measured: "tuned", "OOM".
    """
    text = text_of(cells, column)
    if not text or text.casefold() in _NOTHING:
        return None
    if column in DEGREES | MEASURED and not re.search(r"\d|∞|\binf", text, re.I):
        return None
    try:
        value = float(text)
    except ValueError:
        value = _measured(_BRACKETS.sub("", text).strip(), column)
    if not 0 <= value <= LARGEST:  # nan is neither
        raise BadCell(f"{column} is {text!r}; a number from 0 to {LARGEST:g} is needed")
    return value


def _measured(text: str, column: str) -> float:
    """Of what was measured also "5.2 ± 0.1 s", and the middle of "5.1-5.3"."""
    if column not in MEASURED:
        return _with_unit(text, column)
    text = _ERROR.sub("", text)
    if ends := _RANGE.fullmatch(text):
        unit = re.sub(r"^[0-9.,]+", "", ends[2])
        return (_with_unit(ends[1] + unit, column) + _with_unit(ends[2], column)) / 2
    return _with_unit(text, column)


def _with_unit(text: str, column: str) -> float:
    found = _NUMBER.fullmatch(text)
    if not found:
        return math.nan
    digits, unit = _plain_digits(found[1]), found[2].strip().casefold()
    if not digits:
        return math.nan
    if unit == "k":  # thousands of tokens are counted in powers of two
        return float(digits) * (1024 if column in ("seq", "vocab") else 1000)
    return float(digits) * _UNITS.get(unit, math.nan)


def _plain_digits(text: str) -> str:
    """4,096 is 4096; 5,2 is 5.2, as half of the world writes it; nothing where neither can be meant."""
    text = text.replace("_", "")
    if "," not in text or _THOUSANDS.fullmatch(text):
        return text.replace(",", "")
    return text.replace(",", ".") if text.count(",") == 1 and "." not in text else ""


def count_of(cells: Cells, column: str) -> float | None:
    """A whole number of at least 1."""
    value = number_of(cells, column)
    if value is not None and (value < 1 or value != round(value)):
        raise BadCell(f"{column} is {value:g}; a whole number of at least 1 is needed")
    return value


def flag_of(cells: Cells, column: str) -> float | None:
    """1 or 0, from yes, no, or the name of an activation in `gated_mlp`."""
    text = text_of(cells, column).casefold()
    if text in ("1", "1.0", "yes", "y", "true", "t", "gated", "swiglu", "geglu", "glu", "silu", "tied"):
        return 1.0
    if text in ("0", "0.0", "no", "n", "false", "f", "none", "gelu", "relu", "squared relu", "relu^2", "untied"):
        return 0.0
    return None


def plain_words(text: str) -> str:
    """In lower case, with one space for whatever stands between words."""
    return " ".join(re.sub(r"[^a-z0-9=+]+", " ", text.casefold().replace("optimiser", "optimizer")).split())


HOST = -1.0


@dataclass(frozen=True)
class Sharding:
    """What a cell says of sharding: ZeRO's stage, and ranks that share one copy (0: all of them; HOST: of a host)."""

    stage: float
    group: float = 0.0


_ZERO = re.compile(r"\b(?:zero|z)(?: stage)? ?=?(\d+)(?:=(-?\d+))?|\bstage ?(\d+)\b")
_HALF_STAGE = re.compile(r"\bz(?:ero)?[ _-]?(?:stage)?[ _=-]?\d\.\d*[1-9]", re.I)
_FULL_WORDS = r"full ?shard|\bfsdp|\bhsdp|hybrid ?shard|fully sharded|optim grads params|params? (?:are )?sharded"
_KEPT_WORDS = (
    r"shard ?grad ?op|(?:not|never|no|without) re ?shard|reshard after forward ?=? ?(?:false|0|no)"
    r"|optim grads?\b(?! params)"
)
_KEPT_TOO = r"params? (?:are )?(?:not (?:re)?sharded|replicated|kept|whole)"
_OPTIMIZER_WORDS = (
    r"dist(?:ributed)? ?opt|optimizer(?: states?)? shard|shard\w* optimizer|optimizer states? (?:are )?shard"
)
_GRADIENT_WORDS = r"(?:grads?|gradients?) (?:are )?shard|optimizer ?\+ ?grad"
_NO_WORDS = r"\bddp\b|\bno shard|\bnone\b|\bno\b|replicated|not sharded|data parallel only|\bdp\b"


def sharding_of(cells: Cells) -> Sharding | None:
    """ZeRO's stage from words such as "ZeRO-1", "zero 2", "FSDP FULL_SHARD", "distributed optimizer", "DDP".

    FSDP whose weights are not sharded again after the forward pass keeps them whole: stage 2.
    """
    text = text_of(cells, "sharding")
    words = plain_words(text)
    if "offload" in words and not re.search(r"\bno offload|without offload", words):
        raise BadCell(f"sharding is {text!r}: what is kept in the host's memory is not modelled")
    if re.fullmatch(r"\d( 0)?", words):
        words = f"zero {words[0]}"
    if found := _ZERO.search(words):
        stage = int(found[1] or found[3])
        if stage > 3 or _HALF_STAGE.search(text):
            raise BadCell(f"sharding is {text!r}; ZeRO has stages 0 to 3")
        return Sharding(float(stage), float(max(0, int(found[2] or 0))))
    if re.search(_KEPT_WORDS, words) or re.search(_KEPT_TOO, words):
        return Sharding(2.0)
    if re.search(_FULL_WORDS, words):
        return Sharding(3.0, _group(words))
    if re.search(_GRADIENT_WORDS, words):
        return Sharding(2.0)
    if re.search(_OPTIMIZER_WORDS, words):
        return Sharding(1.0)
    return Sharding(0.0) if re.search(_NO_WORDS, words) else None


def _group(words: str) -> float:
    """Ranks of one group under HSDP: "HSDP (shard 256)", "HYBRID_SHARD=8"."""
    if "hsdp" not in words and "hybrid" not in words:
        return 0.0
    found = re.search(r"(?:hsdp|shard|group)(?: group| size| of|=| )*(\d+)", words)
    return float(found[1]) if found else HOST


NONE, SELECTIVE, FULL = 0.0, 1.0, 2.0
_RECOMPUTATION: tuple[tuple[str, float], ...] = (
    (r"selective|\bsel\b|\bsac\b|per op|attention only|core attn|core attention|partial", SELECTIVE),
    (r"^(?:none|no|off|false|0|0 0|disabled?|without|never)\b|no (?:activation )?(?:recompute|checkpoint)", NONE),
    (r"full|\bfull ac\b|uniform|every layer|all layers|activation checkpoint|^(?:yes|on|true|1|1 0|ac)\b", FULL),
)


_SOME_LAYERS = (
    r"\b\d+ ?(?:of|out of) (?:the )?\d+|every (?:other|second|third|2nd|3rd|\d+\w* )|half (?:of )?(?:the )?layers"
    r"|some layers|^(?:full )?block\b"
)


def recomputation_of(cells: Cells) -> float | None:
    """0 none, 1 selective, 2 full, from "selective (per-op SAC)", "full (no seq-par)", "activation checkpointing".

    Of some of the layers only ("block, 12 of 32 layers") it is none of these: not known.
    """
    text = text_of(cells, "recompute")
    if re.search(_SOME_LAYERS, plain_words(text)) or re.search(r"\b\d+/\d+\b", text):
        return None
    for words in (plain_words(_BRACKETS.sub("", text)), plain_words(text)):
        for pattern, value in _RECOMPUTATION:
            if re.search(pattern, words):
                return value
    return None


def sequence_parallel_of(cells: Cells) -> float | None:
    """1 or 0 where a cell says whether norms and residuals are split over the tensor-parallel group."""
    for column in ("recompute", "sharding", "notes"):
        words = plain_words(text_of(cells, column))
        if re.search(r"(?:no|without|w o) seq(?:uence)? ?par", words):
            return 0.0
        if re.search(r"(?:with|\+) ?seq(?:uence)? ?par", words):
            return 1.0
    return None


FEWEST_BITS_FIRST: tuple[Precision, ...] = ("fp4", "fp8", "bf16", "fp16", "fp32")


def precision_of(cells: Cells) -> Precision | None:
    """Bits of the matrix products, from the many ways to write it."""
    words = text_of(cells, "precision").casefold()
    for sign, precision in (("tf32", "fp32"), ("bfloat16", "bf16"), ("float16", "fp16"), ("half", "fp16")):
        words = words.replace(sign, precision)
    words = words.replace("float8", "fp8").replace("float32", "fp32").replace("e4m3", "fp8").replace("nvfp4", "fp4")
    return next((each for each in FEWEST_BITS_FIRST if each in words), None)


_CONVENTIONS: Sequence[tuple[str, str]] = (
    (r"hardware|hfu|recompute|\bckpt\b|checkpoint", "hardware"),
    (r"non ?causal|nvidia|12 ?l ?h ?s|12 ?lhs|palm|megatron", "whole"),
    (r"causal|6 ?l ?h ?s|half", "half"),
)


def flops_convention_of(cells: Cells) -> str | None:
    """How FLOPs were counted: attention "whole" as if nothing were masked, "half", or as the "hardware" computed them
    with what it computed again. None where the cell does not say it."""
    words = plain_words(text_of(cells, "flops_convention"))
    return next((kind for pattern, kind in _CONVENTIONS if re.search(pattern, words)), None)


_OTHER_KINDS = (
    r"\b(?:q?lora|peft|adapters?|sft|supervised|fine ?tun\w*|finetun\w*|instruct\w* tun\w*|dpo|ppo|grpo|rlhf|rl|reward"
    r"|distill\w*|inference|serving|decod\w*|prefill|generation|evaluation|simulat\w*|project\w*|predict\w*|estimat\w*"
    r"|target|theoretical|model(?:l?ed)|extrapolat\w*)\b"
)
_OTHER_SOURCES = r"\b(?:q?lora|peft|sft|fine ?tun\w*|finetun\w*|dpo|grpo|rlhf)\b"
_OTHER_MODELS = r"\b(?:hybrid|mamba\d?|ssm|rwkv|t5|encoder decoder|enc dec|vit|diffusion|dit|unet|clip)\b"


def unlike_pretraining(cells: Cells) -> str | None:
    """Why a row is no measured pretraining of a decoder-only transformer: the column and its words. None if it is."""
    kinds = (("row_type", _OTHER_KINDS), ("model", _OTHER_SOURCES), ("source", _OTHER_SOURCES))
    for column, pattern in (*kinds, ("source_loc", _OTHER_SOURCES), ("arch", _OTHER_MODELS)):
        text = text_of(cells, column)
        if re.search(pattern, plain_words(text)):
            what = "decoder-only transformers are" if column == "arch" else "measured pretraining is"
            return f"{column} is {text!r}: only {what} forecast"
    return None


_FRAMEWORKS: Sequence[tuple[str, str]] = (
    (r"megatron deepspeed", "megatron-deepspeed"),
    (r"megatron fsdp", "megatron-fsdp"),
    (r"nanotron", "nanotron"),
    (r"llm foundry|llmfoundry|mosaicml composer", "llm-foundry"),
    (r"maxtext", "maxtext"),
    (r"intern ?evo|internlm", "internevo"),
    (r"pax ?ml|\bpax\b|saxml|praxis", "paxml"),
    (r"torch ?titan", "torchtitan"),
    (r"axlearn", "axlearn"),
    (r"levanter", "levanter"),
    (r"gpt neox", "gpt-neox"),
    (r"colossal ?ai", "colossalai"),
    (r"olmo(?: core)?", "olmo-core"),
    (r"megatron|\bmcore\b|\bnemo\b|nemotron|megatron bridge", "megatron-core"),
    (r"deepspeed", "deepspeed"),
    (r"jax|t5x|flax", "jax"),
    (r"hugging ?face|transformers|accelerate", "transformers"),
)


def framework_in(text: str) -> str | None:
    """The framework that a text names."""
    words = plain_words(text)
    return next((name for pattern, name in _FRAMEWORKS if re.search(pattern, words)), None)


_SYNONYMS: Mapping[str, tuple[str, ...]] = {
    "layers": ("num_layers", "n_layers", "n_layer", "num_hidden_layers"),
    "hidden": ("hidden_size", "d_model", "width", "n_embd", "model_dim"),
    "heads": ("num_heads", "n_heads", "n_head", "num_attention_heads", "attention_heads"),
    "kv_heads": ("num_kv_heads", "n_kv_heads", "num_key_value_heads", "num_query_groups"),
    "ffn": ("ffn_hidden_size", "intermediate_size", "d_ff", "mlp_width", "ffn_size"),
    "vocab": ("vocab_size", "vocabulary", "vocabulary_size"),
    "seq": ("seq_len", "sequence_length", "seq_length", "context", "context_length", "max_seq_len"),
    "gbs_seqs": ("gbs", "global_batch_size", "global_batch", "batch_size", "global_batch_seqs"),
    "hardware": ("gpu", "accelerator", "device", "gpu_type", "chip"),
    "n_gpus": ("gpus", "num_gpus", "n_devices", "num_devices", "devices", "world_size", "n_chips", "chips"),
    "tp": ("tensor_parallel", "tensor_parallel_size", "tp_size", "tensor"),
    "pp": ("pipeline_parallel", "pipeline_parallel_size", "pp_size", "pipeline"),
    "cp": ("context_parallel", "context_parallel_size", "cp_size"),
    "ep": ("expert_parallel", "expert_parallel_size", "ep_size"),
    "dp": ("data_parallel", "data_parallel_size", "dp_size"),
    "vpp": ("virtual_pipeline", "vp", "interleaving", "num_chunks"),
    "micro_batch": ("mbs", "micro_batch_size", "microbatch", "micro_batch_seqs"),
    "grad_accum": ("gradient_accumulation", "gas", "ga", "grad_accum_steps"),
    "recompute": ("recomputation", "activation_checkpointing", "remat", "ac"),
    "precision": ("dtype", "data_type"),
    "sharding": ("zero", "zero_stage", "fsdp", "data_sharding"),
    "step_time_s": ("step_time", "step_seconds", "sec_per_step", "iteration_time", "iter_time_s"),
    "tokens_s_gpu": ("tokens_per_second_per_gpu", "tok_s_gpu", "tokens_per_sec_per_gpu", "tokens_s_device", "tgs"),
    "mem_GB_gpu": ("memory_gb", "peak_memory_gb", "mem_gb", "max_memory_gb"),
    "n_experts": ("experts", "num_experts", "num_local_experts"),
    "topk": ("top_k", "experts_per_token", "num_experts_per_tok", "moe_router_topk"),
    "moe_ffn": ("moe_ffn_hidden_size", "expert_width", "moe_intermediate_size"),
    "framework": ("software", "trainer", "stack"),
}
_COLUMNS = {word: column for column, words in _SYNONYMS.items() for word in (column.casefold(), *words)}


def column_of(head: str) -> str:
    """The column that a heading means: `GPUs` and `num_gpus` are `n_gpus`."""
    plain = re.sub(r"[^a-z0-9]+", "_", head.strip().casefold()).strip("_")
    return _COLUMNS.get(plain, head.strip())
