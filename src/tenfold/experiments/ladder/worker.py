"""One worker: takes trunks nobody works on, trains them and their cool-downs, until none is left.

A trunk is claimed by a lock on a file in its folder, which the kernel drops when the process ends in whatever way. So
any number of workers of a machine can work on one ladder.
"""

import fcntl
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tenfold.core.folder import CampaignFiles
from tenfold.data import Manifest
from tenfold.experiments.ladder.tasks import Task
from tenfold.experiments.ladder.trunk import train_task

POLL_S = 0.5


def work_on(tasks: Sequence[Task], files: CampaignFiles) -> None:
    """Train every task that no other worker trains, then wait for those that others do."""
    manifest = Manifest.load(files.data)
    while unfinished := [task for task in tasks if not task.is_done]:
        trained = [_train_if_free(task, files, manifest) for task in unfinished]
        if not any(trained):
            time.sleep(POLL_S)


def _train_if_free(task: Task, files: CampaignFiles, manifest: Manifest) -> bool:
    with _claimed(task.folder) as claimed:
        if claimed and not task.is_done:
            train_task(task, files, manifest)
        return claimed


@contextmanager
def _claimed(folder: Path) -> Iterator[bool]:
    """Whether this process has the folder for itself."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("a") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        yield True


def work_for_parent(plan: Path) -> None:
    """Body of a worker process: the tasks are in `plan`; stops as on SIGTERM when the parent is gone."""
    threading.Thread(target=_stop_with_parent, daemon=True).start()
    record = json.loads(plan.read_text(encoding="utf-8"))
    tasks = [Task.from_dict(task) for task in record["tasks"]]
    work_on(tasks, CampaignFiles(Path(record["campaign"])))


def _stop_with_parent() -> None:
    """The parent holds the other end of this process's input and never writes to it."""
    while os.read(sys.stdin.fileno(), 1):
        pass
    os.kill(os.getpid(), signal.SIGTERM)
