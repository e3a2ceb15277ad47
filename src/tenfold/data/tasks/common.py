"""Stages that find what holdouts have in common with many training documents: counts of each part, and their sum."""

from collections.abc import Iterator
from functools import lru_cache

import numpy as np

from tenfold.data.frequency import Frequencies, HeldOutDocument, Windows, common_windows
from tenfold.data.holdouts import HeldOutSet
from tenfold.data.isolation import HeldOutText
from tenfold.data.manifest import COMMON_DTYPE
from tenfold.data.tasks.beat import worked_off
from tenfold.data.tasks.job import BuildJob, Result
from tenfold.data.tasks.near import copies_in, members_in
from tenfold.data.tasks.tables import Integers, Rows, read_array, write_array
from tenfold.data.words import hash_words

HELD_OUT = "held_out"
"""Rows of all held-out text: what is scored, then what is only kept out."""
COMMON = "common.npy"
PLACES = "common.places.npy"


@lru_cache(maxsize=1)
def windows_of(job: BuildJob) -> Windows:
    """Runs of all held-out text, as this process looks for them."""
    sets = [HeldOutSet(**each) for each in job.result("sets", 0)["sets"]]
    given = [each.kind != "split" for each in sets for _ in each.scored] + [True for each in sets for _ in each.rest]
    texts = zip(Rows(job.store, HELD_OUT), given, strict=True)
    return Windows([HeldOutDocument(hash_words(text.decode()), own) for text, own in texts], job.data.isolation.ngram)


def count(job: BuildJob, number: int) -> Result:
    """In how many of one part's documents each window stands; copies and what is held out are not counted."""
    windows = windows_of(job)
    found = Frequencies.of(windows, (windows.found(hash_words(text)) for text in _wanted(job, number)))
    write_array(job.store, f"counts/{number:06d}.npy", found.counts.astype(np.int32))
    return {"documents": found.documents}


def _wanted(job: BuildJob, number: int) -> Iterator[str]:
    """Texts of one part that are to be trained on, as far as they are not decontaminated yet."""
    part = job.parts[number]
    held = {held for each in job.result("sets", 0)["sets"] for held in (*each["scored"], *each["rest"])}
    dropped = held | set(copies_in(job, number)[:, 0].tolist()) | set(members_in(job, number)[:, 0].tolist())
    for own, content in enumerate(job.texts(part), start=part.first):
        worked_off(len(content))
        if own not in dropped:
            yield content.decode()


def find_common(job: BuildJob, _: int) -> Result:
    """Which windows are common in all parts together, and where they stand first."""
    windows = windows_of(job)
    training = Frequencies(np.zeros(len(windows), dtype=np.int64), 0)
    for number, result in job.training_results("count").items():
        counts: Integers = read_array(job.store, f"counts/{number:06d}.npy").astype(np.int64)
        training += Frequencies(counts, result["documents"])
    common = common_windows(windows, training)
    write_array(job.store, COMMON, common)
    write_array(job.store, PLACES, windows.places_of(common).astype(COMMON_DTYPE))
    return {"windows": int(common.sum()), "documents": training.documents}


@lru_cache(maxsize=1)
def held_out_text(job: BuildJob) -> HeldOutText:
    """All held-out text, as this process looks for it."""
    return HeldOutText(windows_of(job), read_array(job.store, COMMON))
