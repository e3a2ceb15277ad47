"""What the signals cost: step time with all of them and with none, and whether the weights stay the same.

    python benchmarks/signals.py [--rounds 60] [--widths 128 384] [--batch-tokens 1024 8192]

One learner trains on, and its steps are dealt out to the two ways in turn, in an order that changes from round to
round; a round has as many steps as lie between two readings of all weights, so every kind of step is in each. Reported
are what the observers' hooks take of a step, the median of the ratios of rounds with its 95% interval, and whether the
weights trained once with and once without are the same. Seconds are CPU seconds of the process, all its threads
together, so that other work on the machine counts little.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from observers import campaign_of, ratio
from tenfold.config import Campaign
from tenfold.core import CampaignFiles, ProgressLines, run_console
from tenfold.data import Manifest, build_corpus, load_tokenizer
from tenfold.monitor import SignalBoard, signals_of
from tenfold.train import (
    NOBODY,
    Learner,
    Observer,
    Observers,
    Ranks,
    build_learner,
    choose_device,
    execute,
    weights_digest,
)

SAME_BITS_STEPS = 20


def campaign_with(width: int, batch_tokens: int) -> Campaign:
    """The campaign of benchmarks/observers.py in another size."""
    campaign = campaign_of(width)
    longer = {"batch_tokens": batch_tokens, "tokens": batch_tokens * 10**6}
    return campaign.model_copy(update={"train": campaign.train.model_copy(update=longer)})


def timed_rounds(learner: Learner, ways: dict[str, Observers], rounds: int, steps: int) -> dict[str, list[float]]:
    """CPU seconds of `steps` steps of each way, by round."""
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    names, draw, plan = list(ways), np.random.default_rng(0), learner.plan
    for number in range(rounds + 1):
        for name in draw.permutation(names):
            began = time.process_time()
            for step in range(number * steps, (number + 1) * steps):
                batch = learner.batch(step * plan.sequences, plan.sequences, step * plan.sequences)
                execute(learner, batch, ways[name])
            if number:  # the first round warms up
                seconds[name].append(time.process_time() - began)
    return seconds


def digest_after(learner: Learner, observers: Observers) -> str:
    """The weights after some steps."""
    plan = learner.plan
    for step in range(SAME_BITS_STEPS):
        execute(learner, learner.batch(step * plan.sequences, plan.sequences, step * plan.sequences), observers)
    return weights_digest({name: parameter.detach() for name, parameter in learner.model.named_parameters()})


def compare(folder: Path, width: int, batch_tokens: int, rounds: int) -> dict[str, Any]:
    """One size."""
    campaign, files = campaign_with(width, batch_tokens), CampaignFiles(folder)
    with run_console(enabled=False) as console:
        build_corpus(campaign.data, campaign.seed, files.data, folder, ProgressLines(console))
    manifest, ranks = Manifest.load(files.data), Ranks(0, 1, choose_device("cpu"))
    tokenizer = load_tokenizer(files.data, manifest)

    def fresh() -> tuple[Learner, list[Observer]]:
        learner = build_learner(campaign, files.data, manifest, ranks)
        return learner, signals_of(learner, SignalBoard(), tokenizer, folder)

    learner, signals = fresh()
    watched = digest_after(learner, Observers(signals))
    plain = digest_after(fresh()[0], NOBODY)
    learner, signals = fresh()
    interval = max(observer._every for observer in signals if hasattr(observer, "_every"))
    seconds = timed_rounds(learner, {"none": NOBODY, "signals": Observers(signals)}, rounds, interval)
    by_observer, whole = seconds_by_observer(*fresh(), interval)
    return {
        "plan": asdict(learner.plan) | {"compute_dtype": str(learner.plan.compute_dtype)},
        "steps_a_round": interval,
        "step_seconds": float(np.median(seconds["none"])) / interval,
        "over_none": ratio(seconds["signals"], seconds["none"]),
        "same_weights": watched == plain,
        "by_observer": by_observer,
        "hooks": sum(by_observer.values()) / (whole - sum(by_observer.values())),
    }


def timed_hooks(observer: Observer, spent: dict[str, float]) -> Observer:
    """The observer, its hooks of a step timed into `spent` under its name."""
    for hook in ("before_step", "gradients_ready", "after_step"):
        if getattr(type(observer), hook) is not getattr(Observer, hook):
            setattr(observer, hook, _timed(getattr(observer, hook), observer.name, spent))
    return observer


def _timed(call: Callable[..., None], name: str, spent: dict[str, float]) -> Callable[..., None]:
    def timed(*arguments: object) -> None:
        began = time.process_time()
        call(*arguments)
        spent[name] = spent.get(name, 0.0) + time.process_time() - began

    return timed


def seconds_by_observer(learner: Learner, signals: Sequence[Observer], steps: int) -> tuple[dict[str, float], float]:
    """CPU seconds a step that the hooks of each observer take, and of the whole step with all of them."""
    spent: dict[str, float] = {}
    observers, plan = Observers(timed_hooks(observer, spent) for observer in signals), learner.plan
    began = time.process_time()
    for step in range(steps):
        batch = learner.batch(step * plan.sequences, plan.sequences, step * plan.sequences)
        execute(learner, batch, observers)
    whole = (time.process_time() - began) / steps
    return {name: seconds / steps for name, seconds in spent.items()}, whole


def line_of(found: dict[str, Any], tokens: int) -> str:
    """One size in a line."""
    over, parameters = found["over_none"], found["plan"]["parameters"] / 1e6
    by_observer = ", ".join(f"{name} {value * 1e6:.0f} µs" for name, value in found["by_observer"].items())
    return (
        f"{parameters:.1f} M parameters, {tokens} tokens in {found['step_seconds']:.3f} s: hooks {found['hooks']:.2%}, "
        f"whole {over['median']:+.2%} [{over['low']:+.2%}, {over['high']:+.2%}]; weights "
        f"{'the same' if found['same_weights'] else 'DIFFER'}; {by_observer}"
    )


def main() -> None:
    """Prints one line for each size, and JSON where asked."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0], allow_abbrev=False)
    parser.add_argument("--rounds", type=int, default=60)
    parser.add_argument("--widths", type=int, nargs="+", default=[128, 384])
    parser.add_argument("--batch-tokens", type=int, nargs="+", default=[1024, 8192])
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    results = []
    for width in arguments.widths:
        for tokens in arguments.batch_tokens:
            with tempfile.TemporaryDirectory() as folder:
                found = compare(Path(folder), width, tokens, arguments.rounds)
            print(line_of(found, tokens), flush=True)
            results.append(found)
    if arguments.json:
        arguments.json.write_text(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
