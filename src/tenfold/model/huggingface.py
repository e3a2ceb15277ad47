"""Hugging Face format: a stock Qwen3 (or Llama, without QK-norm), so that any reader loads it without code of ours.

The parametrisation's factors are not part of those architectures. They are folded into weights they stand beside: the
residual factor into what each branch writes (o_proj, down_proj), the logit factor into the gain of the final norm.
"""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from tenfold.config import Model
from tenfold.core import InputError
from tenfold.model.parametrisation import logit_multiplier, residual_multiplier
from tenfold.model.transformer import Transformer

CONFIG, WEIGHTS, INDEX = "config.json", "model.safetensors", "model.safetensors.index.json"
_NAMES = {
    "attention_norm": "input_layernorm",
    "attention": "self_attn",
    "mlp_norm": "post_attention_layernorm",
    "mlp": "mlp",
}
_OUTER = {
    "embedding.weight": "model.embed_tokens.weight",
    "final_norm.weight": "model.norm.weight",
    "unembedding.weight": "lm_head.weight",
}


def save_huggingface(model: Transformer, tokenizer_json: str, end_of_document: int, directory: Path) -> None:
    """Write weights (float32), config and tokenizer.

    Raises InputError when `directory` holds something already, or when the model's MLP is a plain one.
    """
    if model.config.mlp != "swiglu":
        raise InputError(
            f'model.mlp = "{model.config.mlp}": no stock Hugging Face architecture that tenfold writes (Qwen3, Llama) '
            'has such an MLP; only models with "swiglu" can be exported'
        )
    try:
        directory.mkdir(parents=True, exist_ok=True)
        if any(directory.iterdir()):
            raise InputError(f"{directory}: not empty; export into a new directory")
        save_file(dict(_folded(model)), directory / WEIGHTS, metadata={"format": "pt"})
        _write(directory / CONFIG, _config(model, end_of_document))
        _write(directory / "generation_config.json", {"eos_token_id": end_of_document, "bos_token_id": end_of_document})
        (directory / "tokenizer.json").write_text(tokenizer_json, encoding="utf-8")
        _write(directory / "tokenizer_config.json", _tokenizer_config(model))
    except OSError as error:
        raise InputError(f"{directory}: cannot write here ({error.strerror})") from error


def _folded(model: Transformer) -> Iterator[tuple[str, Tensor]]:
    for name, parameter in model.named_parameters():
        weight = parameter.detach().float().cpu()
        if name.endswith(("o_proj.weight", "down_proj.weight")):
            weight = weight * residual_multiplier(model.config)
        elif name == "final_norm.weight":
            weight = weight * logit_multiplier(model.config)
        yield huggingface_name(name), weight.contiguous()


def huggingface_name(name: str) -> str:
    """What Qwen3 and Llama call our parameter."""
    if name in _OUTER:
        return _OUTER[name]
    _, number, part, *rest = name.split(".")
    return ".".join(["model", "layers", number, _NAMES[part], *rest])


def _architecture(shape: Model) -> dict[str, Any]:
    """Llama (Touvron et al., arXiv 2302.13971, section 2.2) is Qwen3 without QK-norm."""
    if shape.qk_norm:
        return {"architectures": ["Qwen3ForCausalLM"], "model_type": "qwen3"}
    return {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "mlp_bias": False}


def _config(model: Transformer, end_of_document: int) -> dict[str, Any]:
    shape = model.config
    return {
        **_architecture(shape),
        "vocab_size": model.embedding.num_embeddings,
        "hidden_size": shape.resolved_width,
        "intermediate_size": shape.resolved_mlp_width,
        "num_hidden_layers": shape.depth,
        "num_attention_heads": shape.resolved_heads,
        "num_key_value_heads": shape.resolved_kv_heads,
        "head_dim": shape.head_dim,
        "max_position_embeddings": shape.context,
        "rms_norm_eps": shape.norm_epsilon,
        "rope_theta": shape.rope_base,
        "rope_parameters": {"rope_type": "default", "rope_theta": shape.rope_base},
        "tie_word_embeddings": shape.tied_embeddings,
        "attention_bias": False,
        "attention_dropout": 0.0,
        "hidden_act": "silu",
        "torch_dtype": "float32",
        "bos_token_id": end_of_document,
        "eos_token_id": end_of_document,
    }


def _tokenizer_config(model: Transformer) -> dict[str, Any]:
    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "eos_token": "<|endoftext|>",
        "bos_token": "<|endoftext|>",
        "model_max_length": model.config.context,
        "clean_up_tokenization_spaces": False,
    }


def _write(path: Path, value: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")


def load_huggingface(directory: Path, compute_dtype: torch.dtype) -> Transformer:
    """Read a Qwen3 or Llama of any size, without bias and scaled positions.

    Raises InputError when it is another architecture, or cannot be read.
    """
    path = directory / CONFIG
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
        model = Transformer(_shape(config, path), int(config["vocab_size"]), compute_dtype)
        weights = {huggingface_name(name): parameter for name, parameter in model.named_parameters()}
        _fill(weights, directory)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RuntimeError, SafetensorError) as error:
        raise InputError(f"{directory}: not a model in Hugging Face format ({error})") from error
    return model


def _shape(config: Mapping[str, Any], path: Path) -> Model:
    """Multipliers are 1 in it: what they stood for lies in the weights."""
    rope = config.get("rope_parameters") or {}
    biased = config.get("attention_bias") or config.get("mlp_bias")
    scaled = config.get("rope_scaling") or rope.get("rope_type", "default") != "default"
    if config.get("model_type") not in ("qwen3", "llama") or biased or scaled:
        raise InputError(
            f"{path}: only Qwen3 and Llama without bias and scaled positions can be read, not {config['model_type']}"
        )
    return Model(
        depth=config["num_hidden_layers"],
        width=config["hidden_size"],
        head_dim=config.get("head_dim") or config["hidden_size"] // config["num_attention_heads"],
        heads=config["num_attention_heads"],
        kv_heads=config["num_key_value_heads"],
        mlp_width=config["intermediate_size"],
        context=config["max_position_embeddings"],
        tied_embeddings=config["tie_word_embeddings"],
        rope_base=rope["rope_theta"] if "rope_theta" in rope else config["rope_theta"],
        norm_epsilon=config["rms_norm_eps"],
        qk_norm=config["model_type"] == "qwen3",
        base_width=config["hidden_size"],
        base_depth=config["num_hidden_layers"],
    )


@torch.no_grad()
def _fill(weights: Mapping[str, Tensor], directory: Path) -> None:
    index = directory / INDEX
    file_of = json.loads(index.read_text(encoding="utf-8"))["weight_map"] if index.exists() else {}
    for name, parameter in weights.items():
        with safe_open(directory / file_of.get(name, WEIGHTS), framework="pt") as file:
            parameter.copy_(file.get_tensor(name))
