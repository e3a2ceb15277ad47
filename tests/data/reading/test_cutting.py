"""Parts and normal forms are the same, however a text comes."""

import unicodedata

from hypothesis import given
from hypothesis import strategies as st

from tenfold.data.reading.cutting import cut_stream, cut_text, normalise

PIECES = st.lists(
    st.text(st.sampled_from("ab é\ne\u0301\u0323\u1100\u1161\u11a8漢が\u3099か🙂"), max_size=60), max_size=12
)


@given(PIECES)
def test_normal_form_of_the_pieces_is_that_of_the_whole(pieces: list[str]) -> None:
    assert "".join(normalise(pieces)) == unicodedata.normalize("NFC", "".join(pieces))


@given(PIECES, st.integers(4, 40))
def test_parts_of_the_pieces_are_those_of_the_whole(pieces: list[str], size: int) -> None:
    whole = "".join(pieces)
    parts = list(cut_stream(pieces, size))
    assert "".join(parts) == whole
    assert (parts or [""]) == cut_text(whole, size)
    assert all(len(part.encode()) <= size for part in parts)


def test_a_run_of_marks_without_end_is_not_held() -> None:
    pieces = ("\u0301" * 50_000 for _ in range(10))
    assert sum(map(len, normalise(pieces))) == 500_000
