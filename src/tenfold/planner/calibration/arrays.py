"""Measured runs as the cost model takes them: one array for each field, and the labels that deviations go by."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from tenfold.core import InputError
from tenfold.planner.calibration.runs import MeasuredRun
from tenfold.planner.cost.device import Constants, Device, Hop
from tenfold.planner.cost.layout import Array, Layout, Shape
from tenfold.planner.cost.step import step_seconds
from tenfold.planner.hardware.accelerator import Accelerator, Precision, accelerator, beside_reference
from tenfold.planner.hardware.cluster import Tier, measured_tiers

LEVELS: tuple[str, ...] = ("framework", "site", "accelerator", "release", "experts")
"""Deviations that are added up, in natural logarithms."""


def shapes_of(runs: Sequence[MeasuredRun]) -> Shape:
    """Shapes of runs, one array a field: shape (runs,)."""
    return Shape(**_columns(Shape, [run.shape for run in runs]))


def layouts_of(runs: Sequence[MeasuredRun]) -> Layout:
    """Layouts of runs, one array a field: shape (runs,)."""
    return Layout(**_columns(Layout, [run.layout for run in runs]))


def _columns(kind: type[Shape] | type[Layout], records: Sequence[Shape | Layout]) -> dict[str, Array]:
    return {each.name: np.array([getattr(one, each.name) for one in records], np.float64) for each in fields(kind)}


def devices_of(runs: Sequence[MeasuredRun]) -> Device:
    """Devices of runs, in the clusters that their hardware's name stands for. Raises InputError for an unknown one."""
    known: dict[tuple[str, float], tuple[Tier, ...]] = {}
    for run in runs:
        key = (run.hardware, run.devices)
        if key not in known:
            known[key] = measured_tiers(run.hardware, round(run.devices))
    tiers = [known[run.hardware, run.devices] for run in runs]
    named = {name: accelerator(name) for name in {run.hardware for run in runs}}
    reached = {name: beside_reference(chip) for name, chip in named.items()}
    chips = [named[run.hardware] for run in runs]
    share = np.array([reached[run.hardware] for run in runs])
    peaks = [_peak(chip, run.precision) for chip, run in zip(chips, runs, strict=True)]
    sixteen = [_peak(chip, _sixteen(run.precision)) for chip, run in zip(chips, runs, strict=True)]
    return Device(
        matmul_flops=np.array(peaks) * share,
        attention_flops=np.array(sixteen) * share,
        memory_bandwidth=np.array([chip.memory_bandwidth for chip in chips]),
        hops=tuple(_hop(tiers, number) for number in range(2)),
    )


def _sixteen(precision: Precision) -> Precision:
    """Precision of attention, embeddings and logits."""
    return "fp32" if precision == "fp32" else "bf16"


def _peak(chip: Accelerator, precision: Precision) -> float:
    """Peak of the accelerator; bf16 and fp16 stand for each other where one is missing (V100 has no bf16)."""
    peaks = chip.peak_flops
    either: tuple[Precision, ...] = ("bf16", "fp16") if precision in ("bf16", "fp16") else (precision,)
    found = [peaks[each] for each in sorted(either, key=lambda each: each != precision) if each in peaks]
    if not found:
        raise InputError(f"{chip.name} has no published peak in {precision}; it has {', '.join(peaks)}")
    return float(found[0])


def _hop(networks: Sequence[Sequence[Tier]], number: int) -> Hop:
    """Tier `number` of each network; the last tier, which joins all devices, where one has fewer."""
    tiers = [several[min(number, len(several) - 1)] for several in networks]
    return Hop(
        devices=np.array([float(tier.devices) for tier in tiers]),
        bandwidth=np.array([tier.usable_bandwidth for tier in tiers]),
        latency=np.array([tier.latency for tier in tiers]),
    )


MOST_OF_A_FAMILY = 300
"""Runs that one family counts as, at most: sweeps of neighbouring layouts say less than their number."""
MOST_FITTED = 300
"""Runs of one family that a fit looks at, evenly spaced in the table."""
NOISY = {"nanotron": 100}
"""Fewer for a sweep whose repeats of one configuration differ by 1.7 times."""
T = TypeVar("T")


@dataclass(frozen=True)
class RunLevels:
    """For each run the labels that its deviations go by."""

    labels: Mapping[str, Sequence[str]]

    def __len__(self) -> int:
        return len(self.labels[LEVELS[0]])

    def take(self, chosen: npt.NDArray[np.bool_]) -> "RunLevels":
        """Some of the runs, by a mask."""
        kept = {
            level: [x for x, keep in zip(labels, chosen, strict=True) if keep] for level, labels in self.labels.items()
        }
        return RunLevels(kept)


@dataclass(frozen=True)
class MeasuredRuns:
    """Runs whose step time was measured, each in one reading."""

    runs: tuple[MeasuredRun, ...]
    shape: Shape
    layout: Layout
    device: Device
    seconds: Array
    levels: RunLevels
    weights: Array
    """How much each run counts in a fit: less if its family has many, or if its row can be read in several ways."""
    fitted: npt.NDArray[np.bool_]
    """Runs that a fit looks at: of a large family MOST_FITTED of them, which count for the others."""

    def __len__(self) -> int:
        return len(self.runs)

    @property
    def families(self) -> list[str]:
        """Family of each run: accuracy is reported by it."""
        return [family_of(run) for run in self.runs]

    def model(self, constants: Constants) -> Array:
        """Forecast seconds of a step."""
        return np.asarray(step_seconds(self.shape, self.layout, self.device, constants).total, dtype=np.float64)

    def take(self, chosen: npt.NDArray[np.bool_]) -> "MeasuredRuns":
        """Some of the runs, by a mask."""
        runs = tuple(run for run, keep in zip(self.runs, chosen, strict=True) if keep)
        return MeasuredRuns(
            runs,
            _take(self.shape, chosen),
            _take(self.layout, chosen),
            _take(self.device, chosen),
            self.seconds[chosen],
            self.levels.take(chosen),
            self.weights[chosen],
            self.fitted[chosen],
        )


def measured_runs(runs: Sequence[MeasuredRun]) -> MeasuredRuns:
    """Runs that have a step time, as arrays."""
    chosen = tuple(run for run in runs if run.step_seconds is not None)
    seconds = np.array([run.step_seconds for run in chosen], dtype=np.float64)
    weights, fitted = _counted(chosen)
    return MeasuredRuns(
        *(chosen, shapes_of(chosen), layouts_of(chosen), devices_of(chosen), seconds, levels_of(chosen)),
        *(weights, fitted),
    )


def _counted(runs: Sequence[MeasuredRun]) -> tuple[Array, npt.NDArray[np.bool_]]:
    """Weights of runs, and which are fitted: shape (runs,) each. Those that are stand for their neighbours too."""
    families = np.array([family_of(run) for run in runs])
    weights, fitted = np.array([run.certainty for run in runs]), np.zeros(len(runs), dtype=bool)
    for family in set(families):
        own = np.flatnonzero(families == family)
        kept = own[np.unique(np.linspace(0, len(own) - 1, min(len(own), MOST_FITTED)).astype(int))]
        fitted[kept] = True
        weights[own] *= min(1.0, NOISY.get(family, MOST_OF_A_FAMILY) / len(own)) * len(own) / len(kept)
    return weights, fitted


def levels_of(runs: Sequence[MeasuredRun]) -> RunLevels:
    """Labels of framework, site, accelerator and release."""
    return RunLevels(
        {
            "framework": [run.framework for run in runs],
            "site": [site_of(run) for run in runs],
            "accelerator": [accelerator(run.hardware).name for run in runs],
            "release": [f"{run.group}/{run.release}" for run in runs],
            "experts": ["with" if run.experts else "without" for run in runs],
        }
    )


def site_of(run: MeasuredRun) -> str:
    """The group, its accelerator and the network of one device, however the hardware's name is written."""
    chip = accelerator(run.hardware)
    return f"{run.group}/{chip.name}, {chip.nic_bandwidth / 1e9:g} GB/s"


def family_of(run: MeasuredRun) -> str:
    """The group, told apart by scale or precision where its rows were measured in distinct ways."""
    if run.group == "vtrain":
        return "vtrain single node" if run.devices <= 8 else "vtrain multi node"
    if run.group == "dgxc":
        return f"dgxc {run.precision}"
    return run.group or "rows without a group"


def _take(record: T, chosen: npt.NDArray[np.bool_]) -> T:
    """A dataclass of arrays with the chosen entries of each."""
    kept: dict[str, object] = {}
    for each in fields(record):  # type: ignore[arg-type]
        value = getattr(record, each.name)
        if isinstance(value, np.ndarray):
            value = value[chosen]
        elif isinstance(value, tuple):
            value = tuple(_take(part, chosen) for part in value)
        kept[each.name] = value
    return type(record)(**kept)
