"""Worker processes on this machine. They are started afresh, so that none inherits threads or a device."""

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import Any, Self

from tenfold.core import InputError, TenfoldError
from tenfold.data.tasks.engine import TaskWatch, ThisProcess

MODULE = "tenfold.data.tasks.worker"
TRIES = 3
"""How often a task is given to a worker that dies of it."""
ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "RAYON_NUM_THREADS"), "1")
ENVIRONMENT = ONE_THREAD | {"TOKENIZERS_PARALLELISM": "false"}
LEAST_BYTES = 16 << 20
"""A worker takes a second or two of CPU time to start, in which it would do about half of this."""
Message = tuple[int, int | BaseException | None]
"""Number of a task, and bytes worked off, what went wrong, or None when it is done."""


class Workers:
    """A few processes that wait for tasks. A stage of one task is done in this process."""

    def __init__(self, workers: int) -> None:
        self.workers, self.least_bytes = workers, LEAST_BYTES
        self._started: list[_Worker] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for worker in self._started:
            worker.end()

    def run(self, address: str, token: str, stage: str, numbers: Sequence[int], watch: TaskWatch) -> None:
        """Do the tasks, each worker one at a time, the lowest number first."""
        if len(numbers) < 2:
            ThisProcess().run(address, token, stage, numbers, watch)
            return
        while len(self._started) < min(self.workers, len(numbers)):
            self._started.append(_Worker())
        waiting, messages = SimpleQueue[int](), SimpleQueue[Message]()
        for number in numbers:
            waiting.put(number)
        used = self._started[: len(numbers)]
        threads = [
            threading.Thread(target=_serve, args=(worker, waiting, messages, (address, token, stage)))
            for worker in used
        ]
        for thread in threads:
            thread.start()
        try:
            _collect(len(numbers), messages, watch)
        except BaseException:
            _drain(waiting)
            for worker in used:
                worker.end()
            raise
        finally:
            for thread in threads:
                thread.join()


def _collect(count: int, messages: SimpleQueue[Message], watch: TaskWatch) -> None:
    """Pass on what the workers say until all tasks are done. Raises the first error."""
    while count:
        number, what = messages.get()
        if isinstance(what, BaseException):
            raise what
        if what is None:
            watch.done(number)
            count -= 1
        else:
            watch.beat(number, what)


def _drain(waiting: SimpleQueue[int]) -> None:
    with suppress(Empty):
        while True:
            waiting.get_nowait()


def _serve(
    worker: "_Worker", waiting: SimpleQueue[int], messages: SimpleQueue[Message], stage: tuple[str, str, str]
) -> None:
    """Give one worker tasks until none is left."""
    while True:
        try:
            number = waiting.get_nowait()
        except Empty:
            return
        try:
            worker.do([*stage, number], lambda size, own=number: messages.put((own, size)))  # type: ignore[misc]
        except BaseException as error:
            messages.put((number, error))
            return
        messages.put((number, None))


class _Worker:
    """One process, started again when it died."""

    def __init__(self) -> None:
        self._process = self._start()
        self._over = False

    def _start(self) -> "subprocess.Popen[str]":
        return subprocess.Popen(
            [sys.executable, "-m", MODULE],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, **ENVIRONMENT},
            start_new_session=True,  # Ctrl-C is for the process that leads
        )

    def end(self) -> None:
        """Kill it; what it was doing is done again next time."""
        self._over = True
        self._bury(kill=True)

    def _bury(self, *, kill: bool) -> int:
        if kill:
            self._process.kill()
        code = self._process.wait()
        for stream in (self._process.stdin, self._process.stdout):
            if stream and not stream.closed:
                with suppress(OSError):  # what was not flushed reaches nobody any more
                    stream.close()
        return code

    def do(self, task: list[Any], beat: Callable[[int], None]) -> None:
        """Have it do a task. Raises what the task raised, TenfoldError when the worker dies of it every time."""
        for _ in range(TRIES):
            ended = self._ask(task, beat)
            if ended is not None:
                _raise(ended)
                return
            if self._over:
                raise TenfoldError("stopped")
            code = self._bury(kill=False)
            self._process = self._start()
        raise TenfoldError(
            f"task {task[2]} {task[3]}: its worker ended {TRIES} times ({_how(code)}); set fewer data.workers if the "
            "memory is short, or look at its lines above, then run again: what is done stays done"
        )

    def _ask(self, task: list[Any], beat: Callable[[int], None]) -> dict[str, str] | None:
        """What went wrong, empty for nothing; None when it died."""
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin and stdout
        try:
            stdin.write(json.dumps(task) + "\n")
            stdin.flush()
            for line in stdout:
                message = json.loads(line) if line.endswith("\n") else {}
                if "ended" in message:
                    ended: dict[str, str] = message["ended"]
                    return ended
                beat(message.get("beat", 0))
        except (OSError, ValueError):  # died, or was ended while we listened
            return None
        return None


def _how(code: int) -> str:
    return signal.Signals(-code).name if code < 0 else f"status {code}"


def _raise(ended: dict[str, str]) -> None:
    """What went wrong in the worker, raised here."""
    match ended.get("error"):
        case "input":
            raise InputError(ended["message"])
        case "run":
            raise TenfoldError(ended["message"])
        case "os":
            raise OSError(*json.loads(ended["message"]))
