"""Which documents of a build in progress are held out: those scored, and those only kept out of training."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tenfold.config import Holdout
from tenfold.data.duplicates import Clusters
from tenfold.data.holdouts import HeldOut, choose_split, project_texts, read_holdout
from tenfold.data.records import Reject
from tenfold.data.store import DocumentStore

OWN_SOURCE = "tenfold's own source"


@dataclass(frozen=True)
class HeldOutSet:
    """Numbers of one holdout's documents in the store. `kind` is None for text that is no holdout."""

    name: str
    kind: str | None
    scored: list[int]
    rest: list[int]

    @property
    def numbers(self) -> list[int]:
        """All of them."""
        return self.scored + self.rest

    @property
    def rest_file(self) -> str:
        """Where the rest is stored; a holdout's name has no dot, so these are nobody else's."""
        return f"holdouts/{self.name}.rest.bin" if self.kind else "holdouts/tenfold.source.bin"


def read_sets(
    holdouts: Sequence[Holdout], base: Path, seed: int, store: DocumentStore, reject: Callable[[Reject], None]
) -> list[HeldOutSet]:
    """Lay the given evaluation sets, and tenfold's own source, into the store, before any training text."""

    def lay(name: str, documents: Sequence[HeldOut]) -> list[int]:
        return [store.append(name, document.where, document.text) for document in documents]

    sets = []
    for holdout in holdouts:
        if holdout.kind != "split":
            given = read_holdout(holdout, base, seed, reject)
            sets.append(
                HeldOutSet(holdout.name, holdout.kind, lay(holdout.name, given.scored), lay(holdout.name, given.rest))
            )
    if not any(holdout.kind == "tenfold-source" for holdout in holdouts):
        sets.append(HeldOutSet(OWN_SOURCE, None, [], lay(OWN_SOURCE, project_texts())))
    return sets


def split_sets(
    holdouts: Sequence[Holdout], given: Sequence[HeldOutSet], store: DocumentStore, clusters: Clusters, seed: int
) -> list[HeldOutSet]:
    """All holdouts in the order of the configuration, the splits chosen; what is no holdout comes last."""
    by_name = {each.name: each for each in given if each.kind}
    taken = {number for each in given for number in each.numbers}
    sets = []
    for holdout in holdouts:
        if holdout.kind == "split":
            chosen = choose_split(holdout, store, clusters, taken, seed)
            taken.update(chosen)
            by_name[holdout.name] = HeldOutSet(holdout.name, holdout.kind, chosen, [])
        sets.append(by_name[holdout.name])
    return [*sets, *(each for each in given if not each.kind)]
