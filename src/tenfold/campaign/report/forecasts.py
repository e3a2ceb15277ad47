"""What report.json holds about forecasts: the ladder, what was forecast, what came, how good forecasts have been."""

import math
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from tenfold.data import Manifest
from tenfold.experiments import LEVEL, LadderResult, Laws, RungResult, level_inside, nats_per_token, watcher_of
from tenfold.ledger import Ledger, Prediction
from tenfold.scaling import LEVELS, Multiple, ScalingLaw, describe_law, effective_compute, effective_data
from tenfold.train import RunPlan

RIBBON_POINTS = 60
BEYOND_TARGET = 2.0  # the ribbon goes on to this many times the target's compute
PROFILE_POINTS = 24
FEWEST_OF_PROFILE = 2

Record = dict[str, Any]


def ladder_record(ladder: LadderResult, laws: Laws, manifest: Manifest) -> Record:
    """The small runs and the law through them."""
    law = laws.by_holdout[laws.holdout]
    return {
        "holdout": laws.holdout,
        "points": [_point(rung, laws.holdout, manifest) for rung in ladder.rungs],
        "transfer": _transfer(ladder),
        "law": describe_law(law),
        "residuals": _residuals(ladder.rungs, laws, manifest),
        "profiles": _profiles(ladder.rungs, laws, manifest),
        "seconds": ladder.seconds,
    }


def _point(rung: RungResult, holdout: str, manifest: Manifest) -> Record:
    return {
        "size": rung.size,
        "name": f"{rung.size} · {rung.tokens:,} tokens",
        "N": rung.parameters,
        "D": rung.tokens,
        "C": rung.compute,
        "level": rung.budget,
        "steps": rung.steps,
        "batch_tokens": rung.batch_tokens,
        "learning_rate": rung.learning_rate,
        "seconds": rung.seconds,
        "loss": nats_per_token(manifest, holdout, rung.holdouts[holdout]),
        "holdouts": rung.holdouts,
    }


def _transfer(ladder: LadderResult) -> Record | None:
    check = ladder.transfer
    if check is None:
        return None
    sizes = [asdict(sweep) | {"losses": [_finite(loss) for loss in sweep.losses]} for sweep in check.sizes]
    return {"sizes": sizes, "moved": check.moved, "holds": check.holds, "text": check.text}


def _finite(value: float) -> float | None:
    """JSON has no infinity."""
    return value if math.isfinite(value) else None


def _residuals(rungs: Sequence[RungResult], laws: Laws, manifest: Manifest) -> list[Record]:
    law = laws.by_holdout[laws.holdout]
    fitted = [_expected(law, float(rung.parameters), float(rung.tokens)) for rung in rungs]
    losses = [nats_per_token(manifest, laws.holdout, rung.holdouts[laws.holdout]) for rung in rungs]
    return [
        {"x": rung.compute, "relative": loss / expected - 1, "group": rung.size}
        for rung, loss, expected in zip(rungs, losses, fitted, strict=True)
    ]


def _expected(law: ScalingLaw, parameters: float, tokens: float) -> float:
    return math.exp(float(law.log_loss(law.points(parameters, tokens))[0]))


def _profiles(rungs: Sequence[RungResult], laws: Laws, manifest: Manifest) -> list[Record]:
    """Runs of one budget over size, with the law's own curve through that budget and its minimum."""
    law = laws.by_holdout[laws.holdout]
    budgets = sorted({rung.budget for rung in rungs})
    profiles = []
    for budget in budgets:
        mine = [rung for rung in rungs if rung.budget == budget]
        if len(mine) < FEWEST_OF_PROFILE:
            continue
        points = [(r.parameters, nats_per_token(manifest, laws.holdout, r.holdouts[laws.holdout])) for r in mine]
        sizes = np.geomspace(min(points)[0], max(points)[0], PROFILE_POINTS).tolist()
        fitted = [(n, _expected(law, n, budget / law.runs.flops_factor / n)) for n in sizes]
        lowest = min(fitted, key=lambda point: point[1])
        inside = lowest not in (fitted[0], fitted[-1])
        profiles.append(
            {"budget": budget, "points": sorted(points), "fitted": fitted, "minimum": lowest if inside else None}
        )
    return profiles


def forecast_record(
    predictions: Sequence[Prediction],
    law: ScalingLaw | None,
    plan: RunPlan,
    log_every: int,
    losses: Sequence[tuple[int, float]],
    began: float,
) -> Record:
    """What was forecast, and what came of it; `law` draws the ribbon and weighs the outcome, where it is at hand."""
    main = predictions[0]
    target = main.basis["target"]
    curve = next((p.basis["curve"] for p in predictions if "curve" in p.basis), None)
    return {
        "registered_at": main.registered_at,
        "digest": main.basis["digest"],
        "trained_before": main.registered_at > began,
        "target": target,
        "quantities": [quantity_record(prediction) for prediction in predictions],
        "ribbon": _ribbon(law, target) if law else None,
        "curve": curve,
        **_live(predictions, plan, log_every, losses),
        **{key: main.basis[key] for key in ("compute_optimal", "ten_times_compute", "ten_times_data")},
        "effective": _effective(law, target, main.outcome) if law else None,
        "notes": main.basis["notes"],
    }


def quantity_record(prediction: Prediction) -> Record:
    """One quantity, forecast and, where it is settled, measured."""
    settled = prediction.outcome is not None
    return {
        "quantity": prediction.quantity,
        "unit": prediction.unit,
        "median": prediction.median,
        "intervals": prediction.intervals,
        "outcome": prediction.outcome,
        "error": prediction.error,
        "inside": level_inside(prediction) if settled else None,
        "settled_at": prediction.settled_at,
    }


def _ribbon(law: ScalingLaw, target: Record) -> Record:
    """The law along the target's tokens per parameter, from the smallest rung's compute past the target's."""
    computes = np.geomspace(math.exp(float(law.runs.points.c.min())), target["C"] * BEYOND_TARGET, RIBBON_POINTS)
    root = np.sqrt(computes / target["C"])
    forecasts = [law.forecast(law.points(target["N"] * r, target["D"] * r))[0] for r in root.tolist()]
    bands = [
        [level, [f.intervals[level][0] for f in forecasts], [f.intervals[level][1] for f in forecasts]]
        for level in LEVELS
    ]
    return {"xs": computes.tolist(), "values": [f.loss for f in forecasts], "bands": bands}


def _live(
    predictions: Sequence[Prediction], plan: RunPlan, log_every: int, losses: Sequence[tuple[int, float]]
) -> Record:
    watcher = watcher_of(predictions, plan, log_every)
    if watcher is None:
        return {"live": [], "tracking": None}
    events = [event for step, loss in losses if (event := watcher.observe(step, loss)) is not None]
    tracking = {"level": LEVEL, "side": watcher.side, "count": watcher.count, "events": events}
    return {"live": watcher.live, "tracking": tracking}


def _effective(law: ScalingLaw, target: Record, loss: float | None) -> Record | None:
    """What the finished run is worth in the ladder's own compute and data."""
    if loss is None:
        return None
    both = {"compute": effective_compute, "data": effective_data}
    return {name: _multiple(measure(law, target["N"], target["D"], loss)) for name, measure in both.items()}


def _multiple(multiple: Multiple) -> Record:
    return {"value": multiple.value, "low": multiple.low, "high": multiple.high, "level": multiple.level}


def calibration_record(ledger: Ledger) -> Record | None:
    """How the forecasts of loss that this ledger has settled have done, whatever run they were about.

    A holdout's loss in nats per token is its bits per byte in another unit, so it does not count again.
    """
    losses = [p for p in ledger.predictions() if p.unit == "bits per byte" or p.quantity.endswith("training loss")]
    settled = [prediction for prediction in losses if prediction.outcome is not None]
    if not settled:
        return None
    inside = {
        str(level): sum(_holds(prediction, str(level)) for prediction in settled) / len(settled) for level in LEVELS
    }
    errors = [abs(p.error) for p in losses if p.error is not None]
    return {"settled": len(settled), "inside": inside, "mean_error": sum(errors) / len(errors)}


def _holds(prediction: Prediction, level: str) -> bool:
    low, high = prediction.intervals[level]
    return prediction.outcome is not None and low <= prediction.outcome <= high
