"""The forecast of a campaign: a law for every holdout, the loss curve, what more would buy, how long it takes here.

It is made from the ladder, registered before training and settled after evaluation.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from tenfold.config import Campaign
from tenfold.core import InputError, Interrupted, TenfoldError, duration
from tenfold.data import Manifest, Workspace
from tenfold.experiments.design import Rung, Trunk, rung_campaign
from tenfold.experiments.ladder import LadderResult, fit_ladder_law, nats_per_token, run_ladder, run_table
from tenfold.experiments.overfit import refuse_overfitted
from tenfold.experiments.register import (
    forecasts_in,
    level_inside,
    refuse_after_the_fact,
    registered,
    same_as,
    saved_identity,
    target_identity,
    training_run,
)
from tenfold.experiments.tasks import RungResult
from tenfold.experiments.trial import time_trial
from tenfold.ledger import LOSS, Ledger, Prediction, Run, TransferChecked
from tenfold.scaling import (
    Curve,
    CurveForecast,
    CurveRun,
    FinalLoss,
    Forecast,
    RunTable,
    ScalingLaw,
    describe_law,
    final_losses,
    forecast_curve,
    schedule_rates,
    what_more_buys,
)
from tenfold.train import Ranks, RunPlan, choose_device, plan_run, trained_as

WHAT_MORE_BUYS = {
    "compute_optimal": "best split of this compute",
    "ten_times_compute": "10x the compute",
    "ten_times_data": "10x the data",
}

EPOCH_SLACK = 0.05

StepLosses = list[tuple[int, float]]


def predict(workspace: Workspace) -> list[Prediction]:
    """The registered forecast; made now, after the ladder, if there is none and training has not begun.

    Raises TenfoldError when training has begun without one, InputError when no ladder can be made or fitted.
    """
    target = target_identity(workspace.campaign, workspace.manifest)
    with workspace.ledger() as ledger:
        predictions = registered(ledger, target)
        if predictions:
            return predictions
        refuse_after_the_fact(ledger, target)
        ladder = run_ladder(workspace)
        if ladder.transfer:
            workspace.console.say(f"ladder: {ladder.transfer.text}")
            ledger.event(TransferChecked(ladder.transfer.holds), ladder.transfer.text)
        quantities = make_forecast(workspace, ladder)
        forecasts_in(ledger).register(target.recipe, saved_identity(target), quantities)
        return registered(ledger, target)


def predict_before_training(workspace: Workspace) -> list[Prediction]:
    """Forecast within `tenfold run`, which goes on without one where none can be made, and says why."""
    if not workspace.campaign.ladder.sizes:
        return []
    target, console = target_identity(workspace.campaign, workspace.manifest), workspace.console
    with workspace.ledger() as ledger:
        if training_run(ledger, target) and not registered(ledger, target):
            console.say("predict: training began without a forecast; it goes on without one")
            return []
    try:
        predictions = predict(workspace)
    except InputError as error:
        console.warn(f"{error}; going on without a forecast")
        return []
    for line in forecast_lines(predictions):
        console.say(f"predict: {line}")
    return predictions


def settle_forecast(workspace: Workspace, evaluation: Mapping[str, Any]) -> list[Prediction]:
    """Score every forecast against what was measured."""
    target = target_identity(workspace.campaign, workspace.manifest)
    with workspace.ledger() as ledger:
        if not registered(ledger, target):
            return []
        outcomes = _outcomes(workspace, evaluation, ledger)
        settled = forecasts_in(ledger).settle(same_as(target), outcomes)
    for prediction in settled:
        workspace.console.say(f"settle: {settlement_line(prediction)}")
    return settled


def _outcomes(workspace: Workspace, evaluation: Mapping[str, Any], ledger: Ledger) -> dict[str, float]:
    """What the finished run measured, by quantity."""
    campaign, manifest = workspace.campaign, workspace.manifest
    trained = trained_as(workspace)
    scores = {name: score["bits_per_byte"] for name, score in evaluation["holdouts"].items()}
    run = next(run for run in ledger.runs() if run.fingerprint == trained.result.fingerprint)
    losses = ledger.metric(run.id, LOSS)
    alone = run.description["numerics"]["ranks"] == 1  # as the trial was
    return {
        **{f"{name} bits per byte": score for name, score in scores.items()},
        **{f"{name} loss": nats_per_token(manifest, name, score) for name, score in scores.items()},
        "training loss": measured_final_loss(campaign, target_plan(campaign, manifest), losses),
        **({"training time": trained.result.seconds} if alone else {}),
    }


def forecast_lines(predictions: Sequence[Prediction]) -> list[str]:
    """The forecast for people."""
    lines = [_quantity_line(prediction) for prediction in predictions]
    basis = predictions[0].basis
    lines.append(f"law {basis['law']['form']}, {basis['law']['formula']}, loss on {basis['holdout']}")
    for key, what in WHAT_MORE_BUYS.items():
        more = basis[key]
        low, high = more["intervals"]["0.8"]
        lines.append(f"{what}: N={more['N']:.3g} D={more['D']:.3g}, loss {more['loss']:.4g} ({low:.4g} – {high:.4g})")
    return lines + [f"note: {note}" for note in basis["notes"]]


def _quantity_line(prediction: Prediction) -> str:
    seconds = prediction.unit == "seconds"
    show = duration if seconds else "{:.4g}".format
    edges = (f"{float(level):.0%} {show(low)} – {show(high)}" for level, (low, high) in prediction.intervals.items())
    unit = "" if seconds or prediction.unit in prediction.quantity else f" {prediction.unit}"
    return f"{prediction.quantity} {show(prediction.median)}{unit} ({', '.join(edges)})"


def settlement_line(prediction: Prediction) -> str:
    """What was forecast, what came, and how far off."""
    level = level_inside(prediction)
    where = "outside the 95% interval" if level == "outside" else f"inside the {float(level):.0%} interval"
    return (
        f"{prediction.quantity}: forecast {prediction.median:.4g}, measured {prediction.outcome:.4g} "
        f"{prediction.unit}: {prediction.error:+.1%}, {where}"
    )


@dataclass(frozen=True)
class Laws:
    """What was fitted to the ladder."""

    holdout: str
    """The first holdout: its loss is the one that budgets and changes are weighed by."""
    by_holdout: dict[str, ScalingLaw]
    """Laws in nats per token of each holdout."""
    left_out: tuple[str, ...] = ()
    """Holdouts without a law, and why."""


def fit_laws(ladder: LadderResult, manifest: Manifest, seed: int) -> Laws:
    """A law for every holdout. Raises InputError when there is none to judge on or no law can be identified."""
    names = [text.name for text in manifest.holdouts]
    if not names:
        raise InputError("predict: the corpus has no holdout to forecast the loss on; add one to [[data.holdouts]]")
    fitted, left_out = {names[0]: fit_ladder_law(holdout_table(ladder, manifest, names[0]), seed)}, []
    for name in names[1:]:
        try:
            fitted[name] = fit_ladder_law(holdout_table(ladder, manifest, name), seed)
        except InputError as error:  # small runs may learn nothing about a far holdout: no reason to stop
            left_out.append(f"no forecast of {name}: {error}")
    return Laws(names[0], fitted, tuple(left_out))


def holdout_table(ladder: LadderResult, manifest: Manifest, name: str) -> RunTable:
    """The rungs with their loss on one holdout, in nats per token. Raises InputError where they overfit on it."""
    refuse_overfitted(ladder.rungs, name, manifest.tokens, ladder.plan.target.tokens)
    losses = [nats_per_token(manifest, name, rung.holdouts[name]) for rung in ladder.rungs]
    return run_table(ladder.rungs, losses, f"ladder, {name}", manifest.tokens)


def make_forecast(workspace: Workspace, ladder: LadderResult) -> list[Prediction]:
    """Everything that can be said about the target before it is trained: losses, the curve, the time it takes here."""
    campaign, manifest = workspace.campaign, workspace.manifest
    laws, plan = fit_laws(ladder, manifest, campaign.seed), target_plan(campaign, manifest)
    target = ladder.plan.target
    about: dict[str, Any] = {
        "target": {"N": target.parameters, "D": target.tokens, "C": target.compute, "steps": plan.steps},
        "holdout": laws.holdout,
    }
    return [
        *_holdout_losses(workspace, ladder, laws, about),
        *_training_loss(workspace, ladder, plan, about),
        *_training_time(workspace, plan, about),
    ]


def _holdout_losses(
    workspace: Workspace, ladder: LadderResult, laws: Laws, about: Mapping[str, Any]
) -> list[Prediction]:
    """Loss on the first holdout with all it rests on, then bits per byte of every holdout."""
    manifest = workspace.manifest
    forecasts = {name: forecast_target(law, ladder, manifest) for name, law in laws.by_holdout.items()}
    law, main = laws.by_holdout[laws.holdout], forecasts[laws.holdout]
    basis = {
        **about,
        "rungs": [asdict(rung) for rung in ladder.rungs],
        "law": describe_law(law),
        "notes": [*main.notes, *_notes(workspace.campaign, manifest, ladder), *laws.left_out],
        **what_more_buys(law, main),
    }
    quantities = [Prediction(f"{laws.holdout} loss", "nats per token", main.loss, _texts(main), basis)]
    for name, forecast in forecasts.items():
        factor, unit = 1 / nats_per_token(manifest, name, 1.0), "bits per byte"
        intervals = {level: (low * factor, high * factor) for level, (low, high) in _texts(forecast).items()}
        quantities.append(Prediction(f"{name} {unit}", unit, forecast.loss * factor, intervals, dict(about)))
    return quantities


def _notes(campaign: Campaign, manifest: Manifest, ladder: LadderResult) -> list[str]:
    """Differences between the target and its rungs beyond size and length."""
    notes, kind = [], campaign.train.schedule.kind
    if kind != "wsd":
        notes.append(f"the target's schedule is {kind}, the rungs cool down from a constant rate")
    epochs = ladder.plan.target.tokens / manifest.tokens
    if epochs > 1 + EPOCH_SLACK:
        notes.append(f"the target sees its data {epochs:.2g} times: what repeating costs is not in the ladder's law")
    learners = campaign.learners.count
    if learners > 1:
        notes.append(f"the target is trained by {learners} learners, rungs by one: what that costs is not in the law")
    if ladder.transfer is not None and not ladder.transfer.holds:
        notes.append(ladder.transfer.text)
    return notes


def target_plan(campaign: Campaign, manifest: Manifest) -> RunPlan:
    """The numbers of the target's run."""
    return plan_run(campaign, manifest.vocab_size, Ranks(0, 1, choose_device(campaign.train.device)))


def forecast_target(law: ScalingLaw, ladder: LadderResult, manifest: Manifest) -> Forecast:
    """The law at the target, its distinct tokens being the corpus's at most."""
    target = ladder.plan.target
    unique = float(min(target.tokens, manifest.tokens))
    return law.forecast(law.points(float(target.parameters), float(target.tokens), unique))[0]


def _training_loss(
    workspace: Workspace, ladder: LadderResult, plan: RunPlan, about: Mapping[str, Any]
) -> Iterator[Prediction]:
    """Final training loss and the curve up to it; nothing, with a warning, when the rungs' curves cannot be fitted."""
    campaign, manifest = workspace.campaign, workspace.manifest
    try:
        curves = ladder_curves(workspace, ladder)
        table = run_table(ladder.rungs, final_losses(curves), "ladder, training loss", manifest.tokens)
        forecast = forecast_target(fit_ladder_law(table, campaign.seed), ladder, manifest)
        final = FinalLoss(forecast.loss, forecast.intervals)
        curve = target_curve(campaign, plan, float(ladder.plan.target.parameters), curves, final)
    except InputError as error:
        workspace.console.warn(f"no forecast of the training loss and its curve: {error}")
        return
    basis = {**about, "curve": curve.record()}
    yield Prediction("training loss", "nats per token", forecast.loss, _texts(forecast), basis)


def _training_time(workspace: Workspace, plan: RunPlan, about: Mapping[str, Any]) -> Iterator[Prediction]:
    """The time that training takes here; nothing, with a warning, when it cannot be tried out."""
    try:
        trial = time_trial(workspace, plan)
    except Interrupted:
        raise
    except (TenfoldError, RuntimeError, MemoryError, OSError) as error:  # it may need more than one process has
        workspace.console.warn(f"no forecast of the training time: {str(error).splitlines()[0]}")
        return
    yield Prediction("training time", "seconds", trial.seconds, trial.intervals, {**about, **trial.basis})


def ladder_curves(workspace: Workspace, ladder: LadderResult) -> list[Curve]:
    """The loss curve of every rung, in the order of `ladder.rungs`."""
    branches = {
        (task.trunk.name, rung.steps): (task.trunk, rung) for task in ladder.plan.rungs for rung in task.trunk.rungs
    }
    with workspace.ledger(read_only=True) as ledger:
        runs = {run.fingerprint: run for run in ledger.runs()}
        return [
            rung_curve(ledger, runs, workspace.campaign, *branches[result.size, result.steps], result)
            for result in ladder.rungs
        ]


def rung_curve(
    ledger: Ledger, runs: Mapping[str, Run], campaign: Campaign, trunk: Trunk, rung: Rung, result: RungResult
) -> Curve:
    """Training loss of every step: the trunk's up to the cool-down, then the rung's. Raises InputError if not there."""
    whole = _losses(ledger, runs, result.trunk_fingerprint, 0, rung.constant_steps)
    whole += _losses(ledger, runs, result.fingerprint, rung.constant_steps, rung.steps)
    if len(whole) != rung.steps:
        raise InputError(
            f"{ledger.path}: holds {len(whole)} of {rung.steps} losses of the rung {result.size}, {result.tokens:,} "
            "tokens; put the ledger back, or delete the folder `ladder` to train the rungs again"
        )
    rates = schedule_rates(rung_campaign(campaign, trunk, rung).train.schedule, rung.steps)
    run = CurveRun(rates, parameters=trunk.parameters, tokens_per_step=trunk.batch_tokens)
    return _curve(run, whole)


def _curve(run: CurveRun, losses: StepLosses) -> Curve:
    steps = np.array([step for step, _ in losses], dtype=np.int64)
    return Curve(run, steps, np.array([loss for _, loss in losses]))


def _losses(ledger: Ledger, runs: Mapping[str, Run], fingerprint: str, after: int, up_to: int) -> StepLosses:
    run = runs.get(fingerprint)
    if run is None:
        return []
    return [(step, loss) for step, loss in ledger.metric(run.id, LOSS) if after < step <= up_to]


def measured_final_loss(campaign: Campaign, plan: RunPlan, losses: StepLosses) -> float:
    """Final training loss of the target, from its own curve alone."""
    curve = _curve(target_run(campaign, plan, 1.0), losses)
    return final_losses([curve])[0]


def target_run(campaign: Campaign, plan: RunPlan, parameters: float) -> CurveRun:
    """The target's learning rates by step, as shares of the peak, which transfers across sizes."""
    rates = schedule_rates(campaign.train.schedule, plan.steps)
    return CurveRun(rates, parameters=parameters, tokens_per_step=plan.tokens_per_step)


def target_curve(
    campaign: Campaign, plan: RunPlan, parameters: float, curves: Sequence[Curve], final: FinalLoss
) -> CurveForecast:
    """The whole curve of the target with bands."""
    return forecast_curve(curves, target_run(campaign, plan, parameters), final)


def _texts(forecast: Forecast) -> dict[str, tuple[float, float]]:
    return {str(level): edges for level, edges in forecast.intervals.items()}
