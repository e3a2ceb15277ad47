"""`tenfold incidents` and `tenfold reliability` on a ledger, as people and programs call them."""

import json
from contextlib import closing
from pathlib import Path

import pytest

from tenfold.core import InputError
from tenfold.ledger import Evidence, EvidenceKind, Ledger, LossNotFinite, ObserverFailed, RunFailed
from tenfold.monitor.incidents import moment
from tests import warm


@pytest.fixture
def campaign(tmp_path: Path) -> Path:
    with closing(Ledger(tmp_path / "ledger.sqlite")) as ledger:
        run = ledger.start_run("train", "a", {})
        link = Evidence(EvidenceKind.METRIC, "train/loss 6–7", "rises")
        ledger.open_incident(LossNotFinite(7, 640, 703), "loss of step 7 is nan", run_id=run, evidence=[link])
        other = ledger.open_incident(ObserverFailed("band"), "band failed", run_id=run)
        ledger.close_incident(other, "a full disk")
        ledger.finish_run(run, "failed")
    return tmp_path


def test_programs_get_one_object_and_a_status(campaign: Path) -> None:
    done = warm.run(["incidents", str(campaign), "--json"])
    record = json.loads(done.stdout)
    assert done.returncode == 1 and record["open"] == 1 and record["critical_open"] is True
    first, second = record["incidents"]
    assert first["first_step"] == 7 and first["kind"] == "not-finite" and first["severity"] == "critical"
    assert first["evidence"] == [{"kind": "metric", "where": "train/loss 6–7", "note": "rises"}]
    assert second["state"] == "closed" and second["verdict"] == "a full disk" and second["first_step"] is None


def test_people_get_a_line_each_with_evidence_below(campaign: Path) -> None:
    done = warm.run(["incidents", str(campaign), "--open"])
    head, row, evidence = done.stdout.splitlines()
    assert head.split() == ["id", "severity", "state", "kind", "step", "opened", "message"]
    assert row.split()[:5] == ["1", "critical", "open", "not-finite", "7"] and row.endswith("loss of step 7 is nan")
    assert evidence == "  metric: train/loss 6–7 (rises)"


def test_with_nothing_critical_open_the_status_is_0(campaign: Path) -> None:
    with closing(Ledger(campaign / "ledger.sqlite")) as ledger:
        ledger.close_incident(1, "a bad batch")
    assert warm.run(["incidents", str(campaign)]).returncode == 0
    done = warm.run(["incidents", str(campaign), "--open"])
    assert done.returncode == 0 and done.stdout == "no incidents\n"


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["incidents", "{}/nowhere"], "nowhere/ledger.sqlite: no such ledger; name a campaign's folder"),
        (["incidents", "{}", "--since", "yesterday"], "--since yesterday: give a date or time"),
        (["reliability", "{}", "--goal", "-1"], "--goal -1: give hours between failures"),
        (["reliability", "{}", "--simulate", "llama3-h100"], "name the machine that was planned for"),
        (["reliability", "{}", "--simulate", "no", "--cluster", "H100:8"], "no such file and no profile"),
    ],
)
def test_bad_input_is_one_line(campaign: Path, words: list[str], line: str) -> None:
    done = warm.run([word.format(campaign) for word in words])
    assert done.returncode == 2 and done.stdout == "" and line in done.stderr and len(done.stderr.splitlines()) == 1


def test_since_takes_dates_times_and_ages() -> None:
    assert moment("90m", 10_000.0) == 10_000 - 5400 and moment("2d", 1e6) == 1e6 - 172_800
    assert moment("2026-12-01T08:00+00:00", 0.0) == 1_796_112_000
    assert moment("2026-12-01", 0.0) == pytest.approx(1_796_083_200, abs=86_400)
    with pytest.raises(InputError):
        moment("2h30", 0.0)


def test_since_leaves_out_what_did_not_change(campaign: Path) -> None:
    assert len(json.loads(warm.run(["incidents", str(campaign), "--json", "--since", "1h"]).stdout)["incidents"]) == 2
    later = warm.run(["incidents", str(campaign), "--json", "--since", "2999-01-01"])
    assert json.loads(later.stdout)["incidents"] == [] and later.returncode == 0


def test_reliability_reads_several_campaigns_and_a_plan(
    campaign: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    other = tmp_path_factory.mktemp("other")
    with closing(Ledger(other / "ledger.sqlite")) as ledger:
        run = ledger.start_run("train", "b", {})
        ledger.open_incident(RunFailed(), "no", run_id=run)
        ledger.finish_run(run, "failed")
    words = ["reliability", str(campaign), str(other), "--simulate", "llama3-h100", "--cluster", "H100:8", "--json"]
    done = warm.run(words)
    record = json.loads(done.stdout)
    assert done.returncode == 0 and record["failures"] == 2
    assert set(record["causes"]) == {"failed", "not-finite"} and record["plan"]["expected"] > 0
    text = warm.run(["reliability", str(campaign)]).stdout
    assert text.startswith("1 failure in") and "too few failures" in text
