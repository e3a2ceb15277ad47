"""Was every sample trained exactly once? Told from the merge logs alone, without any of tenfold's code.

    python benchmarks/chaos/check_log.py CAMPAIGN/learners

What a life trained is worked out anew: its leases, cut into steps of its batch, as far as the furthest step that any
contribution accepted by any shard stands for. Then: every sample of the run is in exactly one such step; the log says
the same of every lease; every contribution is in exactly one version; the tokens of a life's contributions to a
fragment are those of the steps they stand for. Exit status 1, and one line for each, where something is wrong.
"""

import json
import sqlite3
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path


def rows(path: Path, sql: str) -> list[tuple[int, ...]]:
    """Read only."""
    with closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)) as log:
        return log.execute(sql).fetchall()


class Log:
    """Everything the checks need, as plain numbers."""

    def __init__(self, folder: Path) -> None:
        coordinator = folder / "coordinator.sqlite"
        shards = sorted(folder.glob("shard-*/merge-log.sqlite"))
        if not coordinator.exists() or not shards:
            sys.exit(f"error: {folder}: no merge log here; give the folder `learners` of a campaign")
        self.total = rows(coordinator, "SELECT total FROM sample_order")[0][0]
        self.batch = dict(rows(coordinator, "SELECT number, batch FROM lives"))
        self.leases = rows(coordinator, "SELECT life, first_sample, samples, committed FROM leases ORDER BY number")
        sql = "SELECT life, fragment, step, tokens, version FROM contributions WHERE rank = 0"
        self.contributions = [row for shard in shards for row in rows(shard, sql)]
        self.versions = [row for shard in shards for row in rows(shard, "SELECT fragment, version FROM versions")]

    def steps_of(self, life: int) -> list[tuple[int, int]]:
        """(first sample, samples) of every step that the leases of a life make."""
        batch = self.batch[life]
        return [
            (first + done, min(batch, samples - done))
            for owner, first, samples, _ in self.leases
            if owner == life
            for done in range(0, samples, batch)
        ]

    def reached(self) -> dict[int, dict[int, int]]:
        """Life → fragment → furthest step of its contributions."""
        furthest: dict[int, dict[int, int]] = defaultdict(dict)
        for life, fragment, step, _, _ in self.contributions:
            furthest[life][fragment] = max(step, furthest[life].get(fragment, 0))
        return furthest


def wrong(log: Log) -> Iterator[str]:
    """One line for each thing that is not as it must be."""
    reached = {life: max(fragments.values()) for life, fragments in log.reached().items()}
    trained: Counter[int] = Counter()
    for life in log.batch:
        steps = log.steps_of(life)[: reached.get(life, 0)]
        trained.update(sample for first, samples in steps for sample in range(first, first + samples))
        said = sum(committed or 0 for owner, _, _, committed in log.leases if owner == life)
        if said != sum(samples for _, samples in steps):
            yield f"life {life}: the log says {said} samples count, its contributions say otherwise"
    missing = [sample for sample in range(log.total) if sample not in trained]
    twice = [sample for sample, times in trained.items() if times > 1]
    if missing:
        yield f"{len(missing)} samples were never trained, the first {missing[0]}"
    if twice:
        yield f"{len(twice)} samples were trained more than once, the first {min(twice)}"
    if beyond := [sample for sample in trained if sample >= log.total]:
        yield f"{len(beyond)} samples beyond the run's {log.total}"
    yield from wrong_merges(log)
    yield from wrong_tokens(log)


def wrong_merges(log: Log) -> Iterator[str]:
    """Contributions left out, and versions out of order."""
    if left := sum(version is None for *_, version in log.contributions):
        yield f"{left} accepted contributions are in no version"
    for fragment in {fragment for fragment, _ in log.versions}:
        numbers = sorted(version for f, version in log.versions if f == fragment)
        if numbers != list(range(len(numbers))):
            yield f"fragment {fragment}: versions are missing or double"


def wrong_tokens(log: Log) -> Iterator[str]:
    """Contributions that stand for other tokens than those of their steps."""
    sums: dict[tuple[int, int], int] = defaultdict(int)
    for life, fragment, _, tokens, _ in log.contributions:
        sums[life, fragment] += tokens
    per_sample = {
        tokens / sum(samples for _, samples in log.steps_of(life)[: log.reached()[life][fragment]])
        for (life, fragment), tokens in sums.items()
    }
    if len(per_sample) > 1:
        yield f"contributions stand for {sorted(per_sample)} tokens a sample"


def summary(log: Log) -> dict[str, int]:
    """How much there was to check."""
    reached = log.reached()
    behind = sum(max(f.values()) - step for f in reached.values() for step in f.values())
    return {
        "samples": log.total,
        "lives": len(log.batch),
        "contributions": len(log.contributions),
        "steps_missing_in_single_fragments": behind,
    }


def main() -> None:
    """Prints one JSON object when all is well."""
    if len(sys.argv) != 2:
        sys.exit("usage: python benchmarks/chaos/check_log.py CAMPAIGN/learners")
    log = Log(Path(sys.argv[1]))
    if found := list(wrong(log)):
        sys.exit("\n".join(found))
    print(json.dumps(summary(log)))


if __name__ == "__main__":
    main()
