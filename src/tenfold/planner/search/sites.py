"""Several sites, joined by a line that is thin beside what joins the devices of one."""

import numpy as np

from tenfold.errors import InputError
from tenfold.planner.cost.constants import Constants
from tenfold.planner.search.question import Question


def synchronous_seconds(question: Question, constants: Constants) -> float:
    """What one step waits for gradients summed over the sites at every step (plain data parallelism); 0 with one site.

    Each site sends and receives 2 (n − 1) / n of the gradients: its share of a reduce-scatter and of an all-gather.
    """
    if question.sites == 1:
        return 0.0
    wide = question.cluster.wide
    if wide is None or wide.bandwidth <= 0:
        raise InputError(f"{question.cluster.name}: several sites need a bandwidth between them")
    volume = float(question.shape.parameters) * question.gradient_bytes
    moved = 2 * volume * (1 - 1 / question.sites)
    seconds = moved / (wide.bandwidth * float(constants.network_efficiency)) + 2 * wide.latency
    return float(np.minimum(constants.data_exposed, 1.0)) * seconds
