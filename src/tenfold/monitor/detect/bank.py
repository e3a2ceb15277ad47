"""All detectors of a run together: values by step in, incidents opened, added to and closed out."""

import math
from collections.abc import Collection, Mapping, Sequence
from typing import Any, get_args

from tenfold.ledger import LEARNING_RATE
from tenfold.monitor.detect.cases import Cases, Told
from tenfold.monitor.detect.finding import Detector, Finding, Samples, Values
from tenfold.monitor.detect.groups import WatchedGroup
from tenfold.monitor.detect.hard import (
    DiskSpace,
    ForecastBand,
    MemoryErrors,
    MemoryLeak,
    Mismatches,
    NotFiniteValues,
    ReplicaAgreement,
    findings_of,
)
from tenfold.monitor.detect.table import FORECAST_GAP, WATCHED, Group, Limits, Memories, Watched
from tenfold.scaling import CurveForecast

FALSE_ALARMS = 1e-5
"""α: false alarms a step of each group, at most."""


class Bank:
    """The detectors of one run. What it says depends on the values it was given alone: no clock, no chance.

    `planned`: steps, counted from 1, from which data, batch or schedule change as configured; levels are learnt anew
    there. A change of the batch's size, read as `samples`, counts as planned too, and so does a leap of the learning
    rate from one step to the next.
    """

    def __init__(
        self,
        false_alarms: float = FALSE_ALARMS,
        *,
        forecast: CurveForecast | None = None,
        planned: Collection[int] = (),
        table: Sequence[Watched] = WATCHED,
        memories: Memories = Memories(),
        limits: Limits = Limits(),
    ) -> None:
        self._forecast, self._planned = forecast, frozenset(planned)
        self._groups = {name: WatchedGroup(name, false_alarms, memories, table) for name in get_args(Group)}
        self._detectors: list[Detector] = [
            NotFiniteValues(), Mismatches(), MemoryErrors(), ReplicaAgreement(), MemoryLeak(limits, false_alarms),
            DiskSpace(limits),
        ]  # fmt: skip
        self._detectors += [ForecastBand(forecast, limits)] if forecast else []
        self._cases = Cases(limits, self._groups)
        self._limits = limits
        self._samples: float | None = None
        self._rate: float | None = None

    def update(self, step: int, values: Values, samples: Samples | None = None) -> list[Told]:
        """Take the signals of `step`, with the batch's first and last sample; what there is to tell about them."""
        self._relearn_what_was_planned(step, values)
        values = self._with_gap(step, values)
        findings = findings_of(self._detectors, step, values)
        for group in self._groups.values():
            findings += group.update(step, values)
        return [*self._cases.take(step, findings, samples), *self._cases.follow(step)]

    def report(self, step: int, findings: Sequence[Finding]) -> list[Told]:
        """Take findings of detectors that see something else than signals: a hang, a learner's ends."""
        return self._cases.take(step, findings, None)

    @property
    def open(self) -> list[str]:
        """Causes of the incidents that are open."""
        return [case.cause for case in self._cases.open.values()]

    def _relearn_what_was_planned(self, step: int, values: Values) -> None:
        before = self._samples, self._rate
        self._samples = values.get("samples", self._samples)
        self._rate = values.get(LEARNING_RATE, self._rate)
        other_batch = before[0] is not None and self._samples != before[0]
        if step in self._planned or other_batch:
            self._groups["data"].relearn()
        if step in self._planned or other_batch or self._leapt(before[1]):
            self._groups["training"].relearn()

    def _leapt(self, before: float | None) -> bool:
        """Whether the learning rate is far from that of the step before."""
        if not before or not self._rate:
            return False
        return max(self._rate / before, before / self._rate) > self._limits.rate_leap

    def _with_gap(self, step: int, values: Values) -> Values:
        """With the log of the loss over its forecast, where there is one."""
        loss = values.get("train/loss", 0.0)
        if self._forecast is None or not loss > 0 or step < self._forecast.steps[0]:
            return values
        return {**values, FORECAST_GAP: math.log(loss / self._forecast.at(step))}

    def state_dict(self) -> dict[str, Any]:
        """Everything, as plain values: a bank that is given it back goes on to the bit."""
        return {
            "groups": {name: group.state_dict() for name, group in self._groups.items()},
            "detectors": {each.name: each.state_dict() for each in self._detectors},
            "cases": self._cases.state_dict(),
            "samples": self._samples,
            "rate": self._rate,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take back what `state_dict` gave. A detector that was not there when it was saved begins anew."""
        for name, group in self._groups.items():
            group.load_state_dict(state["groups"][name])
        for each in self._detectors:
            if each.name in state["detectors"]:
                each.load_state_dict(state["detectors"][each.name])
        self._cases.load_state_dict(state["cases"])
        self._samples, self._rate = state["samples"], state["rate"]
