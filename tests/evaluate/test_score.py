"""Bits per byte: every token counted once, whatever the stride; compressors really compress."""

import gzip
import lzma
import math

import numpy as np
import pytest
import torch
import zstandard
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from tenfold.config import Model
from tenfold.evaluate import compressed_bits_per_byte, score_documents
from tenfold.evaluate.score import windows
from tenfold.model import Transformer

END = 0
CPU = torch.device("cpu")


@given(st.integers(0, 200), st.integers(2, 40), st.data())
def test_every_token_is_the_target_of_exactly_one_window(length: int, context: int, data: st.DataObject) -> None:
    stride = data.draw(st.integers(1, context))
    tokens = np.arange(1, length + 1)
    counted: list[int] = []
    for number, window in enumerate(windows(tokens, END, context, stride)):
        assert window.inputs.size == window.targets.size <= context
        assert (window.targets[:-1] == window.inputs[1:]).all()
        if number > 0 and window.fresh < window.targets.size:
            assert window.targets.size - window.fresh >= context - stride
        counted += window.targets[window.targets.size - window.fresh :].tolist()
    assert counted == tokens.tolist()


def uniform(inputs: Tensor, targets: Tensor) -> Tensor:
    """A model that finds 256 tokens equally likely."""
    return torch.full(targets.shape, math.log(256.0))


def test_a_uniform_model_over_bytes_scores_eight_bits() -> None:
    documents = [(np.arange(1, 100), 99), (np.arange(1, 7), 6)]
    result = score_documents(uniform, documents, END, 16, 5, 4, CPU)
    assert result.bits_per_byte == pytest.approx(8.0, abs=1e-6)
    assert result.perplexity == pytest.approx(256.0, rel=1e-5)
    assert (result.bytes, result.tokens) == (105, 105)


def test_batches_and_padding_change_nothing() -> None:
    torch.manual_seed(0)
    model = Transformer(Model(depth=1, width=32, head_dim=16, context=16), 50, torch.float32)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    rng = np.random.default_rng(0)
    documents = [(rng.integers(1, 50, size), size) for size in (3, 40, 17, 1, 25)]
    with torch.no_grad():
        one = score_documents(model.token_nats, documents, END, 16, 4, 1, CPU)
        many = score_documents(model.token_nats, documents, END, 16, 4, 7, CPU)
    assert one.nats == pytest.approx(many.nats, rel=1e-6)


def test_more_context_is_what_a_smaller_stride_gives() -> None:
    """A model that knows a token only if it saw it before in its window."""

    def copies(inputs: Tensor, targets: Tensor) -> Tensor:
        seen = (inputs[:, None, :] == targets[:, :, None]).tril().any(-1)
        return torch.where(seen, 0.1, 5.0)

    documents = [(np.arange(400) % 11 + 1, 400)]
    nats = [score_documents(copies, documents, END, 16, stride, 8, CPU).nats for stride in (16, 4)]
    assert nats[1] < nats[0]


def test_compressors_are_those_of_the_command_line() -> None:
    text = b"a real sentence, said more than once; " * 200
    found = compressed_bits_per_byte(text)
    assert found["gzip"] == 8 * len(gzip.compress(text, 9)) / len(text)
    assert found["xz"] == 8 * len(lzma.compress(text, preset=9 | lzma.PRESET_EXTREME)) / len(text)
    assert found["zstd"] == 8 * len(zstandard.compress(text, 22)) / len(text)
