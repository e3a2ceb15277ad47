"""Trackers of experiments that people have: TensorBoard, Weights & Biases, MLflow, trackio, OpenTelemetry.

Each is an extra of the same name and takes figures by step; none is imported before it is asked for. They write into
the campaign's folder unless their own environment variables name a server.
"""

import importlib
import logging
import os
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from tenfold.core import InputError


@dataclass(frozen=True)
class TrackedRun:
    """What a tracker is told of a run: its campaign, an id that stays over restarts, and what it is made of."""

    campaign: str
    id: str
    description: Mapping[str, Any]


class Tracker(Protocol):
    """What takes figures of a run."""

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Figures of one step by their names in the ledger. A later call may bring more of an earlier step."""

    def close(self) -> None:
        """Nothing more comes: write out what is waiting."""


class TensorBoard:
    """Event files below `folder`, by torch's writer."""

    def __init__(self, folder: Path, run: TrackedRun) -> None:
        writer = _imported("tensorboard", "torch.utils.tensorboard")
        self._writer = writer.SummaryWriter(str(folder / run.id))

    def write(self, step: int, values: Mapping[str, float]) -> None:
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)

    def close(self) -> None:
        self._writer.close()


class WeightsAndBiases:
    """A run of wandb, offline unless WANDB_MODE says otherwise; `wandb sync` sends it later."""

    def __init__(self, folder: Path, run: TrackedRun) -> None:
        wandb = _imported("wandb")
        folder.mkdir(parents=True, exist_ok=True)
        quiet = wandb.Settings(console="off", silent=True, x_disable_stats=True)
        mode = os.environ.get("WANDB_MODE", "offline")
        names = {"project": run.campaign, "id": run.id, "dir": str(folder), "config": dict(run.description)}
        self._run = wandb.init(mode=mode, resume="allow", settings=quiet, **names)
        self._run.define_metric("*", step_metric="step")  # wandb's own step may only grow

    def write(self, step: int, values: Mapping[str, float]) -> None:
        self._run.log({"step": step, **values})

    def close(self) -> None:
        self._run.finish()


class MLflow:
    """A run of MLflow in files below `folder`, or on the server of MLFLOW_TRACKING_URI."""

    def __init__(self, folder: Path, run: TrackedRun) -> None:
        os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")  # files need no database and can be moved into one
        self._entities = _imported("mlflow", "mlflow.entities")
        client = _imported("mlflow", "mlflow.tracking").MlflowClient
        self._client = client(tracking_uri=os.environ.get("MLFLOW_TRACKING_URI") or folder.resolve().as_uri())
        found = self._client.get_experiment_by_name(run.campaign)
        experiment = found.experiment_id if found else self._client.create_experiment(run.campaign)
        mine = self._client.search_runs([experiment], f"tags.tenfold = '{run.id}'")
        tags = {"tenfold": run.id}
        self._run = (mine[0] if mine else self._client.create_run(experiment, tags=tags, run_name=run.id)).info.run_id

    def write(self, step: int, values: Mapping[str, float]) -> None:
        now = int(time.time() * 1000)
        metrics = [self._entities.Metric(_plain(name), value, now, step) for name, value in values.items()]
        self._client.log_batch(self._run, metrics)

    def close(self) -> None:
        self._client.set_terminated(self._run)


class Trackio:
    """A run of trackio: SQLite files below `folder`, or where TRACKIO_DIR says."""

    def __init__(self, folder: Path, run: TrackedRun) -> None:
        os.environ.setdefault("TRACKIO_DIR", str(folder.resolve()))
        self._trackio = _imported("trackio")
        own = {"embed": False, "auto_log_gpu": False, "auto_log_cpu": False}
        self._trackio.init(project=run.campaign, name=run.id, resume="allow", **own)

    def write(self, step: int, values: Mapping[str, float]) -> None:
        self._trackio.log(dict(values), step=step)

    def close(self) -> None:
        self._trackio.finish()


class OpenTelemetry:
    """Gauges over OTLP, to where OTEL_EXPORTER_OTLP_ENDPOINT says; only the newest values, as metrics are there."""

    def __init__(self, folder: Path, run: TrackedRun) -> None:
        sdk = _imported("opentelemetry", "opentelemetry.sdk.metrics")
        export = _imported("opentelemetry", "opentelemetry.sdk.metrics.export")
        otlp = _imported("opentelemetry", "opentelemetry.exporter.otlp.proto.http.metric_exporter")
        logging.getLogger("opentelemetry").setLevel(logging.ERROR)
        self._provider = sdk.MeterProvider([export.PeriodicExportingMetricReader(otlp.OTLPMetricExporter())])
        self._meter, self._gauges = self._provider.get_meter("tenfold"), dict[str, Any]()
        self._labels = {"campaign": run.campaign, "run": run.id}

    def write(self, step: int, values: Mapping[str, float]) -> None:
        for name, value in {**values, "step": step}.items():
            gauge = self._gauges.get(name) or self._gauges.setdefault(name, self._meter.create_gauge(_plain(name)))
            gauge.set(value, self._labels)

    def close(self) -> None:
        self._provider.shutdown()


TRACKERS: dict[str, Callable[[Path, TrackedRun], Tracker]] = {
    "tensorboard": TensorBoard,
    "wandb": WeightsAndBiases,
    "mlflow": MLflow,
    "trackio": Trackio,
    "opentelemetry": OpenTelemetry,
}
"""By the name of their extra."""


def open_tracker(name: str, folder: Path, run: TrackedRun) -> Tracker:
    """The tracker of that name, writing below `folder`. Raises InputError for another name or a missing package."""
    if name not in TRACKERS:
        raise InputError(f"tracker {name}: there is none; use one of {', '.join(TRACKERS)}")
    return TRACKERS[name](folder, run)


def _plain(name: str) -> str:
    """A name with what MLflow and OpenTelemetry do not allow as _."""
    return re.sub(r"[^\w./-]", "_", name, flags=re.ASCII)


def _imported(extra: str, module: str = "") -> Any:
    try:
        return importlib.import_module(module or extra)
    except ImportError as error:
        raise InputError(
            f"tracker {extra}: {error.name or extra} is not installed; pip install 'tenfold[{extra}]'"
        ) from error
