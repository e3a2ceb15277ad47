"""Four learners under kills, freezes and hangs: what is trained against what the surviving capacity could have trained.

    python benchmarks/chaos/run.py [--learners 4] [--faults-per-hour 160] [--tokens 2400000] [--json FILE]

Three runs of the same campaign and length: one without faults, one with, and one without again, as a shared machine is
not always equally fast; both those without count, and are given. With `--capacity` also a third of that without faults
for every smaller number of learners. Definitions, all from the merge log and the ledger; a run lasts from its first
healed learner until all samples are trained:

- capacity(k): tokens per second with k learners at work. Learners share this machine's cores, so fewer learners are
  each faster: it is the mean rate of the runs without faults times min(1, k / cores), or, with `--capacity`, times
  what k learners were measured to do against all: with as many learners as cores none hides when another waits.
- surviving capacity: capacity(k) summed over time, k the learners that were neither dead, frozen nor hung then; a
  learner that was killed counts as dead until it trains again.
- goodput: tokens that count (in the end all of the run's) / surviving capacity over the run. Share of fault-free:
  tokens per second over those of the run without faults.
- longest stall: longest time between two steps of a life that no fault hit, less the mean step.
- detection: from a freeze or hang until the syncer ends the life. Heal: from joining with imports done until the first
  step is allowed. Rejoin: from the fault until the learner trains again.
- committed work lost: samples in accepted contributions that are trained again.

The faults are those of [chaos]: kill, stop (for 5 s) and hang of learners at random, a Poisson process with a seed.
`faults.json` beside the two campaigns is the same schedule for the peers (peers/trial.py).
"""

import argparse
import json
import resource
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from contextlib import closing
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, TypeVar

from tenfold.config import Campaign, load_campaign
from tenfold.learners.faults.schedule import planned
from tenfold.learners.record.history import Down, detections, downtimes
from tenfold.learners.record.log import RunLog
from tenfold.learners.syncer.membership import Incarnation
from tenfold.ledger import AllTrained, Event, EventPayload, LearnerEnded, LearnerHealed, Ledger
from tenfold.machine import usable_cores

DATA = """
seed = 1
[data]
sources = [{{ kind = "python-stdlib" }}]
holdouts = [{{ name = "iid", kind = "split", fraction = 0.02, max_bytes = 120000 }}]
tokenizer = {{ vocab_size = 1024, train_bytes = 2000000 }}
"""
CAMPAIGN = (
    'name = "chaos"'
    + DATA
    + """[model]
depth = 2
width = 64
head_dim = 16
context = 128
[train]
tokens = {tokens}
batch_tokens = 2048
log_every = 100
compile = "off"
threads = 1
[train.optimizer]
learning_rate = 0.008
muon_learning_rate = 0.04
[checkpoint]
every = 50
[ladder]
sizes = 0
[learners]
count = {learners}
inner_steps = 16
stalled_after = 1.5
"""
)
CHAOS = """
[chaos]
per_hour = {rate}
kinds = ["kill", "stop", "hang"]
seed = {seed}
"""
CONTEXT = 128
HORIZON_S = 600.0
P = TypeVar("P", bound=EventPayload)


@dataclass(frozen=True)
class Outcome:
    """What one run with faults came to; times in seconds."""

    goodput: float
    share_of_fault_free: float
    faults: dict[str, int]
    faults_per_hour: float
    seconds: float
    tokens_per_second: float
    fault_free_tokens_per_second: tuple[float, float]
    """Before and after."""
    longest_stall: float
    mean_step: float
    detection: list[float]
    heal: list[float]
    rejoin: list[float]
    participation: float
    participation_fault_free: float
    steps_trained_again: int
    committed_samples_lost: int
    samples_missing_or_twice: int
    bits_per_byte: float
    bits_per_byte_fault_free: float
    cpu_seconds: float
    """Of all processes of the run with faults, from their start to their end."""
    cpu_seconds_fault_free: tuple[float, float]
    share_trained_again: float
    """Inner steps that were trained again, of all."""
    share_of_processor: float
    """CPU seconds beyond those of the runs without faults and of steps trained again: to detect, to fork, to heal."""
    share_idle: float
    """What is left of the goodput: cores that nobody of the run used, though a learner could have."""


def main() -> None:
    """Prints one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--learners", type=int, default=4)
    parser.add_argument("--faults-per-hour", type=float, default=160.0)
    parser.add_argument("--tokens", type=int, default=2_400_000, help="of each run")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--capacity", action="store_true", help="measure what fewer learners do, without faults")
    parser.add_argument("--replay", action="store_true", help="execute the run again from its merge log too")
    parser.add_argument("--directory", type=Path, help="new folder for the two campaigns, kept (default: deleted)")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="chaos-") as temporary:
        result = measure(arguments.directory or Path(temporary), arguments)
    text = json.dumps(result, indent=1)
    print(text)
    if arguments.json:
        arguments.json.write_text(text + "\n")


def measure(folder: Path, arguments: argparse.Namespace) -> dict[str, Any]:
    """The run with faults between two without."""
    calm, stormy, again = folder / "calm", folder / "stormy", folder / "again"
    write(calm, arguments.tokens, arguments.learners)
    tenfold("data", calm)
    before = timed(calm)
    write(stormy, arguments.tokens, arguments.learners, arguments.faults_per_hour, arguments.seed)
    write_schedule(folder / "faults.json", load_campaign(stormy, ()), arguments.learners)
    shutil.copytree(calm / "data", stormy / "data")
    with_faults = timed(stormy)
    write(again, arguments.tokens, arguments.learners)
    shutil.copytree(calm / "data", again / "data")
    after = timed(again)
    learners = arguments.learners
    capacity = [min(1.0, k / min(usable_cores(), learners)) for k in range(learners + 1)]
    if arguments.capacity:
        rates = [fewer(folder, k, learners, arguments.tokens // 3) for k in range(1, learners + 1)]
        capacity = [0.0, *(rate / rates[-1] for rate in rates)]
    outcome = asdict(judge((calm, again), stormy, capacity, (before, after), with_faults)) | {"capacity": capacity}
    if arguments.replay:
        tenfold("train", stormy, "--replay")
        outcome["replay"] = "same weights"
    return outcome


def fewer(folder: Path, count: int, learners: int, tokens: int) -> float:
    """Tokens per second of so many learners without faults, each with the batch that it has among all `learners`."""
    campaign = folder / f"{count}-learners"
    write(campaign, tokens, count)
    shutil.copytree(folder / "calm" / "data", campaign / "data")
    tenfold("train", campaign, "--set", f"learners.batch_tokens={2048 // learners}")
    return training_rate(campaign)


def write_schedule(path: Path, campaign: Campaign, learners: int) -> None:
    """The faults of a campaign as peers/faults.py reads them."""
    names = [f"learner-{number}" for number in range(learners)]
    faults = planned(campaign.chaos, names, HORIZON_S, campaign.seed)
    records = [
        {"at": fault.at_seconds, "kind": fault.kind, "target": names.index(fault.target), "seconds": fault.seconds}
        for fault in faults
    ]
    path.write_text(json.dumps(records, indent=1) + "\n")


def write(campaign: Path, tokens: int, learners: int, rate: float = 0.0, seed: int = 0) -> None:
    """campaign.toml, tokens rounded to whole steps."""
    campaign.mkdir(parents=True)
    text = CAMPAIGN.format(tokens=tokens // 2048 * 2048, learners=learners)
    (campaign / "campaign.toml").write_text(text + (CHAOS.format(rate=rate, seed=seed) if rate else ""))


def tenfold(verb: str, campaign: Path, *words: str) -> None:
    """A command; what it says goes to stderr."""
    command = [sys.executable, "-m", "tenfold", verb, str(campaign), *words]
    subprocess.run(command, check=True, stdout=sys.stderr)


def train(campaign: Path) -> None:
    """Train, to the end."""
    tenfold("train", campaign)


def timed(campaign: Path) -> float:
    """Train; CPU seconds of all its processes."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    train(campaign)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def bits_per_byte(campaign: Path, *words: str) -> float:
    """On the held-out files of the standard library."""
    tenfold("eval", campaign, *words)
    score = json.loads((campaign / "evaluation.json").read_text())["holdouts"]["iid"]["bits_per_byte"]
    return float(score)


def events_of(campaign: Path) -> list[Event]:
    """Everything that happened, in order."""
    with closing(Ledger(campaign / "ledger.sqlite", read_only=True)) as ledger:
        return ledger.events()


def training_span(events: list[Event]) -> tuple[float, float]:
    """From when every learner trains until all samples are."""
    healed = [event.at for event in events if event.kind == "healed"]
    end = next(event.at for event in events if event.kind == "finished")
    return min(healed), end


def training_rate(campaign: Path) -> float:
    """Tokens per second over a run."""
    begin, end = training_span(events_of(campaign))
    with RunLog.opened(campaign / "learners") as log:
        return log.total_samples() * CONTEXT / (end - begin)


def mean_participation(campaign: Path) -> float:
    """Share of the learners alive that a merge holds, over all merges."""
    with RunLog.opened(campaign / "learners") as log:
        shares = [merged / alive for _, _, merged, alive, _ in log.participation()]
    return sum(shares) / len(shares)


def judge(
    calm: tuple[Path, Path], stormy: Path, capacity: list[float], cpu_calm: tuple[float, float], cpu: float
) -> Outcome:
    """Everything from the ledgers, the merge logs and CPU seconds of the runs; `capacity` by learners at work."""
    learners = len(capacity) - 1
    events, rates = events_of(stormy), (training_rate(calm[0]), training_rate(calm[1]))
    rate = sum(rates) / 2
    begin, end = training_span(events)
    faults = [event for event in events if event.kind == "chaos"]
    with RunLog.opened(stormy / "learners") as log:
        total = log.total_samples()
        counted = sorted(s for _, first, _, done in log.committed() for s in range(first, first + done))
        lives = log.incarnations()
    down = downtimes(events, lives, end)
    step = (end - begin) * learners / max(1, sum(life.steps or 0 for life in lives))
    missing = len(set(range(total)) - set(counted))
    goodput = total * CONTEXT / (rate * capacity_seconds(down, begin, end, capacity))
    again = sum(p.unsent_steps for p in payloads(events, LearnerEnded))
    share_again = again / max(1, sum(life.steps or 0 for life in lives))
    usual = sum(cpu_calm) / 2
    processor = (cpu - usual) / usual - share_again
    return Outcome(
        goodput=goodput,
        share_of_fault_free=training_rate(stormy) / rate,
        faults=dict(Counter(str(fault.data["fault"]) for fault in faults)),
        faults_per_hour=len(faults) / (end - begin) * 3600,
        seconds=end - begin,
        tokens_per_second=training_rate(stormy),
        fault_free_tokens_per_second=rates,
        longest_stall=max(gaps_of_untouched(events, lives, {d.name for d in down}), default=0.0) - step,
        mean_step=step,
        detection=detections(events, lives),
        heal=[p.seconds for p in payloads(events, LearnerHealed) if p.seconds is not None and p.source != "initial"],
        rejoin=[d.end - d.begin for d in down if d.end < end],
        participation=mean_participation(stormy),
        participation_fault_free=mean_participation(calm[0]),
        steps_trained_again=again,
        committed_samples_lost=missing,
        samples_missing_or_twice=abs(len(counted) - total) + missing,
        bits_per_byte=bits_per_byte(stormy),
        bits_per_byte_fault_free=bits_per_byte(calm[0]),
        cpu_seconds=cpu,
        cpu_seconds_fault_free=cpu_calm,
        share_trained_again=share_again,
        share_of_processor=processor,
        share_idle=1 / goodput - 1 - share_again - processor,
    )


def capacity_seconds(down: list[Down], begin: float, end: float, capacity: list[float]) -> float:
    """Seconds of full capacity that the learners at work amount to."""
    edges = sorted({begin, end, *(min(max(t, begin), end) for d in down for t in (d.begin, d.end))})
    seconds = 0.0
    for left, right in pairwise(edges):
        out = {d.name for d in down if d.begin <= left and d.end >= right}
        seconds += (right - left) * capacity[len(capacity) - 1 - len(out)]
    return seconds


def gaps_of_untouched(events: list[Event], lives: list[Incarnation], hit: set[str]) -> list[float]:
    """Longest gap between steps of each life that no fault hit: those that finished, and learners never hit."""
    gaps = [gap for p in payloads(events, AllTrained) for gap in p.longest_gaps.values()]
    name_of = {life.number: life.name for life in lives}
    return gaps + [p.longest_gap for p in payloads(events, LearnerEnded) if name_of[p.life] not in hit]


def payloads(events: list[Event], kind: type[P]) -> list[P]:
    """What the events of one kind carry, in order."""
    return [payload for event in events if isinstance(payload := event.payload, kind)]


if __name__ == "__main__":
    main()
