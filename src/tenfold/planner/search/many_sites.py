"""How several sites may train one model: all in step, one of them alone, or each on its own between exchanges."""

import math
from dataclasses import asdict, dataclass, replace
from typing import Any

from tenfold.core import InputError
from tenfold.planner.calibration.calibrated import Calibrated
from tenfold.planner.hardware.cluster import Cluster
from tenfold.planner.search.layouts import Choice, alone_seconds, site_half_width
from tenfold.planner.search.question import LayoutQuestion
from tenfold.planner.search.sites import Joined, choose_exchange
from tenfold.planner.search.usable import search_usable


@dataclass(frozen=True)
class ManySites:
    """Seconds of a step of the same global batch. A layout inside a site is as good in step as semi-synchronously: what
    the sites wait for each other is the same for all."""

    number: int
    in_step: float
    waiting: float
    """Of `in_step`, for the gradients of the other sites."""
    one_alone: float | None
    """The largest with the others idle; None where it is too small for the model or the batch."""
    apart: Joined | None
    """Semi-synchronous, under the exchange of most bits and fewest inner steps that hides; None where none does."""
    low: float
    high: float
    """90% interval of the semi-synchronous step; both 0 where there is none."""
    refusal: str
    """Why no exchange hides; empty where one does."""

    def to_dict(self) -> dict[str, Any]:
        """The record as JSON values."""
        record = asdict(self)
        if self.apart is not None:
            record["apart"] |= {"seconds": self.apart.seconds, "speedup": self.apart.speedup}
        return record


def compare_sites(
    choice: Choice, question: LayoutQuestion, calibrated: Calibrated, machine: Cluster
) -> ManySites | None:
    """What there is beside a layout of several sites in step; None for one site.

    `machine` has all devices of each site, `question` as many of each as are used in step.
    """
    if question.sites < 2:
        return None
    inner = alone_seconds(choice, question, calibrated)
    apart, refusal = _apart(question, inner, calibrated)
    inside = replace(choice.layout, data=choice.layout.data / question.sites)
    spread = math.exp(site_half_width(question, inside, calibrated))
    return ManySites(
        number=question.sites,
        in_step=choice.seconds,
        waiting=choice.seconds - inner,
        one_alone=_one_alone(question, calibrated, machine),
        apart=apart,
        low=apart.seconds / spread if apart else 0.0,
        high=apart.seconds * spread if apart else 0.0,
        refusal=refusal,
    )


def _apart(question: LayoutQuestion, inner: float, calibrated: Calibrated) -> tuple[Joined | None, str]:
    try:
        return choose_exchange(question, inner, calibrated), ""
    except InputError as error:  # an answer too: no exchange can be hidden on such a line
        return None, str(error)


def _one_alone(question: LayoutQuestion, calibrated: Calibrated, machine: Cluster) -> float | None:
    """The fastest step of the largest site, if it takes the whole batch."""
    site = max(machine.sites, key=lambda each: each.devices)
    storage = machine.storage_bandwidth * site.devices / machine.devices
    one = replace(machine, devices=site.devices, sites=(site,), wide=None, storage_bandwidth=storage)
    try:
        return search_usable(replace(question, cluster=one), calibrated, top=1)[1].best[0].seconds
    except InputError:
        return None
