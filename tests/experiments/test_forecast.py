"""The forecast of a campaign: registered before training, never rewritten, followed live, settled at the end."""

import json
import shutil
import signal
import sqlite3
import subprocess
from pathlib import Path

import pytest

from tenfold.campaign import run_campaign, run_evaluate, run_predict, run_report, run_train
from tenfold.core.errors import TenfoldError
from tenfold.experiments.register import ForecastWatcher, level_inside
from tenfold.ledger import Ledger, Prediction
from tenfold.scaling.curve_forecast import CurveForecast
from tests import warm
from tests.campaign.small import copy_of, new_ladder_campaign

NO_TRANSFER = ("ladder.transfer=false",)


@pytest.fixture(scope="module")
def forecast(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ladder trained, forecast registered, nothing else."""
    directory = new_ladder_campaign(tmp_path_factory.mktemp("forecast") / "campaign")
    run_predict(directory, NO_TRANSFER)
    return directory


@pytest.fixture(scope="module")
def finished(forecast: Path) -> Path:
    directory = copy_of(forecast, forecast.with_name("finished"))
    run_campaign(directory, NO_TRANSFER)
    return directory


def predictions_of(directory: Path) -> list[Prediction]:
    ledger = Ledger(directory / "ledger.sqlite", read_only=True)
    found = ledger.predictions()
    ledger.close()
    return found


def named(directory: Path) -> dict[str, Prediction]:
    """By quantity, without the recipe before it."""
    return {prediction.quantity.split(" ", 1)[1]: prediction for prediction in predictions_of(directory)}


def test_it_says_loss_bits_curve_and_time_with_nested_intervals(forecast: Path) -> None:
    found = named(forecast)
    assert {"iid loss", "iid bits per byte", "training loss", "training time"} == set(found)
    for prediction in found.values():
        widths = [high - low for low, high in (prediction.intervals[level] for level in ("0.5", "0.8", "0.95"))]
        assert 0 < widths[0] < widths[1] < widths[2]
        assert prediction.intervals["0.5"][0] < prediction.median < prediction.intervals["0.5"][1]
        assert len(prediction.basis["digest"]) == 64 and prediction.outcome is None
    curve = CurveForecast.from_record(found["training loss"].basis["curve"])
    assert curve.losses[-1] == pytest.approx(found["training loss"].median)
    basis = found["iid loss"].basis
    assert basis["ten_times_compute"]["loss"] < found["iid loss"].median
    assert basis["ten_times_data"]["loss"] < found["iid loss"].median
    assert basis["target"]["steps"] == 64


def test_bits_per_byte_and_nats_per_token_are_one_forecast(forecast: Path) -> None:
    found = named(forecast)
    loss, bits = found["iid loss"], found["iid bits per byte"]
    assert bits.intervals["0.8"][1] / bits.median == pytest.approx(loss.intervals["0.8"][1] / loss.median)


def test_asking_again_gives_the_registered_forecast_and_trains_nothing(forecast: Path) -> None:
    before = predictions_of(forecast)
    again = run_predict(forecast, NO_TRANSFER)
    assert predictions_of(forecast) == before
    assert [f["registered_at"] for f in again["forecasts"]] == [p.registered_at for p in before]


def test_another_target_gets_a_forecast_of_its_own(forecast: Path, tmp_path: Path) -> None:
    directory = copy_of(forecast, tmp_path / "longer")
    run_predict(directory, (*NO_TRANSFER, "train.tokens=20480"))
    assert len(predictions_of(directory)) == 2 * len(predictions_of(forecast))


def test_it_is_registered_before_training_and_settled_after(finished: Path) -> None:
    ledger = Ledger(finished / "ledger.sqlite", read_only=True)
    target = next(run for run in ledger.runs() if run.kind == "train")
    ledger.close()
    found = named(finished)
    scores = json.loads((finished / "evaluation.json").read_text())["holdouts"]["iid"]
    for prediction in found.values():
        assert prediction.registered_at < target.started_at
        assert prediction.settled_at is not None and prediction.settled_at > (target.finished_at or 0)
    assert found["iid bits per byte"].outcome == scores["bits_per_byte"]
    assert found["iid loss"].outcome == pytest.approx(scores["nats"] / scores["tokens"])


def test_the_report_has_ladder_forecast_and_settlement(finished: Path) -> None:
    report = json.loads((finished / "report.json").read_text())
    assert {point["size"] for point in report["ladder"]["points"]} == {
        p["group"] for p in report["ladder"]["residuals"]
    }
    main = report["forecast"]["quantities"][0]
    assert main["quantity"] == "iid loss"
    assert main["error"] == pytest.approx(main["outcome"] / main["median"] - 1)
    assert main["inside"] in ("0.5", "0.8", "0.95", "outside")
    assert report["calibration"]["settled"] == 2
    assert report["forecast"]["tracking"]["side"] in ("inside", "above", "below")
    assert report["forecast"]["effective"]["compute"]["value"] > 0
    assert "Forecast and settlement" in (finished / "report.html").read_text()


def test_settling_twice_changes_nothing(finished: Path) -> None:
    before = predictions_of(finished)
    run_evaluate(finished, NO_TRANSFER)
    run_report(finished, NO_TRANSFER)
    assert predictions_of(finished) == before


def test_a_settled_forecast_outlives_its_ladder(finished: Path, tmp_path: Path) -> None:
    directory = copy_of(finished, tmp_path / "tidied")
    shutil.rmtree(directory / "ladder")
    run_report(directory, NO_TRANSFER)
    report = json.loads((directory / "report.json").read_text())
    assert report["ladder"] is None and report["forecast"]["quantities"][0]["outcome"] is not None
    assert "Forecast before training" in (directory / "report.html").read_text()


def test_a_forecast_changed_afterwards_is_not_settled(forecast: Path, tmp_path: Path) -> None:
    directory = copy_of(forecast, tmp_path / "forged")
    database = sqlite3.connect(directory / "ledger.sqlite")
    database.execute("UPDATE predictions SET median = median * 1.01 WHERE quantity LIKE '%iid loss'")
    database.commit()
    database.close()
    with pytest.raises(TenfoldError, match="the registered forecast was changed afterwards"):
        run_campaign(directory, NO_TRANSFER)


def test_no_forecast_once_training_has_begun(forecast: Path, tmp_path: Path) -> None:
    directory = copy_of(forecast, tmp_path / "begun")
    (directory / "ledger.sqlite").unlink()
    run_train(directory, NO_TRANSFER)
    with pytest.raises(TenfoldError, match=r"training of this campaign has begun \(run [0-9a-f]{12}\)"):
        run_predict(directory, NO_TRANSFER)
    assert run_campaign(directory, NO_TRANSFER)["steps"] == 64  # it goes on without one
    assert predictions_of(directory) == []


def test_a_target_too_small_for_a_ladder_is_trained_without_forecast(forecast: Path, tmp_path: Path) -> None:
    directory = copy_of(forecast, tmp_path / "tiny")
    assert run_campaign(directory, ("train.tokens=1024", "evaluate.every=2"))["steps"] == 4


def test_a_resumed_run_stands_where_it_would_have(forecast: Path, tmp_path: Path) -> None:
    """The band's tracker is a function of the losses, which a resumed run shows it again."""
    directory = copy_of(forecast, tmp_path / "stopped")
    shutil.rmtree(directory / "ladder")  # no longer needed
    settings = ("--set", "train.log_every=4", "--set", "ladder.transfer=false")
    with warm.start(["train", str(directory), *settings], stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        lines = iter(process.stderr.readline, "")
        assert any(line.startswith("step 24/64") for line in lines)
        process.send_signal(signal.SIGINT)
        process.stderr.read()
    done = warm.run(["train", str(directory), *settings], check=True)
    whole = copy_of(forecast, tmp_path / "whole")
    straight = warm.run(["train", str(whole), *settings], check=True)
    assert _standing(done.stderr) == _standing(straight.stderr)


def _standing(log: str) -> str:
    """What the last line of a run says about the band."""
    return next(line for line in log.splitlines() if line.startswith("step 64/64  loss")).rsplit("  ", 1)[1]


def test_leaving_the_band_is_said_once_and_after_patience() -> None:
    steps = list(range(1, 101))
    record = {
        "steps": steps,
        "losses": [5.0] * 100,
        "bands": [{"level": 0.95, "low": [4.5] * 100, "high": [5.5] * 100}],
        "method": "collapse",
        "errors": {},
    }
    watcher = ForecastWatcher(CurveForecast.from_record(record), group=10)
    news = [watcher.observe(step, 5.0 if step <= 40 else 6.0) for step in steps]
    said = [(step, text) for step, text in zip(steps, news, strict=True) if text]
    assert [step for step, _ in said] == [70]
    assert "above the 95% band" in said[0][1] and watcher.side == "above"


def test_the_narrowest_interval_counts() -> None:
    intervals = {"0.5": (1.9, 2.1), "0.8": (1.8, 2.2), "0.95": (1.5, 2.5)}
    outcomes = {2.0: "0.5", 2.15: "0.8", 1.6: "0.95", 3.0: "outside"}
    for outcome, level in outcomes.items():
        assert level_inside(Prediction("q", "u", 2.0, intervals, {}, 0.0, outcome, 1.0)) == level
