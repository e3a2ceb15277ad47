"""`/metrics` on the server of the page."""

import shutil
from pathlib import Path

from starlette.applications import Starlette
from starlette.testclient import TestClient

from tenfold.monitor.export.route import metrics_routes
from tests.monitor.ledgers import write_small_ledger


def test_one_campaign_has_no_label_of_its_own_and_several_have(tmp_path: Path) -> None:
    campaigns = [write_small_ledger(tmp_path / name).parent for name in ("a", "b")]
    alone = TestClient(Starlette(routes=metrics_routes(campaigns[:1]))).get("/metrics")
    assert alone.headers["content-type"].startswith("text/plain; version=0.0.4")
    assert 'tenfold_train_loss{run="2",kind="train"} 2.5' in alone.text.splitlines()
    both = TestClient(Starlette(routes=metrics_routes(campaigns))).get("/metrics").text.splitlines()
    for campaign in campaigns:
        assert f'tenfold_train_loss{{campaign="{campaign}",run="2",kind="train"}} 2.5' in both
    assert len([line for line in both if line.startswith("# TYPE tenfold_train_loss ")]) == 1


def test_a_ledger_that_is_gone_fails_the_scrape(tmp_path: Path) -> None:
    campaign = write_small_ledger(tmp_path / "a").parent
    client = TestClient(Starlette(routes=metrics_routes([campaign])))
    shutil.rmtree(campaign)
    answer = client.get("/metrics")
    assert answer.status_code == 503 and "no such ledger" in answer.text
