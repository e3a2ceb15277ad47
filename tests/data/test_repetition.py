"""How often a run sees its text, and what is said about it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenfold.data.repetition import DECAY_OF_REPETITION, Repetition, epochs_in_words, worth_in_new_tokens


@given(distinct=st.floats(1, 1e12), epochs=st.floats(1, 1e3))
def test_repeated_tokens_are_never_worth_more_than_new_ones(distinct: float, epochs: float) -> None:
    worth = worth_in_new_tokens(distinct, epochs)
    assert distinct * (1 - 1e-9) <= worth <= distinct * epochs * (1 + 1e-9)
    assert worth <= distinct * (1 + DECAY_OF_REPETITION)


def test_four_epochs_lose_little_and_four_hundred_nearly_all() -> None:
    assert worth_in_new_tokens(100, 0.5) == 50
    assert worth_in_new_tokens(100, 4) == pytest.approx(373, abs=1)
    assert worth_in_new_tokens(100, 400) == pytest.approx(worth_in_new_tokens(100, 800), rel=1e-9)


def test_what_is_said_fits_the_repetition() -> None:
    (once,) = Repetition(1000, 1000, {"web": 1.0}).lines()
    assert once == "1.00 epochs: 1,000 tokens to train on, 1,000 in the corpus"
    _, often = Repetition(250_000, 1000, {"web": 250.0}).lines()
    assert "these are worth about 16,390 new ones" in often
    assert "train.tokens = 4000 for 4 epochs" in often
    assert Repetition(250_000, 1000, {"web": 250.0}).is_excessive


def test_the_source_that_repeats_most_is_named_beside_the_least() -> None:
    assert epochs_in_words({"web": 1.2, "notes": 32.04, "mail": 3.0}) == "1.20 (web) – 32.0 (notes) epochs"
    assert epochs_in_words({"web": 0.00173}) == "0.0017 epochs", "not none at all"
    mixed = Repetition(10_000, 4000, {"web": 1.2, "notes": 32.0})
    assert not mixed.is_excessive and len(mixed.lines()) == 2
    assert "worth about" not in mixed.lines()[1], "one figure for all sources would be none of them"
    assert mixed.lines()[1].endswith("or a lower weight of source 'notes'")
