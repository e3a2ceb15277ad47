"""Workers side by side: start them, show how far they are, stop them with the parent."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch

from tenfold.config import Campaign
from tenfold.core.console import RunConsole
from tenfold.core.errors import TenfoldError
from tenfold.core.files import write_json
from tenfold.core.folder import CampaignFiles
from tenfold.core.text import duration
from tenfold.experiments.ladder.tasks import RungResult, Task
from tenfold.machine import usable_cores
from tenfold.train.ranks import choose_device

POLL_S = 0.2
GRACE_S = 60.0  # a worker that was asked to stop saves first


def train_tasks(
    tasks: Sequence[Task], campaign: Campaign, files: CampaignFiles, console: RunConsole, name: str
) -> None:
    """Train what is not finished yet, as many tasks at a time as fit. Raises TenfoldError when a rung fails."""
    unfinished = sorted((task for task in tasks if not task.is_done), key=lambda task: -task.trunk.flops)
    if not unfinished:
        return
    files.ladder.mkdir(parents=True, exist_ok=True)
    plan = files.ladder / f"{name}-plan.json"
    record = {"campaign": str(files.directory), "tasks": [task.to_dict() for task in unfinished]}
    write_json(plan, record)
    count = min(worker_count(campaign), len(unfinished))
    console.say(
        f"{name}: {sum(len(task.trunk.rungs) for task in unfinished)} rungs on {len(unfinished)} trunks, "
        f"{count} at a time"
    )
    with _workers(plan, count) as processes:
        _follow(_Progress(unfinished, console, name), processes)
    plan.unlink()


def worker_count(campaign: Campaign) -> int:
    """Rungs trained at the same time on this machine."""
    if campaign.ladder.workers:
        return campaign.ladder.workers
    if choose_device(campaign.train.device).type == "cuda":
        return torch.cuda.device_count()
    return max(1, usable_cores() // campaign.ladder.threads)


@contextmanager
def _workers(plan: Path, count: int) -> Iterator[list[subprocess.Popen[bytes]]]:
    """Worker processes; whatever ends this block stops them, and they save what they have."""
    command = [sys.executable, "-m", "tenfold", "worker", str(plan)]
    processes = [
        # A session of its own: Ctrl-C reaches the parent alone, which asks each worker once to save and stop.
        subprocess.Popen(command, stdin=subprocess.PIPE, env=_environment(number), start_new_session=True)
        for number in range(count)
    ]
    try:
        yield processes
    finally:
        for process in processes:
            if process.poll() is None:
                process.terminate()
        deadline = time.monotonic() + GRACE_S
        for process in processes:
            _end(process, max(0.0, deadline - time.monotonic()))


def _end(process: subprocess.Popen[bytes], patience: float) -> None:
    try:
        process.wait(patience)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    if process.stdin:
        process.stdin.close()


def _environment(number: int) -> dict[str, str]:
    """Each worker sees one GPU, where there are any."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "")
    devices = visible.split(",") if visible else [str(index) for index in range(torch.cuda.device_count())]
    return dict(os.environ) | ({"CUDA_VISIBLE_DEVICES": devices[number % len(devices)]} if devices else {})


def _follow(progress: "_Progress", processes: Sequence[subprocess.Popen[bytes]]) -> None:
    """Until all have ended well."""
    while any(process.poll() is None for process in processes):
        failed = [process for process in processes if process.poll() not in (None, 0)]
        if failed:
            raise TenfoldError(
                f"{progress.name}: a worker ended with status {failed[0].returncode}; its own line says why"
            )
        progress.show()
        time.sleep(POLL_S)
    progress.show()
    if not progress.is_done:
        raise TenfoldError(f"{progress.name}: the workers ended before all rungs were done; run again to go on")


class _Progress:
    """A line for each finished rung, with the share of the work done and the time left."""

    def __init__(self, tasks: Sequence[Task], console: RunConsole, name: str) -> None:
        self.tasks, self.console, self.name = tasks, console, name
        self._began, self._before = time.monotonic(), self._done  # first: others may finish rungs meanwhile
        self._seen = {result.fingerprint for task in tasks for result in task.results}
        self._all = sum(task.trunk.flops for task in tasks)

    @property
    def is_done(self) -> bool:
        """Whether every rung is finished."""
        return all(task.is_done for task in self.tasks)

    @property
    def _done(self) -> float:
        return sum(task.flops_done for task in self.tasks)

    def show(self) -> None:
        """Say what has finished since the last time."""
        for task in self.tasks:
            for result in task.results:
                if result.fingerprint not in self._seen:
                    self._seen.add(result.fingerprint)
                    self.console.say(self._line(result))

    def _line(self, result: RungResult) -> str:
        done = self._done
        rate = (done - self._before) / (time.monotonic() - self._began)
        factor = "" if result.rate_factor == 1.0 else f" at {result.rate_factor:g}x the learning rate"
        scores = "  ".join(f"{name} {value:.3f}" for name, value in result.holdouts.items())
        return (
            f"{self.name}: {result.size}{factor}, {result.tokens:,} tokens: bits per byte {scores}  "
            f"({done / self._all:.0%}, {rate:.2g} FLOP/s, ETA {duration((self._all - done) / rate)})"
        )
