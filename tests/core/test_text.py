"""Numbers, times and sizes as people read them."""

import math
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenfold.core import text

CASES: list[tuple[Callable[..., str], Any, str]] = [
    (text.duration, 42, "42s"),
    (text.duration, 59.6, "1m00s"),
    (text.duration, 185, "3m05s"),
    (text.duration, 7800, "2h10m"),
    (text.duration, 273600, "3d04h"),
    (text.duration, math.nan, "?"),
    (text.clock, 31.4, "0:31"),
    (text.clock, 3671, "1:01:11"),
    (text.span, 0.00213, "2.13 ms"),
    (text.span, 1.5, "1.5 s"),
    (text.span, 90, "1.5 min"),
    (text.span, 7200, "2 h"),
    (text.span, 36e5, "1,000 h"),
    (text.times, 1, "once"),
    (text.times, 2, "twice"),
    (text.times, 3000, "3,000 times"),
    (text.amount, 1.2e12, "1.2 T"),
    (text.amount, 405e9, "405 B"),
    (text.amount, 999_999, "999,999"),
    (text.amount_in_words, 16.78e6, "16.8 million"),
    (text.amount_in_words, 512, "512"),
    (text.short, 1234567, "1.23M"),
    (text.short, 0.00012, "1.2e-04"),
    (text.short, 0, "0"),
    (text.byte_size, 512, "512 B"),
    (text.byte_size, 1.5 * 2**30, "1.5 GiB"),
    (text.digits, 0.03121, "0.0312"),
    (text.digits, 1234, "1,234"),
    (text.percent, 0.0069, "0.69%"),
    (text.percent, 0.083, "8.3%"),
    (text.percent, 0.5, "50%"),
    (text.percent, 0, "0%"),
    (text.percent, None, "–"),
    (text.amount_in_words, 524_288, "524 thousand"),
    (text.level_name, "0.95", "95%"),
    (text.interval, (4.1, 4.25), "[4.10, 4.25]"),
    (text.multiple, 1.038, "1.04"),
    (text.multiple, 0.012, "0.012"),
    (text.multiple, 312.4, "312"),
    (text.multiple, 1e6, "∞"),
    (text.multiple, 1e-6, "0"),
    (text.multiple, None, "–"),
    (text.multiple_in_interval, {"value": 1.04, "low": 0.8, "high": 1.3}, "1.04× [0.80,\u00a01.30]"),
    (text.power_of_ten, -3, "10⁻³"),
    (text.scientific, 3.2e19, "3.2·10¹⁹"),
    (text.scientific, 1e21, "10²¹"),
]


@pytest.mark.parametrize(("write", "value", "expected"), CASES)
def test_a_value_is_written_as_people_do(write: Callable[..., str], value: Any, expected: str) -> None:
    assert write(value) == expected


def test_precise_durations_and_counts() -> None:
    assert (text.duration(0.432, precise=True), text.duration(5.21, precise=True)) == ("0.43s", "5.2s")
    assert text.duration(9.96, precise=True) == "10s"
    assert (text.count(1, "learner"), text.count(1234, "learner")) == ("1 learner", "1,234 learners")


@given(st.floats(min_value=0, max_value=1e9))
def test_a_duration_is_near_what_it_says(seconds: float) -> None:
    sizes = {"d": 86400, "h": 3600, "m": 60, "s": 1}
    said, number = 0, ""
    for letter in text.duration(seconds):
        if letter.isdigit():
            number += letter
        else:
            said, number = said + int(number) * sizes[letter], ""
    smallest = 3600 if seconds >= 86400 else 60 if seconds >= 3600 else 1
    assert abs(said - seconds) <= smallest


@pytest.mark.parametrize(
    ("value", "width", "unit", "expected"),
    [
        (4.2317, 0.1, "", "4.23"),
        (4.2317, 0.0213, "", "4.232"),
        (12345.6, 900.0, "", "12,346"),
        (7390.0, 900.0, "seconds", "2h03m"),
        (4.2317, None, "", "4.232"),
        (4.2317, 0.0, "", "4.232"),
        (None, 0.1, "", "–"),
        (math.inf, 0.1, "", "∞"),
        (-math.inf, 0.1, "", "−∞"),
        (math.nan, 0.1, "", "not a number"),
    ],
)
def test_a_figure_has_the_digits_that_its_interval_bears(
    value: float | None, width: float | None, unit: str, expected: str
) -> None:
    assert text.figure(value, width, unit) == expected


@pytest.mark.parametrize(
    ("given_", "public"),
    [
        ("s3://key:secret@bucket/a", "s3://…@bucket/a"),
        ("at https://me:p@ss@host/x?sig=abc, twice: ftp://u@h", "at https://…@host/x?… twice: ftp://…@h"),
        ("s3://bucket/a", "s3://bucket/a"),
        ("mail me@host, why?", "mail me@host, why?"),
        ("/a/folder@home", "/a/folder@home"),
    ],
)
def test_a_url_is_shown_without_what_opens_it(given_: str, public: str) -> None:
    assert text.without_secrets(given_) == public
    assert text.shown({"a": [given_, 3, None], "b": {"c": given_}}) == {"a": [public, 3, None], "b": {"c": public}}
