"""Figures sent to trackers: each once, read back by the tracker's own reader; packages that are missing say so."""

import importlib.util
import json
import os
import threading
from collections.abc import Iterator
from contextlib import closing
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from tenfold.core import InputError, TenfoldError
from tenfold.ledger import Ledger
from tenfold.monitor.export import trackers
from tenfold.monitor.export.sending import FOLDER, new_figures, send_run
from tests import warm
from tests.monitor.ledgers import VALUES, write_small_ledger

SENT = 2 + len(VALUES) + 1
"""Figures of the small ledger's training run."""


def needs(package: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(importlib.util.find_spec(package) is None, reason=f"needs the package {package}")


@pytest.fixture
def campaign(tmp_path: Path) -> Path:
    return write_small_ledger(tmp_path / "mine").parent


def more(campaign: Path) -> None:
    """Two further steps, and late a figure of an earlier one."""
    with closing(Ledger(campaign / "ledger.sqlite")) as ledger:
        ledger.log(2, {4: {"train/loss": 2.0}, 5: {"train/loss": 1.5}, 3: {"train/mfu": 0.5}})


class Kept:
    """A tracker that keeps what it gets; after `room` writes it fails."""

    room = 10**9

    def __init__(self, folder: Path, run: trackers.TrackedRun) -> None:
        self.run = run

    def write(self, step: int, values: Any) -> None:
        if self.room <= len(KEPT):
            raise ConnectionError("the server\nis gone")
        KEPT.append((step, dict(values)))

    def close(self) -> None:
        KEPT.append((-1, {}))


KEPT: list[tuple[int, dict[str, float]]] = []


@pytest.fixture
def kept(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, dict[str, float]]]:
    monkeypatch.setitem(trackers.TRACKERS, "kept", Kept)
    KEPT.clear()
    return KEPT


def test_every_figure_is_sent_once(campaign: Path, kept: list[Any]) -> None:
    assert send_run(campaign, "kept") == (SENT, campaign / FOLDER / "kept")
    assert [step for step, _ in kept] == [1, 2, 3, -1] and kept[0][1] == {"train/loss": 4.0}
    kept.clear()
    assert send_run(campaign, "kept")[0] == 0
    more(campaign)
    assert send_run(campaign, "kept")[0] == 3
    assert kept[1:4] == [(3, {"train/mfu": 0.5}), (4, {"train/loss": 2.0}), (5, {"train/loss": 1.5})]


def test_it_follows_until_the_run_is_over(campaign: Path, kept: list[Any]) -> None:
    rounds = 0

    def next_round() -> bool:
        nonlocal rounds
        rounds += 1
        with closing(Ledger(campaign / "ledger.sqlite")) as ledger:
            ledger.log(2, {10 + rounds: {"train/loss": 1.0}})
            if rounds == 2:
                ledger.finish_run(2)
        return True

    assert send_run(campaign, "kept", follow=True, goes_on=next_round)[0] == SENT + 2
    assert rounds == 2


def test_what_was_not_remembered_is_sent_again(
    campaign: Path, kept: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Kept, "room", 1)
    with pytest.raises(TenfoldError, match=r"^tracker kept: ConnectionError: the server is gone$"):
        send_run(campaign, "kept")
    monkeypatch.setattr(Kept, "room", 10**9)
    assert send_run(campaign, "kept")[0] == SENT


def test_new_figures_are_those_beyond_each_metrics_own_step(campaign: Path) -> None:
    with closing(Ledger(campaign / "ledger.sqlite")) as ledger:
        assert new_figures(ledger, 2, {"train/loss": 2, "train/grad_norm": 1}).keys() == {2, 3}
        assert new_figures(ledger, 2, dict.fromkeys(ledger.metric_names(2), 3)) == {}


@pytest.mark.parametrize("name", list(trackers.TRACKERS))
def test_a_package_that_is_missing_says_what_to_install(
    name: str, campaign: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(module: str) -> Any:
        raise ModuleNotFoundError(f"No module named {module!r}", name=module)

    for variable in ("TRACKIO_DIR", "MLFLOW_ALLOW_FILE_STORE"):
        monkeypatch.setenv(variable, "set here")  # a tracker sets it for its process, which is that of other tests too
    monkeypatch.setattr(trackers.importlib, "import_module", missing)
    with pytest.raises(InputError, match=rf"is not installed; pip install 'tenfold\[{name}\]'"):
        send_run(campaign, name)


def test_bad_input_is_one_line(campaign: Path) -> None:
    with pytest.raises(InputError, match="tracker nowhere: there is none; use one of tensorboard, "):
        send_run(campaign, "nowhere")
    with pytest.raises(InputError, match="no run 77"):
        send_run(campaign, "tensorboard", number=77)


# Real trackers, each in a process of its own, as `tenfold metrics send` is


def sent(campaign: Path, to: str, **environment: str) -> Path:
    """Send the small ledger, then two steps more from another process."""
    for expected in (SENT, 3):
        words = ["metrics", "send", str(campaign), "--to", to, "--json"]
        done = warm.run(words, env=os.environ | environment, cold=True, check=True)
        record = json.loads(done.stdout.splitlines()[-1])
        assert record["figures"] == expected
        if expected == SENT:
            more(campaign)
    return Path(record["folder"])


@needs("tensorboard")
def test_tensorboard_reads_it_back(campaign: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    read = EventAccumulator(str(sent(campaign, "tensorboard") / "a"))
    read.Reload()
    assert [(each.step, each.value) for each in read.Scalars("train/loss")] == [
        (1, 4),
        (2, 3),
        (3, 2.5),
        (4, 2),
        (5, 1.5),
    ]


def records_of(file: Path) -> Iterator[bytes]:
    """Records of a wandb file: a header of 7 bytes, then LevelDB's log format, blocks of 32 KiB."""
    data, at, whole = file.read_bytes(), 7, b""
    while at + 7 <= len(data):
        left = 32768 - at % 32768
        if left < 7:
            at += left
            continue
        length, kind = int.from_bytes(data[at + 4 : at + 6], "little"), data[at + 6]
        whole += data[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):  # full, last
            yield whole
            whole = b""


@needs("wandb")
def test_wandb_reads_it_back(campaign: Path) -> None:
    from wandb.proto import wandb_internal_pb2

    losses = []
    for file in sorted(sent(campaign, "wandb").rglob("*.wandb")):
        for data in records_of(file):
            record = wandb_internal_pb2.Record()
            record.ParseFromString(data)
            items = {item.key or "/".join(item.nested_key): item.value_json for item in record.history.item}
            losses += [(int(items["step"]), float(items["train/loss"]))] if "train/loss" in items else []
    assert sorted(losses) == [(1, 4), (2, 3), (3, 2.5), (4, 2), (5, 1.5)]


@needs("mlflow")
def test_mlflow_reads_it_back(campaign: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    from mlflow.tracking import MlflowClient

    client = MlflowClient(tracking_uri=sent(campaign, "mlflow").as_uri())
    (run,) = client.search_runs([client.get_experiment_by_name("mine").experiment_id])
    history = client.get_metric_history(run.info.run_id, "train/loss")
    assert sorted((each.step, each.value) for each in history) == [(1, 4), (2, 3), (3, 2.5), (4, 2), (5, 1.5)]


@needs("trackio")
def test_trackio_reads_it_back(campaign: Path) -> None:
    import sqlite3

    (file,) = sent(campaign, "trackio").glob("*.db")
    with sqlite3.connect(file) as db:
        rows = db.execute("SELECT step, metrics FROM metrics").fetchall()
    losses = [(step, json.loads(text).get("train/loss")) for step, text in rows]
    found = sorted((step, loss) for step, loss in losses if loss is not None)
    assert found == [(1, 4), (2, 3), (3, 2.5), (4, 2), (5, 1.5)]


@needs("opentelemetry")
def test_a_collector_gets_the_newest_values(campaign: Path) -> None:
    from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest

    got: dict[str, float] = {}

    class Collector(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            request = ExportMetricsServiceRequest()
            request.ParseFromString(self.rfile.read(int(self.headers["Content-Length"])))
            for metric in request.resource_metrics[0].scope_metrics[0].metrics:
                point = metric.gauge.data_points[0]
                got[metric.name] = point.as_int if point.HasField("as_int") else point.as_double
            self.send_response(200)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Collector) as server:
        threading.Thread(target=server.serve_forever).start()
        where = f"http://127.0.0.1:{server.server_address[1]}"
        sent(campaign, "opentelemetry", OTEL_EXPORTER_OTLP_ENDPOINT=where, OTEL_EXPORTER_OTLP_COMPRESSION="none")
        server.shutdown()
    assert got["train/loss"] == 1.5 and got["step"] == 5 and got["block/3/grad_norm"] == 0.125
