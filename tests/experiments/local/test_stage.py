"""The plan of a campaign: registered before training, never rewritten, settled with what the trainer measured."""

import json
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from tenfold.campaign import run_data, run_evaluate, run_report, run_train
from tenfold.core.errors import TenfoldError
from tenfold.core.folder import CampaignFiles
from tenfold.experiments.local import stage
from tenfold.experiments.local.stage import PEAK_MEMORY, STEP_TIME, plan_locally
from tenfold.ledger import Ledger, Prediction
from tests.campaign.small import copy_of, new_campaign
from tests.experiments.local.small import small_calibration


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """A real calibration, of few probes."""
    monkeypatch.setattr(stage, "calibrate", lambda threads, again, say: small_calibration())


def float32_campaign(directory: Path) -> Path:
    """Steps in float32 on every machine: those with fast bf16 would take that, which is not forecast."""
    file = new_campaign(directory) / "campaign.toml"
    file.write_text(file.read_text().replace("[train]", '[train]\nprecision = "float32"'))
    return directory


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A campaign with its corpus, nothing trained."""
    directory = float32_campaign(tmp_path_factory.mktemp("plan"))
    run_data(directory, ())
    return directory


def in_ledger(campaign: Path) -> list[Prediction]:
    with closing(Ledger(CampaignFiles(campaign).ledger, read_only=True)) as ledger:
        return [p for p in ledger.predictions() if "planned" in p.basis]


def test_a_plan_is_registered_once_and_settled_after_training(built: Path, tmp_path: Path) -> None:
    campaign = copy_of(built, tmp_path / "c")
    plan = plan_locally(campaign)
    assert [p.quantity for p in plan.registered] == [STEP_TIME, PEAK_MEMORY]
    assert plan_locally(campaign).registered == plan.registered
    assert json.loads(json.dumps(plan.to_dict()))["memory"]["activations"] > 0
    assert any(line.startswith("registered: planned step time") for line in plan.lines())
    run_train(campaign, ())
    run_evaluate(campaign, ())
    time, memory = in_ledger(campaign)
    assert time.outcome is not None and 1 / 5 < time.outcome / time.median < 5
    assert memory.outcome is not None and memory.outcome > 0
    run_report(campaign, ())
    report = json.loads(CampaignFiles(campaign).report_json.read_text())
    assert [(q["quantity"], q["outcome"]) for q in report["plan"]] == [
        (STEP_TIME, time.outcome),
        (PEAK_MEMORY, memory.outcome),
    ]


def test_nothing_is_registered_without_corpus_or_after_training(built: Path, tmp_path: Path) -> None:
    unbuilt = plan_locally(float32_campaign(tmp_path / "unbuilt"))
    assert unbuilt.forecast is not None and unbuilt.registered == ()
    assert "corpus" in unbuilt.notes[0]
    campaign = copy_of(built, tmp_path / "late")
    run_train(campaign, ())
    late = plan_locally(campaign)
    assert late.registered == ()
    assert "training has begun" in late.notes[0]


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("train.compile=on", "compiled"),
        ("train.precision=bf16", "bf16"),
        ("learners.count=2", "a learner's own step time"),
    ],
)
def test_what_is_left_out_says_why(built: Path, tmp_path: Path, override: str, said: str) -> None:
    campaign = copy_of(built, tmp_path / "c")
    plan = plan_locally(campaign, [override])
    assert plan.registered == ()
    assert said in plan.notes[0]


def test_a_plan_changed_afterwards_is_not_settled(built: Path, tmp_path: Path) -> None:
    campaign = copy_of(built, tmp_path / "c")
    plan_locally(campaign)
    with closing(sqlite3.connect(CampaignFiles(campaign).ledger)) as database, database:
        database.execute("UPDATE predictions SET median = median * 2")
    run_train(campaign, ())
    with pytest.raises(TenfoldError, match="changed afterwards"):
        run_evaluate(campaign, ())


def test_plans_of_other_recipes_are_not_mixed_up(built: Path, tmp_path: Path) -> None:
    campaign = copy_of(built, tmp_path / "c")
    one, other = plan_locally(campaign), plan_locally(campaign, ["model.depth=3"])
    assert len(in_ledger(campaign)) == 4
    assert one.registered != other.registered
