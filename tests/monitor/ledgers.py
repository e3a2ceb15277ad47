"""A ledger with a little of everything, for those who read one."""

import math
from contextlib import closing
from pathlib import Path

from tenfold.ledger import Ledger, ObserverFailed, RunFailed

VALUES = {
    "train/loss": 2.5,
    "train/overhead": 0.01,
    "train/tokens_per_second": 1e6,
    "block/3/grad_norm": 0.125,
    'block/a"b\\c/update_ratio': 1e-3,
    "data/odd_share": 0.0,
    "source/wiki/share": 0.5,
    "time/data": 0.25,
    "device/0/temperature": 70.0,
    "device/memory/uncorrected_errors": 0.0,
    "disk/free": 1e11,
    "probe/wrong": 0.0,
    "probe/matmul": 1e12,
    "holdout/wiki/bits_per_byte": 1.25,
    "link/learner-0/round_trip_seconds": 0.05,
    "observer/mine/figure": -1.0,
}


def write_small_ledger(campaign: Path) -> Path:
    """A running run of 3 steps, one finished rung, a critical incident that is open and a closed warning."""
    campaign.mkdir(exist_ok=True)
    path = campaign / "ledger.sqlite"
    with closing(Ledger(path)) as ledger:
        rung = ledger.start_run("rung", "r", {})
        ledger.log(rung, {1: {"train/loss": 9.0}})
        ledger.finish_run(rung)
        run = ledger.start_run("train", "a", {})
        ledger.log(run, {1: {"train/loss": 4.0}, 2: {"train/loss": 3.0, "train/grad_norm": math.nan}, 3: VALUES})
        ledger.open_incident(RunFailed(), "no", run_id=run)
        other = ledger.open_incident(ObserverFailed("band"), "failed", run_id=run)
        ledger.close_incident(other, "known")
    return path
