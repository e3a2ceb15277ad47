"""Step time and peak memory of the campaign's training on this machine: forecast, registered, settled."""

import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch

from tenfold.config import Campaign
from tenfold.data import Manifest, Workspace, open_workspace
from tenfold.experiments.local.calibration import MachineCalibration, calibrate
from tenfold.experiments.local.forecast import LocalForecast, forecast_local
from tenfold.experiments.register import planned, plans_in, same_as, saved_identity, target_identity, training_run
from tenfold.learners import batch_of, sharing_machine
from tenfold.ledger import PEAK_MEMORY as PEAK_RESIDENT
from tenfold.ledger import TOKENS_PER_SECOND, Ledger, Prediction, Run
from tenfold.train import Ranks, RunPlan, choose_device, plan_run

STEP_TIME, PEAK_MEMORY = "planned step time", "planned peak memory"
MIB, MS = 2**20, 1000
RUN_BYTES = 18 * MIB
"""What a run takes beside its steps: evaluation, tokenizer, ledger, the product that MFU is measured with."""
SHORT, LONG = 2, 4  # bytes of a token in a shard
LONG_FROM = 2**16  # tokens of a vocabulary
NOT_BUILT = "not registered: the corpus is not built yet; run `tenfold data` first"


@dataclass(frozen=True)
class LocalPlan:
    """What the training will take here; `forecast` is None where nothing can be said."""

    forecast: LocalForecast | None
    registered: tuple[Prediction, ...]
    notes: tuple[str, ...]
    """What is left out, and why; what speaks against the forecast."""

    def lines(self) -> list[str]:
        """For people, where time and memory go included."""
        told = self.forecast.lines() if self.forecast else []
        kept = [f"registered: {p.quantity}, {p.median:.4g} {p.unit}" for p in self.registered]
        return [*told, *kept, *(f"note: {note}" for note in self.notes)]

    def to_dict(self) -> dict[str, Any]:
        """JSON values of the plan."""
        found = self.forecast
        return {
            "step_seconds": found.seconds if found else None,
            "step_seconds_intervals": found.time_intervals() if found else None,
            "tokens_per_second": found.tokens_per_second if found else None,
            "time": [asdict(share) for share in found.shares] if found else [],
            "memory_bytes": found.memory.total if found else None,
            "memory_bytes_intervals": found.memory_intervals() if found else None,
            "memory": found.memory.parts() if found else {},
            "registered": [asdict(prediction) for prediction in self.registered],
            "notes": list(self.notes),
        }


def plan_locally(directory: Path, overrides: Sequence[str] = (), *, again: bool = False) -> LocalPlan:
    """Forecast the training of the campaign in `directory` on this machine and register that, if it has not begun.

    `again`: measure the machine anew. Before `tenfold data` nothing is registered, as no run has a name yet.
    """
    with open_workspace(directory, overrides, alone=True, hashes=False) as workspace:
        campaign, say = workspace.campaign, workspace.console.say
        built = workspace.files.audit.exists()  # the last that building the corpus writes
        manifest = workspace.manifest if built else None
        plan = _plan_of_a_process(campaign, manifest)
        reason = _why_not(campaign, plan)
        if reason:
            return LocalPlan(None, (), (reason,))
        calibration = calibrate(plan.threads, again=again, say=lambda line: say(f"plan: {line}"))
        forecast = _forecast(campaign, manifest, plan, calibration)
        quantities = _predictions(forecast, plan, calibration)
        registered, notes = _registered(workspace, quantities) if built else ([], [NOT_BUILT])
    return LocalPlan(forecast, tuple(registered), (*calibration.warnings(), *notes))


def _plan_of_a_process(campaign: Campaign, manifest: Manifest | None) -> RunPlan:
    """Plan of the training process, or of one learner's."""
    ranks = Ranks(0, 1, choose_device(campaign.train.device))
    ranks = sharing_machine(campaign, ranks) if campaign.learners.count else ranks
    return plan_run(campaign, _vocabulary(campaign, manifest), ranks)


def _vocabulary(campaign: Campaign, manifest: Manifest | None) -> int:
    return manifest.vocab_size if manifest else campaign.data.tokenizer.vocab_size


def _why_not(campaign: Campaign, plan: RunPlan) -> str | None:
    if choose_device(campaign.train.device).type != "cpu":
        return "step time and memory on a GPU are not forecast from measurements here"
    if plan.compiled:
        return 'this run will be compiled, and only eager steps can be forecast here: set train.compile = "off"'
    if plan.compute_dtype is not torch.float32:
        return 'this run computes in bf16, and only float32 steps can be forecast here: set train.precision = "float32"'
    return None


def _forecast(
    campaign: Campaign, manifest: Manifest | None, plan: RunPlan, calibration: MachineCalibration
) -> LocalForecast:
    """Forecast of the steps, with what a run keeps in memory beside them."""
    train = campaign.train
    if campaign.learners.count:
        train = train.model_copy(update={"batch_tokens": batch_of(campaign) * campaign.model.context})
    vocabulary = _vocabulary(campaign, manifest)
    found = forecast_local(campaign.model, train.model_copy(update={"compile": "off"}), vocabulary, calibration)
    saved = found.memory.weights + found.memory.optimizer if plan.steps > campaign.checkpoint.every else 0
    seen = plan.steps * plan.tokens_per_step
    read = min(seen, manifest.tokens if manifest else seen) * (SHORT if vocabulary <= LONG_FROM else LONG)
    return replace(found, memory=replace(found.memory, checkpoint=saved, data=read, run=RUN_BYTES))


def _registered(workspace: Workspace, quantities: Sequence[Prediction]) -> tuple[list[Prediction], list[str]]:
    """What the ledger holds of it, and why there may be nothing."""
    if workspace.campaign.learners.count:
        return [], ["not registered: a learner's own step time and memory are not measured, so nothing could settle it"]
    target = target_identity(workspace.campaign, workspace.manifest)
    with workspace.ledger() as ledger:
        if not planned(ledger, target):
            if training_run(ledger, target):
                return [], ["not registered: training has begun, so this is no forecast any more"]
            plans_in(ledger).register(target.recipe, saved_identity(target), quantities)
        return planned(ledger, target), []


def _predictions(forecast: LocalForecast, plan: RunPlan, calibration: MachineCalibration) -> list[Prediction]:
    basis = {
        "steps": plan.steps,
        "calibration": {
            key: value for key, value in asdict(calibration).items() if key not in ("costs", "process_bytes")
        },
    }
    memory = {level: (low / MIB, high / MIB) for level, (low, high) in forecast.memory_intervals().items()}
    time = {level: (low * MS, high * MS) for level, (low, high) in forecast.time_intervals().items()}
    shares = {"shares": [asdict(share) for share in forecast.shares]}
    return [
        Prediction(STEP_TIME, "ms", forecast.seconds * MS, time, basis | shares),
        Prediction(
            PEAK_MEMORY, "MiB", forecast.memory.total / MIB, memory, basis | {"memory": forecast.memory.parts()}
        ),
    ]


def settle_plan(workspace: Workspace) -> list[Prediction]:
    """Write beside what was planned what the finished training measured. Returns what is settled.

    Raises TenfoldError when a plan is not what was registered.
    """
    campaign, manifest = workspace.campaign, workspace.manifest
    target = target_identity(campaign, manifest)
    with workspace.ledger() as ledger:
        found = planned(ledger, target)
        run = training_run(ledger, target)
        if not found or run is None or run.status != "done":
            return []
        outcomes = _outcomes(ledger, run, plan_run(campaign, manifest.vocab_size, _alone(campaign)))
        settled = plans_in(ledger).settle(same_as(target), outcomes)
    for prediction in settled:
        workspace.console.say(f"settle: {_settlement_line(prediction)}")
    return settled


def _alone(campaign: Campaign) -> Ranks:
    return Ranks(0, 1, choose_device(campaign.train.device))


def _outcomes(ledger: Ledger, run: Run, plan: RunPlan) -> dict[str, float]:
    """Median step of the log intervals, highest resident memory; nothing for runs of several processes."""
    if run.description["numerics"].get("ranks") != 1:
        return {}
    rates = [rate for _, rate in ledger.metric(run.id, TOKENS_PER_SECOND)]
    peaks = [peak for _, peak in ledger.metric(run.id, PEAK_RESIDENT)]
    time = {STEP_TIME: plan.tokens_per_step / statistics.median(rates) * MS} if rates else {}
    return time | ({PEAK_MEMORY: max(peaks) / MIB} if peaks else {})


def _settlement_line(prediction: Prediction) -> str:
    low, high = prediction.intervals["0.9"]
    assert prediction.outcome is not None
    where = "inside" if low <= prediction.outcome <= high else "outside"
    return (
        f"{prediction.quantity}: forecast {prediction.median:.4g}, measured {prediction.outcome:.4g} "
        f"{prediction.unit}: {prediction.error:+.1%}, {where} the 90% interval"
    )
