"""The stages in order, and what each command does. Front door: the functions the command line calls."""

from tenfold.campaign.commands import (
    init_campaign,
    run_audit,
    run_campaign,
    run_data,
    run_derisk,
    run_evaluate,
    run_export,
    run_fork_server,
    run_ladder,
    run_learner,
    run_predict,
    run_replay,
    run_report,
    run_syncer,
    run_train,
    run_worker,
)
from tenfold.experiments.changes import derisk_lines

__all__ = [
    "derisk_lines",
    "init_campaign",
    "run_audit",
    "run_campaign",
    "run_data",
    "run_derisk",
    "run_evaluate",
    "run_export",
    "run_fork_server",
    "run_ladder",
    "run_learner",
    "run_predict",
    "run_replay",
    "run_report",
    "run_syncer",
    "run_train",
    "run_worker",
]
