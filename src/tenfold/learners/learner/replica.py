"""One incarnation of a learner, as far as its weights depend on it: the same classes train and replay.

Every inner step's change is sent exactly once. At any time

    here = base + pending + unsent

with `base` the global version last merged, `pending` the pseudo-gradients that were sent and are in no merged version
yet, and `unsent` the rest: what was trained since, and what rounding left out of earlier ones. A new version replaces
base and drops from pending what it contains; unsent is kept, so nothing trained while waiting is lost (Streaming
DiLoCo's overlap, arXiv 2501.18512, section 3.2, without its mixing factor).
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from tenfold.config import Precision
from tenfold.learners.messages import Contributed, Contribution, Lease, Merged, Published
from tenfold.learners.outer import Fragment, decode, encode
from tenfold.train import NOBODY, Learner, Observers, StepMeasure, execute

OFF_COURSE = 0.02  # of the run: a lease that is further from the truth is corrected


class FragmentReplica:
    """One fragment, or this rank's part of it, at a learner."""

    def __init__(self, fragment: Fragment, parts: Sequence[Tensor], precision: Precision) -> None:
        """`parts`: the memory of its parameters, in the fragment's order. Begins at what they hold, as version 0."""
        self.fragment, self._parts, self._precision = fragment, parts, precision
        self.version, self.joined_version, self.base = 0, 0, self.here()
        self.sequence = 0
        self._pending: dict[int, Tensor] = {}

    def here(self) -> Tensor:
        """The parameters as they are: float32, one vector."""
        return torch.cat([part.reshape(-1) for part in self._parts]).float()

    def adopt(self, version: int, values: Tensor) -> None:
        """Be at a global version, and owe nothing."""
        self.version = self.joined_version = version
        self.base, self._pending = values.to(self.base.device), {}
        self._write(self.base)

    def contribute(self) -> bytes:
        """The pseudo-gradient: what is unsent, encoded; from now on it is pending under the present `sequence`."""
        unsent = self.here() - self.base - self._sum_pending()
        data = encode(unsent, self._precision)
        self._pending[self.sequence] = decode(data, unsent.numel(), self._precision).to(unsent.device)
        self.sequence += 1
        return data

    def merge(self, version: int, values: Tensor, contained: Collection[int]) -> None:
        """Go on from a newer global version that contains these of the sequences sent."""
        unsent = self.here() - self.base - self._sum_pending()
        self._pending = {sequence: sent for sequence, sent in self._pending.items() if sequence not in contained}
        self.version, self.base = version, values.to(self.base.device)
        self._write(self.base + self._sum_pending() + unsent)

    def drop_unsent(self) -> None:
        """Forget what was trained and is not sent."""
        self._write(self.base + self._sum_pending())

    @property
    def is_finite(self) -> bool:
        """Whether every parameter is a number."""
        return all(bool(torch.isfinite(part).all()) for part in self._parts)

    @property
    def awaits_merge(self) -> bool:
        """Whether something sent is in no version merged here."""
        return bool(self._pending)

    def _sum_pending(self) -> Tensor:
        total = torch.zeros_like(self.base)
        for sequence in sorted(self._pending):
            total += self._pending[sequence]
        return total

    def _write(self, values: Tensor) -> None:
        with torch.no_grad():
            taken = 0
            for part in self._parts:
                part.copy_(values[taken : taken + part.numel()].view_as(part))
                taken += part.numel()


@dataclass(frozen=True)
class InnerStep:
    """One inner step: which samples, and where the learning-rate schedule stands (in samples of the whole run)."""

    first_sample: int
    samples: int
    position: int
    lease: int = 0
    """Number of the lease it is part of."""
    stride: int = 1
    """By how many samples of the run the position moves with each sample of that lease."""


def inner_steps_of(lease: Lease, batch: int) -> list[InnerStep]:
    """The inner steps of a lease. The position moves `stride` samples for each: others train at the same time."""
    return [
        InnerStep(
            lease.first_sample + done,
            min(batch, lease.samples - done),
            lease.position + done * lease.stride,
            lease.number,
            lease.stride,
        )
        for done in range(0, lease.samples, batch)
    ]


@dataclass
class Replica:
    """Steps, merges and contributions since the learner joined. `rank` of `ranks` is this process in its learner."""

    number: int
    fragments: Sequence[FragmentReplica]
    inner_steps: int
    precision: Precision
    total: int
    """Samples of the whole run."""
    rank: int = 0
    ranks: int = 1
    step: int = 0
    history: list[Merged | Contributed] = field(default_factory=list)
    """Merges and contributions that the syncer has not acknowledged yet."""
    _tokens: list[int] = field(default_factory=list)
    _seen: Published | None = None
    """The furthest version merged since the last step."""
    _lease: int = 0
    _moved: int = 0
    """How far the run was found to be from where the present lease says, samples."""

    def __post_init__(self) -> None:
        self._tokens = [0] * len(self.fragments)

    def placed(self, step: InnerStep) -> InnerStep:
        """The step at its place in the learning-rate schedule: where its lease says, or where the run really is.

        A lease tells where the run will be if nothing changes, for up to a minute. When learners come or go meanwhile,
        the versions that are merged tell better. Alone there is nothing to learn from them, and they lag behind.
        """
        if step.lease != self._lease:
            self._lease, self._moved = step.lease, 0
        seen, self._seen = self._seen, None
        if seen is not None and seen.done is not None and not (seen.learners <= 1 and step.stride == 1):
            off = seen.done - (step.position + self._moved)
            if abs(off) > self.total * OFF_COURSE:
                self._moved += off
        return replace(step, position=max(0, min(step.position + self._moved, self.total - 1)))

    def trained(self, tokens: int) -> None:
        """One inner step on this many tokens is done."""
        self.step += 1
        self._tokens = [before + tokens for before in self._tokens]

    def due(self) -> list[int]:
        """Fragments to contribute after this step: each every `inner_steps`, spread evenly between."""
        count = len(self.fragments)
        return [f for f in range(count) if (self.step + f * self.inner_steps // count) % self.inner_steps == 0]

    def unsent(self) -> list[int]:
        """Fragments with steps that no contribution stands for yet."""
        return [index for index, tokens in enumerate(self._tokens) if tokens]

    def contribute(self, index: int) -> tuple[Contribution, bytes]:
        """Cut off the pseudo-gradient of a fragment: what to say about it, and its bytes."""
        fragment = self.fragments[index]
        contribution = Contribution(
            incarnation=self.number,
            fragment=index,
            sequence=fragment.sequence,
            base_version=fragment.version,
            joined_version=fragment.joined_version,
            step=self.step,
            tokens=self._tokens[index],
            history=tuple(self.history),
            precision=self.precision,
            rank=self.rank,
            ranks=self.ranks,
        )
        self._tokens[index] = 0
        self.history.append(contribution.as_history)
        return contribution, fragment.contribute()

    def merge(self, index: int, version: int, values: Tensor, contained: Collection[int], published: Published) -> None:
        """A newer version of a fragment, before the next step."""
        self.fragments[index].merge(version, values, contained)
        if self._seen is None or published.order > self._seen.order:
            self._seen = published
        self.history.append(Merged(self.step, index, version))

    def acknowledged(self, contribution: Contribution) -> None:
        """The syncer keeps a contribution and the history that came with it."""
        known = {*contribution.history, contribution.as_history}
        self.history = [entry for entry in self.history if entry not in known]


def inner_step(learner: Learner, step: InnerStep, observers: Observers = NOBODY) -> StepMeasure:
    """Train on the samples of a step. The learning rate follows the step's position in the whole run."""
    return execute(learner, learner.batch(step.first_sample, step.samples, step.position), observers)
