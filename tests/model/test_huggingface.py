"""Exported models are stock Qwen3 or Llama: transformers loads them and agrees; we load them back."""

import json
from pathlib import Path

import pytest
import torch
import transformers

from tenfold.config import Model
from tenfold.core.errors import InputError
from tenfold.model import Transformer, load_huggingface, save_huggingface

SHAPES = {
    "plain": {},
    "grouped": {"kv_heads": 2},
    "tied": {"tied_embeddings": True},
    "scaled": {"base_width": 32, "base_depth": 1, "rope_base": 500.0},
    "llama": {
        "qk_norm": False,
        "kv_heads": 2,
        "norm_epsilon": 1e-3,
        "base_width": 32,
        "base_depth": 1,
        "rope_base": 500.0,
    },
    "tied llama": {"qk_norm": False, "tied_embeddings": True, "head_dim": 8, "heads": 4},
}


@pytest.fixture
def tokenizer_json(tmp_path: Path) -> str:
    from tenfold.data.tokenizer import Tokenizer

    return Tokenizer.train(["a few words of text to learn merges from, a few words"] * 3, 300).to_json()


def random_model(changes: dict[str, object]) -> Transformer:
    shape = Model.model_validate({"depth": 3, "width": 64, "head_dim": 16, "context": 64} | changes)
    model = Transformer(shape, 300, torch.float32)
    generator = torch.Generator().manual_seed(0)
    for name, parameter in model.named_parameters():
        torch.nn.init.normal_(parameter, 1.0 if "norm" in name else 0.0, 0.1, generator=generator)
    return model


@pytest.mark.parametrize("name", SHAPES)
def test_transformers_gives_the_same_logits(name: str, tmp_path: Path, tokenizer_json: str) -> None:
    model = random_model(SHAPES[name])
    save_huggingface(model, tokenizer_json, 0, tmp_path / "export")
    theirs = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "export", dtype=torch.float32)
    assert type(theirs).__name__ == ("LlamaForCausalLM" if "llama" in name else "Qwen3ForCausalLM")
    tokens = torch.randint(0, 300, (2, 64), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        ours, other = model.logits(tokens), theirs(tokens).logits
    assert ours.abs().max() > 0.1
    assert (ours - other).abs().max() <= 1e-4


@pytest.mark.parametrize("name", SHAPES)
def test_what_was_exported_can_be_loaded(name: str, tmp_path: Path, tokenizer_json: str) -> None:
    model = random_model(SHAPES[name])
    save_huggingface(model, tokenizer_json, 0, tmp_path / "export")
    again = load_huggingface(tmp_path / "export", torch.float32)
    tokens = torch.randint(0, 300, (2, 64), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        assert torch.allclose(model.logits(tokens), again.logits(tokens), atol=1e-5)


def test_the_tokenizer_goes_along(tmp_path: Path, tokenizer_json: str) -> None:
    save_huggingface(random_model({}), tokenizer_json, 0, tmp_path / "export")
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path / "export")
    text = "a few words — naïve, 日本語\n\ttabs"
    assert tokenizer.decode(tokenizer(text)["input_ids"]) == text
    assert tokenizer.eos_token_id == 0


def test_a_full_directory_is_left_alone(tmp_path: Path, tokenizer_json: str) -> None:
    (tmp_path / "precious").write_text("mine")
    with pytest.raises(InputError, match="not empty"):
        save_huggingface(random_model({}), tokenizer_json, 0, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["precious"]


@pytest.mark.parametrize("qk_norm", [True, False])
def test_a_plain_mlp_is_refused_before_anything_is_written(qk_norm: bool, tmp_path: Path, tokenizer_json: str) -> None:
    with pytest.raises(
        InputError, match=r'^model\.mlp = "gelu": .* only models with "swiglu" can be exported$'
    ) as error:
        save_huggingface(random_model({"mlp": "gelu", "qk_norm": qk_norm}), tokenizer_json, 0, tmp_path / "export")
    assert error.value.exit_code == 2
    assert list(tmp_path.iterdir()) == []


def test_a_llama_need_not_say_the_width_of_its_heads(tmp_path: Path, tokenizer_json: str) -> None:
    save_huggingface(random_model({"qk_norm": False}), tokenizer_json, 0, tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    assert config.pop("head_dim") == 16
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert load_huggingface(tmp_path, torch.float32).config.head_dim == 16


@pytest.mark.parametrize(
    "change",
    [
        {"model_type": "mistral"},
        {"attention_bias": True},
        {"mlp_bias": True},
        {"rope_scaling": {"factor": 8.0}},
        {"rope_parameters": {"rope_type": "llama3", "rope_theta": 500.0}},
    ],
)
def test_a_llama_we_would_read_wrongly_is_refused(
    change: dict[str, object], tmp_path: Path, tokenizer_json: str
) -> None:
    save_huggingface(random_model({"qk_norm": False}), tokenizer_json, 0, tmp_path)
    config = json.loads((tmp_path / "config.json").read_text()) | change
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(InputError, match="only Qwen3 and Llama without bias and scaled positions"):
        load_huggingface(tmp_path, torch.float32)


@pytest.mark.parametrize(
    "content", [None, "{", '{"model_type": "gpt2"}', '{"model_type": "llama"}', '{"model_type": "qwen3"}']
)
def test_other_models_are_refused_in_one_line(content: str | None, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / "config.json").write_text(content)
    with pytest.raises(InputError) as error:
        load_huggingface(tmp_path, torch.float32)
    assert "\n" not in str(error.value)
