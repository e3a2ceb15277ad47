"""`tenfold predict --table` as people run it."""

import json
import subprocess
import sys

import pytest

from tenfold.cli import main
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
    for expected in ("34 runs", "law: ", "why: it forecasts", "target N=", "C=5.696e+22", "80%: ", "10x the compute"):
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
