"""`tenfold metrics`: figures of a campaign for other programs."""

import re
from pathlib import Path

from tenfold.core import InputError, run_console
from tenfold.monitor import MetricsServer, ledger_of, metrics_text, write_monitoring_files

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


def write_metrics_files(folder: Path, target: str) -> list[Path]:
    """Write rules, dashboard and scrape configuration. Raises InputError for a bad target or folder."""
    if not TARGET.fullmatch(target):
        raise InputError(f"--target {target}: give HOST:PORT, as 127.0.0.1:9107")
    try:
        return write_monitoring_files(folder, target)
    except OSError as error:
        raise InputError(f"{folder}: cannot write there ({error.strerror or error}); name another folder") from error
