"""Stages that decide what is trained on: the split holdouts drawn, copies dropped, held-out text taken out."""

from collections.abc import Iterator, Sequence
from functools import lru_cache

import numpy as np

from tenfold.config import Holdout
from tenfold.core import InputError
from tenfold.data.clean import Funnel, Reject, reject_line
from tenfold.data.holdouts import HeldOutSet
from tenfold.data.isolation import decontaminate
from tenfold.data.tasks.beat import worked_off
from tenfold.data.tasks.common import HELD_OUT, held_out_text
from tenfold.data.tasks.job import BuildJob, DocumentPart, Result
from tenfold.data.tasks.near import copies_in, members_in
from tenfold.data.tasks.read import DRAW_COLUMNS, draw_rows
from tenfold.data.tasks.tables import Integers, Keys, Rows, read_bucket, write_rows, write_run
from tenfold.data.words import hash_words


def choose_sets(job: BuildJob, _: int) -> Result:
    """All holdouts in the order of the configuration, the splits chosen; what is no holdout comes last."""
    given = [HeldOutSet(**each) for each in job.result("given", 0)["sets"]]
    by_name = {each.name: each for each in given if each.kind}
    taken: list[int] = []
    sets = []
    for holdout in job.data.holdouts:
        if holdout.kind == "split":
            chosen = _choose_split(job, holdout, taken)
            taken += chosen
            by_name[holdout.name] = HeldOutSet(holdout.name, holdout.kind, chosen, [])
        sets.append(by_name[holdout.name])
    sets += [each for each in given if not each.kind]
    numbers = [number for each in sets for number in each.scored] + [number for each in sets for number in each.rest]
    write_rows(job.store, HELD_OUT, [text.encode() for text in texts_of(job, numbers)])
    return {"sets": [each.to_dict() for each in sets]}


def texts_of(job: BuildJob, numbers: Sequence[int]) -> Iterator[str]:
    """Text of any documents, in the order asked for."""
    opened: dict[int, Rows] = {}
    for number in numbers:
        owner = int(np.searchsorted(job.part_starts, number, side="right")) - 1
        if owner not in opened:
            opened = {0: opened[0]} if 0 in opened else {}
            opened[owner] = job.texts(job.parts[owner])
        yield opened[owner][number - job.parts[owner].first].decode()


def _choose_split(job: BuildJob, holdout: Holdout, taken: Sequence[int]) -> list[int]:
    """First documents of the clusters to hold out, `fraction` of all, at most `max_bytes` but at least one.

    Raises InputError when the corpus is too small to hold out anything.
    """
    count = sum(len(_draws(job, bucket, taken)) for bucket in range(job.plan.buckets))
    wanted = max(1, round(holdout.fraction * count))
    chosen: list[int] = []
    left, first = holdout.max_bytes, -1
    for bucket in range(job.plan.buckets):
        rows = _draws(job, bucket, taken)
        if rows.size and first < 0:
            first = int(rows[0, 2])
        if len(chosen) < wanted and (left or not holdout.max_bytes):
            places = up_to(rows[:, 1].astype(np.int64), left if holdout.max_bytes else -1)[: wanted - len(chosen)]
            chosen += rows[places, 2].tolist()
            left -= int(rows[places, 1].sum()) if holdout.max_bytes else 0
    chosen = chosen or [first][:count]
    if not chosen or len(chosen) == count:
        raise InputError(
            f"holdout {holdout.name!r}: {count} distinct documents are too few to hold out "
            f"{holdout.fraction:.1%}{_copies_said(job, count + len(taken))}; give more text"
        )
    return sorted(chosen)


def _copies_said(job: BuildJob, distinct: int) -> str:
    """What became of the other documents that were read, where there are any."""
    read = job.documents - (job.parts[1].first if len(job.parts) > 1 else job.documents)
    if read == distinct:
        return ""
    return f" ({read - distinct} of the {read} read are copies of one another, or of text that is kept out)"


def _draws(job: BuildJob, bucket: int, taken: Sequence[int]) -> Keys:
    """Rows of (draw, bytes, number) of documents that could be held out, in the order of their draw."""
    names = [f"signatures/{number:06d}.draws" for number in range(1, len(job.parts))]
    rows = read_bucket(job.store, names, bucket, job.plan.buckets, DRAW_COLUMNS)
    return rows[~np.isin(rows[:, 2], np.asarray(taken, dtype=np.uint64)) & ~np.isin(rows[:, 2], _members(job))]


@lru_cache(maxsize=1)
def _members(job: BuildJob) -> Keys:
    """Numbers of all documents that are near-duplicates of an earlier one."""
    found = [members_in(job, number)[:, 0] for number in range(len(job.parts))]
    return np.concatenate(found)


def up_to(sizes: Integers, limit: int) -> Integers:
    """Places of those that fit into `limit` (-1: all) one after the other: one that does not fit is passed over."""
    places = np.arange(sizes.size)
    if limit < 0:
        return places
    found = [places[:0]]
    while places.size:
        places = places[sizes[places] <= limit]
        ends = np.cumsum(sizes[places])
        count = int(np.searchsorted(ends, limit, side="right"))
        found.append(places[:count])
        limit -= int(ends[count - 1]) if count else 0
        places = places[count:]
    return np.concatenate(found)


def keep(job: BuildJob, number: int) -> Result:
    """Of one part's documents: one of each cluster, none of a cluster that is held out, and of these what the holdouts
    do not have."""
    part = job.parts[number]
    return _Keeper(job, part, number).run()


class _Keeper:
    """One part while it is gone through."""

    def __init__(self, job: BuildJob, part: DocumentPart, number: int) -> None:
        self._job, self._part, self._number = job, part, number
        sets = [HeldOutSet(**each) for each in job.result("sets", 0)["sets"]]
        self._holdout_of = {held: each.name for each in sets for held in each.numbers}
        self._first_of: dict[int, int] = dict(members_in(job, number).tolist())
        self._copies = set(copies_in(job, number)[:, 0].tolist())
        duplicated = {first for first in self._first_of.values() if first not in self._holdout_of}
        self._where_of = job.wheres(sorted(duplicated))
        self._where = [where.decode() for where in job.where(part)]
        self._least = job.data.clean.min_bytes
        self._pieces: list[bytes] = []
        self._rejects: list[bytes] = []
        self._funnel = Funnel()

    def run(self) -> Result:
        """All documents in order."""
        for place, content in enumerate(self._job.texts(self._part)):
            number = self._part.first + place
            worked_off(len(content))
            if number not in self._copies and self._is_wanted(number, place, len(content)):
                self._decontaminate(place, content)
        job, name = self._job, f"pieces/{self._number:06d}"
        write_rows(job.store, name, self._pieces)
        write_rows(job.store, f"rejects/keep-{self._number:06d}", self._rejects)
        if job.data.tokenizer.path is None:
            draws = draw_rows(job.plan.seed, self._pieces, range(len(self._pieces)))
            write_run(job.store, f"{name}.draws", draws, job.bounds)
        return {"funnel": self._funnel.to_dict(), "pieces": len(self._pieces), "bytes": sum(map(len, self._pieces))}

    def _is_wanted(self, number: int, place: int, size: int) -> bool:
        first = self._first_of.get(number, number)
        if first in self._holdout_of:
            self._funnel.held_out += 1
            self._funnel.held_out_bytes += size
            if number not in self._holdout_of:
                self._reject(place, size, "near-copy-of-holdout", self._holdout_of[first])
        elif first != number:
            self._funnel.near_duplicates += 1
            self._funnel.near_duplicates_bytes += size
            self._reject(place, size, "near-duplicate", self._where_of[first])
        return first == number and first not in self._holdout_of

    def _reject(self, place: int, size: int, reason: str, detail: str = "") -> None:
        self._rejects.append(reject_line(Reject(self._part.source, self._where[place], reason, detail, size)))

    def _decontaminate(self, place: int, content: bytes) -> None:
        """Keep what the holdouts leave of a document."""
        text, size, funnel = content.decode(), len(content), self._funnel
        result = decontaminate(text, hash_words(text), held_out_text(self._job), min(size, self._least))
        pieces = [piece.encode() for piece in result.pieces]
        left = sum(map(len, pieces))
        funnel.contaminated += result.touched
        funnel.contaminated_bytes += size - left
        if not pieces:
            funnel.dropped_after_decontamination += 1
            self._reject(place, size, "contaminated")
            return
        funnel.documents_kept += 1
        funnel.bytes_kept += left
        self._pieces += pieces
