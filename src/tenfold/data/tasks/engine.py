"""Who does the tasks of a stage: this process, several on this machine, or an engine that has workers elsewhere."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Protocol

from tenfold.config import Data
from tenfold.data.tasks.stages import run_task


class TaskWatch(Protocol):
    """Who is told how far the tasks of a stage are."""

    def beat(self, number: int, size: int) -> None:
        """A task has worked off so many bytes so far."""

    def done(self, number: int) -> None:
        """A task is done."""


class Engine(Protocol):
    """Does tasks in any order; what they write does not depend on it."""

    workers: int
    least_bytes: int
    """Text of a corpus from which on this pays: a smaller one is built by the process that leads."""

    def run(self, address: str, token: str, stage: str, numbers: Sequence[int], watch: TaskWatch) -> None:
        """Do these tasks of a stage and tell `watch`; return when all are done.

        Raises what a task raised, and TenfoldError when its worker died again and again.
        """


class ThisProcess:
    """One task after the other, here."""

    workers = 1
    least_bytes = 0

    def run(self, address: str, token: str, stage: str, numbers: Sequence[int], watch: TaskWatch) -> None:
        """Do the tasks in order."""
        for number in numbers:
            run_task(address, token, stage, number, partial(watch.beat, number))
            watch.done(number)


def worker_count(data: Data) -> int:
    """Worker processes on this machine: as many as asked for, else as it has cores for us."""
    return data.workers or len(os.sched_getaffinity(0))


@contextmanager
def open_engine(data: Data) -> Iterator[Engine]:
    """The engine that [data] names. Raises InputError when it is not installed or does not answer."""
    if data.engine == "dask":
        from tenfold.data.tasks.dask import dask_engine

        with dask_engine(data) as engine:
            yield engine
    elif worker_count(data) == 1:
        yield ThisProcess()
    else:
        from tenfold.data.tasks.local import Workers

        with Workers(worker_count(data)) as workers:
            yield workers
