"""`tenfold reliability`: failures of one or several campaigns, over time, against a plan and by learner."""

import time
from collections.abc import Sequence
from pathlib import Path

from tenfold.core import InputError
from tenfold.monitor import (
    Reliability,
    joined_histories,
    last_write,
    ledger_of,
    read_history,
    reliability_of,
)
from tenfold.planner import find_cluster, fleet_of


def run_reliability(
    campaigns: Sequence[Path],
    *,
    goal: float | None = None,
    simulate: str | None = None,
    cluster: str | None = None,
    injected: bool = False,
) -> Reliability:
    """Read the ledgers of all `campaigns`, as of one fleet.

    `simulate` is a fleet as `tenfold plan fleet` takes it, on `cluster`. `injected` counts faults injected on purpose.
    Raises InputError for a folder without ledger, a plan without cluster, a goal that is not above 0.
    """
    if goal is not None and goal <= 0:
        raise InputError(f"--goal {goal:g}: give hours between failures, above 0")
    rate = _planned_per_hour(simulate, cluster)
    histories = []
    for campaign in campaigns:
        with ledger_of(campaign) as ledger:
            histories.append(read_history(ledger, min(time.time(), last_write(ledger.path))))
    history = joined_histories(histories)
    return reliability_of(history if injected else history.without_injected(), goal=goal, planned_rate=rate)


def _planned_per_hour(simulate: str | None, cluster: str | None) -> float | None:
    """Failures of the planned fleet an hour."""
    if simulate is None:
        return None
    if cluster is None:
        raise InputError(f"--simulate {simulate}: name the machine that was planned for too, with --cluster")
    return fleet_of(simulate, find_cluster(cluster)).failures_per_s() * 3600 or None
