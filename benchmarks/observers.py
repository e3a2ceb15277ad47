"""What watching costs: step time with no observer, with those of every run, and with ten that do nothing.

    python benchmarks/observers.py [--rounds 40] [--width 256] [--json FILE]

One learner trains on, and its steps are dealt out in turn to the three ways of watching, in an order that changes from
round to round, so that a busy moment of the machine hits all of them. Reported are medians of the ratios within a
round, with a 95% interval by resampling rounds. Beside them: seconds a step that all hooks of one way take by
themselves, with no step between, which no noise of the steps can hide. The observers of every run are throughput,
journal (into a ledger on disk), the forecast's band, the console's line and holdout scoring, which is never due here:
its work is evaluation and no overhead. Lines are written and metrics stored every `log_every` = 10 steps.
"""

import argparse
import json
import os
import statistics
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import redirect_stderr
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from tenfold.config import Campaign
from tenfold.core.console import RunConsole, run_console
from tenfold.core.folder import CampaignFiles
from tenfold.core.progress import ProgressLines
from tenfold.data import Manifest, build_corpus
from tenfold.evaluate.holdouts import HoldoutScores
from tenfold.experiments.register import ForecastWatcher
from tenfold.scaling.curve_forecast import CurveForecast
from tenfold.train.console import ConsoleLines, Throughput
from tenfold.train.journal import Journal, journal_of
from tenfold.train.learner import Learner, build_learner
from tenfold.train.observe import NOBODY, Observer, Observers
from tenfold.train.ranks import Ranks, choose_device
from tenfold.train.step import StepMeasure, execute

WARM_UP = 5
HOOKS_ALONE = 2000
STEPS = 10**6


class Idle(Observer):
    """Overrides every hook of a step and does nothing."""

    def __init__(self, number: int) -> None:
        self.name = f"idle-{number}"  # type: ignore[misc]

    def before_step(self, batch: object) -> None:
        pass

    def gradients_ready(self, state: object) -> None:
        pass

    def after_step(self, measure: object) -> None:
        pass


def campaign_of(width: int) -> Campaign:
    """Some text of the standard library, a small model, a run too long to end."""
    library = Path(os.__file__).parent
    sources = [{"kind": "files", "paths": [str(library / name) for name in ("asyncio", "email", "unittest")]}]
    values: dict[str, Any] = {
        "name": "observers",
        "data": {"sources": sources, "tokenizer": {"vocab_size": 2048}, "holdouts": []},
        "model": {"depth": 4, "width": width, "head_dim": 32, "context": 128},
        "train": {"tokens": 1024 * STEPS, "batch_tokens": 1024, "threads": 1, "compile": "off", "device": "cpu"},
    }
    return Campaign.model_validate(values)


def flat_band() -> CurveForecast:
    """A forecast that every loss is inside of."""
    band = {"level": 0.95, "low": [0.0, 0.0], "high": [99.0, 99.0]}
    record = {"steps": [1, STEPS], "losses": [5.0, 5.0], "bands": [band], "method": "flat", "errors": {}}
    return CurveForecast.from_record(record)


def timed_steps(learner: Learner, ways: Mapping[str, Observers], rounds: int) -> dict[str, list[float]]:
    """Seconds of every way's step, the same round at the same place."""
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    names, draw, step = list(ways), np.random.default_rng(0), 0
    for number in range(WARM_UP + rounds):
        for name in draw.permutation(names):
            batch = learner.batch(step * learner.plan.sequences, learner.plan.sequences, step * learner.plan.sequences)
            began = time.perf_counter()
            execute(learner, batch, ways[name])
            if number >= WARM_UP:
                seconds[name].append(time.perf_counter() - began)
            step += 1
    return seconds


def ratio(ours: Sequence[float], base: Sequence[float]) -> dict[str, float]:
    """Median ratio within a round, less one, with its 95% interval."""
    found = np.array(ours) / np.array(base) - 1
    draws = np.random.default_rng(0).choice(found, (2000, found.size))
    low, high = np.quantile(np.median(draws, axis=1), [0.025, 0.975])
    return {"median": float(np.median(found)), "low": float(low), "high": float(high)}


def hooks_alone(learner: Learner, observers: Observers) -> float:
    """Seconds a step that the hooks take, lines and ledger included."""
    batch = learner.batch(0, learner.plan.sequences, 0)
    measure = execute(learner, batch)
    began = time.perf_counter()
    for step in range(1, HOOKS_ALONE + 1):
        observers.before_step(batch)
        if hook := observers.gradients_hook:
            hook(learner)
        observers.after_step(renumbered(measure, step))
    return (time.perf_counter() - began) / HOOKS_ALONE - renumbering_seconds(measure)


def renumbered(measure: StepMeasure, step: int) -> StepMeasure:
    return replace(measure, step=step)


def renumbering_seconds(measure: StepMeasure) -> float:
    """What the benchmark itself does between two steps."""
    began = time.perf_counter()
    for step in range(HOOKS_ALONE):
        renumbered(measure, step)
    return (time.perf_counter() - began) / HOOKS_ALONE


def usual_observers(learner: Learner, journal: Journal, console: RunConsole) -> Observers:
    """Those of every run."""
    throughput, band = Throughput(learner, journal), ForecastWatcher(flat_band(), 10)
    lines = ConsoleLines(console, learner, throughput, beside=lambda: str(band))
    holdouts = HoldoutScores(learner, lambda model, device: {}, journal, throughput)
    return Observers([throughput, journal, band, lines, holdouts])


def compare(folder: Path, rounds: int, width: int) -> dict[str, Any]:
    """All three ways on one learner."""
    campaign, files = campaign_of(width), CampaignFiles(folder)
    with run_console(enabled=False) as console:
        build_corpus(campaign.data, campaign.seed, files.data, folder, ProgressLines(console))
    learner = build_learner(campaign, files.data, Manifest.load(files.data), Ranks(0, 1, choose_device("cpu")))
    with (
        Path(os.devnull).open("w") as nowhere,
        redirect_stderr(nowhere),
        run_console() as console,
        journal_of(learner, files) as journal,
    ):
        usual = usual_observers(learner, journal, console)
        usual.started(0)
        ways = {"none": NOBODY, "usual": usual, "ten idle": Observers(Idle(number) for number in range(10))}
        seconds = timed_steps(learner, ways, rounds)
        alone = {name: hooks_alone(learner, observers) for name, observers in ways.items()}
    base = statistics.median(seconds["none"])
    return {
        "shape": asdict(learner.plan) | {"compute_dtype": str(learner.plan.compute_dtype)},
        "step_seconds": base,
        "over_none": {name: ratio(seconds[name], seconds["none"]) for name in ways if name != "none"},
        "hooks_alone": {name: {"seconds": value, "share": value / base} for name, value in alone.items()},
    }


def main() -> None:
    """Prints a table, and JSON where asked."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0], allow_abbrev=False)
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--width", type=int, default=256)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = compare(Path(folder), arguments.rounds, arguments.width)
    print(f"step without observers: {found['step_seconds'] * 1e3:.1f} ms")
    for name, over in found["over_none"].items():
        alone = found["hooks_alone"][name]
        print(
            f"{name}: {over['median']:+.2%} [{over['low']:+.2%}, {over['high']:+.2%}], hooks alone "
            f"{alone['seconds'] * 1e6:.1f} µs = {alone['share']:.3%} of a step"
        )
    if arguments.json:
        arguments.json.write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
