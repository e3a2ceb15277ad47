"""What a word is in different scripts, and how long runs of words are."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenfold.data.words import (
    FEW_CHARACTERS,
    LOWERED_BY_WORD,
    WORD,
    hash_words,
    measured_runs,
    run_ends,
    size_of_word,
    sizes,
    split_words,
    word_spans,
)

SCRIPTS = st.text(
    st.sampled_from("ab1 .,(\n\u0301\u200c")
    | st.sampled_from("हिन्दीमे讀書かなภาษาไทยမြန်မာ한국어")
    | st.characters(codec="utf-8"),
    max_size=60,
)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("हिन्दी में लिखा", ["हिन्दी", "में", "लिखा"]),
        ("Cafe\u0301 e\u0301t\u00e9", ["cafe\u0301", "e\u0301t\u00e9"]),
        ("می\u200cروم خانه", ["می\u200cروم", "خانه"]),
        ("שָׁלוֹם עֲלֵיכֶם", ["שָׁלוֹם", "עֲלֵיכֶם"]),
        ("한국어 문장", ["한국어", "문장"]),
        ("ที่นี่", ["ที่", "นี่"]),
        ("読んだ。", ["読", "ん", "だ", "。"]),
        ("don't stop_me", ["don", "'", "t", "stop_me"]),
    ],
)
def test_words_of_each_script(text: str, words: list[str]) -> None:
    assert split_words(text) == words


@given(SCRIPTS)
def test_words_spans_and_sizes_are_those_of_one_cut(text: str) -> None:
    words = split_words(text)
    assert [text[start:end].lower() for start, end in word_spans(text)] == words
    assert sizes(hash_words(text)).tolist() == [size_of_word(word) for word in words]
    assert "".join(words) == "".join(text[start:end] for start, end in word_spans(text)).lower()
    assert split_words(" ".join(words)) == words


@given(SCRIPTS, SCRIPTS, st.integers(1, 13))
def test_a_text_has_its_runs_wherever_it_stands(text: str, other: str, length: int) -> None:
    own, ends = measured_runs(hash_words(text), length)
    counted = sizes(hash_words(text))
    for first, after in enumerate(ends.tolist()):
        assert counted[first:after].sum() >= length * WORD > counted[first : after - 1].sum()
    assert ends.size == counted.size or counted[ends.size :].sum() < length * WORD
    hosted, _ = measured_runs(hash_words(f"{other} {text} {other}"), length)
    assert set(own.tolist()) <= set(hosted.tolist())


def test_a_run_of_13_words_is_as_long_as_what_it_says() -> None:
    assert run_ends(sizes(hash_words("word " * 20)), 13)[0] == 13
    assert run_ends(sizes(hash_words("讀" * 60)), 13)[0] == 26
    assert run_ends(sizes(hash_words("かな" * 60)), 13)[0] == 39
    assert run_ends(np.full(12, WORD), 13).size == 0


def test_lower_case_letters_are_cut_into_words_as_capitals_are() -> None:
    """So a whole text may be lowered at once."""
    capitals = [chr(code) for code in range(0x110000) if chr(code).lower() != chr(code)]
    for letter in (each for each in capitals if each not in LOWERED_BY_WORD):
        text = f"a{letter}b {letter} {letter}\u0301"
        assert text.lower() == f"a{letter.lower()}b {letter.lower()} {letter.lower()}\u0301"
        assert word_spans(text) == word_spans(text.lower())


def test_words_of_any_text_are_lowered_one_by_one() -> None:
    text = "ΣΑΣ ΟΔΟΣ İstanbul Ünïcödé ABC 漢字かな กขค"
    assert split_words(text) == [text[first:after].lower() for first, after in word_spans(text)]
    assert hash_words(text).tolist() == hash_words(" ".join(split_words(text))).tolist()


@given(st.text("ab_7'=./(\t\n \x1c" + "Q", max_size=60), st.integers(1, 40))
def test_words_of_ascii_text_have_the_hashes_of_single_words(text: str, times: int) -> None:
    """Words of any length, found together."""
    long = " ".join([text, text[::-1], text.replace("\n", "")] * times).ljust(FEW_CHARACTERS)
    one_by_one = [int(hash_words(word)[0]) for word in split_words(long)]
    assert hash_words(long).tolist() == one_by_one
    assert hash_words("é " + long).tolist()[1:] == one_by_one
