"""A worker process of this machine: a task a line on standard input, what becomes of it lines on standard output.

It ends at once when the process that started it does.
"""

import json
import os
import queue
import sys
import threading
from typing import Any, TextIO

from tenfold.core import InputError, TenfoldError
from tenfold.data.tasks.beat import Beat
from tenfold.data.tasks.stages import run_task


def main() -> None:
    """Do tasks until standard input ends."""
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # whatever else prints does not answer
    waiting: queue.Queue[str] = queue.Queue()
    threading.Thread(target=_listen, args=(waiting,), daemon=True).start()
    while True:
        task = json.loads(waiting.get())
        _say(answers, {"ended": _do(task, lambda size: _say(answers, {"beat": size}))})


def _say(answers: TextIO, message: dict[str, Any]) -> None:
    try:
        answers.write(json.dumps(message) + "\n")
    except BrokenPipeError:  # nobody waits for it any more
        os._exit(0)


def _listen(waiting: "queue.Queue[str]") -> None:
    for line in sys.stdin:
        waiting.put(line)
    os._exit(0)  # in the middle of a task, too: nobody waits for it any more


def _do(task: list[Any], beat: Beat) -> dict[str, str]:
    """Empty, or what went wrong."""
    try:
        address, token, stage, number = task
        run_task(address, token, stage, number, beat)
    except TenfoldError as error:
        return {"error": "input" if isinstance(error, InputError) else "run", "message": str(error)}
    except OSError as error:
        return {"error": "os", "message": json.dumps([error.errno, error.strerror, str(error.filename or "")])}
    except MemoryError:
        return {"error": "run", "message": "out of memory; set fewer data.workers"}
    return {}


if __name__ == "__main__":
    main()
