"""Trials: a model, a batch and some devices, with the fastest layouts that the search found for them."""

import math
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np

from tenfold.core.errors import InputError
from tenfold.planner.codesign.terms import Terms
from tenfold.planner.cost.shape import Shape
from tenfold.planner.hardware import Cluster, Site
from tenfold.planner.search import Choice, Found, Question, search_layouts

TOP = 5
HALVINGS = 3
"""Parts of a cluster that are tried where money counts: the whole, a half, a quarter, an eighth."""
Told = Callable[[int, int], None]
"""Searches done, and how many there will be at most."""


@dataclass(frozen=True)
class Trial:
    """One of them, and what its search found."""

    question: Question
    found: Found

    @property
    def shape(self) -> Shape:
        """The model."""
        return self.question.shape

    @property
    def cluster(self) -> Cluster:
        """The devices in use."""
        return self.question.cluster

    @property
    def best(self) -> Choice:
        """The fastest layout."""
        return self.found.best[0]

    @property
    def batch_tokens(self) -> float:
        """Tokens of one step."""
        return self.question.tokens


@dataclass
class Laboratory:
    """Runs trials and remembers them."""

    terms: Terms
    most: int
    told: Told
    done: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    """Why models were left out, in short."""
    reasons: dict[str, str] = field(default_factory=dict)
    """One of the messages behind each."""
    known: dict[tuple[Shape, int, str], Trial | None] = field(default_factory=dict)

    @property
    def exhausted(self) -> bool:
        """Whether all searches that are allowed were made."""
        return self.done >= self.most

    def trial(self, shape: Shape, sequences: int, cluster: Cluster) -> Trial | None:
        """The fastest layouts; None where nothing fits."""
        key = (shape, sequences, repr(cluster))
        if key not in self.known:
            self.known[key] = self._search(shape, sequences, cluster)
            self.done += 1
            self.told(self.done, max(self.most, self.done))
        return self.known[key]

    def leave_out(self, reason: str) -> None:
        """Note why a model was not tried or has no layout."""
        short = reason.partition(":")[0]
        self.refused[short] += 1
        self.reasons.setdefault(short, reason)

    def _search(self, shape: Shape, sequences: int, cluster: Cluster) -> Trial | None:
        goal = self.terms.goal
        question = Question(shape, cluster, sequences, precision=goal.precision, framework=goal.framework)
        try:
            return Trial(question, search_layouts(question, self.terms.calibrated, top=TOP))
        except InputError as error:
            self.leave_out(str(error))
            return None


def parts(cluster: Cluster) -> list[Cluster]:
    """The whole, and halves of it down to an eighth as long as they are whole hosts. Several sites stay together."""
    found = [cluster]
    for _ in range(HALVINGS):
        half = found[-1].devices // 2
        if len(cluster.sites) > 1 or found[-1].devices % 2 or half % cluster.node_devices:
            break
        found.append(_part(cluster, half))
    return found


def part_with(cluster: Cluster, devices: int) -> Cluster:
    """The one of `parts` that has so many devices."""
    return next(part for part in parts(cluster) if part.devices == devices)


def _part(cluster: Cluster, devices: int) -> Cluster:
    inside = [tier for tier in cluster.tiers if tier.devices < devices]
    around = cluster.tiers[len(inside)]
    return replace(
        cluster,
        devices=devices,
        tiers=(*inside, replace(around, devices=devices)),
        sites=(Site(cluster.sites[0].name, devices),),
        storage_bandwidth=cluster.storage_bandwidth * devices / cluster.devices,
    )


def batch_sizes(target: float, context: float, cluster: Cluster, doublings: int) -> list[int]:
    """Sequences of one step around `target` tokens: powers of two times what devices and sites share out."""
    base = math.lcm(_odd_part(cluster.devices), len(cluster.sites))
    exponent = round(np.log2(max(target / context / base, 1.0)))
    return [base * 2 ** max(exponent + shift, 0) for shift in range(-doublings, doublings + 1) if exponent + shift >= 0]


def _odd_part(number: int) -> int:
    return number // (number & -number)
