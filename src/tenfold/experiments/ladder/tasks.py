"""What there is to train: one task for each trunk, kept in a folder named after everything its result depends on."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Self

from tenfold.config import Campaign
from tenfold.core.errors import InputError
from tenfold.core.files import read_json
from tenfold.experiments.design import Rung, Trunk, scaled_rates, trunk_campaign
from tenfold.train.identity import identify

RATE_FACTORS = (0.5, 1.0, 2.0, 4.0)
TRANSFER_SIZES = 2


@dataclass(frozen=True)
class RungResult:
    """A finished rung. `holdouts` maps names to bits per byte; `parameters` counts those that multiply a token."""

    size: str
    seed: int
    rate_factor: float
    parameters: int
    tokens: int
    compute: float
    budget: float
    steps: int
    batch_tokens: int
    learning_rate: float
    holdouts: dict[str, float]
    fingerprint: str
    trunk_fingerprint: str
    weights_digest: str
    seconds: float
    """Of the cool-down alone."""
    trunk_seconds: float


@dataclass(frozen=True)
class Task:
    """A trunk and its cool-downs under one campaign."""

    trunk: Trunk
    campaign: Campaign
    """The target's, with the seed, the learning rates and the changes of this task."""
    rate_factor: float
    folder: Path

    @classmethod
    def of(cls, root: Path, trunk: Trunk, campaign: Campaign, manifest: str, rate_factor: float = 1.0) -> Self:
        """The task's folder is named by what its results are a function of: the same run is never made twice."""
        scaled = scaled_rates(campaign, rate_factor)
        recipe = identify(trunk_campaign(scaled, trunk), manifest, {}).digested_config
        cooled = [campaign.train.schedule.final, campaign.evaluate.stride]  # rungs depend on them, the trunk does not
        key = hashlib.sha256(json.dumps([recipe, manifest, cooled], sort_keys=True).encode()).hexdigest()[:12]
        return cls(trunk, scaled, rate_factor, root / f"{trunk.name}-{key}")

    def result_file(self, rung: Rung) -> Path:
        """Where the result of a rung lies once it is finished."""
        return self.folder / f"{rung_name(rung)}.json"

    def result(self, rung: Rung) -> RungResult | None:
        """The finished rung, if it is."""
        recorded = read_json(self.result_file(rung))
        try:
            return RungResult(**recorded) if recorded else None
        except TypeError:
            return None  # written by an older tenfold

    @property
    def results(self) -> list[RungResult]:
        """The rungs that are finished."""
        return [result for rung in self.trunk.rungs if (result := self.result(rung)) is not None]

    @property
    def divergence_file(self) -> Path:
        """Where it is written that the task diverged."""
        return self.folder / "diverged.json"

    @property
    def divergence(self) -> str | None:
        """Why there is no result where the loss became infinite: trained again it would end the same."""
        recorded = read_json(self.divergence_file)
        return str(recorded["why"]) if recorded else None

    @property
    def is_done(self) -> bool:
        """Whether all rungs are finished, or never will be."""
        return len(self.results) == len(self.trunk.rungs) or self.divergence is not None

    @property
    def flops_done(self) -> float:
        """FLOP of the finished rungs; the trunk counts with the longest."""
        done = {result.steps for result in self.results}
        steps = sum(rung.steps - rung.constant_steps for rung in self.trunk.rungs if rung.steps in done)
        steps += max((rung.constant_steps for rung in self.trunk.rungs if rung.steps in done), default=0)
        return self.trunk.flops_per_token * self.trunk.batch_tokens * steps

    def to_dict(self) -> dict[str, Any]:
        """As JSON values."""
        trunk = {**asdict(replace(self.trunk, rungs=())), "rungs": [asdict(rung) for rung in self.trunk.rungs]}
        trunk["model"] = self.trunk.model.model_dump(mode="json")
        campaign = self.campaign.model_dump(mode="json", exclude_unset=True)
        return {"trunk": trunk, "campaign": campaign, "rate_factor": self.rate_factor, "folder": str(self.folder)}

    @classmethod
    def from_dict(cls, record: dict[str, Any]) -> Self:
        """Back from `to_dict`."""
        campaign = Campaign.model_validate(record["campaign"])
        fields = record["trunk"] | {"rungs": tuple(Rung(**rung) for rung in record["trunk"]["rungs"])}
        trunk = Trunk(**fields | {"model": campaign.model.model_validate(record["trunk"]["model"])})
        return cls(trunk, campaign, record["rate_factor"], Path(record["folder"]))


def rung_name(rung: Rung) -> str:
    """Name of a rung's files: its length and where it leaves the trunk."""
    return f"rung-{rung.steps:08d}-{rung.constant_steps:08d}"


def ladder_tasks(root: Path, trunks: Sequence[Trunk], campaign: Campaign, manifest: str) -> list[Task]:
    """One for each trunk."""
    return [Task.of(root, trunk, campaign, manifest) for trunk in trunks]


def transfer_tasks(root: Path, trunks: Sequence[Trunk], campaign: Campaign, manifest: str) -> list[Task]:
    """The two smallest sizes at other learning rates, the middle rung alone; the given rate is the ladder's own."""
    alone = [replace(trunk, rungs=(middle_rung(trunk),)) for trunk in trunks[:TRANSFER_SIZES]]
    others = [factor for factor in RATE_FACTORS if factor != 1.0]
    return [Task.of(root, trunk, campaign, manifest, factor) for trunk in alone for factor in others]


def refuse_divergence(tasks: Sequence[Task]) -> None:
    """Raises InputError when a task met a loss that is not finite."""
    for task in tasks:
        if task.divergence is not None:
            raise InputError(
                f"ladder: {task.divergence}; lower train.optimizer's learning rates, set ladder.sizes = 0, or delete "
                f"{task.folder} to try again"
            )


def middle_rung(trunk: Trunk) -> Rung:
    """The rung that learning rates are compared at."""
    return trunk.rungs[(len(trunk.rungs) - 1) // 2]
