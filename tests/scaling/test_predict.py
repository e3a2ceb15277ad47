"""`tenfold predict --table` as people run it."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tenfold.cli import main
from tenfold.core.errors import InputError
from tenfold.scaling.predict import predict_table
from tests.scaling.runs import DATA

TABLE = str(DATA / "gadre_c4.csv")


def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, *arguments: str) -> tuple[int, str, str]:
    monkeypatch.setattr(sys, "argv", ["tenfold", "predict", *arguments])
    with pytest.raises(SystemExit) as stopped:
        main()
    shown = capsys.readouterr()
    return int(stopped.value.code or 0), shown.out, shown.err


def test_json_holds_every_target_with_its_intervals(capsys, monkeypatch) -> None:
    targets = ["--target", "N=7e9,D=1.4e11", "--target", "C=1e22"]
    status, out, _ = run(capsys, monkeypatch, "--table", TABLE, *targets, "--json")
    assert status == 0
    result = json.loads(out)
    assert result["runs"] == 34
    first, second = (forecast["target"] for forecast in result["targets"])
    assert first["N"] == pytest.approx(7e9) and first["C"] == pytest.approx(6 * 7e9 * 1.4e11)
    assert second["C"] == pytest.approx(1e22)
    for forecast in result["targets"]:
        inner, middle, outer = (forecast["target"]["intervals"][level] for level in ("0.5", "0.8", "0.95"))
        assert outer[0] <= middle[0] <= inner[0] < forecast["target"]["loss"] < inner[1] <= middle[1] <= outer[1]
        assert forecast["compute_optimal"]["loss"] <= forecast["target"]["loss"] * (1 + 1e-9)
        assert forecast["ten_times_compute"]["loss"] < forecast["compute_optimal"]["loss"]
        assert forecast["ten_times_data"]["loss"] < forecast["target"]["loss"]
    law = result["law"]
    assert law["form"] == min(law["backtest_error"], key=law["backtest_error"].get)
    assert "data-constrained" in law["not_identified"]


def test_people_read_the_form_the_reason_and_a_default_target(capsys, monkeypatch) -> None:
    status, out, _ = run(capsys, monkeypatch, "--table", TABLE)
    assert status == 0
    for expected in (
        "34 runs",
        "law: ",
        "why: lowest error expected",
        "target N=",
        "C=5.696e+22",
        "80%: ",
        "10x the compute",
    ):
        assert expected in out


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("7e9", "--target '7e9': write it as N=7e9,D=1.4e11"),
        ("N=7e9", "--target 'N=7e9': write it as N=7e9,D=1.4e11"),
        ("N=7e9,D=1e11,C=1e22", "write it as N=7e9,D=1.4e11"),
        ("N=7e9,N=8e9", "write it as N=7e9,D=1.4e11"),
        ("N=big,D=1e11", "--target 'N=big,D=1e11': N = 'big': must be a finite number above 0"),
        ("N=7e9,D=-1", "D = '-1': must be a finite number above 0"),
        ("N=7e9,D=1e11,unique=1e12", "unique must not exceed D"),
    ],
)
def test_a_bad_target_is_one_line_and_status_2(target: str, message: str, capsys, monkeypatch) -> None:
    status, out, err = run(capsys, monkeypatch, "--table", TABLE, "--target", target)
    assert (status, out) == (2, "")
    assert message in err and err.startswith("error: ") and err.count("\n") == 1


def test_predicting_from_a_table_imports_no_torch() -> None:
    code = f"import sys; sys.argv = ['tenfold', 'predict', '--table', {TABLE!r}]\nfrom tenfold.cli import main\n"
    code += "try: main()\nexcept SystemExit: pass\nassert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


def table_of(path: Path, rows: list[tuple[float, float, float]]) -> str:
    path.write_text("N,D,loss\n" + "".join(f"{n!r},{d!r},{loss!r}\n" for n, d, loss in rows))
    return str(path)


def test_a_family_at_one_d_is_forecast_and_a_wrong_row_named(capsys, monkeypatch, tmp_path: Path) -> None:
    family = [(n, 3e11, 1.9 + 480 / n**0.35) for n in (7e7, 1.6e8, 4.1e8, 1e9, 1.4e9, 2.8e9, 6.9e9, 1.2e10)]
    status, out, err = run(capsys, monkeypatch, "--table", table_of(tmp_path / "family.csv", family))
    assert (status, err) == (0, "") and "D=3e+11" in out and "note on 10x the data: " in out
    family[3] = (*family[3][:2], family[3][2] / 10)
    status, out, _ = run(capsys, monkeypatch, "--table", table_of(tmp_path / "slip.csv", family), "--json")
    [note] = json.loads(out)["law"]["left_out"]
    assert status == 0 and note.startswith("row 5 left out: its loss 0.2")


def test_extreme_numbers_and_folders_are_one_line_and_status_2(capsys, monkeypatch, tmp_path: Path) -> None:
    wild = table_of(tmp_path / "wild.csv", [(1e6 * 3**i, 1e200, 5 - 0.3 * i) for i in range(7)])
    for arguments, message in (
        (["--table", str(tmp_path)], f"{tmp_path}: cannot be read (Is a directory)"),
        (["--table", wild], "row 2: D = '1e+200': must lie in 1e-60 … 1e+60"),
        (["--table", TABLE, "--target", "N=1e200,D=1e9"], "decades of compute from the nearest run; 10 at most"),
        (["--table", TABLE, "--target", "C=1e-200"], "decades of compute from the nearest run; 10 at most"),
    ):
        status, out, err = run(capsys, monkeypatch, *arguments)
        assert (status, out) == (2, "") and message in err and err.count("\n") == 1


@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=st.lists(st.tuples(*[st.floats(1e-30, 1e50)] * 3), min_size=5, max_size=9))
@pytest.mark.filterwarnings("error")
def test_any_table_is_answered_in_finite_numbers_or_refused_in_a_line(rows, tmp_path: Path) -> None:
    path = Path(table_of(tmp_path / "any.csv", rows))
    try:
        result = predict_table(path, [], 0)
    except InputError as error:
        assert str(error).startswith(f"{path}: ") and "\n" not in str(error)
    else:
        json.dumps(result, allow_nan=False)
