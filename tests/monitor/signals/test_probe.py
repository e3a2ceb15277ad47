"""The probe of a model: its figures beside those of a model written out by hand."""

import math

import pytest
import torch

from tenfold.monitor.signals.board import SignalBoard
from tenfold.monitor.signals.probe import BANDS, ModelProbe, largest_logit, probe, token_bands
from tenfold.monitor.signals.spectrum import AttentionSpectrum, bilinear_update_entropy
from tenfold.train import Observers, execute
from tests.train.small import VOCABULARY, batch_of, new_state


def test_bands_hold_their_shares_of_the_text() -> None:
    counts = torch.tensor([5, 50, 30, 10, 3, 2])
    bands = token_bands(counts)
    assert list(BANDS) == ["frequent", "middle", "rare"]
    assert bands.tolist() == [2, 0, 1, 1, 2, 2]


def test_losses_of_the_bands_are_those_of_their_tokens() -> None:
    model = new_state().root
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3, generator=torch.Generator().manual_seed(1))
    tokens = batch_of(0).micro_batches[0][:2]
    bands = token_bands(torch.arange(VOCABULARY))
    found = probe(model, tokens, bands)
    with torch.no_grad():
        logits = model.logits(tokens[:, :-1])
    nats = torch.nn.functional.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten(), reduction="none")
    for number, name in enumerate(BANDS):
        mask = bands[tokens[:, 1:]].flatten() == number
        assert found[f"tokens/{name}/loss"] == pytest.approx(float(nats[mask].mean()), rel=1e-4)


def test_activations_and_logits_are_there_for_every_block_and_grow_with_the_weights() -> None:
    model = new_state().root
    tokens, bands = batch_of(0).micro_batches[0][:1], token_bands(torch.ones(VOCABULARY))
    before = probe(model, tokens, bands)
    with torch.no_grad():
        for block in model.blocks:
            block.attention.q_norm.weight.mul_(3.0)
    after = probe(model, tokens, bands)
    for number in range(2):
        assert before[f"block/blocks.{number}/activation_rms"] > 0
        name = f"block/blocks.{number}/attention_logit"
        assert after[name] == pytest.approx(3 * before[name], rel=1e-4)
    assert not any(block._forward_hooks or block.attention._forward_hooks for block in model.blocks)


def test_the_largest_logit_looks_at_no_future_key() -> None:
    queries, keys = torch.zeros(1, 2, 3, 4), torch.zeros(1, 1, 3, 4)
    queries[0, 1, 0], keys[0, 0, 2] = 1.0, 5.0  # the key comes after the query
    assert largest_logit(queries, keys) == 0
    queries[0, 1, 2] = 1.0
    assert largest_logit(queries, keys) == 4 * 5 / math.sqrt(4)


def test_spectral_entropy_is_that_of_the_whole_form() -> None:
    generator = torch.Generator().manual_seed(0)
    query, key, query_update, key_update = (torch.randn(4, 32, generator=generator) for _ in range(4))
    form = query_update.double().T @ key.double() + query.double().T @ key_update.double()
    values = torch.linalg.svdvals(form)
    shares = values[values > 1e-9] / values.sum()
    expected = -(shares * shares.log()).sum()
    found = bilinear_update_entropy(query, key, query_update, key_update)
    assert float(found) == pytest.approx(float(expected), rel=1e-6)


def test_an_update_of_rank_one_has_less_entropy_and_none_at_all_is_finite() -> None:
    generator = torch.Generator().manual_seed(0)
    query, key = (torch.randn(4, 32, generator=generator) for _ in range(2))
    full = torch.randn(4, 32, generator=generator)
    thin = torch.outer(torch.randn(4, generator=generator), torch.randn(32, generator=generator))
    none = torch.zeros(4, 32)
    entropy = [float(bilinear_update_entropy(query, key, update, none)) for update in (full, thin, none)]
    assert entropy[0] > 1 and entropy[1] == pytest.approx(0, abs=1e-6) and math.isfinite(entropy[2])


def test_every_block_has_an_entropy_when_it_is_due() -> None:
    board, state = SignalBoard(), new_state()
    probe_, spectrum = ModelProbe(state.root, board, torch.ones(VOCABULARY), 2), AttentionSpectrum(state.root, board, 2)
    observers = Observers([probe_, spectrum])
    for step in range(3):
        execute(state, batch_of(step), observers)
        if step == 1:
            found = board.values(2)
            assert {f"block/blocks.{n}/qk_entropy" for n in range(2)} < set(found)
    assert not board.values(1) and not board.values(3)
