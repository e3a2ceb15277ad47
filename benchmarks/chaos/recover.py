"""What one fault costs: a straggler, a partition, a syncer that dies, learners that die at once.

    python benchmarks/chaos/recover.py [--scenario straggler] [--json FILE]

Two learners, one core each. For each scenario: tokens per second of each learner before and during the fault (from the
arrivals of contributions), inner steps that had to be trained again, and whether every sample was trained exactly once.
Nobody helps: what comes back comes back by itself.
"""

import argparse
import json
import shutil
import tempfile
from itertools import pairwise
from pathlib import Path
from typing import Any

from run import events_of, tenfold, train, write

from tenfold.cluster.log import RunLog

SCENARIOS = {
    "none": "",
    "straggler": '{ kind = "slow", target = "learner-1", at_seconds = 15, seconds = 30, amount = 5 }',
    "partition": '{ kind = "partition", target = "learner-1", at_seconds = 15, seconds = 60 }',
    "syncer": '{ kind = "stop", target = "syncer", at_seconds = 15, seconds = 30 }',
    "syncer-killed": '{ kind = "kill", target = "syncer", at_seconds = 15 }',
    "both": '{ kind = "kill", target = "learner-0", at_seconds = 15 },'
    '{ kind = "kill", target = "learner-1", at_seconds = 15 }',
}
WINDOW = {"straggler": 30.0, "partition": 60.0, "syncer": 30.0}
TOKENS_PER_SECOND = 16_000  # of two learners here, about: sets the length of a run


def main() -> None:
    """Prints one JSON object, a scenario a key."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--scenario", action="append", choices=list(SCENARIOS))
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    results = {}
    with tempfile.TemporaryDirectory(prefix="recover-") as folder:
        corpus = Path(folder) / "corpus"
        write(corpus, 100_000, 2)
        tenfold("data", corpus)
        for name in arguments.scenario or list(SCENARIOS):
            results[name] = measure(Path(folder) / name, corpus, name)
    text = json.dumps(results, indent=1)
    print(text)
    if arguments.json:
        arguments.json.write_text(text + "\n")


def measure(campaign: Path, corpus: Path, name: str) -> dict[str, Any]:
    """One run with the scenario's fault."""
    write(campaign, int(TOKENS_PER_SECOND * (30 + WINDOW.get(name, 15.0))), 2)
    with (campaign / "campaign.toml").open("a") as handle:
        handle.write(f"\n[chaos]\nfaults = [{SCENARIOS[name]}]\n")
    shutil.copytree(corpus / "data", campaign / "data")
    train(campaign)
    events = events_of(campaign)
    fault = next((event.at for event in events if event.kind == "chaos"), None)
    sealed = [event for event in events if event.kind == "sealed"]
    with RunLog.opened(campaign / "cluster") as log:
        total = log.total_samples()
        counted = sorted(s for _, first, _, done in log.committed() for s in range(first, first + done))
        rates = learner_rates(log, fault, WINDOW.get(name, 15.0))
    return {
        "tokens_per_second": rates,
        "steps_trained_again": sum(int(event.data["unsent_steps"]) for event in sealed),
        "steps_trained_in_vain": sum(int(e.data["steps"]) for e in events if e.kind == "abandoned"),
        "lives_ended": [event.message for event in sealed],
        "every_sample_once": counted == list(range(total)),
    }


def learner_rates(log: RunLog, fault: float | None, window: float) -> dict[str, dict[str, float | None]]:
    """Tokens per second of each learner before the fault and while it lasts."""
    names = {life.number: life.name for life in log.lives()}
    found: dict[str, dict[str, float | None]] = {}
    for name in sorted(set(names.values())):
        mine = [(at, tokens) for at, life, tokens in log.arrivals() if names[life] == name]
        spans = {"before": (mine[0][0], fault or mine[-1][0])}
        if fault is not None:
            spans["during"] = (fault, fault + window)
        found[name] = {what: rate_within(mine, *span) for what, span in spans.items()}
    return found


def rate_within(arrivals: list[tuple[float, int]], begin: float, end: float) -> float | None:
    """Tokens of the contributions between the first and the last arrival in a span, over that time."""
    inside = [(at, tokens) for at, tokens in arrivals if begin <= at <= end]
    if len(inside) < 3:
        return None
    return sum(tokens for (_, _), (_, tokens) in pairwise(inside)) / (inside[-1][0] - inside[0][0])


if __name__ == "__main__":
    main()
