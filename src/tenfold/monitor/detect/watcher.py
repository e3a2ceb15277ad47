"""The observer that shows the detectors every step, and reports what they say."""

import math
from collections.abc import Collection, Mapping
from typing import Any, Protocol

from tenfold.ledger import GRAD_NORM, LEARNING_RATE, LOSS, IncidentClosed
from tenfold.monitor.detect.bank import FALSE_ALARMS, Bank
from tenfold.monitor.detect.cases import Told
from tenfold.monitor.detect.table import STEP_SECONDS
from tenfold.scaling import CurveForecast
from tenfold.train import Observer, StepMeasure


class Signals(Protocol):
    """Whatever has measured something beside the step."""

    def values(self, step: int) -> Mapping[str, float]:
        """The signals of `step` by their names in the ledger; empty where nothing was read."""
        ...


class RunWatcher(Observer):
    """Detectors at work on a run. Add it after the observers that measure, before those that are told of incidents.

    It only reads and reports. When it fails it is taken out, with an incident, and the run goes on.
    """

    name = "detectors"

    def __init__(
        self,
        signals: Signals,
        false_alarms: float = FALSE_ALARMS,
        *,
        forecast: CurveForecast | None = None,
        planned: Collection[int] = (),
    ) -> None:
        """`planned`: steps from which data or batch change as configured."""
        self._signals = signals
        self._left: list[str] = []
        """Causes of incidents that were open before another state was loaded."""
        self._bank = Bank(false_alarms, forecast=forecast, planned=planned)

    def started(self, step: int) -> None:
        """What was measured before the first step, such as the machine's health."""
        for word in self._bank.update(step, self._signals.values(step)):
            self._tell(word)

    def resumed(self, step: int, checkpoint: object) -> None:
        """Close what was opened after the checkpoint that the run went back to: it has not happened any more."""
        for cause in [cause for cause in self._left if cause not in self._bank.open]:
            verdict = f"the run went back to step {step}, before it"
            self.notice(IncidentClosed(cause, verdict), f"{cause}: {verdict}")
        self._left = []

    def after_step(self, measure: StepMeasure) -> None:
        values = {**self._signals.values(measure.step), **values_of(measure)}
        last = measure.first_sample + measure.samples - 1
        for word in self._bank.update(measure.step, values, (measure.first_sample, last)):
            self._tell(word)

    def _tell(self, word: Told) -> None:
        self.notice(word.what, word.message, word.evidence)

    @property
    def open(self) -> list[str]:
        """Causes of the incidents that are open."""
        return self._bank.open

    def state_dict(self) -> dict[str, Any]:
        return self._bank.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._left = self._bank.open
        self._bank.load_state_dict(state)


def values_of(measure: StepMeasure) -> dict[str, float]:
    """What the step itself measured, by names of the ledger and `samples`."""
    figures = {
        LOSS: measure.nats,
        GRAD_NORM: measure.grad_norm,
        LEARNING_RATE: measure.learning_rate,
        STEP_SECONDS: measure.seconds,
        "samples": float(measure.samples),
    }
    return {name: value for name, value in figures.items() if not math.isnan(value)}
