"""One training run of several learners in one process, on a clock of its own: what it ends with, and how it merged.

    python benchmarks/quality/simulate.py CAMPAIGN [--learners 4] [--jitter 0.2] [--set learners.quorum=2] ...

Learners, pseudo-gradients, quantisation, weights, grace window and outer optimizer are the product's own; what is
simulated is time: a step of learner i takes its `pace` times one plus up to `jitter`, a message takes `delay`, both in
mean steps, and so is learners.grace. So participation can be set, and a run is a function of its seed. `--learners 0`
trains the plain loop's way.
"""

import argparse
import heapq
import json
import math
import random
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tenfold.config import Campaign, load_campaign
from tenfold.core.folder import CampaignFiles
from tenfold.data import load_holdout
from tenfold.data.workspace import verified_manifest
from tenfold.evaluate.holdouts import score
from tenfold.learners.learner.replica import FragmentReplica, InnerStep, Replica, inner_step
from tenfold.learners.messages import Contribution, Published
from tenfold.learners.outer import Fragment, FragmentState, OuterOptimizer, decode, vector_of
from tenfold.learners.settings import fragments_of, outer_optimizer
from tenfold.learners.syncer.merge_policy import AdaptiveGrace, ThroughputShares, merge_time
from tenfold.train.learner import Learner, build_learner
from tenfold.train.ranks import Ranks


@dataclass(frozen=True)
class Conditions:
    """What is simulated around the learners; times in mean inner steps."""

    learners: int
    jitter: float
    delay: float
    slowest: float
    """Pace of the last learner: 1 is as fast as the others."""
    seed: int


@dataclass
class _Actor:
    """One learner."""

    learner: Learner
    replica: Replica
    clock: random.Random
    pace: float


@dataclass
class _Sent:
    """A contribution on its way or waiting."""

    what: Contribution
    pseudo_gradient: Tensor
    version: int | None = None


@dataclass
class _HeldFragment:
    """The syncer's side of one fragment."""

    fragment: Fragment
    state: FragmentState
    grace: AdaptiveGrace
    waiting: list[_Sent] = field(default_factory=list)
    arrived: dict[int, float] = field(default_factory=dict)
    merged: list[_Sent] = field(default_factory=list)
    published: list[tuple[float, int, Tensor]] = field(default_factory=list)
    pace: ThroughputShares = field(default_factory=ThroughputShares)


class Simulation:
    """Events in the order of the simulated clock."""

    def __init__(self, campaign: Campaign, actors: list[_Actor], fragments: list[Fragment], conditions: Conditions):
        self._campaign, self._actors, self._conditions = campaign, actors, conditions
        self._outer: OuterOptimizer = outer_optimizer(campaign)
        weights = {name: p.detach() for name, p in actors[0].learner.model.named_parameters()}
        self._held = [
            _HeldFragment(f, FragmentState.first(vector_of(weights, f)), AdaptiveGrace(campaign.learners.grace))
            for f in fragments
        ]
        plan = actors[0].learner.plan
        self._total, self._given, self._batch = plan.steps * plan.sequences, 0, batch_samples(campaign)
        self._events: list[tuple[float, int, str, Any]] = []
        self._count = 0
        self._training = {actor.replica.number for actor in actors}
        self.participation: list[float] = []

    def run(self) -> None:
        """Until every sample is trained and merged."""
        for actor in self._actors:
            self._at(self._duration(actor), "step", actor)
        while self._events:
            now, _, kind, what = heapq.heappop(self._events)
            match kind:
                case "step":
                    self._step(now, what)
                case "arrival":
                    self._arrive(now, what)
                case _:
                    self._merge_if_due(now, what)
        for held in self._held:
            if held.waiting:
                self._merge(math.inf, held)

    def weights(self) -> Iterator[tuple[Fragment, Tensor]]:
        """The newest version of every fragment."""
        for held in self._held:
            yield held.fragment, held.state.values

    def _at(self, time: float, kind: str, what: Any) -> None:
        self._count += 1
        heapq.heappush(self._events, (time, self._count, kind, what))

    def _duration(self, actor: _Actor) -> float:
        return actor.pace * (1 + self._conditions.jitter * (actor.clock.random() - 0.5))

    def _step(self, now: float, actor: _Actor) -> None:
        """The step that ends now; what arrived while it ran is merged after it."""
        if not self._campaign.learners.overlap and any(f.awaits_merge for f in actor.replica.fragments):
            self._merge_arrived(now, actor)
            if any(f.awaits_merge for f in actor.replica.fragments):
                self._at(now + 0.05, "step", actor)  # waits, as a learner without overlap does
                return
        samples = min(self._batch, self._total - self._given)
        if not samples:
            self._training.discard(actor.replica.number)
            self._send(now, actor, actor.replica.unsent())
            for held in self._held:
                self._merge_if_due(now, held)
            return
        order = InnerStep(self._given, samples, self._given)
        self._given += samples
        if not inner_step(actor.learner, order).is_finite:
            raise SystemExit("the loss is not finite")
        actor.replica.trained(samples * actor.learner.plan.context)
        self._send(now, actor, actor.replica.due())
        self._merge_arrived(now, actor)
        self._at(now + self._duration(actor), "step", actor)

    def _send(self, now: float, actor: _Actor, indices: list[int]) -> None:
        for index in indices:
            contribution, data = actor.replica.contribute(index)
            pseudo_gradient = decode(data, self._held[index].fragment.size, self._outer.precision)
            self._at(now + self._conditions.delay, "arrival", _Sent(contribution, pseudo_gradient))

    def _merge_arrived(self, now: float, actor: _Actor) -> None:
        for index, held in enumerate(self._held):
            here = actor.replica.fragments[index]
            newer = [p for p in held.published if p[0] <= now and p[1] > here.version]
            if newer:
                _, version, values = newer[-1]
                own = {
                    s.what.sequence
                    for s in held.merged
                    if s.what.incarnation == actor.replica.number and (s.version or 0) <= version
                }
                actor.replica.merge(index, version, values, own, Published(self._given, len(self._training)))

    def _arrive(self, now: float, sent: _Sent) -> None:
        held = self._held[sent.what.fragment]
        held.waiting.append(sent)
        held.pace.note(sent.what.incarnation, now, sent.what.tokens)
        if sent.what.incarnation not in held.arrived:
            held.arrived[sent.what.incarnation] = now
            held.grace.arrived(sent.what.incarnation, now)
        self._merge_if_due(now, held)

    def _merge_if_due(self, now: float, held: _HeldFragment) -> None:
        due = merge_time(held.arrived, self._training, self._campaign.learners.quorum, held.grace)
        if math.isinf(due):
            return
        held.grace.quorum(max(held.arrived.values()))
        if due <= now:
            self._merge(now, held)
        else:
            self._at(due, "merge", held)

    def _merge(self, now: float, held: _HeldFragment) -> None:
        waiting = sorted(held.waiting, key=lambda sent: (sent.what.incarnation, sent.what.sequence))
        training = self._training | {sent.what.incarnation for sent in waiting}
        weights = [held.pace.share(sent.what.incarnation, training) for sent in waiting]
        if not self._campaign.learners.quorum:
            total = sum(sent.what.tokens for sent in waiting)
            weights = [sent.what.tokens / total for sent in waiting]
        pseudo_gradients = [(weight, sent.pseudo_gradient) for weight, sent in zip(weights, waiting, strict=True)]
        held.state, _ = self._outer.step(held.state, pseudo_gradients)
        for sent in waiting:
            sent.version = held.state.version
        if self._training:  # the last merges of a run say nothing about its participation
            self.participation.append(len({s.what.incarnation for s in waiting}) / self._conditions.learners)
        held.merged += [_Sent(s.what, torch.empty(0), s.version) for s in waiting]
        held.grace.merged([sent.what.incarnation for sent in waiting])
        held.waiting, held.arrived = [], {}
        held.published = [*held.published[-3:], (now + self._conditions.delay, held.state.version, held.state.values)]


def batch_samples(campaign: Campaign) -> int:
    """Samples of one inner step of one learner."""
    settings = campaign.learners
    tokens = settings.batch_tokens or campaign.train.batch_tokens // max(1, settings.count)
    return tokens // campaign.model.context


def simulate(
    campaign: Campaign, files: CampaignFiles, conditions: Conditions, weights_seed: int | None = None
) -> dict[str, Any]:
    """Train, score; bits per byte of each holdout. `weights_seed`: of weights and order, on the same corpus."""
    manifest = verified_manifest(campaign, files, hashes=False)
    if weights_seed is not None:
        campaign = campaign.model_copy(update={"seed": weights_seed})
    ranks = Ranks(0, 1, torch.device("cpu"))
    learners = [build_learner(campaign, files.data, manifest, ranks) for _ in range(max(1, conditions.learners))]
    participation = 1.0
    if conditions.learners:
        participation = _train_together(campaign, learners, conditions)
    else:
        _train_plainly(learners[0])
    model = learners[0].model
    scores = {
        h.name: score(model, campaign, manifest, load_holdout(files.data, manifest, h.name), ranks.device).bits_per_byte
        for h in manifest.holdouts
    }
    return {"bits_per_byte": scores, "participation": participation, **asdict(conditions)}


def _train_together(campaign: Campaign, learners: list[Learner], conditions: Conditions) -> float:
    fragments, settings = fragments_of(campaign, learners[0].model), campaign.learners
    actors = []
    for number, learner in enumerate(learners):
        parameters = {name: p.detach() for name, p in learner.model.named_parameters()}
        local = [FragmentReplica(f, [parameters[n] for n in f.names], settings.precision) for f in fragments]
        total = learner.plan.steps * learner.plan.sequences
        replica = Replica(number, local, settings.inner_steps, settings.precision, total)
        pace = conditions.slowest if number == len(learners) - 1 else 1.0
        actors.append(_Actor(learner, replica, random.Random(conditions.seed * 1000 + number), pace))
    simulation = Simulation(campaign, actors, fragments, conditions)
    simulation.run()
    parameters = {name: p.detach() for name, p in learners[0].model.named_parameters()}
    for fragment, values in simulation.weights():
        FragmentReplica(fragment, [parameters[n] for n in fragment.names], settings.precision).adopt(1, values)
    return sum(simulation.participation) / max(1, len(simulation.participation))


def _train_plainly(learner: Learner) -> None:
    plan = learner.plan
    for step in range(plan.steps):
        inner_step(learner, InnerStep(step * plan.sequences, plan.sequences, step * plan.sequences))


def main() -> None:
    """Prints one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0], allow_abbrev=False)
    parser.add_argument("campaign", type=Path)
    parser.add_argument("--learners", type=int, default=4)
    parser.add_argument("--jitter", type=float, default=0.2)
    parser.add_argument("--delay", type=float, default=0.5)
    parser.add_argument("--slowest", type=float, default=1.0)
    parser.add_argument("--seed", type=int, default=1, help="of the clock")
    parser.add_argument("--weights-seed", type=int, help="of weights and order of samples; default: the campaign's")
    parser.add_argument("--set", action="append", default=[], help="KEY=VALUE of the campaign, e.g. learners.quorum=4")
    arguments = parser.parse_args()
    overrides = [f"learners.count={arguments.learners}", "train.threads=1", *arguments.set]
    campaign = load_campaign(arguments.campaign, overrides)
    conditions = Conditions(arguments.learners, arguments.jitter, arguments.delay, arguments.slowest, arguments.seed)
    files = CampaignFiles(arguments.campaign)
    print(json.dumps(simulate(campaign, files, conditions, arguments.weights_seed)))


if __name__ == "__main__":
    main()
