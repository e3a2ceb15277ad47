"""One life of a learner, as far as its weights depend on it: the same class trains and replays."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

from torch import Tensor

from tenfold.cluster.learner.local import LocalFragment
from tenfold.cluster.records import Contributed, Contribution, Merged
from tenfold.config.cluster import Precision


@dataclass
class Life:
    """Steps, merges and contributions since the learner joined. `rank` of `ranks` is this process in its learner."""

    number: int
    fragments: Sequence[LocalFragment]
    inner_steps: int
    precision: Precision
    rank: int = 0
    ranks: int = 1
    step: int = 0
    history: list[Merged | Contributed] = field(default_factory=list)
    """Merges and contributions that the syncer has not acknowledged yet."""
    _tokens: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._tokens = [0] * len(self.fragments)

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

    def merge(self, index: int, version: int, values: Tensor, contained: Collection[int]) -> None:
        """A newer version of a fragment, before the next step."""
        self.fragments[index].merge(version, values, contained)
        self.history.append(Merged(self.step, index, version))

    def acknowledged(self, contribution: Contribution) -> None:
        """The syncer keeps a contribution and the history that came with it."""
        known = {*contribution.history, contribution.as_history}
        self.history = [entry for entry in self.history if entry not in known]
