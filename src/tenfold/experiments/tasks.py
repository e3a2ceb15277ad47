"""What there is to train for a ladder, where its results lie, and whether the best learning rate transfers.

A task is a trunk with its cool-downs, kept in a folder named after everything its result depends on.

A ladder rests on the best learning rate of the smallest size staying the best one at the next. CompleteP promises it
(Dey et al., arXiv 2505.01618). Several rates at each of the two smallest sizes place each optimum by a parabola in the
logarithm of the rate; between them they must not move by more than the grid is coarse.
"""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Self

import numpy as np

from tenfold.config import Campaign
from tenfold.core import InputError, digest_of, read_json
from tenfold.experiments.design import Rung, Trunk, scaled_rates, trunk_campaign
from tenfold.train import identify

RATE_FACTORS = (0.5, 1.0, 2.0, 4.0)
TRANSFER_SIZES = 2
LARGEST_MOVE = 2.0  # ratio of the optima, in learning rate
FLAT = 0.002  # relative difference of losses between which rates count as equally good


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
    """Seconds of the cool-down alone."""
    trunk_seconds: float


@dataclass(frozen=True)
class TrunkTask:
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
        cooled = [campaign.train.schedule.final, campaign.digested_stride]  # rungs depend on them, the trunk does not
        key = digest_of([recipe, manifest, cooled])[:12]
        return cls(trunk, scaled, rate_factor, root / f"{trunk.name}-{key}")

    def result_file(self, rung: Rung) -> Path:
        """Path of a rung's result, there once it is finished."""
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
        """Path of the note that the task diverged."""
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
        """JSON values of the task, for a worker process."""
        trunk = {**asdict(replace(self.trunk, rungs=())), "rungs": [asdict(rung) for rung in self.trunk.rungs]}
        trunk["model"] = self.trunk.model.model_dump(mode="json")
        elsewhere = {"checkpoint": {"url", "endpoint_url"}}  # not where a trunk saves, and a URL may hold a password
        campaign = self.campaign.model_dump(mode="json", exclude_unset=True, exclude=elsewhere)
        return {"trunk": trunk, "campaign": campaign, "rate_factor": self.rate_factor, "folder": str(self.folder)}

    @classmethod
    def from_dict(cls, record: dict[str, Any]) -> Self:
        """Read what `to_dict` wrote."""
        campaign = Campaign.model_validate(record["campaign"])
        fields = record["trunk"] | {"rungs": tuple(Rung(**rung) for rung in record["trunk"]["rungs"])}
        trunk = Trunk(**fields | {"model": campaign.model.model_validate(record["trunk"]["model"])})
        return cls(trunk, campaign, record["rate_factor"], Path(record["folder"]))


def rung_name(rung: Rung) -> str:
    """Name of a rung's files: its length and where it leaves the trunk."""
    return f"rung-{rung.steps:08d}-{rung.constant_steps:08d}"


def ladder_tasks(root: Path, trunks: Sequence[Trunk], campaign: Campaign, manifest: str) -> list[TrunkTask]:
    """One for each trunk."""
    return [TrunkTask.of(root, trunk, campaign, manifest) for trunk in trunks]


def transfer_tasks(root: Path, trunks: Sequence[Trunk], campaign: Campaign, manifest: str) -> list[TrunkTask]:
    """The two smallest sizes at other learning rates, the middle rung alone; the given rate is the ladder's own."""
    alone = [replace(trunk, rungs=(middle_rung(trunk),)) for trunk in trunks[:TRANSFER_SIZES]]
    others = [factor for factor in RATE_FACTORS if factor != 1.0]
    return [TrunkTask.of(root, trunk, campaign, manifest, factor) for trunk in alone for factor in others]


def refuse_divergence(tasks: Sequence[TrunkTask]) -> None:
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


@dataclass(frozen=True)
class RateSweep:
    """Bits per byte of one size at several factors on the campaign's learning rates, and where the best one lies."""

    size: str
    factors: list[float]
    losses: list[float]
    optimum: float

    @property
    def is_bracketed(self) -> bool:
        """Whether rates on both sides of the best one are worse."""
        return self.losses.index(min(self.losses)) not in (0, len(self.losses) - 1)


@dataclass(frozen=True)
class TransferCheck:
    """`moved` is the ratio of the larger size's optimum to the smaller one's."""

    sizes: list[RateSweep]
    moved: float
    holds: bool
    text: str


def check_transfer(
    trunks: Sequence[Trunk], ladder: Sequence[TrunkTask], others: Sequence[TrunkTask]
) -> TransferCheck | None:
    """Compare the optima; None when no other rates were tried."""
    sweeps = [sweep for trunk in trunks if (sweep := _sweep(trunk, [*ladder, *others])) is not None]
    if len(sweeps) < 2:
        return None
    small, large = sweeps[:2]
    moved = large.optimum / small.optimum
    # Where the campaign's own rate is as good as the best at both sizes, it does not matter where each optimum lies.
    good_at_both = all(sweep.losses[sweep.factors.index(1.0)] <= min(sweep.losses) * (1 + FLAT) for sweep in sweeps[:2])
    bracketed = all(sweep.is_bracketed for sweep in sweeps[:2])
    holds = good_at_both or (bracketed and 1 / LARGEST_MOVE <= moved <= LARGEST_MOVE)
    text = (
        f"best learning rate: {small.optimum:.2g}x the campaign's at {small.size}, {large.optimum:.2g}x at "
        f"{large.size}: {_verdict(holds, bracketed)}"
    )
    return TransferCheck(sweeps[:2], moved, holds, text)


def _verdict(holds: bool, bracketed: bool) -> str:
    if holds:
        return "it transfers"
    if not bracketed:
        return "the rates tried do not bracket it, so nothing is known of transfer; move train.optimizer's rates there"
    return "it does not transfer, so larger runs may be mistuned and miss the forecast"


def _sweep(trunk: Trunk, tasks: Sequence[TrunkTask]) -> RateSweep | None:
    middle = middle_rung(trunk)
    mine = [task for task in tasks if task.trunk.name == trunk.name]
    found = {task.rate_factor: loss for task in mine if (loss := _loss(task, middle)) is not None}
    if len(found) < len(RATE_FACTORS):
        return None
    factors = sorted(found)
    losses = [found[factor] for factor in factors]
    return RateSweep(trunk.name, factors, losses, best_factor(factors, losses))


def _loss(task: TrunkTask, rung: Rung) -> float | None:
    """Bits per byte of the first holdout; infinite where the rate was too high to train."""
    if task.divergence is not None:
        return math.inf
    result = task.result(rung)
    return next(iter(result.holdouts.values())) if result and result.holdouts else None


def best_factor(factors: Sequence[float], losses: Sequence[float]) -> float:
    """Minimum of a parabola through the best point and its neighbours; the edge of the grid where there is none."""
    best = int(np.argmin(losses))
    if best in (0, len(factors) - 1) or not np.isfinite(losses[best + 1]):
        return float(factors[best])
    x = np.log(factors[best - 1 : best + 2])
    curve = np.polynomial.Polynomial.fit(x, losses[best - 1 : best + 2], 2).convert()
    _, slope, bend = map(float, curve.coef)
    # Where the middle is lowest the vertex lies between the midpoints; losses alike to the last digit say nothing more.
    vertex = -slope / (2 * bend) if bend > 0 else x[1]
    return math.exp(float(np.clip(vertex, (x[0] + x[1]) / 2, (x[1] + x[2]) / 2)))
