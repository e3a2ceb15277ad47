"""Ledgers of campaigns, opened by those who only look: nothing here can write to a run."""

from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from tenfold.core import CampaignFiles, InputError
from tenfold.ledger import Ledger


@contextmanager
def ledger_of(campaign: Path) -> Iterator[Ledger]:
    """The ledger in a campaign's folder, read-only. Raises InputError where there is none."""
    path = CampaignFiles(campaign).ledger
    if not path.is_file():
        raise InputError(f"{path}: no such ledger; name a campaign's folder in which something has run")
    with closing(Ledger(path, read_only=True)) as ledger:
        yield ledger


def last_write(ledger: Path) -> float:
    """When anybody last wrote to a ledger, in seconds since the epoch: the newest sign of life that it has.

    Who only reads may leave an empty write-ahead log behind, which is no sign of life.
    """
    files = (ledger, ledger.with_name(f"{ledger.name}-wal"))
    found = [path.stat() for path in files if path.exists()]
    return max((each.st_mtime for each in found if each.st_size), default=0.0)
