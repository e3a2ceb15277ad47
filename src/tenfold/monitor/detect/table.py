"""Every threshold of every detector, in one place.

Chosen on recorded runs whose seeds are not those of the published table (`benchmarks/detection`).
"""

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

from tenfold.ledger import (
    AttentionGrew,
    BlockDead,
    BlockSaturated,
    DataAnomalous,
    GradientExploded,
    LossSpiked,
    NumericsWorse,
    PartStraggles,
    RunDiverges,
    SignalIncident,
    StepsSlower,
    StorageFails,
    UpdateExploded,
)

Transform = Literal["log", "log over rate", "share"]
"""What is watched of a value: its logarithm, that of its ratio to the learning rate, or itself."""
Group = Literal["training", "data", "time", "storage"]
"""Signals whose e-detectors are averaged: one rate of false alarms for each group."""


@dataclass(frozen=True)
class Watched:
    """How one family of signals is watched, to one side.

    `name` may have one part in braces. `sign`: 1 for too high, −1 for too low. Margins are in units of the transform
    (0.02: 2% of a value whose logarithm is watched): `floor` is the smallest scale of a residual that is believed,
    `jump` the margin of a jump beyond the threshold, `drift` the margin of the mean; `wander` the latter in units of
    the signal's own scale, and the larger counts. `tail`: ξ of a jump, None to look for drifts alone.
    `rank`: which of several alarms names the incident, the highest.
    """

    name: str
    group: Group
    transform: Transform
    jumps: type[SignalIncident]
    drifts: type[SignalIncident]
    rank: int
    floor: float
    jump: float
    drift: float
    sign: int = 1
    wander: float = 1.0
    tail: float | None = 0.1
    weight: float = 1.0
    warm: int | None = None
    """Values before the first bet, where it is not that of `Memories`: a checkpoint is rare."""

    def matches(self, name: str) -> bool:
        """Whether a metric is of this family."""
        return _pattern(self.name).fullmatch(name) is not None


@lru_cache(256)
def _pattern(name: str) -> re.Pattern[str]:
    return re.compile("(.+)".join(map(re.escape, re.split(r"\{\w+\}", name))))


FORECAST_GAP = "forecast/gap"
"""The logarithm of the loss over its registered forecast; derived, not in the ledger."""
STEP_SECONDS = "time/step"
"""Seconds of the whole step; from the step's measure."""

WATCHED = (
    Watched("train/loss", "training", "log", LossSpiked, RunDiverges, 30, 0.01, 0.03, 0.01, wander=0.15, weight=3),
    Watched(FORECAST_GAP, "training", "share", LossSpiked, RunDiverges, 31, 0.01, 0.03, 0.005, wander=0.15, weight=2),
    Watched("train/grad_norm", "training", "log", GradientExploded, GradientExploded, 50, 0.05, 0.3, 0.4, tail=0.2),
    Watched("train/update_norm", "training", "log over rate", UpdateExploded, UpdateExploded, 80, 0.02, 0.15, 0.06,
            wander=1.5),
    Watched("block/{block}/grad_norm", "training", "log", GradientExploded, GradientExploded, 51, 0.05, 0.3, 0.5,
            tail=0.2),
    Watched("block/{block}/grad_norm", "training", "log", BlockDead, BlockDead, 90, 0.1, 1.2, 1.0, sign=-1),
    Watched("block/{block}/update_norm", "training", "log over rate", UpdateExploded, UpdateExploded, 81, 0.02, 0.2,
            0.1, wander=1.5),
    Watched("block/{block}/update_norm", "training", "log over rate", BlockDead, BlockDead, 90, 0.05, 0.5, 0.7,
            sign=-1),
    Watched("block/{block}/activation_rms", "training", "log", BlockSaturated, BlockSaturated, 60, 0.01, 0.1, 0.2,
            wander=2),
    Watched("block/{block}/activation_rms", "training", "log", BlockDead, BlockDead, 89, 0.01, 0.1, 0.15, sign=-1,
            wander=2),
    Watched("block/{block}/attention_logit", "training", "log", AttentionGrew, AttentionGrew, 70, 0.05, 0.4, 1.1),
    Watched("numerics/underflow_share", "training", "share", NumericsWorse, NumericsWorse, 65, 0.02, 0.1, 0.1),
    Watched("numerics/saturation_share", "training", "share", NumericsWorse, NumericsWorse, 66, 1e-4, 1e-3, 1e-3),
    Watched("data/repetition", "data", "share", DataAnomalous, DataAnomalous, 95, 0.03, 0.1, 0.06, tail=0.3),
    Watched("data/odd_share", "data", "share", DataAnomalous, DataAnomalous, 95, 0.005, 0.02, 0.005, tail=0.3),
    Watched("data/novelty", "data", "share", DataAnomalous, DataAnomalous, 94, 0.03, 0.1, 0.08, wander=0.75),
    Watched("data/novelty", "data", "share", DataAnomalous, DataAnomalous, 94, 0.03, 0.1, 0.2, sign=-1),
    Watched("data/document_length", "data", "log", DataAnomalous, DataAnomalous, 94, 0.05, 0.3, 0.2),
    Watched("data/document_length", "data", "log", DataAnomalous, DataAnomalous, 94, 0.05, 0.3, 0.2, sign=-1,
            tail=0.2),
    Watched("source/{source}/share", "data", "share", DataAnomalous, DataAnomalous, 93, 0.03, 0.1, 0.1, tail=None,
            wander=0.5),
    Watched("source/{source}/share", "data", "share", DataAnomalous, DataAnomalous, 93, 0.03, 0.1, 0.1, sign=-1,
            tail=None, wander=0.5),
    Watched(STEP_SECONDS, "time", "log", StepsSlower, StepsSlower, 20, 0.02, 0.2, 0.1, tail=None, weight=4),
    Watched("time/{part}", "time", "log", PartStraggles, PartStraggles, 25, 0.05, 0.3, 0.3, tail=None),
    Watched("link/{learner}/round_trip_seconds", "time", "log", PartStraggles, PartStraggles, 24, 0.1, 0.5, 0.7,
            tail=None),
    Watched("link/{learner}/up_bytes_per_second", "time", "log", PartStraggles, PartStraggles, 24, 0.1, 0.5, 0.7,
            sign=-1, tail=None),
    Watched("link/{learner}/down_bytes_per_second", "time", "log", PartStraggles, PartStraggles, 24, 0.1, 0.5, 0.7,
            sign=-1, tail=None),
    Watched("time/checkpoint", "storage", "log", StorageFails, StorageFails, 40, 0.1, 0.5, 0.7, tail=0.2, warm=24),
)  # fmt: skip


@dataclass(frozen=True)
class Memories:
    """How long trackers remember, in values of a signal (a signal read every eighth step has an eighth as many)."""

    near: int = 32
    """Of the level that a jump is measured from."""
    spread: int = 64
    far: int = 768
    """Of the level that a drift is measured from."""
    warm: int = 400
    """Values before the first bet: a run's beginning, and what comes after an incident that settles elsewhere."""
    relearn: int = 200
    """The same after an incident or a planned change."""


@dataclass(frozen=True)
class Limits:
    """Thresholds of the detectors that are not e-detectors."""

    quiet: int = 48
    """Steps for which signals must be back before an incident is closed. One that no signal shows is closed after as
    many steps without a new alarm as `patience` says."""
    patience: int = 400
    """Steps without a new alarm after which what is not back counts as settled."""
    hang_factor: float = 8.0
    """A step is overdue after so many times the longest of the last steps …"""
    hang_seconds: float = 60.0
    """… and after this long at least."""
    hang_history: int = 64
    leak_block: int = 32
    """Values of process/memory whose lowest counts as one."""
    leak_warm: int = 20
    """Blocks of a process's beginning, in which memory grows in any case."""
    leak_step: float = 0.001
    """Growth from block to block that counts, as a share: less is no leak."""
    leak_growth: float = 0.05
    """Growth since it began, as a share, before it is an incident."""
    disk_bytes: float = 2e9
    """Free space that is too little."""
    disk_steps: int = 500
    """Steps for which the space must suffice as it shrinks."""
    lemon_ends: int = 4
    """Ends of one learner in a row, none of another between, that make it a lemon."""
    lemon_alarm: float = 0.02
    """α of the e-detector for a learner's share of the failures, for each failure."""
    rate_leap: float = 1.5
    """Ratio of the learning rates of two steps in a row from which levels are learnt anew."""
    band_group: int = 32
    """Steps whose mean loss is held against the forecast's band."""
    band_level: float = 0.95
    band_patience: int = 3
