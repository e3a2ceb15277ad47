"""What a change is worth: the ladder trained without and with it, side by side, judged and kept in the ledger."""

import json
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tenfold.config import Campaign, Change, changed_campaign, load_change
from tenfold.core import WIDEST, InputError, count, digest_of, multiple_in_interval, percent
from tenfold.data import Manifest, Workspace
from tenfold.experiments.changes_plan import (
    DeriskPlan,
    DeriskQuestion,
    Pair,
    plan_derisk,
    reference_runs,
    reference_table,
)
from tenfold.experiments.ladder import fit_ladder_law, nats_per_token, train_tasks
from tenfold.experiments.tasks import RungResult, refuse_divergence
from tenfold.ledger import Ledger, TriedChange
from tenfold.scaling import (
    WORTH_LEVELS,
    AssessedTarget,
    Assessment,
    Comparison,
    RungWorth,
    Worth,
    assess,
    stack_held,
    stacked,
)
from tenfold.train import identify

SHOWN = ("name", "description", "set", "stack", "decided_at", "assessment")
SHOWN_LEVEL = "80% intervals"


def derisk(path: Path, workspace: Workspace, *, seeds: int, sizes: Sequence[str] | None) -> dict[str, Any]:
    """Try the change in the file `path` on the campaign's ladder; the row of the ledger as JSON values.

    `sizes` names those to compare, None for all. Rungs that lie there finished, of the plain ladder or of another
    change, are not trained again. Raises InputError for a change, size or stack that cannot be tried, TenfoldError when
    a worker fails.
    """
    campaign, manifest = workspace.campaign, workspace.manifest
    change, recipe = load_change(path), ladder_recipe(campaign, manifest.digest)
    with workspace.ledger() as ledger:
        tried = same_recipe(ledger.changes(), recipe)
    changed = apply_change(campaign, change, tried)
    question = DeriskQuestion(campaign, changed, seeds, None if sizes is None else tuple(sizes), change.where)
    plan = plan_derisk(workspace, question)
    train_tasks(workspace, plan.tasks, "derisk")
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
    with workspace.ledger() as ledger:
        ledger.record_change(decided)
    return asdict(decided)


def judge_pairs(plan: DeriskPlan, manifest: Manifest, seed: int) -> Assessment:
    """What the change is worth by the first holdout's loss; a change that diverged anywhere is rejected.

    Raises InputError where the runs without the change diverged, or no law can be fitted to them.
    """
    refuse_divergence([pair.reference for pair in plan.pairs])
    holdout = manifest.holdouts[0].name
    lost = [why for pair in plan.pairs if (why := divergence(pair, holdout)) is not None]
    if lost:
        return diverged(plan, f"{len(lost)} of {len(plan.pairs)} trunks with the change diverged; {lost[0]}")
    losses = [_loss(run, manifest, holdout) for run in reference_runs(plan)]
    law = fit_ladder_law(reference_table(plan, manifest, losses), seed)
    return assess(law, list(_comparisons(plan, manifest, holdout)), (plan.target.parameters, plan.target.tokens))


def divergence(pair: Pair, holdout: str) -> str | None:
    """Why a pair cannot be compared: training met no finite loss, or the finished model has none."""
    if pair.changed.divergence is not None:
        return pair.changed.divergence
    bad = next((run for run in pair.changed.results if not math.isfinite(run.holdouts[holdout])), None)
    return None if bad is None else f"{bad.size}, seed {bad.seed}: loss on {holdout} {bad.holdouts[holdout]} at the end"


def diverged(plan: DeriskPlan, why: str) -> Assessment:
    """Worth nothing: the multiplier's lowest edge, with nothing known of noise or trend."""
    nothing = Worth.around(-math.log(WIDEST), dict.fromkeys(WORTH_LEVELS, 0.0))
    unknown = Worth.around(0.0, dict.fromkeys(WORTH_LEVELS, math.log(WIDEST)))
    target, largest = plan.target, max(run.compute for run in reference_runs(plan))
    beyond = max(0.0, math.log10(target.compute / largest))
    return Assessment(
        verdict="reject",
        why=why,
        trend="unclear",
        slope_per_decade=unknown,
        pooled=nothing,
        at_target=nothing,
        target=AssessedTarget(target.parameters, target.tokens, target.compute, beyond),
        scales=(),
        noise=math.nan,
        correlation=None,
        degrees_of_freedom=0.0,
        seeds=len({pair.seed for pair in plan.pairs}),
    )


def _comparisons(plan: DeriskPlan, manifest: Manifest, holdout: str) -> Iterator[Comparison]:
    """Every rung of every pair."""
    for pair in plan.pairs:
        for without, changed in zip(pair.reference.results, pair.changed.results, strict=True):
            yield Comparison(
                rung=f"{without.size} · {without.tokens:,} tokens",
                trunk=without.size,
                seed=pair.seed,
                parameters=float(without.parameters),
                tokens=float(without.tokens),
                compute=without.compute,
                reference_loss=_loss(without, manifest, holdout),
                changed_compute=changed.compute,
                changed_loss=_loss(changed, manifest, holdout),
            )


def _loss(run: RungResult, manifest: Manifest, holdout: str) -> float:
    return nats_per_token(manifest, holdout, run.holdouts[holdout])


def apply_change(campaign: Campaign, change: Change, tried: Mapping[str, TriedChange]) -> Campaign:
    """The campaign with the stack's changes set, in their order, then the change's own.

    `tried`: by name, the changes tried on this campaign. Raises InputError naming one that was never tried, or only on
    top of others, so that what it is worth alone is not known.
    """
    for name in change.stack:
        below = _tried_alone(name, change, tried)
        campaign = changed_campaign(campaign, Change(name, "", (), below.set, f"{change.where}: stack: {name}"))
    return changed_campaign(campaign, change)


def _tried_alone(name: str, change: Change, tried: Mapping[str, TriedChange]) -> TriedChange:
    below = tried.get(name)
    if below is None:
        there = ", ".join(sorted(tried)) or "none"
        raise InputError(
            f"{change.where}: stack: {name!r} was never tried on this campaign; run derisk on it first (tried: {there})"
        )
    if below.stack:
        raise InputError(
            f"{change.where}: stack: {name!r} was tried on top of {', '.join(below.stack)}, not alone; name changes "
            "tried alone"
        )
    return below


def check_stack(change: Change, measured: Assessment, tried: Mapping[str, TriedChange]) -> dict[str, Any] | None:
    """Product of what each was worth alone against what all were together; JSON values.

    None without a stack, and where the change itself was never tried alone: the product would lack it.
    """
    alone = [tried[name] for name in change.stack]
    if not alone:
        return None
    if change.set:
        own = _same_keys(change, tried)
        if own is None:
            return None
        alone.append(own)
    predicted = stacked([assessment_of(below.assessment) for below in alone])
    check = stack_held(predicted, measured.at_target)
    record = check.record()
    worths = {"predicted": predicted.record(), "measured": measured.at_target.record()}
    return worths | {"held": record["held"], "ratio": record["ratio"], "text": record["why"]}


def _same_keys(change: Change, tried: Mapping[str, TriedChange]) -> TriedChange | None:
    """A change, of whatever name, that set the same keys to the same values on top of nothing."""
    wanted = json.loads(json.dumps(dict(change.set)))
    return next((below for below in tried.values() if not below.stack and below.set == wanted), None)


def ladder_recipe(campaign: Campaign, manifest: str) -> str:
    """Digest of everything but the change that its worth depends on: assessments of one recipe compare.

    `manifest`: digest of the corpus.
    """
    config = identify(campaign, manifest, {}).digested_config
    ladder = [campaign.ladder.model_dump(mode="json"), campaign.digested_stride]
    return digest_of([config, manifest, ladder])


def changes_of(ledger: Ledger) -> dict[str, Any]:
    """Keys `changes` and `stack` of report.json: those of the recipe decided on last, and its last check of a stack."""
    every = ledger.changes()
    changes = [change for change in every if change.recipe == every[-1].recipe]
    checks = [change.stack_check for change in changes if change.stack_check is not None]
    shown = [{key: getattr(change, key) for key in SHOWN} for change in changes]
    return {"changes": shown, "stack": checks[-1] if checks else None}


def same_recipe(changes: Sequence[TriedChange], recipe: str) -> dict[str, TriedChange]:
    """Changes tried on one recipe, by name."""
    return {change.name: change for change in changes if change.recipe == recipe}


def record_of(assessment: Assessment) -> dict[str, Any]:
    """JSON values; a noise that is not known is null."""
    noise = assessment.noise
    return assessment.record() | {"noise": noise if math.isfinite(noise) else None}


def assessment_of(record: Mapping[str, Any]) -> Assessment:
    """Read what `record_of` wrote."""
    target = {key: record["at_target"][key] for key in AssessedTarget.__dataclass_fields__}
    worths: dict[str, Any] = {key: _worth(record[key]) for key in ("slope_per_decade", "pooled", "at_target")}
    plain = {key: record[key] for key in ("verdict", "why", "trend", "correlation", "degrees_of_freedom", "seeds")}
    noise = math.nan if record["noise"] is None else record["noise"]
    scales = tuple(_scale(scale) for scale in record["scales"])
    return Assessment(target=AssessedTarget(**target), scales=scales, noise=noise, **worths, **plain)


def _worth(record: Mapping[str, Any]) -> Worth:
    return Worth(record["value"], {float(level): (low, high) for level, (low, high) in record["intervals"].items()})


def _scale(record: Mapping[str, Any]) -> RungWorth:
    plain = {key: record[key] for key in ("rung", "trunk", "compute", "seeds", "capped")}
    return RungWorth(worth=_worth(record), **plain)


def derisk_lines(record: Mapping[str, Any]) -> list[str]:
    """What each scale, the ladder as a whole and the target say, then verdict and stack; a divergence says nothing."""
    found = record["assessment"]
    about = ": ".join(text for text in (record["name"], record["description"]) if text)
    figures = _figure_lines(found) if found["scales"] else []
    return [about, *figures, f"verdict: {found['verdict']}: {found['why']}", *_stack_lines(record)]


def _figure_lines(found: Mapping[str, Any]) -> list[str]:
    target, width = found["at_target"], max(len(scale["rung"]) for scale in found["scales"])
    return [
        f"multiplier of compute, {SHOWN_LEVEL}:",
        *(f"  {scale['rung']:<{width}}  {multiple_in_interval(scale)}{_capped(scale)}" for scale in found["scales"]),
        f"pooled: {multiple_in_interval(found['pooled'])} from {count(found['seeds'], 'seed')}, "
        f"noise of one comparison {percent(found['noise'])}",
        f"at target: {multiple_in_interval(target)}, {target['decades_beyond']:.1f} decades beyond the largest rung",
        f"trend: {found['trend']}, {multiple_in_interval(found['slope_per_decade'])} for ten times the compute",
    ]


def _capped(scale: Mapping[str, Any]) -> str:
    return "  (beyond the reference law's reach)" if scale["capped"] else ""


def _stack_lines(record: Mapping[str, Any]) -> list[str]:
    """Whether the gains multiply; a stack without a check lacks the change's own worth."""
    if record["stack_check"] is not None:
        return [f"stack: {record['stack_check']['text']}"]
    if record["stack"]:
        below = ", ".join(record["stack"])
        return [f"stack: on top of {below}; not compared with a product, since this change was not tried alone"]
    return []
