"""`tenfold plan --evaluate`: forecasts of a table of runs beside what was measured."""

from pathlib import Path

import numpy as np
import pytest

from tenfold.core.errors import InputError
from tenfold.planner.calibration.evaluation import evaluate_rows
from tenfold.planner.calibration.forecasts import relative_errors
from tests.planner.calibration.test_runs import ROW, written


def sweep() -> list[dict[str, str]]:
    """Three shapes on 8 and 64 devices, with made-up rates."""
    rows = []
    for layers in (12, 24, 36):
        for devices in (8, 64):
            for micro_batch in (1, 2, 4):
                cells = {"layers": layers, "n_gpus": devices, "micro_batch": micro_batch, "id": len(rows)}
                cells |= {"gbs_seqs": devices * 8, "tokens_s_gpu": 900_000 / layers * (0.8 + 0.1 * micro_batch)}
                rows.append(ROW | {key: str(value) for key, value in cells.items()})
    return rows


def test_each_row_is_answered_with_interval_memory_and_error(tmp_path: Path) -> None:
    blank = ROW | {"id": "no rate", "tokens_s_gpu": ""}
    evaluation = evaluate_rows(written(tmp_path, ROW, blank, ROW | {"layers": ""}))
    first, unmeasured = evaluation.answers
    assert first.low < first.step_seconds < first.high
    assert first.error == pytest.approx(first.step_seconds / (64 * 1024 / (16000 * 8)) - 1)
    assert first.memory_bytes == pytest.approx(sum(first.memory_parts.values()))
    assert unmeasured.error is None and unmeasured.step_seconds == pytest.approx(first.step_seconds)
    assert len(evaluation.skipped) == 1
    (family,) = evaluation.families
    assert family.time.rows == 1 and family.time.mape == pytest.approx(abs(first.error or 0))


@pytest.mark.parametrize("out", ["shape", "scale"])
def test_held_out_forecasts_do_not_follow_what_was_measured_of_them(tmp_path: Path, out: str) -> None:
    rows = sweep()
    unseen = [row["n_gpus"] == "64" if out == "scale" else row["layers"] == "36" for row in rows]
    before = evaluate_rows(written(tmp_path, *rows), out)  # type: ignore[arg-type]
    other = [row | {"tokens_s_gpu": "1000"} if skip else row for row, skip in zip(rows, unseen, strict=True)]
    after = evaluate_rows(written(tmp_path, *other), out)  # type: ignore[arg-type]
    names = {row["id"] for row, skip in zip(rows, unseen, strict=True) if skip}
    first = {each.row: each.step_seconds for each in before.answers if each.row in names}
    assert first and first == {each.row: each.step_seconds for each in after.answers if each.row in names}


def test_too_large_a_model_is_called_out_of_memory_and_too_large_a_cluster_an_extrapolation(tmp_path: Path) -> None:
    large = ROW | {"hidden": "16384", "heads": "128", "layers": "100", "ffn": "65536"}
    many = ROW | {"n_gpus": "131072", "gbs_seqs": "131072"}
    small, huge, wide = evaluate_rows(written(tmp_path, ROW, large, many)).answers
    assert not small.out_of_memory and huge.out_of_memory
    assert wide.extrapolation and not small.extrapolation
    assert wide.high / wide.low > small.high / small.low


def test_nothing_to_hold_out_or_to_model_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="nothing is left to fit"):
        evaluate_rows(written(tmp_path, ROW, ROW), "shape")
    with pytest.raises(InputError, match="spans 4 times"):
        evaluate_rows(written(tmp_path, ROW, ROW), "scale")
    with pytest.raises(InputError, match="layers not given"):
        evaluate_rows(written(tmp_path, ROW | {"layers": ""}))


def test_errors_are_those_of_the_forecast() -> None:
    told = relative_errors(np.array([1.1, 0.8, 1.0]), np.ones(3))
    assert told.median == pytest.approx(0.1) and told.mape == pytest.approx(0.1) and told.bias == pytest.approx(0.0)
