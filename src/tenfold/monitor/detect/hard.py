"""Detectors of hard faults, which alarm at once, and of counts and slopes that need no e-detector of residuals."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from tenfold.ledger import (
    DataAnomalous,
    MemoryLeaks,
    NumericsWorse,
    ReplicasDisagree,
    RunDiverges,
    SignalIncident,
    SilentCorruption,
    StorageFails,
)
from tenfold.monitor.detect.evalues import DRIFT_BETS
from tenfold.monitor.detect.finding import Finding, Values, finite, place_of
from tenfold.monitor.detect.table import Limits
from tenfold.scaling import BandTracker, CurveForecast


class Stateless:
    """A detector that looks at one step alone."""

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        pass


def _finding(
    kind: type[SignalIncident], step: int, signal: str, value: float, rank: int, said: str, family: str = "training"
) -> Finding:
    payload = kind(step, signal, finite(value), 0.0, **place_of(signal))  # type: ignore[arg-type]
    return Finding(payload, family, rank, said)


class NotFiniteValues(Stateless):
    """A loss, norm or gradient element that is not a number or infinite."""

    name = "not-finite"

    def update(self, step: int, values: Values) -> list[Finding]:
        if values.get("numerics/non_finite", 0) > 0:
            count = values["numerics/non_finite"]
            said = f"{count:.0f} gradient elements are not finite"
            return [_finding(NumericsWorse, step, "numerics/non_finite", count, 200, said)]
        wrong = [name for name in ("train/loss", "train/grad_norm") if not math.isfinite(values.get(name, 0.0))]
        return [_finding(NumericsWorse, step, name, math.nan, 200, f"{name} is not finite") for name in wrong[:1]]


class Mismatches(Stateless):
    """What must be 0: samples that are not what the index says, digests that do not match, wrong results of probes."""

    name = "mismatches"

    def update(self, step: int, values: Values) -> list[Finding]:
        found = []
        if (count := values.get("data/mismatch", 0)) > 0:
            said = f"{count:.0f} samples are not what the index says"
            found.append(_finding(DataAnomalous, step, "data/mismatch", count, 180, said))
        for name in ("digest/mismatch", "probe/wrong"):
            if (count := values.get(name, 0)) > 0:
                said = (
                    f"{name}: {count:.0f} wrong results" if name == "probe/wrong" else "weights changed between steps"
                )
                found.append(_finding(SilentCorruption, step, name, count, 190, said))
        return found


class MemoryErrors:
    """A device's count of errors of its memory that has grown."""

    name = "memory-errors"

    def __init__(self) -> None:
        self._counts: dict[str, float] = {}

    def update(self, step: int, values: Values) -> list[Finding]:
        found = []
        for name, count in values.items():
            if not (name.startswith("device/") and name.endswith("errors")):
                continue
            if count > self._counts.get(name, count):
                said = f"{name} rose from {self._counts[name]:.0f} to {count:.0f}"
                found.append(_finding(SilentCorruption, step, name, count, 185, said))
            self._counts[name] = count
        return found

    def state_dict(self) -> dict[str, Any]:
        return {"counts": self._counts}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._counts = dict(state["counts"])


class ReplicaAgreement(Stateless):
    """Digests of replicas that must be equal: `digest/weights/NAME` and `digest/gradients/NAME` of one step.

    With three or more, the one that differs from all others is named.
    """

    name = "replicas"

    def update(self, step: int, values: Values) -> list[Finding]:
        kinds = ("digest/gradients/", "digest/weights/")
        return [finding for kind in kinds for finding in self._compared(step, kind, values)]

    def _compared(self, step: int, kind: str, values: Values) -> list[Finding]:
        digests = {name.removeprefix(kind): value for name, value in values.items() if name.startswith(kind)}
        counts = Counter(digests.values()).most_common()
        if len(counts) < 2:
            return []
        most, held = counts[0]
        odd = [name for name, value in digests.items() if value != most] if held > counts[1][1] else []
        named = odd[0] if len(odd) == 1 else None
        payload = ReplicasDisagree(step, kind.rstrip("/"), learner=named)
        said = f"{named or 'replicas'} {'has' if named else 'have'} another {kind.rstrip('/')} than must be equal"
        return [Finding(payload, "training", 195, said)]


class MemoryLeak:
    """Memory that grows from block to block.

    The lowest of `leak_block` values stands for a block, so that what is freed again does not count. The e-detector
    bets that a block is larger than the one before by more than `leak_step`: without a leak it is so in at most half of
    the cases, given the past. An incident also needs `leak_growth` since the e-detector last was at its start.
    """

    name = "memory-leak"

    def __init__(self, limits: Limits, false_alarms: float) -> None:
        self._limits, self._threshold = limits, 1 / (false_alarms * limits.leak_block)
        self._lowest, self._count, self._blocks = math.inf, 0, 0
        self._last = self._base = 0.0
        self._wealth, self._leaking = [0.0] * len(DRIFT_BETS), False

    def update(self, step: int, values: Values) -> list[Finding]:
        memory = values.get("process/memory")
        if memory is None or not math.isfinite(memory):
            return []
        self._lowest, self._count = min(self._lowest, memory), self._count + 1
        if self._count < self._limits.leak_block:
            return []
        block, self._lowest, self._count = self._lowest, math.inf, 0
        return self._judged(step, block)

    def _judged(self, step: int, block: float) -> list[Finding]:
        last, self._last = self._last, block
        self._blocks += 1
        if self._blocks <= self._limits.leak_warm:
            self._base = block
            return []
        score = 1.0 if block > last * (1 + self._limits.leak_step) else -1.0
        if self._leaking and score > 0:
            return [self._found(step, block)]
        self._leaking = False
        self._wealth = [
            (w + 1) * (1 + float(bet) * score) for w, bet in zip(self._wealth, DRIFT_BETS[:, 0], strict=True)
        ]
        if max(self._wealth) < 1:
            self._base = block
        growth = block / self._base - 1
        if sum(self._wealth) / len(self._wealth) < self._threshold or growth < self._limits.leak_growth:
            return []
        self._wealth, self._leaking = [0.0] * len(DRIFT_BETS), True
        return [self._found(step, block)]

    def _found(self, step: int, block: float) -> Finding:
        payload = MemoryLeaks(step, "process/memory", block, self._base)
        said = f"memory has grown by {block / self._base - 1:.0%}, block after block, to {block / 1e9:.2f} GB"
        return Finding(payload, "memory", 10, said)

    def state_dict(self) -> dict[str, Any]:
        lowest = None if math.isinf(self._lowest) else self._lowest
        return {
            "lowest": lowest, "count": self._count, "last": self._last, "base": self._base, "wealth": self._wealth,
            "leaking": self._leaking, "blocks": self._blocks,
        }  # fmt: skip

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._lowest = math.inf if state["lowest"] is None else state["lowest"]
        self._count, self._last, self._base = state["count"], state["last"], state["base"]
        self._wealth, self._leaking = list(state["wealth"]), state["leaking"]
        self._blocks = state["blocks"]


class DiskSpace:
    """Free space that is too little, or that will be gone in a few hundred steps as it shrinks now."""

    name = "disk"

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._last: tuple[int, float] | None = None
        self._rate = 0.0
        """Bytes a step, smoothed."""

    def update(self, step: int, values: Values) -> list[Finding]:
        free = values.get("disk/free")
        if free is None:
            return []
        if self._last is not None and step > self._last[0]:
            shrunk = max(0.0, self._last[1] - free) / (step - self._last[0])
            self._rate += (shrunk - self._rate) / 16
        self._last = (step, free)
        low = free < self._limits.disk_bytes
        soon = self._rate > 0 and free / self._rate < self._limits.disk_steps
        if not (low or soon):
            return []
        said = f"{free / 1e9:.2f} GB are free"
        said += f", enough for {free / self._rate:.0f} steps as it shrinks" if soon else ""
        payload = StorageFails(step, "disk/free", free, self._limits.disk_bytes)
        return [Finding(payload, "storage", 50, said)]

    def state_dict(self) -> dict[str, Any]:
        return {"last": self._last, "rate": self._rate}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._last = None if state["last"] is None else (int(state["last"][0]), float(state["last"][1]))
        self._rate = state["rate"]


class ForecastBand:
    """Means of the loss over a few steps, held against the band of the registered forecast (`tenfold.scaling`)."""

    name = "band"

    def __init__(self, forecast: CurveForecast, limits: Limits) -> None:
        self._tracker = BandTracker(forecast, limits.band_level, limits.band_patience)
        self._group = limits.band_group
        self._losses: list[float] = []

    def update(self, step: int, values: Values) -> list[Finding]:
        if "train/loss" not in values:
            return []
        self._losses.append(values["train/loss"])
        if step % self._group:
            return []
        middle, mean = step - len(self._losses) // 2, sum(self._losses) / len(self._losses)
        self._losses = []
        event = self._tracker.observe(middle, mean)
        if event is None or event.side != "above":
            return []
        payload = RunDiverges(step, "train/loss", finite(event.loss), event.high)
        return [Finding(payload, "training", 32, f"loss {event.loss:.4f} is above its {event.level:.0%} band")]

    def state_dict(self) -> dict[str, Any]:
        return {"losses": self._losses, "side": self._tracker.side, "count": self._tracker.count}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._losses = list(state["losses"])
        self._tracker.side, self._tracker.count = state["side"], state["count"]


def findings_of(detectors: Sequence[Any], step: int, values: Values) -> list[Finding]:
    """What all of them find in one step."""
    return [finding for detector in detectors for finding in detector.update(step, values)]
