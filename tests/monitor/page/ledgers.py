"""Ledgers of plausible runs: a forecast, spikes, a restart, incidents, four learners. Ledger writes all of it."""

import math
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from tenfold.ledger import (
    BandLeft,
    Evidence,
    EvidenceKind,
    FaultInjected,
    HoldoutTurned,
    LearnerEnded,
    LearnerHealed,
    LearnerJoined,
    LearnerStalled,
    Ledger,
    LossNotFinite,
    ObserverFailed,
    Prediction,
    ProcessDied,
    ResumeNotExact,
    RunInterrupted,
    RunKilled,
    RunResumed,
    holdout_metric,
    link_metric,
)

LEARNERS = ("learner-0", "learner-1", "learner-2", "learner-3")
PARTS = {"data": 0.01, "forward": 0.11, "backward": 0.21, "optimizer": 0.03, "exchange": 0.04, "other": 0.01}
SPIKES = {0.22: 1.4, 0.55: 2.6, 0.81: 0.9}
"""Share of the run at which the loss of a single step jumps, and by how much."""
Rows = dict[int, dict[str, float]]


def description(name: str, steps: int, **train: Any) -> dict[str, Any]:
    """What a run says of itself."""
    config = {"train": {"tokens": steps * 4096, "batch_tokens": 4096, "learning_rate": 3e-3, **train}}
    return {"name": name, "config": config, "manifest": "m", "environment": {"cpu": "a test", "gpus": []}}


def loss_at(step: int, steps: int, shift: float = 0.0) -> float:
    """A curve that falls as losses do."""
    return 2.1 + shift + 6.5 / (1 + step / (steps / 400)) ** 0.55


def row(step: int, steps: int, noise: np.random.Generator, shift: float = 0.0) -> dict[str, float]:
    """Every metric of one step."""
    warm = min(step / (steps / 50), 1.0)
    values = {
        "train/loss": loss_at(step, steps, shift) + 0.05 * noise.standard_normal(),
        "train/grad_norm": 0.4 + 2 / (1 + step / (steps / 100)) + 0.03 * abs(noise.standard_normal()),
        "train/learning_rate": 3e-3 * warm * (0.1 + 0.9 * 0.5 * (1 + math.cos(math.pi * step / steps))),
        "train/tokens_per_second": 9800 + 150 * noise.standard_normal(),
        "train/mfu": 0.41 + 0.005 * noise.standard_normal(),
        "train/update_norm": 0.8 * warm + 0.02 * noise.standard_normal(),
        "numerics/underflow_share": 0.01 + 0.001 * noise.standard_normal(),
        "numerics/non_finite": 0.0,
        "data/repetition": 0.04 + 0.004 * noise.standard_normal(),
        "data/document_length": 800 + 50 * noise.standard_normal(),
        "source/books/share": 0.6 + 0.02 * noise.standard_normal(),
        "source/web/share": 0.4 + 0.02 * noise.standard_normal(),
        "process/memory": 3.1e9 + 2e8 * step / steps,
        "disk/free": 2.2e11 - 1e10 * step / steps,
        "device/gpu0/temperature": 61 + 3 * noise.standard_normal(),
        "digest/weights": float(noise.integers(2**52)),
    }
    values |= {f"time/{part}": seconds * (1 + 0.05 * noise.standard_normal()) for part, seconds in PARTS.items()}
    for block in range(6):
        values[f"block/{block}/grad_norm"] = 0.1 + 0.05 * block + 0.01 * noise.standard_normal()
    for number, learner in enumerate(LEARNERS):
        slow = 0.2 if number == 2 and 0.4 < step / steps < 0.6 else 1.0
        values[link_metric(learner, "up_bytes_per_second")] = slow * (1.1e7 + 4e5 * noise.standard_normal())
    if step % max(steps // 40, 1) == 0:
        values[holdout_metric("books")] = 0.62 * loss_at(step, steps) ** 0.8
        values[holdout_metric("web")] = 0.7 * loss_at(step, steps) ** 0.8
    return values


def rows(first: int, last: int, steps: int, seed: int = 0, shift: float = 0.0) -> Rows:
    """Steps `first` to `last`, with the spikes that lie between."""
    noise = np.random.default_rng(seed)
    found = {step: row(step, steps, noise, shift) for step in range(first, last + 1)}
    for share, height in SPIKES.items():
        if (step := int(share * steps)) in found:
            found[step]["train/loss"] += height
            found[step]["train/grad_norm"] += 4 * height
    return found


def forecast(ledger: Ledger, steps: int, about: Mapping[str, Any]) -> None:
    """Register a loss curve with its band about the run of that description."""
    at = np.unique(np.linspace(steps // 50, steps, 60).astype(int))
    losses = [loss_at(int(step), steps) for step in at]
    levels = {0.5: 0.012, 0.8: 0.024, 0.95: 0.04}
    bands = [
        {
            "level": level,
            "low": [loss * (1 - width) for loss in losses],
            "high": [loss * (1 + width) for loss in losses],
        }
        for level, width in levels.items()
    ]
    curve = {"steps": at.tolist(), "losses": losses, "bands": bands, "method": "law", "errors": {}}
    final = losses[-1]
    intervals = {str(level): (final * (1 - width), final * (1 + width)) for level, width in levels.items()}
    identity = {"config": about["config"], "manifest": about["manifest"]}
    first = Prediction("r books loss", "nats per token", final, intervals, {"recipe": "r", "identity": identity})
    second = Prediction("r training loss", "nats per token", final, intervals, {"recipe": "r", "curve": curve})
    ledger.predict_together([first, second])


def write_run(
    folder: Path, steps: int = 2000, *, done: bool = True, name: str = "plausible", shift: float = 0.0
) -> int:
    """A ledger in `folder` with the whole run; returns the run's id."""
    folder.mkdir(parents=True, exist_ok=True)
    ledger = Ledger(folder / "ledger.sqlite")
    about = description(name, steps)
    forecast(ledger, steps, about)
    run = ledger.start_run("train", f"{name}-fingerprint", about)
    for number, learner in enumerate(LEARNERS):
        ledger.event(LearnerJoined(number, learner), f"{learner} joined", run_id=run)
        ledger.event(LearnerHealed(number, 1.0, "initial"), f"{learner} trains", run_id=run)
    ledger.log(run, rows(1, steps, steps, shift=shift))
    trouble(ledger, run, steps)
    if done:
        ledger.finish_run(run)
    age(ledger, run)
    ledger.close()
    return run


def trouble(ledger: Ledger, run: int, steps: int) -> None:
    """Events and three incidents."""
    at = int(0.45 * steps)
    ledger.event(FaultInjected("kill", "learner-1"), "kill of learner-1", run_id=run)
    ledger.event(ProcessDied("learner-1", "SIGKILL"), "learner-1 died (SIGKILL); started again", run_id=run)
    ledger.event(LearnerStalled(1, 4.0), "learner-1 made no progress for 4s", run_id=run)
    ledger.event(LearnerEnded(1, 400, 12, 4.0, {}, "stalled"), "learner-1 given up", run_id=run)
    ledger.event(LearnerJoined(4, "learner-1"), "learner-1 joined", run_id=run)
    ledger.event(LearnerHealed(4, 2.0, "peer"), "learner-1 trains again", run_id=run)
    ledger.event(RunInterrupted(at), f"asked to stop after step {at}", run_id=run)
    ledger.event(RunResumed(at), f"resumed at step {at}", run_id=run)
    ledger.event(ResumeNotExact("torch 2.12 → 2.13"), "numerics changed: torch 2.12 → 2.13", run_id=run)
    ledger.event(BandLeft(int(0.56 * steps)), "the loss is above its band", run_id=run)
    turned = HoldoutTurned(int(0.9 * steps), "web", 1.31, int(0.85 * steps), 1.30)
    ledger.event(turned, "bits per byte on web rise", run_id=run)
    ledger.open_incident(RunKilled(), "the process ended without a word; it is begun again", run_id=run)
    spike = int(0.55 * steps)
    evidence = [
        Evidence(EvidenceKind.METRIC, f"train/loss {spike - 20}–{spike + 20}", "one step, back at once"),
        Evidence(EvidenceKind.METRIC, f"train/grad_norm {spike - 20}–{spike + 20}", "grew with it"),
        Evidence(EvidenceKind.SAMPLES, f"{spike * 16}–{spike * 16 + 15}", "the batch"),
    ]
    what = LossNotFinite(spike, spike * 16, spike * 16 + 15)
    ledger.open_incident(what, f"the loss of step {spike} is not finite", run_id=run, evidence=evidence)
    number = ledger.open_incident(ObserverFailed("probe"), "observer probe was taken out (OSError)", run_id=run)
    ledger.close_incident(number, "the disk was full; mended")


def age(ledger: Ledger, run: int, hours: float = 2.0) -> None:
    """Spread what was written at once over the `hours` before now, as a real run would have it."""
    now, seconds = time.time(), hours * 3600
    with ledger._write() as db:
        db.execute("UPDATE runs SET started_at = ? WHERE id = ?", (now - seconds, run))
        count = db.execute("SELECT count(*) FROM events WHERE run_id = ?", (run,)).fetchone()[0]
        numbers = [number for (number,) in db.execute("SELECT id FROM events WHERE run_id = ? ORDER BY id", (run,))]
        first = len(LEARNERS) * 2
        for place, number in enumerate(numbers):
            share = place / count if place >= first else place / 1000
            db.execute("UPDATE events SET at = ? WHERE id = ?", (now - seconds * (1 - share), number))
        db.execute("UPDATE incidents SET opened_at = ? WHERE run_id = ?", (now - seconds * 0.45, run))
