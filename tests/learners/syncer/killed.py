"""Processes of a test that are killed."""

import contextlib
import subprocess
import sys
import time
from collections.abc import Iterator


@contextlib.contextmanager
def process(script: str, *args: object) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-c", script, *map(str, args)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child:
        try:
            yield child
        finally:
            child.kill()


def said_until_killed(script: str, *args: object, after: float) -> list[list[str]]:
    """What a writer has said by the time of kill -9, `after` seconds after its first line."""
    with process(script, *args) as child:
        assert child.stdout is not None
        first = child.stdout.readline()
        time.sleep(after)
        child.kill()
        lines = first + child.stdout.read()
    whole = lines[: lines.rfind("\n") + 1]
    assert whole, "the writer never wrote"
    return [line.split() for line in whole.splitlines()]
