"""A curve in memory: it grows, and tells what a resumed run changed."""

import math

import numpy as np

from tenfold.monitor.page.curve import LiveCurve
from tenfold.monitor.page.frame import FrameCurve, encode


def test_it_grows_and_keeps_what_is_not_finite() -> None:
    curve = LiveCurve()
    for first in range(0, 1000, 100):
        curve.append(
            (range(first, first + 100), [None if step == 500 else float(step) for step in range(first, first + 100)])
        )
    assert len(curve) == 1000 and curve.last == 999
    assert math.isnan(curve.values[500]) and np.nansum(curve.values) == sum(range(1000)) - 500


def test_an_exact_resume_changes_nothing() -> None:
    curve = LiveCurve()
    curve.append((range(10), [float(step) for step in range(9)] + [None]))
    assert curve.replace(4, (range(5, 10), [5.0, 6.0, 7.0, 8.0, None])) is None


def test_the_first_step_that_changed_is_told() -> None:
    curve = LiveCurve()
    curve.append((range(10), [1.0] * 10))
    assert curve.replace(4, (range(5, 10), [1.0, 1.0, 2.0, 1.0, 1.0])) == 7
    assert curve.replace(4, (range(5, 12), [1.0, 1.0, 2.0, 1.0, 1.0, 1.0, 1.0])) == 10
    assert curve.replace(4, (range(5, 8), [1.0, 1.0, 2.0])) == 8
    assert curve.steps.tolist() == list(range(8))


def test_a_frame_holds_what_it_says() -> None:
    steps, values = np.array([3, 7, 70_000]), np.array([1.5, -2.25, 1e300])
    content = encode(
        {"low": 0}, [FrameCurve({"name": "a"}, steps, values), FrameCurve({"name": "b"}, steps[:0], values[:0])]
    )
    length = int.from_bytes(content[:4], "little")
    assert content[4 : 4 + length] == b'{"low":0,"curves":[{"name":"a","points":3},{"name":"b","points":0}]}'
    planes = np.frombuffer(content[4 + length :], np.uint8).reshape(2, 4, 3)
    differences, numbers = planes.transpose(0, 2, 1).copy()
    assert np.cumsum(differences.view("<u4")).tolist() == steps.tolist()
    assert numbers.view("<f4").ravel().tolist() == [1.5, -2.25, float(np.finfo(np.float32).max)]
