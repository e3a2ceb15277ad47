"""`/metrics` over HTTP, and a real Prometheus that scrapes it and fires a rule."""

import json
import shutil
import socket
import subprocess
import threading
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from tenfold.core import InputError
from tenfold.ledger import Ledger
from tenfold.monitor.export.files import RULES_FILE, dashboard, rules_yaml, scrape_yaml
from tenfold.monitor.export.serve import MetricsServer
from tests.monitor.ledgers import write_small_ledger
from tests.waiting import until


@contextmanager
def served(campaign: Path) -> Iterator[MetricsServer]:
    with MetricsServer(campaign, 0) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture
def campaign(tmp_path: Path) -> Path:
    return write_small_ledger(tmp_path / "c").parent


def get(url: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(url, timeout=60) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def test_it_serves_what_the_ledger_has_at_that_moment(campaign: Path) -> None:
    with served(campaign) as server:
        assert 'tenfold_train_loss{run="2",kind="train"} 2.5' in get(server.url)[1]
        with closing(Ledger(campaign / "ledger.sqlite")) as ledger:
            ledger.log(2, {4: {"train/loss": 1.5}})
        assert 'tenfold_train_loss{run="2",kind="train"} 1.5' in get(server.url)[1]
        assert get(server.url.replace("/metrics", "/other")) == (404, "only /metrics is here\n")


def test_a_scrape_fails_where_nothing_can_be_seen(campaign: Path) -> None:
    with served(campaign) as server:
        shutil.rmtree(campaign)
        status, line = get(server.url)
        assert status == 503 and "no such ledger" in line and len(line.splitlines()) == 1
        campaign.mkdir()
        (campaign / "ledger.sqlite").write_bytes(b"no database, though it is one by name" * 100)
        status, line = get(server.url)
        assert status == 503 and "cannot open the ledger" in line


def test_a_taken_port_and_a_missing_ledger_are_one_line(campaign: Path, tmp_path: Path) -> None:
    with served(campaign) as server, pytest.raises(InputError, match="cannot listen there"):
        MetricsServer(campaign, int(server.server_address[1]))
    with pytest.raises(InputError, match="no such ledger"):
        MetricsServer(tmp_path / "nowhere", 0)


# A real Prometheus

ALERT = "TenfoldCriticalIncident"


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


@contextmanager
def prometheus(folder: Path, target: str) -> Iterator[str]:
    """A Prometheus that scrapes `target` every second; its address."""
    folder.mkdir()
    (folder / RULES_FILE).write_text(rules_yaml())
    (folder / "prometheus.yml").write_text(scrape_yaml(target, every="1s"))
    address = f"127.0.0.1:{free_port()}"
    words = [f"--config.file={folder / 'prometheus.yml'}", f"--storage.tsdb.path={folder / 'data'}"]
    with (folder / "log").open("w") as log:
        command = ["prometheus", *words, f"--web.listen-address={address}"]
        with subprocess.Popen(command, stdout=log, stderr=log) as process:
            try:
                yield f"http://{address}/api/v1"
            finally:
                process.terminate()


def asked(api: str, question: str, **words: str) -> Any:
    """`data` of an answer; None while Prometheus does not answer."""
    try:
        status, text = get(f"{api}/{question}?{urllib.parse.urlencode(words)}")
    except OSError:
        return None
    return json.loads(text).get("data") if status == 200 else None


def alerts(api: str) -> dict[str, str]:
    """Name of each alert that is pending or firing → which of the two."""
    return {each["labels"]["alertname"]: each["state"] for each in (asked(api, "alerts") or {"alerts": []})["alerts"]}


@pytest.mark.skipif(shutil.which("prometheus") is None, reason="needs prometheus (Debian's package)")
def test_prometheus_scrapes_it_fires_and_resolves_a_rule_and_knows_when_it_is_blind(
    campaign: Path, tmp_path: Path
) -> None:
    with served(campaign) as server, prometheus(tmp_path / "prometheus", server.url.split("/")[2]) as api:
        until(lambda: alerts(api).get(ALERT) == "firing")
        (series,) = asked(api, "query", query='tenfold_train_loss{kind="train"}')["result"]
        assert float(series["value"][1]) == 2.5
        for panel in dashboard()["panels"]:
            for target in panel.get("targets", []):
                assert asked(api, "query", query=target["expr"].replace("$instance", ".*")) is not None, target["expr"]
        with closing(Ledger(campaign / "ledger.sqlite")) as ledger:
            ledger.close_incident(1, "known")
        until(lambda: ALERT not in alerts(api))
        shutil.rmtree(campaign)
        until(lambda: "TenfoldCannotSee" in alerts(api))
