"""The predict stage: ladder, forecast, registration; and the settlement after evaluation."""

from collections.abc import Mapping, Sequence
from contextlib import closing
from typing import Any

from tenfold.config import Campaign
from tenfold.core.console import RunConsole
from tenfold.core.errors import InputError
from tenfold.core.folder import CampaignFiles
from tenfold.core.text import duration
from tenfold.data import Manifest
from tenfold.experiments.forecast.curves import measured_final_loss
from tenfold.experiments.forecast.make import make_forecast, target_plan
from tenfold.experiments.forecast.register import (
    level_inside,
    refuse_after_the_fact,
    register,
    registered,
    settle,
    target_identity,
    training_run,
)
from tenfold.experiments.forecast.table import nats_per_token
from tenfold.experiments.ladder.stage import run_ladder
from tenfold.ledger import Ledger, Prediction
from tenfold.train.finished import trained_as

WHAT_MORE_BUYS = {
    "compute_optimal": "best split of this compute",
    "ten_times_compute": "10x the compute",
    "ten_times_data": "10x the data",
}


def predict(campaign: Campaign, files: CampaignFiles, manifest: Manifest, console: RunConsole) -> list[Prediction]:
    """The registered forecast; made now, after the ladder, if there is none and training has not begun.

    Raises TenfoldError when training has begun without one, InputError when no ladder can be made or fitted.
    """
    target = target_identity(campaign, manifest)
    with closing(Ledger(files.ledger)) as ledger:
        predictions = registered(ledger, target)
        if predictions:
            return predictions
        refuse_after_the_fact(ledger, target)
        ladder = run_ladder(campaign, files, manifest, console)
        if ladder.transfer:
            console.say(f"ladder: {ladder.transfer.text}")
            ledger.event("transfer", ladder.transfer.text, holds=ladder.transfer.holds)
        register(ledger, target, make_forecast(campaign, files, manifest, ladder, console))
        return registered(ledger, target)


def predict_before_training(
    campaign: Campaign, files: CampaignFiles, manifest: Manifest, console: RunConsole
) -> list[Prediction]:
    """The same within `tenfold run`, which goes on without a forecast where none can be made, and says why."""
    if not campaign.ladder.sizes:
        return []
    target = target_identity(campaign, manifest)
    with closing(Ledger(files.ledger)) as ledger:
        if training_run(ledger, target) and not registered(ledger, target):
            console.say("predict: training began without a forecast; it goes on without one")
            return []
    try:
        predictions = predict(campaign, files, manifest, console)
    except InputError as error:
        console.say(f"warning: {error}; going on without a forecast")
        return []
    for line in forecast_lines(predictions):
        console.say(f"predict: {line}")
    return predictions


def settle_forecast(
    campaign: Campaign,
    files: CampaignFiles,
    manifest: Manifest,
    evaluation: Mapping[str, Any],
    console: RunConsole,
) -> list[Prediction]:
    """Score every forecast against what was measured."""
    with closing(Ledger(files.ledger)) as ledger:
        target = target_identity(campaign, manifest)
        if not registered(ledger, target):
            return []
        settled = settle(ledger, target, _outcomes(campaign, files, manifest, evaluation, ledger))
    for prediction in settled:
        console.say(f"settle: {settlement_line(prediction)}")
    return settled


def _outcomes(
    campaign: Campaign, files: CampaignFiles, manifest: Manifest, evaluation: Mapping[str, Any], ledger: Ledger
) -> dict[str, float]:
    trained = trained_as(campaign, manifest, files)
    scores = {name: score["bits_per_byte"] for name, score in evaluation["holdouts"].items()}
    run = next(run for run in ledger.runs() if run.fingerprint == trained.result.fingerprint)
    losses = ledger.metric(run.id, "train/loss")
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
