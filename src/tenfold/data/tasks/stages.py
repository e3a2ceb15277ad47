"""Every kind of task by its name, and how one is done: here, in another process or on another machine."""

import time
from collections.abc import Callable
from typing import Any

from tenfold.data.tasks.beat import Beat, beating, no_beat
from tenfold.data.tasks.common import count, find_common
from tenfold.data.tasks.frames import find_frames
from tenfold.data.tasks.given import read_given
from tenfold.data.tasks.job import BuildJob, Spent, open_job
from tenfold.data.tasks.keep import choose_sets, keep
from tenfold.data.tasks.near import bands, clusters, signatures
from tenfold.data.tasks.read import copies, read
from tenfold.data.tasks.write import plan_shards, tokenise, train_tokenizer, write_shard

STAGES: dict[str, Callable[[BuildJob, int], dict[str, Any]]] = {
    "given": read_given,
    "read": read,
    "copies": copies,
    "frames": find_frames,
    "signatures": signatures,
    "bands": bands,
    "clusters": clusters,
    "sets": choose_sets,
    "count": count,
    "common": find_common,
    "keep": keep,
    "tokenizer": train_tokenizer,
    "tokenise": tokenise,
    "layout": plan_shards,
    "shards": write_shard,
}


def run_task(address: str, token: str, stage: str, number: int, beat: Beat = no_beat) -> None:
    """Do one task of the build that lies at `address`. Doing it again gives the same files.

    `beat` is told now and then how many bytes are worked off.
    """
    job = open_job(address, token)
    began, used = time.monotonic(), time.process_time()
    with beating(beat):
        result = STAGES[stage](job, number)
    job.finish(stage, number, result, Spent(time.monotonic() - began, time.process_time() - used))
