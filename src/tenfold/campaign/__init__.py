"""The stages in order, and what each command does. Front door: the functions the command line calls."""

from tenfold.campaign.commands import (
    init_campaign,
    run_audit,
    run_campaign,
    run_data,
    run_evaluate,
    run_export,
    run_ladder,
    run_predict,
    run_report,
    run_train,
    run_worker,
)

__all__ = [
    "init_campaign",
    "run_audit",
    "run_campaign",
    "run_data",
    "run_evaluate",
    "run_export",
    "run_ladder",
    "run_predict",
    "run_report",
    "run_train",
    "run_worker",
]
