"""Bias between training text and a split, counted against plain sets."""

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tenfold.data import bias
from tenfold.data.bias import BiasMeter
from tests.data.texts import library_texts

TEXTS = st.lists(st.lists(st.sampled_from("abcd"), min_size=6, max_size=12).map(" ".join), min_size=1, max_size=12)


def runs(text: str) -> set[tuple[str, ...]]:
    words = text.split()
    return {tuple(words[n : n + 5]) for n in range(len(words) - 4)}


def measured(held_out: list[str], training: list[str]) -> BiasMeter:
    meter = BiasMeter(held_out)
    for text in training:
        meter.look_at(text)
    return meter


@settings(deadline=None)
@given(TEXTS, TEXTS)
def test_it_counts_what_sets_of_words_say(held_out: list[str], training: list[str]) -> None:
    meter = measured(held_out, training)
    for found, own, others in (
        (meter.of_holdout(), held_out, training),
        (meter.of_training(), training, held_out),
    ):
        counts = Counter(run for text in own for run in runs(text))
        least = max(3, 5 * len(own) / len(others))
        common = {run for run, count in counts.items() if count >= least}
        elsewhere = {run for text in others for run in runs(text)}
        assert (found.common, found.lacking) == (len(common), len(common - elsewhere))


def test_what_was_cut_out_of_training_is_bias() -> None:
    frame = "as the frame of every single dialogue says"
    texts = [f"{text[:300]} {frame} {text[300:600]}" for text in library_texts(40)]
    left = [text.replace(frame, "") for text in texts[4:]]
    assert measured(texts[:4], texts[4:]).of_holdout().share == 0
    assert measured(texts[:4], left).of_holdout().share > 0.3


def test_memory_is_bounded_and_the_share_stands(monkeypatch: pytest.MonkeyPatch) -> None:
    texts = library_texts(40)
    whole = measured(texts[:20], texts[20:]).of_training()
    monkeypatch.setattr(bias, "SAMPLED", 4096)
    monkeypatch.setattr(bias, "WAITING", 1024)
    sampled = measured(texts[:20], texts[20:]).of_training()
    assert 0 < sampled.common < whole.common
    assert sampled == measured(texts[:20], texts[:19:-1]).of_training(), "whatever the order"
    assert abs(sampled.share - whole.share) < 0.2
