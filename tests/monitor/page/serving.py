"""A real `tenfold watch` for a test."""

import json
import signal
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests import warm


@contextmanager
def served(campaigns: Sequence[Path], *options: str) -> Iterator[str]:
    """Its address, while it runs; it must end well when it is asked to."""
    words = ["watch", *map(str, campaigns), "--port", "0", "--json", *options]
    with warm.start(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            line = process.stdout.readline()
            assert line, process.stderr.read()
            yield json.loads(line)["url"]
        finally:
            process.send_signal(signal.SIGTERM)
            _, said = process.communicate()
    assert (process.returncode, said) == (0, "")
