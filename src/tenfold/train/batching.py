"""Batches by step: sample numbers are computed from the step, tokens are fetched one step ahead."""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tenfold.train.ranks import Ranks


class SampleStream(Protocol):
    """The part of data.Stream that training needs."""

    def batch(self, start: int, count: int) -> NDArray[np.integer]:
        """Samples start … start + count − 1, as tokens [count, context + 1]."""


@dataclass(frozen=True)
class Batch:
    """These samples at this position: what one step trains on."""

    step: int
    """Position in the run, in steps from 0: where the learning-rate schedule stands."""
    first_sample: int
    samples: int
    """All ranks together."""
    micro_batches: list[Tensor]
    """This rank's share: tokens [micro_batch, context + 1], int64."""

    @property
    def tokens(self) -> int:
        """Tokens trained on, all ranks together."""
        return self.samples * (self.micro_batches[0].size(1) - 1)


def fetch_batch(
    stream: SampleStream, ranks: Ranks, *, step: int, first_sample: int, samples: int, micro_batch: int
) -> Batch:
    """This rank's share of these samples. Raises InputError when the ranks cannot share them equally."""
    share = ranks.share(samples)
    tokens = torch.from_numpy(stream.batch(first_sample + share.start, len(share)).astype(np.int64, copy=False))
    if ranks.device.type == "cuda":
        tokens = tokens.pin_memory().to(ranks.device, non_blocking=True)
    return Batch(step, first_sample, samples, list(torch.split(tokens, micro_batch)))


def batch_number(step: int, skipped: Sequence[int] = ()) -> int:
    """Which batch of the training order `step`, counted from 0, trains on where some were left out."""
    number = step
    for left_out in sorted(skipped):
        number += left_out <= number
    return number


def batches(
    stream: SampleStream,
    ranks: Ranks,
    *,
    first_step: int,
    steps: int,
    sequences: int,
    micro_batch: int,
    skipped: Sequence[int] = (),
) -> Iterator[Batch]:
    """Batches of steps `first_step` … `steps` − 1. `sequences` is the batch of all ranks together.

    Batch b is samples b·sequences … (b+1)·sequences − 1 whatever the number of ranks, and step s trains on batch s, so
    the whole data state of a run is one integer; where batches are `skipped`, those after them move up.
    """

    def fetch(step: int) -> Batch:
        first = batch_number(step, skipped) * sequences
        return fetch_batch(stream, ranks, step=step, first_sample=first, samples=sequences, micro_batch=micro_batch)

    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="batches") as fetcher:
        following = fetcher.submit(fetch, first_step)
        for step in range(first_step, steps):
            batch = following.result()
            if step + 1 < steps:
                following = fetcher.submit(fetch, step + 1)
            yield batch
