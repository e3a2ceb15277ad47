"""JSON values come out whole, in any layout, in pieces of any size; what is bad costs itself alone."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenfold.data.reading.json_records import BadJson, JsonValue, bounded_lines, json_values

LIMIT = 100_000
VALUES = st.lists(
    st.dictionaries(st.text(max_size=5), st.text(max_size=20) | st.integers() | st.none(), max_size=3), max_size=8
)


def pieces(text: str, size: int) -> list[str]:
    return [text[start : start + size] for start in range(0, len(text), size)]


def values(text: str, size: int = 7, limit: int = LIMIT) -> list[Any]:
    return [item.value for item in json_values(pieces(text, size), limit) if isinstance(item, JsonValue)]


def bad(text: str, size: int = 7, limit: int = LIMIT) -> list[str]:
    return [item.reason for item in json_values(pieces(text, size), limit) if isinstance(item, BadJson)]


@given(VALUES, st.integers(1, 30), st.sampled_from([None, 0, 2]))
def test_a_list_in_any_layout(written: list[dict[str, Any]], size: int, indent: int | None) -> None:
    text = json.dumps(written, indent=indent)
    assert values(text, size) == written and not bad(text, size)


@given(VALUES, st.integers(1, 30))
def test_lines(written: list[dict[str, Any]], size: int) -> None:
    text = "\n".join(json.dumps(value) for value in written)
    assert values(text, size) == written and not bad(text, size)


@given(VALUES.filter(all), st.integers(1, 30))
def test_indented_objects_one_after_the_other(written: list[dict[str, Any]], size: int) -> None:
    text = "\n".join(json.dumps(value, indent=2) for value in written)
    assert values(text, size) == written and not bad(text, size)


def test_a_bad_line_costs_itself() -> None:
    text = '{"a": 1}\n{"a": \nnonsense\n\n{"a": 2}\n'
    assert values(text) == [{"a": 1}, {"a": 2}] and bad(text) == ["invalid-json"] * 2


def test_a_bad_item_costs_itself() -> None:
    text = '[{"a": 1}, {"a": oops, "b": 3}, {"a": 2}]'
    assert values(text) == [{"a": 1}, {"a": 2}] and bad(text) == ["invalid-json"]


def test_a_list_that_breaks_off_keeps_what_was_whole() -> None:
    text = '[{"a": 1}, {"a": 2}'
    assert values(text) == [{"a": 1}, {"a": 2}] and bad(text) == ["truncated-stream"]


def test_a_line_that_is_too_long_is_left_out_and_never_held() -> None:
    text = '{"a": 1}\n{"a": "' + "x" * 5_000 + '"}\n{"a": 2}\n'
    assert values(text, 100, 1_000) == [{"a": 1}, {"a": 2}] and bad(text, 100, 1_000) == ["too-large"]
    longest = max(len(line) for line, _ in bounded_lines(pieces(text, 100), 1_000) if line is not None)
    assert longest < 1_000


@pytest.mark.parametrize("text", ["", "\n\n", "[", "[]", "[1, 2", "{", "]", "\x1e", "[[[[", '{"a": 1'])
def test_crumbs_of_json_are_no_error(text: str) -> None:
    assert all(isinstance(item, JsonValue | BadJson) for item in json_values([text], LIMIT))


@given(st.text(st.sampled_from('[]{}",:1a \n'), max_size=60), st.integers(1, 9))
def test_any_text_ends(text: str, size: int) -> None:
    assert list(json_values(pieces(text, size), 40)) is not None
