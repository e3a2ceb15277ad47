"""Signals of a batch's text: what it says of texts whose answer is known."""

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from tenfold.monitor.signals.board import SignalBoard
from tenfold.monitor.signals.text import GRAM, REMEMBERED, BatchText, VocabularyText, odd_bytes, windows
from tenfold.train import Batch, StepMeasure

WORDS = [b"", b"a", b"\x00\x01", "\ufffd".encode(), b" the\n"]
END, CONTEXT = 0, 32


class Order:
    """Sample i is of the first source when even; its tokens are a function of i."""

    def take(self, numbers: NDArray[np.int64]) -> NDArray[np.unsignedinteger]:
        rows = [np.random.default_rng(int(i)).integers(1, 5, CONTEXT + 1) for i in numbers]
        return np.stack(rows).astype(np.uint16)

    def sources(self, numbers: NDArray[np.int64]) -> list[str]:
        return ["even" if number % 2 == 0 else "odd" for number in numbers.tolist()]


def batch_of(step: int, tokens: NDArray[np.int64] | None = None, samples: int = 4) -> Batch:
    first = step * samples
    found = Order().take(np.arange(first, first + samples)).astype(np.int64) if tokens is None else tokens
    return Batch(step, first, len(found), [torch.from_numpy(found)])


def measure_of(step: int) -> StepMeasure:
    return StepMeasure(step, 100, 0, 4, 128, 3.0, 500.0, 1.0, 0.1, 0.1)


def figures(batch: Batch, text: BatchText | None = None, board: SignalBoard | None = None) -> dict[str, float]:
    board = board or SignalBoard()
    text = text or new_text(board)
    text.before_step(batch)
    text.after_step(measure_of(batch.step + 1))
    return dict(board.values(batch.step + 1))


def new_text(board: SignalBoard) -> BatchText:
    lengths = np.asarray([len(word) for word in WORDS])
    return BatchText(board, Order(), VocabularyText(odd_bytes(WORDS), lengths, END))


def test_the_text_of_the_index_has_no_mismatch_and_its_sources_in_their_shares() -> None:
    found = figures(batch_of(3))
    assert found["data/mismatch"] == 0
    assert found["source/even/share"] == found["source/odd/share"] == 0.5


def test_one_changed_token_is_found_when_its_sample_is_looked_up_and_changes_the_fingerprint() -> None:
    tokens = batch_of(2).micro_batches[0].numpy().copy()
    before = figures(batch_of(2, tokens))
    tokens[2, 7] ^= 1
    after = figures(batch_of(2, tokens))  # step 2 looks its third sample up
    assert (before["data/mismatch"], after["data/mismatch"]) == (0, 1)
    assert before["data/fingerprint"] != after["data/fingerprint"]


def test_odd_characters_are_counted_in_bytes() -> None:
    tokens = np.full((1, CONTEXT + 1), 1)
    tokens[0, :4] = [2, 3, 4, 4]  # 2 + 3 odd bytes of 2 + 3 + 5 + 5, and 28 letters
    assert figures(batch_of(0, tokens))["data/odd_share"] == 5 / (15 + 28)


def test_length_of_documents_counts_ends() -> None:
    tokens = np.full((2, CONTEXT + 1), 1)
    tokens[0, [3, 9]] = END
    assert figures(batch_of(0, tokens))["data/document_length"] == 2 * CONTEXT / 4


def test_a_repeated_line_raises_repetition() -> None:
    rng = np.random.default_rng(0)
    fresh, line = rng.integers(1, 5000, (4, CONTEXT + 1)), rng.integers(1, 5000, 8)
    repeated = np.tile(line, (4, 5))[:, : CONTEXT + 1]
    grams = {
        name: np.unique(windows(tokens[:, :-1]), return_counts=True)
        for name, tokens in {"fresh": fresh, "repeated": repeated}.items()
    }
    text = new_text(SignalBoard())
    found = {name: text._of_windows(*gram)["data/repetition"] for name, gram in grams.items()}
    assert found["fresh"] == 0 and found["repeated"] == 1 - 8 / (4 * (CONTEXT - GRAM + 1))


def test_novelty_comes_when_the_memory_is_full_and_falls_when_text_comes_again() -> None:
    board = SignalBoard()
    text, rng = new_text(board), np.random.default_rng(1)
    batches = [rng.integers(1, 5, (4, CONTEXT + 1)) for _ in range(REMEMBERED + 1)]
    found = [figures(batch_of(step, tokens), text, board) for step, tokens in enumerate(batches)]
    assert all("data/novelty" not in each for each in found[:REMEMBERED])
    again = figures(batch_of(REMEMBERED + 1, batches[-1]), text, board)
    assert found[-1]["data/novelty"] > 0.9 and again["data/novelty"] == 0


@given(st.lists(st.lists(st.integers(0, 2**31), min_size=10, max_size=10), min_size=1, max_size=4))
def test_windows_are_equal_where_tokens_are(rows: list[list[int]]) -> None:
    tokens = np.asarray(rows)
    hashes = windows(tokens).reshape(len(rows), -1)
    pieces = [[tuple(row[i : i + GRAM]) for i in range(len(row) - GRAM + 1)] for row in rows]
    for one, many in zip(hashes, pieces, strict=True):
        assert [hash_ == hashes[0, 0] for hash_ in one] == [piece == pieces[0][0] for piece in many]


def test_sequences_shorter_than_a_window_have_none() -> None:
    assert windows(np.ones((3, GRAM - 1), dtype=np.int64)).size == 0
