"""The merge log of a run, to read: incarnations, leases, contributions, versions."""

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tenfold.config import Campaign
from tenfold.core import CampaignFiles, InputError, TenfoldError
from tenfold.data import Manifest
from tenfold.learners.messages import Lease, Published
from tenfold.learners.outer import FragmentState, cut_model
from tenfold.learners.syncer.membership import MEMBERSHIP_COLUMNS, Incarnation, incarnation_from_row
from tenfold.learners.syncer.store import (
    CONTRIBUTION_COLUMNS,
    StoredContribution,
    check_format,
    contribution_from_row,
    load_state,
)
from tenfold.model import Transformer

ATTEMPTS = 5


@dataclass(frozen=True)
class Sent:
    """Accepted contributions of one incarnation: how many, their bytes, versions they are in; `unmerged`: in none."""

    contributions: int
    bytes: int
    versions: int
    unmerged: int


class RunLog:
    """Reads the databases of a syncer without taking them over; a run may go on meanwhile."""

    def __init__(
        self, coordinator: sqlite3.Connection, shards: Sequence[sqlite3.Connection], folders: Sequence[Path]
    ) -> None:
        self._coordinator, self._shards, self._folders = coordinator, shards, folders

    @classmethod
    @contextmanager
    def opened(cls, folder: Path) -> Iterator["RunLog"]:
        """The log of the run in `folder`. Raises InputError when there is none."""
        paths = [folder / "coordinator.sqlite", *sorted(folder.glob("shard-*/merge-log.sqlite"))]
        if len(paths) < 2 or not paths[0].exists():
            raise InputError(f"{folder}: no merge log here; only a run with [learners] has one")
        connections = [sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True) for path in paths]
        try:
            for connection, path in zip(connections, paths, strict=True):
                check_format(connection, path)
            yield cls(connections[0], connections[1:], [path.parent for path in paths[1:]])
        finally:
            for connection in connections:
                connection.close()

    def incarnations(self) -> list[Incarnation]:
        """Every incarnation, oldest first."""
        return [
            incarnation_from_row(row)
            for row in self._coordinator.execute(f"SELECT {MEMBERSHIP_COLUMNS} FROM lives ORDER BY number")
        ]

    def leases(self, incarnation: int) -> list[Lease]:
        """An incarnation's leases in order of grant."""
        rows = self._coordinator.execute(
            "SELECT number, life, first_sample, samples, position, stride FROM leases WHERE life = ? ORDER BY number",
            (incarnation,),
        )
        return [Lease(*row) for row in rows]

    def committed(self) -> list[tuple[int, int, int, int]]:
        """(incarnation, first sample, samples granted, samples committed) of every lease of ended incarnations."""
        rows = self._coordinator.execute(
            "SELECT life, first_sample, samples, committed FROM leases WHERE committed IS NOT NULL ORDER BY number"
        )
        return [(int(incarnation), int(first), int(samples), int(done)) for incarnation, first, samples, done in rows]

    def total_samples(self) -> int:
        """Samples of the whole run."""
        return int(self._coordinator.execute("SELECT total FROM sample_order").fetchone()[0])

    def contributions(self) -> list[StoredContribution]:
        """Every accepted contribution; those of one version in the order they were added up."""
        rows = self._all(f"SELECT {CONTRIBUTION_COLUMNS} FROM contributions ORDER BY fragment, version, place")
        return [contribution_from_row(row) for row in rows]

    def refusals(self) -> list[tuple[int, str]]:
        """(incarnation, reason) of every quarantined contribution."""
        rows = self._all("SELECT life, reason FROM refusals ORDER BY id")
        return [(int(incarnation), str(reason)) for incarnation, reason in rows]

    def values_digest(self, fragment: int, version: int) -> str | None:
        """Digest of a version's values."""
        rows = self._all("SELECT values_sha256 FROM versions WHERE fragment = ? AND version = ?", (fragment, version))
        return str(rows[0][0]) if rows else None

    def published(self, fragment: int, version: int) -> Published:
        """What was known when a version was published. Raises IndexError when there was no such version."""
        rows = self._all("SELECT done, alive FROM versions WHERE fragment = ? AND version = ?", (fragment, version))
        return Published(*rows[0])

    def newest_version(self, fragment: int) -> int:
        """Number of the last version of a fragment."""
        return int(self._all("SELECT max(version) FROM versions WHERE fragment = ?", (fragment,))[0][0])

    def newest_state(self, fragment: int) -> FragmentState | None:
        """The newest version of a fragment; None before the first. Raises TenfoldError when its file is damaged."""
        for _ in range(ATTEMPTS - 1):
            with suppress(TenfoldError):  # two newer versions have come since the row was read, and the file is gone
                return self._newest_state(fragment)
        return self._newest_state(fragment)

    def _newest_state(self, fragment: int) -> FragmentState | None:
        sql = "SELECT version, generation, state_sha256 FROM versions WHERE fragment = ? ORDER BY version DESC LIMIT 1"
        for shard, folder in zip(self._shards, self._folders, strict=True):
            for version, generation, sha256 in shard.execute(sql, (fragment,)):
                return load_state(folder, fragment, version, generation, sha256)
        return None

    def participation(self) -> list[tuple[int, int, int, int, float]]:
        """(fragment, version, learners merged, learners alive, published at) of every version but the first."""
        rows = self._all(
            "SELECT fragment, version, learners, alive, published_at FROM versions WHERE version > 0 "
            "ORDER BY fragment, version"
        )
        return [(int(f), int(v), int(learners), int(alive), float(at)) for f, v, learners, alive, at in rows]

    def arrivals(self) -> list[tuple[float, int, int]]:
        """(seconds since the epoch, incarnation, tokens) of every contribution to the first fragment, in order."""
        rows = self._all(
            "SELECT arrived_at, life, tokens FROM contributions WHERE fragment = 0 AND rank = 0 ORDER BY id"
        )
        return [(float(at), int(incarnation), int(tokens)) for at, incarnation, tokens in rows]

    def sent(self) -> dict[int, Sent]:
        """What each incarnation sent that was accepted; incarnations that sent nothing are left out."""
        rows = self._all(
            "SELECT life, count(*), sum(bytes), count(DISTINCT fragment || '/' || version), "
            "count(*) - count(version) FROM contributions GROUP BY life"
        )
        found: dict[int, list[int]] = {}
        for incarnation, *figures in rows:  # a row from each shard
            found[incarnation] = [a + b for a, b in zip(found.get(incarnation, [0] * 4), figures, strict=True)]
        return {incarnation: Sent(*figures) for incarnation, figures in sorted(found.items())}

    def _all(self, sql: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """Rows of every shard that has any."""
        return [row for shard in self._shards for row in shard.execute(sql, values) if row != (None,)]


def published_weights(campaign: Campaign, manifest: Manifest, files: CampaignFiles) -> dict[str, Tensor]:
    """The newest version of every fragment, by parameter. Raises TenfoldError when one is missing or damaged."""
    with torch.device("meta"):  # only names and shapes are needed
        model = Transformer(campaign.model, manifest.vocab_size, torch.float32)
    parameters = dict(model.named_parameters())
    fragments = cut_model({name: list(p.shape) for name, p in parameters.items()}, campaign.learners.fragments)
    weights = {}
    with RunLog.opened(files.learners) as log:
        for fragment in fragments:
            state = log.newest_state(fragment.index)
            if state is None:
                raise TenfoldError(f"{files.learners}: no version of fragment {fragment.index}")
            parts = torch.split(state.values, list(fragment.sizes))
            for name, part in zip(fragment.names, parts, strict=True):
                weights[f"model/{name}"] = part.view_as(parameters[name]).clone()
    return weights
