"""The workers of a Dask scheduler, on this machine or others. They have the same tenfold and reach the work folder."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Any

from tenfold.config import Data
from tenfold.core import InputError, TenfoldError
from tenfold.data.tasks.engine import Engine, TaskWatch
from tenfold.data.tasks.stages import run_task

SECONDS_TO_CONNECT = 30
TRIES = 3
"""How often Dask gives a task to another worker when one dies or cannot do it."""


class DaskWorkers:
    """Tasks of a stage as futures of one client."""

    least_bytes = 0

    def __init__(self, client: Any) -> None:
        self._client = client
        self.workers = len(client.scheduler_info()["workers"])

    def run(self, address: str, token: str, stage: str, numbers: Sequence[int], watch: TaskWatch) -> None:
        """Do the tasks in any order, on any worker."""
        from distributed import as_completed

        number_of = {
            self._client.submit(run_task, address, token, stage, number, pure=False, retries=TRIES): number
            for number in numbers
        }
        try:
            for future in as_completed(list(number_of), loop=self._client.loop):
                _result(future, stage, number_of[future])
                watch.done(number_of[future])
        finally:
            self._client.cancel(list(number_of))


def _result(future: Any, stage: str, number: int) -> None:
    """Raise what the task raised."""
    error = future.exception()
    if isinstance(error, TenfoldError | OSError):
        raise error
    if error is not None:
        raise TenfoldError(
            f"task {stage} {number} failed on Dask ({type(error).__name__}: {error}); look at its workers"
        )


@contextmanager
def dask_engine(data: Data) -> Iterator[Engine]:
    """A client of the scheduler. Raises InputError when Dask is missing or the scheduler does not answer."""
    if find_spec("distributed") is None:
        raise InputError("data.engine \"dask\" needs the package distributed; install it: pip install 'tenfold[dask]'")
    from distributed import Client

    try:
        client = Client(data.scheduler, timeout=SECONDS_TO_CONNECT, set_as_default=False)
    except (OSError, TimeoutError, ValueError) as error:
        raise InputError(f"data.scheduler: {data.scheduler} does not answer ({error}); start it first") from error
    with client:
        if not client.scheduler_info()["workers"]:
            raise InputError(f"data.scheduler: {data.scheduler} has no worker; start `dask worker {data.scheduler}`")
        yield DaskWorkers(client)
