"""One life of a learner, as far as its weights depend on it: the same class trains and replays."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace

from torch import Tensor

from tenfold.config.learners import Precision
from tenfold.learners.learner.local import LocalFragment
from tenfold.learners.learner.supply import Order
from tenfold.learners.records import Contributed, Contribution, Merged, Published

OFF_COURSE = 0.02  # of the run: a lease that is further from the truth is corrected


@dataclass
class Life:
    """Steps, merges and contributions since the learner joined. `rank` of `ranks` is this process in its learner."""

    number: int
    fragments: Sequence[LocalFragment]
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

    def placed(self, order: Order) -> Order:
        """The order at its place in the learning-rate schedule: where its lease says, or where the run really is.

        A lease tells where the run will be if nothing changes, for up to a minute. When learners come or go meanwhile,
        the versions that are merged tell better. Alone there is nothing to learn from them, and they lag behind.
        """
        if order.lease != self._lease:
            self._lease, self._moved = order.lease, 0
        seen, self._seen = self._seen, None
        if seen is not None and seen.done is not None and not (seen.learners <= 1 and order.stride == 1):
            off = seen.done - (order.position + self._moved)
            if abs(off) > self.total * OFF_COURSE:
                self._moved += off
        return replace(order, position=max(0, min(order.position + self._moved, self.total - 1)))

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
        """What to send of a fragment."""
        fragment = self.fragments[index]
        contribution = Contribution(
            life=self.number,
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
