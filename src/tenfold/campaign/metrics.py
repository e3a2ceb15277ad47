"""`tenfold metrics`: figures of a campaign for other programs."""

import os
import re
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tenfold.core import InputError, run_console
from tenfold.monitor import MetricsServer, ledger_of, metrics_text, send_run, write_monitoring_files

TARGET = re.compile(r"(\[[0-9a-fA-F:]+\]|[\w.-]+):\d{1,5}")


def metrics_of(campaign: Path) -> str:
    """The newest values, as Prometheus reads them. Raises InputError where there is no ledger."""
    with ledger_of(campaign) as ledger:
        return metrics_text(ledger)


def serve_metrics(campaign: Path, port: int) -> None:
    """Answer scrapes on loopback until interrupted. Raises InputError where there is no ledger or the port is taken."""
    with MetricsServer(campaign, port) as server, run_console() as console:
        console.say(f"metrics: {server.url}")
        server.serve_forever()


def send_metrics(
    campaign: Path, to: str, *, number: int | None = None, follow: bool = False, child: bool = False
) -> dict[str, Any]:
    """Send figures of a run to a tracker. A `child` follows until its standard input ends, and sends the rest."""
    goes_on = _until_input_ends() if child else lambda: True
    figures, folder = send_run(campaign, to, number=number, follow=follow, goes_on=goes_on)
    return {"tracker": to, "figures": figures, "folder": str(folder)}


def _until_input_ends() -> Callable[[], bool]:
    ended = threading.Event()

    def wait() -> None:
        while os.read(0, 1):
            pass
        ended.set()

    threading.Thread(target=wait, name="wait-for-end", daemon=True).start()
    return lambda: not ended.is_set()


def write_metrics_files(folder: Path, target: str) -> list[Path]:
    """Write rules, dashboard and scrape configuration. Raises InputError for a bad target or folder."""
    if not TARGET.fullmatch(target):
        raise InputError(f"--target {target}: give HOST:PORT, as 127.0.0.1:9107")
    try:
        return write_monitoring_files(folder, target)
    except OSError as error:
        raise InputError(f"{folder}: cannot write there ({error.strerror or error}); name another folder") from error
