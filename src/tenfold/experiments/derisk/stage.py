"""The stage: train what is missing, judge, keep the judgement."""

import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tenfold.config import Campaign
from tenfold.config.change import load_change
from tenfold.core.console import RunConsole
from tenfold.core.folder import CampaignFiles
from tenfold.data import Manifest
from tenfold.experiments.derisk.judge import judge_pairs
from tenfold.experiments.derisk.kept import ladder_recipe, record_of, same_recipe
from tenfold.experiments.derisk.plan import Question, plan_derisk
from tenfold.experiments.derisk.stack import apply_change, check_stack
from tenfold.experiments.ladder.workers import train_tasks
from tenfold.ledger import Ledger, TriedChange


def derisk(
    path: Path,
    campaign: Campaign,
    files: CampaignFiles,
    manifest: Manifest,
    console: RunConsole,
    *,
    seeds: int,
    sizes: Sequence[str] | None,
) -> dict[str, Any]:
    """Try the change in the file `path` on `campaign`'s ladder; the row of the ledger as JSON values.

    `sizes` names those to compare, None for all. Rungs that lie there finished, of the plain ladder or of another
    change, are not trained again. Raises InputError for a change, size or stack that cannot be tried, TenfoldError when
    a worker fails.
    """
    change, recipe = load_change(path), ladder_recipe(campaign, manifest)
    with closing(Ledger(files.ledger)) as ledger:
        tried = same_recipe(ledger.changes(), recipe)
    changed = apply_change(campaign, change, tried)
    question = Question(campaign, changed, seeds, None if sizes is None else tuple(sizes), change.where)
    plan = plan_derisk(question, files, manifest)
    train_tasks(plan.tasks, campaign, files, console, "derisk")
    assessment = judge_pairs(plan, manifest, campaign.seed)
    decided = TriedChange(
        name=change.name,
        recipe=recipe,
        description=change.description,
        set=dict(change.set),
        stack=list(change.stack),
        assessment=record_of(assessment),
        stack_check=check_stack(change, assessment, tried),
        decided_at=time.time(),
    )
    with closing(Ledger(files.ledger)) as ledger:
        ledger.record_change(decided)
    return asdict(decided)
