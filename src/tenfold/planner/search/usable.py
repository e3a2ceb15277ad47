"""Layouts of a cluster that cannot use all its devices: 1,000 do not share out a batch of 512 sequences, 960 do."""

import math
from collections.abc import Iterator
from dataclasses import replace

from tenfold.core import InputError
from tenfold.planner.calibration.calibrated import Calibrated
from tenfold.planner.hardware.cluster import Cluster, fewer_devices
from tenfold.planner.search.layouts import FoundLayouts, search_layouts
from tenfold.planner.search.question import LayoutQuestion

MOST_COUNTS = 8
"""Numbers of devices that are searched, at most."""
_SIMPLER = 1.5
"""How much less a smaller number must leave over when the batch is shared out, to be worth a search."""
_GAIN = 1.001
"""How much faster fewer devices must be to leave the others idle."""


def search_usable(
    question: LayoutQuestion, calibrated: Calibrated, *, top: int = 10
) -> tuple[LayoutQuestion, FoundLayouts]:
    """The fastest layouts on all devices of the cluster, or on as many as train fastest; and the question they answer.

    `LayoutQuestion.cluster.idle` of that question says how many devices stay idle. Raises InputError where neither all
    devices nor fewer have a layout, with what binds on all of them.
    """
    refusal: InputError | None = None
    best: tuple[LayoutQuestion, FoundLayouts] | None = None
    for devices in usable_counts(question.cluster, question.sequences):
        smaller = replace(question, cluster=fewer_devices(question.cluster, devices))
        try:
            found = search_layouts(smaller, calibrated, top=top)
        except InputError as error:
            refusal = refusal or error
            continue
        if best is None or found.best[0].seconds * _GAIN < best[1].best[0].seconds:
            best = smaller, found
    if best is None:
        assert refusal is not None  # there is at least one count
        raise refusal
    return best


def usable_counts(cluster: Cluster, sequences: int) -> list[int]:
    """Devices of the whole cluster that may train fastest: all, then fewer that share out the batch more simply."""
    sites = len(cluster.sites)
    most = min(site.devices for site in cluster.sites)
    batch = max(1, sequences // sites)
    return [sites * each for each in _simpler(most, batch, cluster.node_devices)][:MOST_COUNTS]


def _simpler(most: int, batch: int, node: int) -> Iterator[int]:
    """From `most` down to a half of it, in whole hosts: each leaves much less for other ways to split than the last."""
    step = node if most > node else 1
    left = math.inf
    for devices in range(most, most // 2, -step):
        rest = _shared_out(devices, batch)
        if rest * _SIMPLER < left:
            yield devices
            left = rest
        if left == 1:
            return


def _shared_out(devices: int, batch: int) -> int:
    """What is left of `devices` without the prime factors of the batch: so much splits layers and heads."""
    while (common := math.gcd(devices, batch)) > 1:
        devices //= common
    return devices
