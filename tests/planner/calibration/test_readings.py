"""Blank cells are read in every usual way: the mean of them, and a wider interval."""

from pathlib import Path

import numpy as np
import pytest

from tenfold.planner.calibration.calibrated import shipped_calibration
from tenfold.planner.calibration.evaluation import evaluate_rows
from tenfold.planner.calibration.forecasts import forecast_rows
from tenfold.planner.calibration.runs import MeasuredRun, read_runs
from tests.planner.calibration.test_runs import ROW, written

FULL = ROW | {"group": "", "framework": "my own", "hardware": "H100", "n_gpus": "64", "gbs_seqs": "512", "pp": "4"}
FULL = FULL | {"layers": "32", "hidden": "4096", "heads": "32", "ffn": "14336", "gated_mlp": "1", "micro_batch": "2"}


def one(directory: Path, **cells: str) -> MeasuredRun:
    (run,), skipped = read_runs(written(directory, FULL | cells))
    assert not skipped
    return run


def test_a_row_that_says_all_has_one_reading(tmp_path: Path) -> None:
    assert not one(tmp_path).readings


@pytest.mark.parametrize("column", ["tp", "pp", "vpp", "micro_batch", "recompute", "sharding"])
def test_a_blank_cell_is_read_in_every_usual_way_and_widens_the_interval(tmp_path: Path, column: str) -> None:
    said, blank = one(tmp_path), one(tmp_path, **{column: ""})
    weights = [weight for _, weight in blank.readings]
    assert len(weights) > 1 and sum(weights) == pytest.approx(1) and weights == sorted(weights, reverse=True)
    for layout, _ in blank.readings:
        assert layout.tensor * layout.pipeline * layout.context * layout.data == 64
        assert layout.micro_batch * layout.accumulation * layout.data == 512
    certain, doubtful = forecast_rows([said, blank], shipped_calibration())
    assert doubtful.high / doubtful.low > certain.high / certain.low
    assert doubtful.memory_high / doubtful.memory_low > certain.memory_high / certain.memory_low


def test_words_that_say_nothing_known_are_as_blank(tmp_path: Path) -> None:
    blank = one(tmp_path, recompute="", sharding="")
    words = one(tmp_path, recompute="our own policy", sharding="our own")
    assert blank.readings == words.readings


def test_the_mean_lies_within_its_readings_and_what_does_not_fit_hardly_counts(tmp_path: Path) -> None:
    run = one(tmp_path, tp="", pp="")
    singles = [
        forecast_rows([one(tmp_path, tp=f"{layout.tensor:g}", pp=f"{layout.pipeline:g}")], shipped_calibration())[0]
        for layout, _ in run.readings[:12]
    ]
    (mean,) = forecast_rows([run], shipped_calibration())
    assert min(each.step_seconds for each in singles) < mean.step_seconds
    assert mean.step_seconds < max(each.step_seconds for each in singles)
    fitting = [each for each in singles if not each.out_of_memory]
    assert mean.memory_bytes < 80e9 and fitting


def test_what_the_family_always_does_is_hardly_a_doubt(tmp_path: Path) -> None:
    told = one(tmp_path, framework="", group="vtrain", recompute="", sharding="", hardware="A100")
    assert told.certainty > 0.95 and told.layout.recomputation == 2 and told.layout.sharding == 0


def test_a_framework_of_a_family_is_not_given_to_rows_that_name_another(tmp_path: Path) -> None:
    source = {"framework": "", "group": "dgxc"}
    assert one(tmp_path, **source, source="NVIDIA/dgxc-benchmarking paxml/README_175b.md").framework == "paxml"
    assert one(tmp_path, **source, source="NVIDIA/dgxc-benchmarking maxtext/README.md").framework == "maxtext"
    assert one(tmp_path, **source, source="NVIDIA/dgxc-benchmarking something/README.md").framework == "unknown"
    assert one(tmp_path, framework="NeMo 24.07").framework == "megatron-core"
    assert one(tmp_path, framework="PaxML", group="dgxc").framework == "paxml"


def test_degrees_follow_from_each_other(tmp_path: Path) -> None:
    run = one(tmp_path, tp="", dp="4")
    assert {layout.tensor for layout, _ in run.readings} | {run.layout.tensor} == {4}
    assert one(tmp_path, n_gpus="", dp="8").devices == 64
    assert one(tmp_path, gbs_seqs="", dp="8", grad_accum="32").layout.accumulation == 32
    assert one(tmp_path, heads="").shape.heads == 32


def test_every_reason_is_shown_with_all_its_lines(tmp_path: Path) -> None:
    rows = [FULL, FULL | {"layers": ""}, FULL | {"hardware": "B9000"}, FULL | {"layers": "?"}, FULL]
    found = evaluate_rows(written(tmp_path, *rows))
    text = "\n".join(found.lines())
    assert "2 of 5 rows answered" in text and "lines 3, 5: layers not given" in text
    assert "line 4: unknown accelerator 'B9000'" in text
    assert found.everything is not None and found.everything.time.rows == 2


def test_the_same_row_in_other_words_has_the_same_forecast(tmp_path: Path) -> None:
    other = FULL | {
        "hardware": "NVIDIA H100 (our lab, 8 GPUs a node)",
        "layers": "32 layers",
        "n_gpus": "64 GPUs",
        "sharding": "distributed optimizer",
        "recompute": "full (uniform)",
        "precision": "bfloat16",
        "gated_mlp": "SwiGLU",
    }
    plain, strange = evaluate_rows(written(tmp_path, FULL, other)).answers
    assert np.isclose(plain.step_seconds, strange.step_seconds) and np.isclose(plain.high, strange.high)


def test_a_layout_that_its_framework_ran_is_not_called_too_large(tmp_path: Path) -> None:
    """Llama 3.1 405B as NVIDIA's own pages lay it out; how much is computed again they do not print."""
    cells = {
        **{"framework": "", "group": "megatron_bridge", "hardware": "DGX-H100", "n_gpus": "1024", "precision": "fp8"},
        **{"layers": "126", "hidden": "16384", "heads": "128", "kv_heads": "8", "ffn": "53248", "vocab": "128256"},
        **{"seq": "8192", "gbs_seqs": "1536", "tp": "8", "pp": "8", "vpp": "8", "cp": "2", "micro_batch": "1"},
        **{"recompute": "", "sharding": "", "gated_mlp": "1"},
    }
    (told,) = forecast_rows([one(tmp_path, **cells)], shipped_calibration())
    assert not told.out_of_memory
    (full,) = forecast_rows(
        [one(tmp_path, **cells | {"tp": "1", "cp": "1", "recompute": "none"})], shipped_calibration()
    )
    assert full.out_of_memory


@pytest.mark.parametrize(("counted", "attention"), [("NVIDIA Model TFLOP", 12), ("6N + causal attention", 6)])
def test_a_rate_in_flops_gives_the_time_where_it_is_said_how_they_were_counted(
    tmp_path: Path, counted: str, attention: float
) -> None:
    rate = {"tokens_s_gpu": "", "tflops_gpu": "400", "flops_convention": counted}
    run = one(tmp_path, **rate)
    shape = run.shape
    flops = 6 * shape.active_parameters + attention * shape.layers * shape.heads * shape.head_dim * shape.context
    expected = 512 * shape.context * flops / (400e12 * 64)
    assert run.step_seconds == pytest.approx(expected)
    for unsaid in ("", "hardware FLOPs with what is recomputed"):
        assert one(tmp_path, **rate | {"flops_convention": unsaid}).step_seconds is None
