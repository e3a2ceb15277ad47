"""A finished run again, from its merge log alone: the same weights, bit for bit.

The log says which samples each incarnation trained on, which versions it merged before which step, what it sent after
which step, and which contributions made each version with which weights. Everything else is computed again.
"""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tenfold.core import InputError, Progress, ProgressLines, TenfoldError, digest_of_bytes
from tenfold.data import Workspace
from tenfold.learners.learner.replica import FragmentReplica, InnerStep, Replica, inner_step, inner_steps_of
from tenfold.learners.messages import Contributed, Contribution, Lease, Merged, history_from
from tenfold.learners.outer import Fragment, FragmentState, decode, digest_of_values, vector_of
from tenfold.learners.record.log import RunLog
from tenfold.learners.settings import fragments_of, outer_optimizer, sharing_machine
from tenfold.learners.syncer.membership import Incarnation
from tenfold.learners.syncer.store import StoredContribution
from tenfold.train import Learner, Ranks, build_learner, choose_device, weights_digest

Report = Callable[[Progress], None]


@dataclass(frozen=True)
class Replayed:
    """What replay found: the digest of all weights, and how much was compared on the way."""

    weights_digest: str
    versions: int
    contributions: int
    incarnations: int


@dataclass
class _Actor:
    """One incarnation of the log on its way through its steps."""

    logged: Incarnation
    orders: Sequence[InnerStep]
    events: Mapping[int, list["_Event"]]
    last_step: int
    snapshots_at: set[int]
    replica: Replica | None = None
    state: dict[str, Tensor] = field(default_factory=dict)
    snapshots: dict[int, dict[str, Tensor]] = field(default_factory=dict)
    ahead: list["_Event"] = field(default_factory=list)
    """What is still to happen at the present step."""

    @property
    def is_done(self) -> bool:
        """Whether nothing in the log depends on a later step."""
        return self.replica is not None and self.replica.step >= self.last_step and not self.ahead


@dataclass(frozen=True, order=True)
class _Event:
    """A merge (`place` 0) of a version, or a contribution (1) on top of it, to one fragment at one step.

    At the same step a contribution from base b comes after the merge of b and before that of any later version.
    """

    fragment: int
    version: int
    place: int
    sequence: int = -1


class Replay:
    """Works through a merge log; compares with the log whatever the log has a digest of."""

    def __init__(self, learner: Learner, log: RunLog, report: Report) -> None:
        self._learner, self._log, self._report = learner, log, report
        self._fragments: list[Fragment] = fragments_of(learner.campaign, learner.model)
        self._parameters = {name: p.detach() for name, p in learner.model.named_parameters()}
        self._initial_moments = _copies(learner.optimizers.state_tensors())
        self._outer = outer_optimizer(learner.campaign)
        self._states: dict[int, FragmentState] = {}
        self._values: dict[tuple[int, int], Tensor] = {}
        self._pseudo_gradients: dict[tuple[int, int, int], Tensor] = {}
        self._made_of: dict[tuple[int, int], list[StoredContribution]] = defaultdict(list)
        self._logged: dict[tuple[int, int, int], StoredContribution] = {}
        self._present: _Actor | None = None
        self._compared = 0

    def run(self) -> Replayed:
        """Raises TenfoldError where something comes out differently or the log has a gap, naming the place."""
        contributions = self._log.contributions()
        self._refuse_several_ranks()
        for each in contributions:
            c = each.what
            self._logged[c.incarnation, c.fragment, c.sequence] = each
            if each.version is not None:
                self._made_of[c.fragment, each.version].append(each)
        for fragment in self._fragments:
            self._keep(fragment.index, FragmentState.first(vector_of(self._parameters, fragment)))
        actors = self._actors(contributions)
        self._act(actors)
        self._check_complete()
        for fragment in self._fragments:
            local = FragmentReplica(fragment, [self._parameters[n] for n in fragment.names], self._outer.precision)
            local.adopt(self._states[fragment.index].version, self._states[fragment.index].values)
        digest = weights_digest({f"model/{name}": tensor for name, tensor in self._parameters.items()})
        versions = sum(state.version for state in self._states.values())
        return Replayed(digest, versions, self._compared, len(actors))

    def _refuse_several_ranks(self) -> None:
        for incarnation in self._log.incarnations():
            if (ranks := (incarnation.origin or {}).get("ranks", 1)) > 1:
                raise InputError(
                    f"{incarnation.name} trained on {ranks} ranks, which add up gradients in another order than one: "
                    "only a run whose learners all have one rank can be replayed bit for bit"
                )

    # The cast

    def _actors(self, contributions: Sequence[StoredContribution]) -> dict[int, _Actor]:
        incarnations = {each.number: each for each in self._log.incarnations() if each.origin is not None}
        histories: dict[int, set[Merged | Contributed]] = defaultdict(set)
        ends: dict[int, int] = defaultdict(int)
        wanted: dict[int, set[int]] = defaultdict(set)
        events: dict[int, dict[int, set[_Event]]] = defaultdict(lambda: defaultdict(set))
        for each in contributions:
            c = each.what
            histories[c.incarnation] |= {*c.history, c.as_history}
            ends[c.incarnation] = max(ends[c.incarnation], c.step)
        # An incarnation matters if it contributed, or if one that matters goes on from it.
        for number in sorted(incarnations, reverse=True):
            origin = incarnations[number].origin
            if origin and number in ends and origin["life"] is not None:
                source = int(origin["life"])
                wanted[source].add(int(origin["step"]))
                ends[source] = max(ends[source], int(origin["step"]))
                histories[source] |= set(history_from(origin["history"]))
        for number, history in histories.items():
            for entry in history:
                events[number][entry.step].add(_event(entry))
        return {
            number: _Actor(
                logged=incarnations[number],
                orders=_orders(self._log.leases(number), incarnations[number].batch),
                events={step: sorted(found) for step, found in events[number].items()},
                last_step=last,
                snapshots_at=wanted[number],
            )
            for number, last in sorted(ends.items())
        }

    # The play

    def _act(self, actors: dict[int, _Actor]) -> None:
        total = sum(actor.last_step for actor in actors.values())
        while unfinished := [actor for actor in actors.values() if not actor.is_done]:
            moved = [self._advance(actor, actors) for actor in unfinished]
            self._make_versions()
            done = sum(actor.replica.step for actor in actors.values() if actor.replica)
            self._report(Progress("inner steps again", done, total, "steps"))
            if not any(moved):
                waiting = unfinished[0]
                raise TenfoldError(
                    f"the merge log has a gap: incarnation {waiting.logged.number} cannot go on at step "
                    f"{waiting.replica.step if waiting.replica else 0}"
                )

    def _advance(self, actor: _Actor, actors: Mapping[int, _Actor]) -> bool:
        """As far as it can go without a version or an incarnation that is not computed yet; whether it went at all."""
        if actor.replica is None and not self._begin(actor, actors):
            return False
        self._enter(actor)
        moved = False
        replica = actor.replica
        assert replica is not None
        while True:
            if replica.step in actor.snapshots_at and replica.step not in actor.snapshots:
                actor.snapshots[replica.step] = _copies(self._learner.optimizers.state_tensors())
            before = len(actor.ahead)
            actor.ahead = self._let_happen(actor.ahead, replica)
            moved |= len(actor.ahead) < before
            if actor.ahead or replica.step >= actor.last_step:
                return moved
            if replica.step >= len(actor.orders):
                raise TenfoldError(
                    f"the merge log has a gap: incarnation {replica.number} has no lease for step {replica.step}"
                )
            order = replica.placed(actor.orders[replica.step])
            inner_step(self._learner, order)
            replica.trained(order.samples * self._learner.plan.context)
            actor.ahead, moved = list(actor.events.get(replica.step, [])), True

    def _let_happen(self, events: Sequence[_Event], replica: Replica) -> list[_Event]:
        """What cannot happen yet, of events at one step.

        Those of one fragment wait for each other, those of different fragments do not: a learner that stands still, as
        at the end of a run, may merge a version of one that could only be made after what it sends of another.
        """
        left: list[_Event] = []
        for event in events:
            waits = any(event.fragment == earlier.fragment for earlier in left)
            if waits or not self._happen(event, replica):
                left.append(event)
        return left

    def _begin(self, actor: _Actor, actors: Mapping[int, _Actor]) -> bool:
        """Its start, when what it starts from is there."""
        origin: dict[str, Any] = actor.logged.origin or {}
        versions = {int(index): int(version) for index, version in origin["versions"].items()}
        if any((index, version) not in self._values for index, version in versions.items()):
            return False
        moments = self._initial_moments
        if origin["life"] is not None:
            source = actors[int(origin["life"])]
            if int(origin["step"]) not in source.snapshots:
                return False
            moments = source.snapshots[int(origin["step"])]
        self._leave()
        settings = self._learner.campaign.learners
        local = [
            FragmentReplica(f, [self._parameters[name] for name in f.names], settings.precision)
            for f in self._fragments
        ]
        for fragment in local:
            version = versions[fragment.fragment.index]
            fragment.adopt(version, self._values[fragment.fragment.index, version])
        _fill(self._learner.optimizers.state_tensors(), moments)
        total = self._log.total_samples()
        actor.replica = Replica(actor.logged.number, local, settings.inner_steps, settings.precision, total)
        actor.ahead = list(actor.events.get(0, []))
        self._present = actor
        return True

    def _happen(self, event: _Event, replica: Replica) -> bool:
        """A merge or a contribution; False when the version is not computed yet."""
        if event.place == 1:
            self._contribute(event, replica)
            return True
        values = self._values.get((event.fragment, event.version))
        if values is None:
            return False
        if replica.fragments[event.fragment].version < event.version:
            contained = {
                sequence
                for (number, fragment, sequence), each in self._logged.items()
                if number == replica.number
                and fragment == event.fragment
                and each.version is not None
                and each.version <= event.version
            }
            replica.merge(
                event.fragment, event.version, values, contained, self._log.published(event.fragment, event.version)
            )
        return True

    def _contribute(self, event: _Event, replica: Replica) -> None:
        """Cut off what was sent, which rounds; one that was never accepted goes nowhere."""
        contribution, data = replica.contribute(event.fragment)
        logged = self._logged.get((replica.number, event.fragment, event.sequence))
        if logged is None:
            return
        self._compare(contribution, data, logged)
        size = self._fragments[event.fragment].size
        pseudo_gradient = decode(data, size, self._outer.precision)
        self._pseudo_gradients[replica.number, event.fragment, event.sequence] = pseudo_gradient

    def _compare(self, contribution: Contribution, data: bytes, logged: StoredContribution) -> None:
        self._compared += 1
        same = contribution.sequence == logged.what.sequence and contribution.tokens == logged.what.tokens
        if not same or digest_of_bytes(data) != logged.sha256:
            raise TenfoldError(
                f"incarnation {contribution.incarnation}, step {contribution.step}: contribution "
                f"{contribution.sequence} to fragment {contribution.fragment} is not as in the merge log"
            )

    def _make_versions(self) -> None:
        """Every version whose contributions are there, in order."""
        for fragment in self._fragments:
            while True:
                state = self._states[fragment.index]
                made_of = self._made_of.get((fragment.index, state.version + 1))
                keys = [(e.what.incarnation, e.what.fragment, e.what.sequence) for e in made_of or []]
                if not keys or any(key not in self._pseudo_gradients for key in keys):
                    break
                pseudo_gradients = [
                    (each.weight or 0.0, self._pseudo_gradients.pop(k))
                    for each, k in zip(made_of or [], keys, strict=True)
                ]
                self._keep(fragment.index, self._outer.step(state, pseudo_gradients)[0])

    def _keep(self, index: int, state: FragmentState) -> None:
        digest = self._log.values_digest(index, state.version)
        if digest != digest_of_values(state.values):
            raise TenfoldError(f"fragment {index}, version {state.version} comes out differently than in the merge log")
        self._states[index] = state
        self._values[index, state.version] = state.values

    def _check_complete(self) -> None:
        for fragment in self._fragments:
            newest, reached = self._log.newest_version(fragment.index), self._states[fragment.index].version
            if newest != reached:
                raise TenfoldError(f"fragment {fragment.index}: replay reached version {reached}, the log has {newest}")

    # One learner plays all incarnations

    def _enter(self, actor: _Actor) -> None:
        if self._present is actor:
            return
        self._leave()
        _fill(self._learner.state_tensors(), actor.state)
        self._present = actor

    def _leave(self) -> None:
        if self._present is not None:
            self._present.state = _copies(self._learner.state_tensors())
        self._present = None


def _event(entry: Merged | Contributed) -> _Event:
    if isinstance(entry, Contributed):
        return _Event(entry.fragment, entry.version, 1, entry.sequence)
    return _Event(entry.fragment, entry.version, 0)


def _orders(leases: Sequence[Lease], batch: int) -> list[InnerStep]:
    return [order for lease in leases for order in inner_steps_of(lease, batch)]


def _copies(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.detach().clone() for name, tensor in tensors.items()}


def _fill(into: Mapping[str, Tensor], tensors: Mapping[str, Tensor]) -> None:
    with torch.no_grad():
        for name, tensor in tensors.items():
            into[name].copy_(tensor)


def replay_folder(learner: Learner, folder: Path, report: Report) -> Replayed:
    """Replay the run whose log is in `folder`."""
    with RunLog.opened(folder) as log:
        return Replay(learner, log, report).run()


def replay(workspace: Workspace) -> Replayed:
    """Execute the finished run of a campaign again from its merge log."""
    campaign, files = workspace.campaign, workspace.files
    ranks = sharing_machine(campaign, Ranks(0, 1, choose_device(campaign.train.device)))
    learner = build_learner(campaign, files.data, workspace.manifest, ranks)
    return replay_folder(learner, files.learners, ProgressLines(workspace.console, "replay"))
