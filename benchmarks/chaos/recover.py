"""What one fault costs: a straggler, a partition, a syncer or a machine that dies, learners that die at once.

    python benchmarks/chaos/recover.py [--scenario straggler] [--json FILE]

Four learners. For each scenario: tokens per second of each learner before and during the fault (from the arrivals of
contributions), and the same of all that it does not hit, together; inner steps that had to be trained again because
they were not sent; whether every sample counts exactly once (else exit status 1). Nobody helps, but that a machine that
was lost is given the same command again. "syncer-away": syncer and learners started by hand, the syncer killed and
started again 30 s later. What a learner trained while nothing could arrive is told by its first contribution after.
"""

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import psutil
from run import events_of, tenfold, train, write

from tenfold.learners.record.log import RunLog

LEARNERS = 4
BEGIN_S = 15
SCENARIOS = {
    "none": "",
    "straggler": '{ kind = "slow", target = "learner-1", at_seconds = 15, seconds = 30, amount = 5 }',
    "partition": '{ kind = "partition", target = "learner-1", at_seconds = 15, seconds = 60 }',
    "syncer-away": "",
    "syncer-stopped": '{ kind = "stop", target = "syncer", at_seconds = 15, seconds = 30 }',
    "syncer-killed": '{ kind = "kill", target = "syncer", at_seconds = 15 }',
    "all-learners": ",".join(
        f'{{ kind = "kill", target = "learner-{number}", at_seconds = 15 }}' for number in range(LEARNERS)
    ),
    "machine": "",
}
HIT = {"straggler": {"learner-1"}, "partition": {"learner-1"}}
WINDOW = {"straggler": 30.0, "partition": 60.0, "syncer-away": 30.0, "syncer-stopped": 30.0}
AFTER_S = {"syncer-away": 60}  # nobody has more in stock than half of its share of what is left
TOKENS_PER_SECOND = 28_000  # of four learners here, about: sets the length of a run
PORT = 7400
STARTING_S = 60.0


def main() -> None:
    """Prints one JSON object, a scenario a key."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--scenario", action="append", choices=list(SCENARIOS))
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    results = {}
    with tempfile.TemporaryDirectory(prefix="recover-") as folder:
        corpus = Path(folder) / "corpus"
        write(corpus, 100_000, LEARNERS)
        tenfold("data", corpus)
        for name in arguments.scenario or list(SCENARIOS):
            results[name] = measure(Path(folder) / name, corpus, name)
            print(json.dumps({name: results[name]}), file=sys.stderr, flush=True)
    text = json.dumps(results, indent=1)
    print(text)
    if arguments.json:
        arguments.json.write_text(text + "\n")
    sys.exit(not all(result["every_sample_once"] for result in results.values()))


def measure(campaign: Path, corpus: Path, name: str) -> dict[str, Any]:
    """One run with the scenario's fault."""
    window = WINDOW.get(name, 15.0)
    write(campaign, int(TOKENS_PER_SECOND * (BEGIN_S + window + AFTER_S.get(name, 15))), LEARNERS)
    with (campaign / "campaign.toml").open("a") as handle:
        handle.write(f"\n[chaos]\nfaults = [{SCENARIOS[name]}]\n")
    shutil.copytree(corpus / "data", campaign / "data")
    fault = None
    if name == "machine":
        lose_machine(campaign)
    if name == "syncer-away":
        fault = lose_syncer(campaign, window)
    else:
        train(campaign)
    events = events_of(campaign)
    fault = fault or next((event.at for event in events if event.kind == "chaos"), None)
    sealed = [event for event in events if event.kind == "sealed"]
    with RunLog.opened(campaign / "learners") as log:
        total = log.total_samples()
        counted = sorted(s for _, first, _, done in log.committed() for s in range(first, first + done))
        rates = learner_rates(log, fault, window)
    return {
        "tokens_per_second": rates,
        "others_during_over_before": others(rates, HIT.get(name, set())),
        "steps_trained_again": [int(event.data["unsent_steps"]) for event in sealed],
        "steps_trained_in_vain": sum(int(e.data["steps"]) for e in events if e.kind == "abandoned"),
        "lives_ended": [event.message for event in sealed],
        "every_sample_once": counted == list(range(total)),
    }


def lose_machine(campaign: Path) -> None:
    """Train for some seconds, then SIGKILL every process of the run."""
    process = subprocess.Popen([sys.executable, "-m", "tenfold", "train", str(campaign)], stdout=sys.stderr)
    while not (campaign / "learners" / "shard-0" / "merge-log.sqlite").exists():
        time.sleep(0.2)
    time.sleep(BEGIN_S)
    for each in (*psutil.Process(process.pid).children(recursive=True), psutil.Process(process.pid)):
        each.kill()
    process.wait()


def lose_syncer(campaign: Path, seconds: float) -> float:
    """Train by hand; the time at which the syncer was killed."""
    sets = ["--set", 'learners.launch="none"', "--set", f"learners.port={PORT}"]
    this = [sys.executable, "-m", "tenfold"]

    def syncer() -> subprocess.Popen[bytes]:
        return subprocess.Popen([*this, "syncer", str(campaign), *sets], stdout=sys.stderr)

    first = syncer()
    while not (campaign / "learners" / "syncer.json").exists():  # with it there is a token
        if first.poll() is not None:
            sys.exit("the syncer did not start")
        time.sleep(0.2)
    learners = [
        subprocess.Popen(
            [*this, "learner", str(campaign), "--name", f"learner-{n}", "--syncer", f"127.0.0.1:{PORT}", *sets],
            stdout=sys.stderr,
        )
        for n in range(LEARNERS)
    ]
    if not are_healed(campaign):
        for process in (*learners, first):
            process.kill()
        sys.exit("the learners did not start")
    time.sleep(BEGIN_S)
    first.kill()
    first.wait()
    killed_at = time.time()
    time.sleep(seconds)
    second = syncer()
    for process in (*learners, second):
        process.wait()
    return killed_at


def are_healed(campaign: Path) -> bool:
    """Whether every learner comes to train."""
    deadline = time.monotonic() + STARTING_S
    while time.monotonic() < deadline:
        ledger = campaign / "ledger.sqlite"
        if ledger.exists() and sum(event.kind == "healed" for event in events_of(campaign)) >= LEARNERS:
            return True
        time.sleep(0.5)
    return False


def learner_rates(log: RunLog, fault: float | None, window: float) -> dict[str, dict[str, float | None]]:
    """Tokens per second of each learner before the fault and while it lasts."""
    names = {life.number: life.name for life in log.incarnations()}
    found: dict[str, dict[str, float | None]] = {}
    for name in sorted(set(names.values())):
        mine = [(at, tokens) for at, life, tokens in log.arrivals() if names[life] == name]
        found[name] = {"before": rate_within(mine, mine[0][0], fault or mine[-1][0])}
        if fault is not None:
            found[name]["during"] = rate_across(mine, fault, fault + window)
    return found


def rate_within(arrivals: list[tuple[float, int]], begin: float, end: float) -> float | None:
    """Tokens of the contributions between the first and the last arrival in a span, over that time."""
    inside = [(at, tokens) for at, tokens in arrivals if begin <= at <= end]
    if len(inside) < 3:
        return None
    return sum(tokens for (_, _), (_, tokens) in pairwise(inside)) / (inside[-1][0] - inside[0][0])


def rate_across(arrivals: list[tuple[float, int]], begin: float, end: float) -> float | None:
    """Tokens per second from the last arrival before a span to the second after: the first was under way, perhaps."""
    before = [at for at, _ in arrivals if at <= begin]
    after = [at for at, _ in arrivals if at >= end]
    if not before or len(after) < 2:
        return None
    return sum(tokens for at, tokens in arrivals if before[-1] < at <= after[1]) / (after[1] - before[-1])


def others(rates: dict[str, dict[str, float | None]], hit: set[str]) -> float | None:
    """Tokens per second of the learners not hit, during the fault over before."""
    sums = {"before": 0.0, "during": 0.0}
    for name in rates.keys() - hit:
        for what in sums:
            rate = rates[name].get(what)
            if rate is None:
                return None
            sums[what] += rate
    return sums["during"] / sums["before"]


if __name__ == "__main__":
    main()
