"""Crash test: runs killed with SIGKILL at random instants, resumed until done, must end in the same weights.

    python benchmarks/crash.py [--trials 50] [--json FILE]

Each trial is a whole `tenfold run` (data build, ladder, training, evaluation, report) in a directory of its own, killed
with all its workers one to three times at instants drawn uniformly over the length of the uninterrupted run, so that
kills fall into the data build, the ladder, steps and checkpoints; a run that ended before its kill is not counted and
another instant is drawn. Weights and forecasts it ends with must equal those of the uninterrupted run, and no phase may
be without a kill.
"""

import argparse
import json
import random
import shutil
import signal
import subprocess
import sys
import sysconfig
import tempfile
import time
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil

CAMPAIGN = """
name = "crash"
[data]
sources = [{{ kind = "files", paths = ["{text}"] }}]
holdouts = [{{ name = "iid", kind = "split", fraction = 0.05, max_bytes = 20000 }}]
tokenizer = {{ vocab_size = 512 }}
[model]
depth = 2
width = 64
head_dim = 16
context = 64
[train]
tokens = 122880
batch_tokens = 1024
compile = "off"
threads = 1
[checkpoint]
every = 3
[evaluate]
every = 20
[ladder]
sizes = 3
budgets = 4
smallest = 0.02
largest = 0.3
"""


@dataclass(frozen=True)
class Trial:
    """One run that was killed: after how many seconds each time, during what, and whether it ended equal."""

    killed_after: list[float]
    during: list[str]
    equal: bool


def make_text(directory: Path) -> Path:
    """A few dozen real files of the standard library."""
    text = directory / "text"
    text.mkdir()
    library = Path(sysconfig.get_path("stdlib"))
    for path in sorted(library.glob("*.py"))[::4]:
        shutil.copy(path, text / path.name)
    return text


def start(directory: Path) -> subprocess.Popen[str]:
    """`tenfold run` in a process group of its own."""
    command = [sys.executable, "-m", "tenfold", "run", str(directory), "--json"]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True)


def finish(directory: Path) -> str:
    """Run to the end; the weights digest it ended with, and what was forecast of its losses."""
    process = start(directory)
    out, err = process.communicate()
    if process.returncode != 0:
        raise SystemExit(f"the run failed with {process.returncode}:\n{err}")
    report = json.loads((directory / "report.json").read_text())
    losses = [(q["quantity"], q["median"]) for q in report["forecast"]["quantities"] if q["unit"] != "seconds"]
    return f"{json.loads(out)['weights_digest']} {losses}"


PHASES = {
    "data:": "data build",
    "audit:": "data build",
    "ladder:": "ladder",
    "predict:": "ladder",
    "training": "step",
    "resumed": "step",
    "step": "step",
}


def kill_after(directory: Path, seconds: float) -> str | None:
    """Start, SIGKILL after `seconds`; what the run was at, judged by what lies on disk and what it last said.

    None when it had ended by then.
    """
    process = start(directory)
    try:
        process.wait(timeout=seconds)
    except subprocess.TimeoutExpired:
        parent = psutil.Process(process.pid)
        for one in [*parent.children(recursive=True), parent]:  # the ladder's workers have sessions of their own
            with suppress(psutil.NoSuchProcess):
                one.kill()
    _, err = process.communicate()
    if process.returncode == 0:
        return None
    if process.returncode != -signal.SIGKILL:
        raise SystemExit(f"the run failed with {process.returncode}:\n{err}")
    if any(directory.glob("checkpoints/.tmp*")):
        return "checkpoint"
    last = (err.strip().splitlines() or ["start"])[-1].split()[0]
    return PHASES.get(last, "start" if last == "start" else "evaluation and report")


def new_campaign(directory: Path, text: Path) -> Path:
    """A campaign directory with nothing but its campaign.toml."""
    directory.mkdir()
    (directory / "campaign.toml").write_text(CAMPAIGN.format(text=text))
    return directory


def run_trials(work: Path, trials: int, seed: int) -> tuple[str, list[Trial]]:
    """The reference digest and every trial."""
    text = make_text(work)
    began = time.monotonic()
    reference = finish(new_campaign(work / "reference", text))
    length = time.monotonic() - began
    print(f"uninterrupted: {length:.1f} s, weights {reference[:16]}", file=sys.stderr)
    rng, done = random.Random(seed), []
    for number in range(trials):
        directory = new_campaign(work / f"trial-{number}", text)
        times, during = [], []
        wanted = rng.randint(1, 3)
        while len(during) < wanted:
            seconds = rng.uniform(0, length)
            phase = kill_after(directory, seconds)
            if phase is None:  # it ended, and would only say so again
                shutil.rmtree(directory)
                new_campaign(directory, text)
                continue
            times.append(seconds)
            during.append(phase)
        equal = finish(directory) == reference
        done.append(Trial([round(seconds, 2) for seconds in times], during, equal))
        shutil.rmtree(directory)
        print(f"trial {number + 1}/{trials}: killed during {', '.join(during)}: {equal=}", file=sys.stderr)
    return reference, done


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], allow_abbrev=False)
    parser.add_argument("--trials", type=int, default=50)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as work:
        _, trials = run_trials(Path(work), arguments.trials, arguments.seed)
    kills = [what for trial in trials for what in trial.during]
    summary = {
        "trials": len(trials),
        "kills": len(kills),
        "equal": sum(trial.equal for trial in trials),
        "during": {what: kills.count(what) for what in sorted(set(kills))},
    }
    if arguments.json:
        arguments.json.write_text(json.dumps(summary | {"each": [asdict(trial) for trial in trials]}, indent=2))
    print(json.dumps(summary))
    missed = {"data build", "ladder", "step", "checkpoint"} - set(kills)
    if missed:
        print(f"no kill fell into: {', '.join(sorted(missed))}", file=sys.stderr)
    sys.exit(summary["equal"] != summary["trials"] or bool(missed))


if __name__ == "__main__":
    main()
