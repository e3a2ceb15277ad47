"""From finished pairs of runs to the assessment of a change."""

import math
from collections.abc import Iterator

from tenfold.data import Manifest
from tenfold.experiments.derisk.plan import DeriskPlan, Pair, reference_runs, reference_table
from tenfold.experiments.forecast.table import fit_ladder_law, nats_per_token
from tenfold.experiments.ladder.tasks import RungResult, refuse_divergence
from tenfold.scaling.assessment import AssessedTarget, Assessment, assess
from tenfold.scaling.effect import WORTH_LEVELS, Worth
from tenfold.scaling.multiplier import WIDEST, Comparison


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
