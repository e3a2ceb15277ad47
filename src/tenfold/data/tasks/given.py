"""First of all: a look at the sources; then the evaluation sets that are given, and tenfold's own source, as part 0."""

import sys

from tenfold.data.clean import Funnel, Mended, Reject, reject_line
from tenfold.data.holdouts import read_sets
from tenfold.data.survey import survey, survey_holdouts
from tenfold.data.tasks.job import BuildJob, Result
from tenfold.data.tasks.read import PartWriter
from tenfold.data.tasks.tables import write_rows


def read_given(job: BuildJob, _: int) -> Result:
    """Lay them down as one part, numbered from 0 on, before any training text."""
    funnel, rejects = Funnel(), list[bytes]()
    for file in survey(job.sources, job.base):
        funnel.count(file)
        rejects.append(reject_line(file))

    def note(found: Reject | Mended) -> None:
        rejects.append(reject_line(found))
        if isinstance(found, Mended):
            funnel.count(found)
            return
        funnel.holdout_rejected[found.reason] = funnel.holdout_rejected.get(found.reason, 0) + 1

    for file in survey_holdouts(job.data.holdouts, job.base):
        note(file)
    writer = PartWriter(job.store, "documents/given", sys.maxsize, job.bounds)
    sets = read_sets(job.data.holdouts, job.base, job.plan.seed, job.data.read, writer.append, note)
    write_rows(job.store, "rejects/given", rejects)
    writer.flush()
    return {"parts": writer.parts, "sets": [each.to_dict() for each in sets], "funnel": funnel.to_dict()}
