"""The stage that finds what many documents begin, end or go on with: it makes no two of them near-duplicates."""

import numpy as np

from tenfold.data.duplicates import shingles_of
from tenfold.data.tasks.job import BuildJob, Result
from tenfold.data.tasks.keep import texts_of
from tenfold.data.tasks.near import FRAMES, copies_in
from tenfold.data.tasks.tables import write_array
from tenfold.data.words import hash_words

SAMPLE = 1000  # documents
FRAME_SHARE = 0.1
FRAME_DOCUMENTS = 10


def find_frames(job: BuildJob, _: int) -> Result:
    """Shingles of more than a tenth, and more than ten, of documents evenly chosen from the training text."""
    first = job.parts[0].after
    numbers = np.arange(first, job.documents, max(1, (job.documents - first) // SAMPLE))
    copies = [copies_in(job, number)[:, 0] for number in range(len(job.parts))]
    chosen = numbers[~np.isin(numbers, np.concatenate(copies))].tolist()
    each = [shingles_of(hash_words(text)) for text in texts_of(job, chosen)]
    shingles, counts = np.unique(np.concatenate([np.empty(0, dtype=np.uint64), *each]), return_counts=True)
    frames = shingles[counts > max(FRAME_DOCUMENTS, FRAME_SHARE * len(chosen))]
    write_array(job.store, FRAMES, frames)
    return {"frames": int(frames.size)}
