"""Recorded runs, as the detectors are shown them: for each replica, the values of each step."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from benchmarks.detection.record import HORIZON, fault_settings
from benchmarks.detection.tiny import SETTINGS, Setting
from numpy.typing import NDArray

SHARED = ("time/step", "onset", "lasts", "start")


@dataclass
class Run:
    """One replica's signals: name → (steps,), the first of them of step `first` (counted from 1)."""

    setting: Setting
    values: dict[str, NDArray[np.float64]]
    steps: int
    """Of the whole schedule."""
    onset: int | None = None
    lasts: int = 0
    first: int = 1

    def __len__(self) -> int:
        return len(self.values["train/loss"])

    def rows(self) -> Iterator[tuple[int, dict[str, float]]]:
        """(step, values)."""
        names, columns = list(self.values), np.stack(list(self.values.values()), axis=1).tolist()
        for offset, row in enumerate(columns):
            yield self.first + offset, dict(zip(names, row, strict=True))

    @property
    def planned(self) -> list[int]:
        return self.setting.changes(self.steps)


def _signals(files: list[Path]) -> dict[str, NDArray[np.float64]]:
    parts = [np.load(file) for file in files]
    names = [name for name in parts[0].files if name not in SHARED]
    return {name: np.concatenate([part[name] for part in parts]).astype(float) for name in names}


def healthy_runs(folder: Path, seed: int) -> list[Run]:
    """Two replicas of each setting, as far as they are recorded."""
    values = _signals(sorted(folder.glob(f"healthy-{seed}-??????.npz")))
    steps = {1: 3000, 2: 7000}.get(seed, 7000)
    settings = [setting for setting in SETTINGS for _ in range(2)]
    return [Run(s, {n: v[:, i] for n, v in values.items()}, steps) for i, s in enumerate(settings)]


def history_runs(folder: Path, seed: int) -> list[Run]:
    """The common history of a seed's faults."""
    values = _signals([folder / f"history-{seed}.npz"])
    return [Run(s, {n: v[:, i] for n, v in values.items()}, HORIZON) for i, s in enumerate(fault_settings())]


def fault_runs(folder: Path, seed: int, kind: str) -> list[Run]:
    """The branch of one kind alone, each beginning at its snapshot."""
    file = folder / f"fault-{seed}-{kind.replace(' ', '_')}.npz"
    values, raw = _signals([file]), np.load(file)
    return [
        Run(s, {n: v[:, i] for n, v in values.items()}, HORIZON, int(raw["onset"][i]), int(raw["lasts"][i]),
            int(raw["start"]) + 1)
        for i, s in enumerate(fault_settings())
    ]  # fmt: skip
