"""Measured runs, ready to fit: arrays of the cost model, what was measured, and the labels that deviations go by."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from tenfold.planner.calibration.fit import Levels
from tenfold.planner.cost.constants import Constants
from tenfold.planner.cost.device import Device
from tenfold.planner.cost.layout import Layout
from tenfold.planner.cost.numbers import Array
from tenfold.planner.cost.shape import Shape
from tenfold.planner.cost.step import step_seconds
from tenfold.planner.hardware import accelerator
from tenfold.planner.rows import Run, device_of, layout_of, shape_of

MOST_OF_A_FAMILY = 300
"""Runs that one family counts as, at most: sweeps of neighbouring layouts say less than their number."""
NOISY = {"nanotron": 100}
"""Fewer for a sweep whose repeats of one configuration differ by 1.7 times."""
T = TypeVar("T")


@dataclass(frozen=True)
class Measured:
    """Runs whose step time was measured."""

    runs: tuple[Run, ...]
    shape: Shape
    layout: Layout
    device: Device
    seconds: Array
    levels: Levels

    def __len__(self) -> int:
        return len(self.runs)

    @property
    def families(self) -> list[str]:
        """What accuracy is reported by."""
        return [family_of(run) for run in self.runs]

    @property
    def weights(self) -> Array:
        """How much each run counts in a fit."""
        families = np.array(self.families)
        sizes = {family: int(np.sum(families == family)) for family in set(families)}
        return np.array([min(1.0, NOISY.get(f, MOST_OF_A_FAMILY) / sizes[f]) for f in families])

    def model(self, constants: Constants) -> Array:
        """Forecast seconds of a step."""
        return np.asarray(step_seconds(self.shape, self.layout, self.device, constants).total, dtype=np.float64)

    def take(self, chosen: npt.NDArray[np.bool_]) -> "Measured":
        """Some of the runs, by a mask."""
        runs = tuple(run for run, keep in zip(self.runs, chosen, strict=True) if keep)
        return Measured(
            runs,
            _take(self.shape, chosen),
            _take(self.layout, chosen),
            _take(self.device, chosen),
            self.seconds[chosen],
            self.levels.take(chosen),
        )


def measured(runs: Sequence[Run]) -> Measured:
    """Those of `runs` that have a step time."""
    chosen = tuple(run for run in runs if run.step_seconds is not None)
    seconds = np.array([run.step_seconds for run in chosen], dtype=np.float64)
    return Measured(chosen, shape_of(chosen), layout_of(chosen), device_of(chosen), seconds, levels_of(chosen))


def levels_of(runs: Sequence[Run]) -> Levels:
    """Labels of framework, site, accelerator and release."""
    return Levels(
        {
            "framework": [run.framework for run in runs],
            "site": [f"{run.group}/{run.hardware}" for run in runs],
            "accelerator": [accelerator(run.hardware).name for run in runs],
            "release": [f"{run.group}/{run.release}" for run in runs],
            "experts": ["with" if run.experts else "without" for run in runs],
        }
    )


def family_of(run: Run) -> str:
    """The group, told apart by scale or precision where its rows were measured in distinct ways."""
    if run.group == "vtrain":
        return "vtrain single node" if run.devices <= 8 else "vtrain multi node"
    if run.group == "dgxc":
        return f"dgxc {run.precision}"
    return run.group or "rows without a group"


def _take(record: T, chosen: npt.NDArray[np.bool_]) -> T:
    """Of every array in a dataclass of arrays, the chosen ones."""
    kept: dict[str, object] = {}
    for each in fields(record):  # type: ignore[arg-type]
        value = getattr(record, each.name)
        if isinstance(value, np.ndarray):
            value = value[chosen]
        elif isinstance(value, tuple):
            value = tuple(_take(part, chosen) for part in value)
        kept[each.name] = value
    return type(record)(**kept)
