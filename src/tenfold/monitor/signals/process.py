"""Where the time of a step goes, and what the process holds."""

import shutil
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from torch import nn

from tenfold.machine import resident_bytes
from tenfold.monitor.signals.board import SignalBoard
from tenfold.train import Batch, Observer, StepMeasure, Stopping, TrainState

SLOW_EVERY = 10
"""Steps between looks at memory and disk, which are calls of the system."""


class StepTimes(Observer):
    """Seconds of each part of a step. The first of a run's observers; its `last` is the last of them.

    Forward is timed by hooks on the model that the step calls (of a GPU, which runs behind: the time to launch), data
    is what passes between two steps, and where a checkpoint was taken there, that is called checkpoint. What observers
    take is told apart by having one of these in front of the others and one behind.
    """

    name = "signals-times"

    def __init__(
        self, model: nn.Module, board: SignalBoard, folder: Path, clock: Callable[[], float] = time.perf_counter
    ) -> None:
        self._board, self._folder, self.clock = board, folder, clock
        self._forward = self._forward_began = self._arrived = 0.0
        self.began = self.checked = self.watching = 0.0
        """When the step itself began, when all had seen its gradients, and what observers took after the last one."""
        self._gradients: float | None = None
        self.ended: float | None = None
        """When the step before had been told to all."""
        self.told = 0.0
        self._saved = False
        self.last = LastOfObservers(self)
        self._hooks = [model.register_forward_pre_hook(self._enter), model.register_forward_hook(self._leave)]

    def _enter(self, *_: object) -> None:
        self._forward_began = self.clock()

    def _leave(self, *_: object) -> None:
        self._forward += self.clock() - self._forward_began

    def before_step(self, batch: Batch) -> None:
        self._arrived = self.began = self.clock()
        self._gradients = None

    def gradients_ready(self, state: TrainState) -> None:
        self._gradients = self.checked = self.clock()

    def after_step(self, measure: StepMeasure) -> None:
        self.told = self.clock()
        self._board.put(measure.step, dict(self._figures()) | self._slow(measure.step))
        self._saved = False

    def _figures(self) -> Mapping[str, float]:
        figures = {"time/forward": self._forward, "time/watching": self._arrived_to_began + self.watching}
        if self._gradients is not None:
            figures["time/backward"] = self._gradients - self.began - self._forward
            figures["time/optimizer"] = self.told - self.checked
            figures["time/watching"] += self.checked - self._gradients
        if self.ended is not None:
            figures["time/checkpoint" if self._saved else "time/data"] = self._arrived - self.ended
        return figures

    @property
    def _arrived_to_began(self) -> float:
        return self.began - self._arrived

    def forget_forward(self) -> None:
        """What was called before the step itself, as by a probe of the model, is not the step's."""
        self._forward = 0.0

    def saving(self, step: int) -> None:
        self._saved = True

    def stopping(self, stopping: Stopping) -> None:
        for hook in self._hooks:
            hook.remove()

    def _slow(self, step: int) -> dict[str, float]:
        if step % SLOW_EVERY:
            return {}
        return {"process/memory": float(resident_bytes()), "disk/free": float(shutil.disk_usage(self._folder).free)}


class LastOfObservers(Observer):
    """Tells `StepTimes` when all other observers have been told."""

    name = "signals-times-last"

    def __init__(self, times: StepTimes) -> None:
        self._times = times

    def before_step(self, batch: Batch) -> None:
        self._times.began = self._times.clock()
        self._times.forget_forward()

    def gradients_ready(self, state: TrainState) -> None:
        self._times.checked = self._times.clock()

    def after_step(self, measure: StepMeasure) -> None:
        times = self._times
        times.ended = times.clock()
        times.watching = times.ended - times.told
