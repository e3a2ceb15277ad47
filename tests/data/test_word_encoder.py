"""Encoding word by word gives the tokens that the tokenizer gives."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenfold.data import word_encoder
from tenfold.data.tokenizer import Tokenizer
from tenfold.data.word_encoder import WordEncoder, cuts_as_gpt2
from tests.data.texts import library_texts

OLD = [chr(point) for low, high in word_encoder._OLD_BLOCKS for point in range(low, high + 1)]
MIXED = st.text(
    st.sampled_from("aZ09 '\n\t\r\x0b\x1c\x85\xa0\u2003\u3000éßЖ中の한“”…½²Ⅷ_-|<>\0") | st.characters(codec="utf-8")
)


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    texts = [*library_texts(10), "été “quoted” — Ελλάδα Россия 中文の文章 한국어 " * 50]
    return Tokenizer.train(texts, 600)


def same(tokenizer: Tokenizer, encoder: WordEncoder, texts: list[str]) -> None:
    for own, expected in zip(encoder.encode_batch(texts), tokenizer.encode_batch(texts), strict=True):
        assert own.tolist() == expected


def test_real_text(tokenizer: Tokenizer) -> None:
    encoder, texts = WordEncoder(tokenizer), library_texts(40)
    same(tokenizer, encoder, texts[:20])
    same(tokenizer, encoder, texts[20:])
    assert len(encoder._words) > 1000, "nearly all of it was encoded by words"


@given(st.lists(MIXED, max_size=4))
def test_any_text(tokenizer: Tokenizer, texts: list[str]) -> None:
    same(tokenizer, WordEncoder(tokenizer), texts)


def test_every_old_character_among_letters_digits_signs_and_spaces(tokenizer: Tokenizer) -> None:
    texts = [
        "".join(f"a{c}b{c}{c} {c}1{c}.{c} \n" for c in OLD[start : start + 500]) for start in range(0, len(OLD), 500)
    ]
    same(tokenizer, WordEncoder(tokenizer), texts)


def test_what_is_not_sure_is_left_to_the_tokenizer(tokenizer: Tokenizer) -> None:
    encoder = WordEncoder(tokenizer)
    same(tokenizer, encoder, ["\u0378 unassigned", "\U0001fae0 new", "x" * 5000, "<|endoftext|> is text"])
    assert not {"\u0378", " new", "x" * 5000} & set(encoder._words)


def test_memory_is_bounded(tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(word_encoder, "MOST_WORDS", 50)
    encoder = WordEncoder(tokenizer)
    for start in range(0, 1000, 20):
        same(tokenizer, encoder, [" ".join(map(str, range(start, start + 20)))])
    assert len(encoder._words) < 100


def test_other_ways_to_cut_are_known(tokenizer: Tokenizer) -> None:
    value = json.loads(tokenizer.to_json())
    assert cuts_as_gpt2(json.dumps(value))
    changes = [
        {"pre_tokenizer": value["pre_tokenizer"] | {"use_regex": False}},
        {"pre_tokenizer": value["pre_tokenizer"] | {"add_prefix_space": True}},
        {"pre_tokenizer": None},
        {"model": value["model"] | {"ignore_merges": True}},
        {"added_tokens": [*value["added_tokens"], value["added_tokens"][0] | {"special": False}]},
    ]
    assert not any(cuts_as_gpt2(json.dumps(value | change)) for change in changes)
    assert np.array_equal(WordEncoder(tokenizer).encode_batch([""])[0], [])
