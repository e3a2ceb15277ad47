"""What the batch is made of: whether it is the right text, where it comes from, how it repeats and how odd it is."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import xxhash
from numpy.typing import NDArray

from tenfold.monitor.signals.board import SignalBoard
from tenfold.monitor.signals.digests import KEPT_BITS
from tenfold.train import Batch, Observer, StepMeasure

GRAM = 8
"""Tokens of a window that counts as repeated or new."""
REMEMBERED = 32
"""Batches after which the older half of the windows met before is forgotten."""
FILTER_BITS = 22
"""Of a window's hash, that one met before is known by: 4 MB for each half. A few new ones look old, always the same."""
MIXER = np.uint64(0x9E3779B97F4A7C15)
_ODD = re.compile(rb"[\x00-\x08\x0b\x0e-\x1f\x7f]|\xef\xbf\xbd")
"""Control characters other than tab, line feed, form feed and return, and U+FFFD, which stands for lost text."""


class TrainingOrder(Protocol):
    """The part of data.Stream that is looked at again."""

    def take(self, numbers: NDArray[np.int64]) -> NDArray[np.unsignedinteger]:
        """Samples by number, [len(numbers), context + 1]."""

    def sources(self, numbers: NDArray[np.int64]) -> list[str]:
        """The source that each sample is read from."""


@dataclass(frozen=True)
class VocabularyText:
    """What the tokens stand for: odd bytes and all bytes of each, [vocabulary], and the one that ends a document."""

    odd: NDArray[np.int64]
    lengths: NDArray[np.int64]
    end_of_document: int


def odd_bytes(token_bytes: Sequence[bytes]) -> NDArray[np.int64]:
    """Bytes of control or replacement characters in each token of a vocabulary, [vocabulary]."""
    return np.asarray([sum(map(len, _ODD.findall(content))) for content in token_bytes], dtype=np.int64)


def windows(tokens_BT: NDArray[np.int64]) -> NDArray[np.uint64]:
    """A 64-bit hash of every GRAM tokens in a row within a sequence, [B · (T − GRAM + 1)]; empty for short ones."""
    length = tokens_BT.shape[1] - GRAM + 1
    if length < 1:
        return np.empty(0, dtype=np.uint64)
    hashes = np.zeros((tokens_BT.shape[0], length), dtype=np.uint64)
    for place in range(GRAM):
        hashes = (hashes ^ tokens_BT[:, place : place + length].astype(np.uint64)) * MIXER
        hashes ^= hashes >> np.uint64(29)
    return hashes.reshape(-1)


class KnownWindows:
    """Which windows have been met in the last REMEMBERED to 2 · REMEMBERED batches, in bounded space."""

    def __init__(self) -> None:
        self._now, self._before = (np.zeros(1 << FILTER_BITS, dtype=bool) for _ in range(2))
        self._batches = 0

    def novelty(self, hashes: NDArray[np.uint64]) -> float | None:
        """Share of distinct windows that are new, which are known from now on; None before the memory is full."""
        places = (hashes >> np.uint64(64 - FILTER_BITS)).astype(np.intp)
        new = float(1 - (self._now[places] | self._before[places]).mean())
        self._now[places] = True
        self._batches += 1
        if self._batches % REMEMBERED == 0:
            self._now, self._before = self._before, self._now
            self._now[:] = False
        return new if self._batches > REMEMBERED else None


class BatchText(Observer):
    """Signals of the text of every batch; of several ranks, the first one's share.

    One sample of each batch, another one every time, is looked up again where it should come from.
    """

    name = "signals-text"

    def __init__(
        self, board: SignalBoard, order: TrainingOrder | None = None, vocabulary: "VocabularyText | None" = None
    ) -> None:
        """Without `order` nothing is said of sources, without `vocabulary` nothing of characters and documents."""
        self._board, self._order, self._vocabulary = board, order, vocabulary
        self._memory = KnownWindows()
        self._figures: Mapping[str, float] = {}

    def before_step(self, batch: Batch) -> None:
        tokens_BT = np.concatenate([tokens.cpu().numpy() for tokens in batch.micro_batches])
        self._figures = self._of_text(tokens_BT) | self._of_place(batch, tokens_BT)

    def after_step(self, measure: StepMeasure) -> None:
        self._board.put(measure.step, self._figures)

    def _of_text(self, tokens_BT: NDArray[np.int64]) -> dict[str, float]:
        figures = {"data/fingerprint": float(xxhash.xxh3_64_intdigest(tokens_BT.tobytes()) >> (64 - KEPT_BITS))}
        if vocabulary := self._vocabulary:
            flat = tokens_BT[:, :-1].reshape(-1)
            ends = int((flat == vocabulary.end_of_document).sum())
            figures["data/document_length"] = flat.size / (ends + len(tokens_BT))
            figures["data/odd_share"] = float(vocabulary.odd[flat].sum() / max(1, vocabulary.lengths[flat].sum()))
        grams = np.unique(windows(tokens_BT[:, :-1]), return_counts=True)
        return figures | self._of_windows(*grams)

    def _of_windows(self, grams: NDArray[np.uint64], counts: NDArray[np.int64]) -> dict[str, float]:
        """Repetition within the batch, novelty beside those before."""
        if not grams.size:
            return {}
        novelty = self._memory.novelty(grams)
        figures = {"data/repetition": float(1 - grams.size / counts.sum())}
        return figures if novelty is None else figures | {"data/novelty": novelty}

    def _of_place(self, batch: Batch, tokens_BT: NDArray[np.int64]) -> dict[str, float]:
        if self._order is None:
            return {}
        numbers = np.arange(batch.first_sample, batch.first_sample + len(tokens_BT))
        sources = self._order.sources(numbers)
        shares = {f"source/{name}/share": sources.count(name) / len(sources) for name in dict.fromkeys(sources)}
        again = batch.step % len(tokens_BT)
        expected = self._order.take(np.asarray([batch.first_sample + again]))[0]
        return shares | {"data/mismatch": float(not np.array_equal(expected, tokens_BT[again]))}
