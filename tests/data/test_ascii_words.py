"""Words found with numpy, and looked up in a table that has room for few of them."""

import re

from hypothesis import given
from hypothesis import strategies as st

from tenfold.data.ascii_words import WordTable, ascii_words, gpt2_words, kinds_of_bytes

KINDS = kinds_of_bytes(r"\s", r"\w")


@given(st.lists(st.text("abc_.-/ \n", min_size=1, max_size=50), min_size=1, max_size=6))
def test_each_word_gets_its_own_number_whoever_had_the_slot_before(texts: list[str]) -> None:
    numbers: dict[str, int] = {}
    table = WordTable(lambda word: numbers.setdefault(word, len(numbers)), slot_bits=2)
    for text in texts:
        firsts, afters = ascii_words(text.encode(), KINDS)
        words = [text[first:after] for first, after in zip(firsts.tolist(), afters.tolist(), strict=True)]
        assert words == re.findall(r"\w+|[^\w\s]+", text)
        assert table.of(text, firsts, afters).tolist() == [numbers[word] for word in words]


GPT2 = re.compile(r"'(?:s|t|re|ve|m|ll|d)| ?[A-Za-z]+| ?[0-9]+| ?[^\t-\r A-Za-z0-9]+|[\t-\r ]+(?![^\t-\r ])|[\t-\r ]+")


@given(st.text("'sdtmrvel a1.\n\t\x1c", min_size=1, max_size=60))
def test_words_of_gpt2_are_those_of_its_pattern(text: str) -> None:
    firsts, afters = gpt2_words(text.encode())
    assert [text[first:after] for first, after in zip(firsts, afters, strict=True)] == GPT2.findall(text)
