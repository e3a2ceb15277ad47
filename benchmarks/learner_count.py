"""What a syncer costs with 8 to 64 learners: connections, memory, merges and processor, and how they grow.

    python benchmarks/learner_count.py [--learners 8 16 32 64] [--seconds 20] [--step 0.5] [--json FILE]

A syncer of loops that are not tenfold's, in a process of its own, and as many learners, each a process. Their model is
tiny and a step takes `--step` seconds in which the learner sleeps, as one does whose accelerators compute: so this
machine carries many, and what is measured is the syncer and the exchange. Figures are of `--seconds` in which all
train:

- connections: to the syncer's two ports, and its open files.
- memory: what the syncer alone holds (USS), when the first learner has joined and at its highest with all.
- merges, contributions: versions published and pseudo-gradients taken in, a second; in a merge: learners, on average.
- ms a contribution: processor time of the syncer by contributions.
- behind: share of the steps that the learners should have done in the time and have not.
"""

import argparse
import json
import os
import re
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil
from rich.console import Console
from rich.table import Table

from tenfold.core import ForkServer, InputError, serve_forks
from tenfold.learners.messages import Contribution
from tenfold.learners.record.log import RunLog

INNER_STEPS, FRAGMENTS, WIDTH, BATCH = 8, 4, 64, 4
TOTAL = 10_000_000
MIB = 1 << 20
STARTING_S = 600.0


@dataclass(frozen=True)
class Crowd:
    """One number of learners; bytes in MiB, rates a second."""

    learners: int
    connections: int
    files: int
    memory_first: float
    memory: float
    merges: float
    contributions: float
    in_a_merge: float
    milliseconds_a_contribution: float
    syncer_cores: float
    behind: float


def learn() -> None:
    """Body of a learner's process: ADDRESS, NAME and seconds a step are its words."""
    import torch
    from torch import nn

    import tenfold

    address, name, pause = sys.argv[1:]
    torch.set_num_threads(1)
    model = nn.Sequential(nn.Linear(WIDTH, 4 * WIDTH), nn.Tanh(), nn.Linear(4 * WIDTH, 1))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    generator = torch.Generator().manual_seed(sum(name.encode()))
    with tenfold.learner(model, optimizer, syncer=address, name=name, batch=BATCH) as outer:
        for samples in outer:
            began = time.monotonic()
            x = torch.randn(len(samples), WIDTH, generator=generator)
            loss = (model(x) - x.sum(1, keepdim=True)).square().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            outer.step(len(samples), loss)
            time.sleep(max(0.0, began + float(pause) - time.monotonic()))


def until(is_so: Callable[[], bool], what: str) -> None:
    """Exits where it does not come about."""
    deadline = time.monotonic() + STARTING_S
    while not is_so():
        if time.monotonic() > deadline:
            sys.exit(f"{what}: not after {STARTING_S:.0f} s")
        time.sleep(0.1)


def measure(learners: int, seconds: float, step: float, server: ForkServer, folder: Path) -> Crowd:
    """Start them all, let them train, stop them."""
    said = folder / "syncer.log"
    with ExitStack() as stack:
        log = stack.enter_context(said.open("wb"))
        words = ["syncer", str(folder), "--total", str(TOTAL), "--set", f"learners.inner_steps={INNER_STEPS}"]
        words += ["--set", f"learners.fragments={FRAGMENTS}", "--set", "learners.stalled_after=60"]
        process = subprocess.Popen([sys.executable, "-m", "tenfold", *words], stdout=log, stderr=log)
        stack.callback(process.wait)
        stack.callback(process.kill)
        until(lambda: b"listens on" in said.read_bytes(), "syncer")
        found = re.search(r"listens on (\S+);", said.read_text())
        assert found
        syncer, token = psutil.Process(process.pid), (folder / "learners" / "token").read_text().strip()

        def start(number: int) -> None:
            with (folder / f"learner-{number}.log").open("wb") as out:
                forked = server.fork([found[1], f"learner-{number}", str(step)], {"TENFOLD_TOKEN": token}, out)
            assert forked is not None
            stack.callback(forked.wait)
            stack.callback(os.kill, forked.pid, signal.SIGKILL)

        start(0)
        until(lambda: trained(folder) > 0, "first learner")
        memory_first = syncer.memory_full_info().uss / MIB
        for number in range(1, learners):
            start(number)
        until(lambda: contributing(folder) == learners, f"{learners} learners")
        return observed(learners, seconds, step, syncer, folder, memory_first)


def observed(
    learners: int, seconds: float, step: float, syncer: psutil.Process, folder: Path, memory_first: float
) -> Crowd:
    """What the syncer does for so many seconds."""
    began, cpu, counted, steps = time.monotonic(), processor(syncer), counts(folder), trained(folder)
    memory, connections, files = 0.0, 0, 0
    while time.monotonic() < began + seconds:
        time.sleep(seconds / 10)
        memory = max(memory, syncer.memory_full_info().uss / MIB)
        connections = max(connections, sum(each.status == "ESTABLISHED" for each in syncer.net_connections("tcp")))
        files = max(files, syncer.num_fds())
    passed, spent = time.monotonic() - began, processor(syncer) - cpu
    merges, contributions, merged = (after - before for before, after in zip(counted, counts(folder), strict=True))
    due = learners * passed / step
    return Crowd(
        learners=learners,
        connections=connections,
        files=files,
        memory_first=memory_first,
        memory=memory,
        merges=merges / passed,
        contributions=contributions / passed,
        in_a_merge=merged / max(1, merges),
        milliseconds_a_contribution=1000 * spent / max(1, contributions),
        syncer_cores=spent / passed,
        behind=max(0.0, 1 - (trained(folder) - steps) / due),
    )


def processor(process: psutil.Process) -> float:
    """User and system seconds so far."""
    times = process.cpu_times()
    return float(times.user + times.system)


def logged(folder: Path) -> tuple[list[int], list[Contribution]]:
    """Contributions in each version, and every accepted one; nothing before there is a log."""
    with suppress(InputError, sqlite3.OperationalError), RunLog.opened(folder / "learners") as log:
        return [each[2] for each in log.participation()], [each.what for each in log.contributions()]
    return [], []


def counts(folder: Path) -> tuple[int, int, int]:
    """Versions, contributions, and contributions in versions, so far."""
    merged, contributions = logged(folder)
    return len(merged), len(contributions), sum(merged)


def furthest(folder: Path) -> dict[int, int]:
    """Inner steps by incarnation that its contributions stand for."""
    found: dict[int, int] = {}
    for each in logged(folder)[1]:
        found[each.incarnation] = max(found.get(each.incarnation, 0), each.step)
    return found


def trained(folder: Path) -> int:
    """The same of all learners."""
    return sum(furthest(folder).values())


def contributing(folder: Path) -> int:
    """Learners that have contributed."""
    return len(furthest(folder))


def table(crowds: list[Crowd], step: float) -> Table:
    """A row for each number of learners."""
    rows = Table("learners", title=f"{step:g} s a step, {INNER_STEPS} inner steps, {FRAGMENTS} fragments")
    columns = {
        "connections": "{0.connections}",
        "files": "{0.files}",
        "MiB, one learner": "{0.memory_first:.0f}",
        "MiB, all": "{0.memory:.0f}",
        "merges/s": "{0.merges:.1f}",
        "contributions/s": "{0.contributions:.1f}",
        "in a merge": "{0.in_a_merge:.1f}",
        "ms a contribution": "{0.milliseconds_a_contribution:.1f}",
        "cores": "{0.syncer_cores:.2f}",
        "behind": "{0.behind:.0%}",
    }
    for column in columns:
        rows.add_column(column, justify="right")
    for crowd in crowds:
        rows.add_row(str(crowd.learners), *(text.format(crowd) for text in columns.values()))
    return rows


def main() -> None:
    """Prints a table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0], allow_abbrev=False)
    parser.add_argument("--learners", type=int, nargs="+", default=[8, 16, 32, 64])
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--step", type=float, default=0.5, help="seconds of an inner step")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    server, crowds = ForkServer((sys.executable, __file__, "fork-server")), list[Crowd]()
    try:
        for learners in arguments.learners:
            with tempfile.TemporaryDirectory(prefix="learners-") as folder:
                crowds.append(measure(learners, arguments.seconds, arguments.step, server, Path(folder)))
            print(crowds[-1], file=sys.stderr, flush=True)
    finally:
        server.close()
    Console(width=140).print(table(crowds, arguments.step))
    if arguments.json:
        arguments.json.write_text(json.dumps([asdict(crowd) for crowd in crowds], indent=1) + "\n")


if __name__ == "__main__":
    if sys.argv[1:] == ["fork-server"]:
        serve_forks(learn)
    else:
        main()
