"""Batches: every rank its share, every sample once, one step ahead."""

import numpy as np
import pytest
import torch

from tenfold.core.errors import InputError
from tenfold.train.batching import batches, fetch_batch
from tenfold.train.ranks import Ranks
from tests.train.small import ALONE, CONTEXT, Tokens, batch_of

CPU = torch.device("cpu")


def tokens_of(*, ranks: Ranks = ALONE, first_step: int = 0, steps: int = 5, micro_batch: int = 4) -> list[torch.Tensor]:
    found = batches(Tokens(), ranks, first_step=first_step, steps=steps, sequences=12, micro_batch=micro_batch)
    return [torch.cat(batch.micro_batches) for batch in found]


def test_step_s_trains_on_samples_s_times_sequences() -> None:
    found = list(batches(Tokens(), ALONE, first_step=3, steps=6, sequences=12, micro_batch=5))
    assert [(b.step, b.first_sample, b.samples) for b in found] == [(3, 36, 12), (4, 48, 12), (5, 60, 12)]
    assert [len(m) for m in found[0].micro_batches] == [5, 5, 2]
    expected = torch.from_numpy(Tokens().batch(48, 12))
    assert torch.equal(torch.cat(found[1].micro_batches), expected) and expected.dtype == torch.int64
    assert found[0].tokens == 12 * CONTEXT


@pytest.mark.parametrize("count", [2, 3, 4])
def test_ranks_share_a_batch_without_gap_or_overlap(count: int) -> None:
    parts = [tokens_of(ranks=Ranks(rank, count, CPU)) for rank in range(count)]
    for whole, *shares in zip(tokens_of(), *parts, strict=True):
        assert torch.equal(whole, torch.cat(shares))


def test_a_batch_that_ranks_cannot_share_is_refused() -> None:
    with pytest.raises(InputError, match="a batch of 12 sequences cannot be shared by 5 ranks equally"):
        tokens_of(ranks=Ranks(0, 5, CPU))


def test_one_step_is_fetched_ahead_and_none_beyond_the_end() -> None:
    asked: list[int] = []

    class Counting(Tokens):
        def batch(self, start: int, count: int) -> np.ndarray:
            asked.append(start // count)
            return super().batch(start, count)

    steps = batches(Counting(), ALONE, first_step=0, steps=4, sequences=2, micro_batch=2)
    for number, _ in enumerate(steps):
        if number == 3:
            break
    assert asked == [0, 1, 2, 3]


def test_a_single_batch_is_that_of_the_row() -> None:
    one = fetch_batch(Tokens(), ALONE, step=2, first_sample=16, samples=8, micro_batch=8)
    assert torch.equal(one.micro_batches[0], batch_of(2).micro_batches[0])


def test_a_stream_that_fails_says_so_in_the_loop() -> None:
    class Broken(Tokens):
        def batch(self, start: int, count: int) -> np.ndarray:
            raise InputError("a shard is damaged")

    with pytest.raises(InputError, match="a shard is damaged"):
        next(batches(Broken(), ALONE, first_step=0, steps=2, sequences=2, micro_batch=2))
