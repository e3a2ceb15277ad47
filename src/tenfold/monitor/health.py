"""An observer that measures the machine's health as a run begins and now and then, for a thousandth of its time."""

import time
from collections.abc import Callable, Mapping
from pathlib import Path

import torch

from tenfold.monitor.probes import probe_machine, read_sensors
from tenfold.train import Observer, StepMeasure

SHARE = 1e-3
"""Of a run's time, at most, that probes after its start take."""


class MachineHealth(Observer):
    """Probes and sensors of the first rank's machine, by their metrics' names."""

    name = "machine-health"

    def __init__(
        self,
        note: Callable[[int, Mapping[str, float]], None],
        folder: Path,
        device: torch.device,
        now: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._note, self._folder, self._device, self._now = note, folder, device, now
        self._due = 0.0

    def started(self, step: int) -> None:
        """Before the first step: a race in a library's first call shows only here."""
        self._probe(step, first=True)

    def after_step(self, measure: StepMeasure) -> None:
        if self._now() >= self._due:
            self._probe(measure.step)

    def _probe(self, step: int, *, first: bool = False) -> None:
        begun = self._now()
        figures = probe_machine(self._folder, self._device, first=first) | read_sensors(self._folder)
        ended = self._now()
        self._due = ended + (ended - begun) / SHARE
        self._note(step, figures)
