"""Reading tables of runs: blank cells filled, bad ones named."""

import csv
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenfold.core.errors import InputError
from tenfold.planner.calibration.arrays import shapes_of
from tenfold.planner.calibration.runs import read_runs

ROW = {
    "id": "7",
    "group": "mine",
    "model": "GPT",
    "layers": "24",
    "hidden": "1024",
    "heads": "16",
    "ffn": "4096",
    "gated_mlp": "0",
    "vocab": "50304",
    "seq": "1024",
    "gbs_seqs": "64",
    "hardware": "A100-80GB",
    "n_gpus": "8",
    "tp": "2",
    "pp": "2",
    "micro_batch": "4",
    "recompute": "full",
    "precision": "bf16",
    "tokens_s_gpu": "16000",
    "vpp": "1",
    "cp": "1",
    "sharding": "ZeRO-1",
    "row_type": "measured",
    "arch": "dense",
    "framework": "",
    "source": "",
    "grad_accum": "",
    "dp": "",
    "kv_heads": "",
    "tflops_gpu": "",
    "flops_convention": "",
}


def written(directory: Path, *rows: dict[str, str]) -> Path:
    """A table of these rows."""
    path = directory / "rows.csv"
    with path.open("w", encoding="utf-8", newline="") as handle:
        writer = csv.DictWriter(handle, fieldnames=list(ROW))
        writer.writeheader()
        writer.writerows(rows)
    return path


def test_layout_and_batch_follow_from_the_cells(tmp_path: Path) -> None:
    (run,), skipped = read_runs(written(tmp_path, ROW))
    assert not skipped
    assert (run.layout.data, run.layout.accumulation, run.layout.recomputation, run.shape.mlp_matrices) == (2, 8, 2, 2)
    assert run.step_seconds == 64 * 1024 / (16000 * 8)


def test_a_run_that_did_not_fit_is_forecast_all_the_same(tmp_path: Path) -> None:
    (run,), skipped = read_runs(written(tmp_path, ROW | {"tokens_s_gpu": "OOM"}))
    assert not skipped and run.step_seconds is None


def test_a_row_without_a_needed_cell_is_left_out_and_says_why(tmp_path: Path) -> None:
    runs, skipped = read_runs(written(tmp_path, ROW, ROW | {"id": "8", "layers": ""}))
    assert [run.name for run in runs] == ["7"]
    assert skipped[0].name == "8" and "layers" in skipped[0].reason


@pytest.mark.parametrize(
    ("column", "value", "words"),
    [
        ("layers", "a few", "layers is 'a few'"),
        ("layers", "2.5", "layers is 2.5; a whole number"),
        ("layers", "1e9", "at most 10000"),
        ("hidden", "-1", "hidden is '-1'"),
        ("hidden", "nan", "hidden not given"),
        ("heads", "0", "heads is 0"),
        ("heads", "31", "heads is 31, which does not divide hidden = 1024"),
        ("ffn", "0", "ffn is 0"),
        ("vocab", "0", "vocab is 0"),
        ("hardware", "B9000", "B9000"),
        ("hardware", "TPU v4", "has no published peak in fp8|not published"),
        ("tokens_s_gpu", "0", "leave it blank"),
        ("hidden", "1e300", "a number from 0 to"),
        ("pp", "32", "pp is 32, of 24 layers"),
        ("vpp", "999", "vpp is 999"),
        ("sharding", "zero_4", "ZeRO has stages 0 to 3"),
        ("n_gpus", "10000000000", "at most 1e\\+08"),
        ("row_type", "LoRA", "row_type is 'LoRA': only measured pretraining"),
        ("row_type", "SFT (packed)", "row_type is 'SFT .packed.'"),
        ("row_type", "projected", "row_type is 'projected'"),
        ("arch", "hybrid-moe", "only decoder-only transformers"),
    ],
)
def test_a_row_with_a_bad_cell_is_left_out_with_its_line_and_reason_and_the_others_are_answered(
    tmp_path: Path, column: str, value: str, words: str
) -> None:
    bad = ROW | ({"n_gpus": "6144", "tp": "1", "pp": "1", "gbs_seqs": "6144"} if value == "TPU v4" else {})
    runs, (skipped,) = read_runs(written(tmp_path, ROW, bad | {column: value}, ROW | {"id": "9"}))
    assert [run.name for run in runs] == ["7", "9"]
    assert skipped.line == 3 and re.search(words, skipped.reason) and "\n" not in skipped.reason


@pytest.mark.parametrize(
    ("cells", "words"),
    [
        ({"tp": "16"}, "not a multiple of tp·pp·cp"),
        ({"heads": "7", "hidden": "896"}, "does not divide 7 heads"),
        ({"gbs_seqs": "1"}, "less than 2 data-parallel ranks"),
        ({"precision": "fp8"}, "no published peak in fp8"),
    ],
)
def test_a_row_that_cannot_be_is_left_out_and_says_why(tmp_path: Path, cells: dict[str, str], words: str) -> None:
    runs, skipped = read_runs(written(tmp_path, ROW, ROW | cells))
    assert len(runs) == 1 and words in skipped[0].reason


@pytest.mark.parametrize(
    ("cells", "words"),
    [
        ({"topk": "9"}, "topk is 9, of 8 experts"),
        ({"topk": ""}, "topk not given"),
        ({"moe_ffn": ""}, "moe_ffn not given"),
        ({"ep": "64"}, "ep is 64"),
        ({"n_experts": "", "topk": "", "moe_ffn": ""}, "ep is 2, and n_experts not given"),
    ],
)
def test_experts_that_cannot_be(tmp_path: Path, cells: dict[str, str], words: str) -> None:
    row = ROW | {"n_experts": "8", "topk": "2", "moe_ffn": "1024", "ep": "2"}
    path = tmp_path / "experts.csv"
    with path.open("w", encoding="utf-8", newline="") as handle:
        writer = csv.DictWriter(handle, fieldnames=list(row))
        writer.writeheader()
        writer.writerows([row, row | cells])
    runs, skipped = read_runs(path)
    assert len(runs) == 1 and words in skipped[0].reason


def test_a_missing_column_and_a_missing_file_are_named(tmp_path: Path) -> None:
    path = tmp_path / "other.csv"
    path.write_text("a,b\n1,2\n", encoding="utf-8")
    with pytest.raises(InputError, match="no column layers"):
        read_runs(path)
    with pytest.raises(InputError, match="cannot be read"):
        read_runs(tmp_path / "none.csv")


@given(junk=st.binary(max_size=300))
def test_junk_is_refused_in_one_line(tmp_path_factory: pytest.TempPathFactory, junk: bytes) -> None:
    path = tmp_path_factory.mktemp("rows") / "junk.csv"
    path.write_bytes(junk)
    with pytest.raises(InputError) as error:
        read_runs(path)
    assert "\n" not in str(error.value)


def test_published_models_have_the_parameters_they_are_named_for(tmp_path: Path) -> None:
    mixture = ROW | {"model": "DeepSeek-V3", "layers": "61", "hidden": "7168", "heads": "128", "ffn": "18432"}
    path = tmp_path / "rows.csv"
    columns = {"n_experts": "256", "topk": "8", "moe_ffn": "2048", "ep": "8", "gated_mlp": "1", "vocab": "129280"}
    with path.open("w", encoding="utf-8", newline="") as handle:
        writer = csv.DictWriter(handle, fieldnames=list(mixture | columns))
        writer.writeheader()
        writer.writerow(mixture | columns)
    shape = shapes_of(read_runs(path)[0])
    assert shape.parameters == pytest.approx(671e9, rel=0.01)  # arXiv 2412.19437, abstract
    assert shape.active_parameters == pytest.approx(37e9, rel=0.03)
