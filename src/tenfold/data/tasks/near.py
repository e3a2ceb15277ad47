"""Stages that find near-duplicates: a signature for each document, bands merged over all parts, clusters."""

import numpy as np

from tenfold.data.clean import Funnel, Reject, reject_line
from tenfold.data.duplicates import (
    PERMUTATIONS,
    Signatures,
    band_hashes,
    representatives,
    shingles_of,
    signature,
    similar_pairs,
    without_frames,
)
from tenfold.data.tasks.beat import worked_off
from tenfold.data.tasks.job import BuildJob, DocumentPart, Result
from tenfold.data.tasks.read import COPY_COLUMNS, draw_rows
from tenfold.data.tasks.tables import (
    Integers,
    Keys,
    group_starts,
    read_array,
    read_bucket,
    write_array,
    write_rows,
    write_run,
)
from tenfold.data.words import hash_words

FRAMES = "frames.npy"
"""Shingles that many documents have."""
ROW_BYTES = 4 * PERMUTATIONS


def copies_in(job: BuildJob, number: int) -> Keys:
    """(number, number of the first) of each document of a part that is the copy of another one."""
    names = [f"copies/{bucket:06d}" for bucket in range(job.plan.buckets)]
    return read_bucket(job.store, names, number, len(job.parts), COPY_COLUMNS)


def signatures(job: BuildJob, number: int) -> Result:
    """Signatures of one part's documents and a run of their bands; exact copies are left out and noted."""
    part, funnel = job.parts[number], Funnel()
    pairs = copies_in(job, number)
    copied = set(pairs[:, 0].tolist())
    if number:  # part 0 is held out
        _note_copies(job, part, number, pairs, funnel)
    if number and any(holdout.kind == "split" for holdout in job.data.holdouts):
        _write_draws(job, part, number, copied)
    if (threshold := job.data.isolation.near_duplicate) < 1:
        values = np.zeros((part.count, PERMUTATIONS), dtype=np.uint32)
        signed = np.zeros(part.count, dtype=bool)
        frames = read_array(job.store, FRAMES)
        for place, text in enumerate(job.texts(part)):
            worked_off(len(text))
            if part.first + place not in copied:
                shingles = without_frames(shingles_of(hash_words(text.decode())), frames)
                signed[place] = shingles.size > 0
                values[place] = signature(shingles)
        job.store.write(f"signatures/{number:06d}", values.tobytes())
        hashes = band_hashes(values[signed], threshold)
        numbers = np.repeat(np.flatnonzero(signed) + part.first, hashes.shape[1]).astype(np.uint64)
        write_run(job.store, f"signatures/{number:06d}.bands", np.column_stack([hashes.ravel(), numbers]), job.bounds)
    return {"funnel": funnel.to_dict()}


def _write_draws(job: BuildJob, part: DocumentPart, number: int, copied: set[int]) -> None:
    """What the split holdouts are chosen by."""
    texts, numbers = [], []
    for own, text in enumerate(job.texts(part), start=part.first):
        if own not in copied:
            texts.append(text)
            numbers.append(own)
    write_run(job.store, f"signatures/{number:06d}.draws", draw_rows(job.plan.seed, texts, numbers), job.bounds)


def _note_copies(job: BuildJob, part: DocumentPart, number: int, pairs: Keys, funnel: Funnel) -> None:
    sizes, where, firsts = job.texts(part).sizes, job.where(part), job.wheres(pairs[:, 1].tolist())
    rejects = []
    for own, first in pairs.tolist():
        place = own - part.first
        size = int(sizes[place])
        funnel.exact_duplicates += 1
        funnel.exact_duplicates_bytes += size
        rejects.append(reject_line(Reject(part.source, where[place].decode(), "exact-duplicate", firsts[first], size)))
    write_rows(job.store, f"rejects/copies-{number:06d}", rejects)


def bands(job: BuildJob, bucket: int) -> Result:
    """Pairs of near-duplicates among the documents that share a band of this bucket."""
    names = [f"signatures/{number:06d}.bands" for number in range(len(job.parts))]
    rows = read_bucket(job.store, names, bucket, job.plan.buckets, 2)
    starts, numbers = group_starts(rows[:, 0]), rows[:, 1].astype(np.int64)
    del rows
    found = list(
        similar_pairs(starts, numbers, lambda wanted: _signatures_of(job, wanted), job.data.isolation.near_duplicate)
    )
    pairs = np.unique(np.sort(np.concatenate([np.empty((0, 2), dtype=np.int64), *found]), axis=1), axis=0)
    write_array(job.store, f"bands/{bucket:06d}.npy", pairs)
    return {"pairs": len(pairs)}


def _signatures_of(job: BuildJob, numbers: Integers) -> Signatures:
    """Signatures of any documents, [documents, PERMUTATIONS]; of each part only the stretch that is needed is read."""
    found = np.empty((numbers.size, PERMUTATIONS), dtype=np.uint32)
    owners = np.searchsorted(job.part_starts, numbers, side="right") - 1
    for owner in np.unique(owners).tolist():
        mine = owners == owner
        places = numbers[mine] - job.parts[owner].first
        low, high = int(places.min()), int(places.max())
        content = job.store.read_range(f"signatures/{owner:06d}", low * ROW_BYTES, (high + 1 - low) * ROW_BYTES)
        found[mine] = np.frombuffer(content, dtype=np.uint32).reshape(-1, PERMUTATIONS)[places - low]
    return found


def clusters(job: BuildJob, _: int) -> Result:
    """Which documents are near-duplicates of an earlier one, directly or through others.

    Memory grows with the number of near-duplicates, by 130 bytes for each pair; with other documents not at all.
    """
    empty = np.empty((0, 2), dtype=np.int64)
    if job.data.isolation.near_duplicate < 1:
        read = [read_array(job.store, f"bands/{bucket:06d}.npy") for bucket in range(job.plan.buckets)]
        found = representatives(np.concatenate([empty, *read]))
    else:
        found = empty  # equal texts are removed before, by their hash
    write_run(job.store, "clusters/members", found.astype(np.uint64), job.part_bounds)
    return {"members": len(found)}


def members_in(job: BuildJob, number: int) -> Keys:
    """(number, number of the first of its cluster) of each document of a part that is not that first one."""
    return read_bucket(job.store, ["clusters/members"], number, len(job.parts), 2)
