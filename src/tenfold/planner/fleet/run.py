"""What fails, how often, and what is simulated: a job on a fleet, its checkpoints, its recovery.

Causes, profiles of real fleets and measured times are from the tables beside this file.
"""

import csv
import math
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import cache
from importlib import resources
from typing import Literal, get_args

from tenfold.core import InputError
from tenfold.planner.hardware.accelerator import DAY

Component = Literal["device", "host", "rack", "switch", "site"]
COMPONENTS: tuple[Component, ...] = get_args(Component)


@dataclass(frozen=True)
class Cause:
    """One way in which one kind of component fails, each component for itself, at a steady rate."""

    name: str
    component: Component
    per_day: float
    """Failures of one component a day."""
    group_nodes: int = 1
    """Hosts that go at once: 1 for a device or a host, more for a rack or switch; 0 is the whole site."""
    replaced: bool = True
    """Whether the hosts leave for repair, so that a spare has to stand in; else they are back after the restart."""
    silent: bool = False
    """Whether it corrupts the training unseen and is found only later."""


@dataclass(frozen=True)
class FailureProfile:
    """The causes that one published fleet reported, as rates."""

    name: str
    causes: tuple[Cause, ...]
    sources: tuple[str, ...]
    evidence: str
    """primary, secondary or derived: the weakest among the rows."""


@dataclass(frozen=True)
class Timing:
    """A measured time or share, with where it comes from."""

    name: str
    value: float
    unit: str
    evidence: str
    source: str
    notes: str


def profile_names() -> tuple[str, ...]:
    """Names of the shipped profiles."""
    return tuple(_profiles())


def load_profile(name: str) -> FailureProfile:
    """A shipped profile. Raises InputError naming those there are."""
    profiles = _profiles()
    if name not in profiles:
        raise InputError(f"reliability profile {name!r}: there is none; use one of {', '.join(profiles)}")
    return profiles[name]


def timings() -> dict[str, Timing]:
    """The shipped times by name."""
    return {row["name"]: Timing(**{**row, "value": float(row["value"])}) for row in _rows("timings.csv")}  # type: ignore[arg-type]


@cache
def timing_seconds(name: str) -> float:
    """Value of a shipped timing."""
    return timings()[name].value


@cache
def _profiles() -> dict[str, FailureProfile]:
    grouped: dict[str, list[dict[str, str]]] = {}
    for row in _rows("reliability.csv"):
        grouped.setdefault(row["profile"], []).append(row)
    return {name: _profile(name, rows) for name, rows in grouped.items()}


def _profile(name: str, rows: list[dict[str, str]]) -> FailureProfile:
    evidence = {row["evidence"] for row in rows}
    weakest = next(word for word in ("secondary", "derived", "primary") if word in evidence)
    sources = tuple(dict.fromkeys(row["source"] for row in rows))
    return FailureProfile(name, tuple(_cause(row) for row in rows), sources, weakest)


def _cause(row: dict[str, str]) -> Cause:
    component = next(known for known in COMPONENTS if known == row["component"])
    rate = float(row["count"]) / (float(row["components"]) * float(row["days"]))
    return Cause(
        row["cause"], component, rate, int(row["group_nodes"]), row["replaced"] == "1", silent=row["silent"] == "1"
    )


def _rows(file_name: str) -> Iterator[dict[str, str]]:
    text = (resources.files("tenfold.planner.fleet") / file_name).read_text(encoding="utf-8")
    yield from csv.DictReader(text.splitlines())


Mode = Literal["synchronous", "elastic", "semi-synchronous"]
MODES: tuple[Mode, ...] = get_args(Mode)
MEASURED_DEVICES = 50_000
"""Beyond this many accelerators nobody has published enough to check against: results are extrapolation."""
INFANT_CAUSE = "early failure of a new device"


@dataclass(frozen=True)
class CheckpointPolicy:
    """Durable checkpoints, and copies in the memory of other hosts. Seconds."""

    interval_s: float
    """Of training between two durable checkpoints."""
    stall_s: float = 0.0
    """Training stands still for each."""
    write_s: float = 0.0
    """From the start of a checkpoint until it is safe in storage; at least the stall, and the rest is in background."""
    peer_interval_s: float | None = None
    """Of training between two copies in memory; None is no copies."""
    peer_stall_s: float = 0.0
    peer_survives: Component = "host"
    """Largest group whose loss the copies survive: `rack` when copy and original lie in different racks."""
    storage_bound: bool = False
    """Whether the storage's bandwidth, which grows with the fleet, sets `write_s` and `stall_s`."""

    @property
    def lag_s(self) -> float:
        """Seconds from the end of the stall until the checkpoint is safe."""
        return max(0.0, self.write_s - self.stall_s)

    def in_fleet(self, factor: float) -> "CheckpointPolicy":
        """The policy of a fleet with so many times the devices."""
        write, stall = self.write_s, self.stall_s
        if self.storage_bound:
            write, stall = write / factor, stall / factor
        return replace(self, write_s=write, stall_s=stall, interval_s=max(self.interval_s, write))


@dataclass(frozen=True)
class Recovery:
    """Times of a recovery, in seconds, and the number of spare hosts."""

    detect_s: float = field(default_factory=lambda: timing_seconds("detect-and-diagnose"))
    """From the failure until it is known and located."""
    restart_s: float = field(default_factory=lambda: timing_seconds("restart-100k"))
    """From then until training goes on, with hosts at hand, in a job of `restart_devices`."""
    restart_devices: int = 100_000
    restart_growth: float = 0.0
    """Power of the job's size with which the restart grows; 0 is the same at every size."""
    reconfigure_s: float = 30.0
    """Elastic: stall of all replicas when one leaves, failure detection included."""
    rejoin_s: float = 30.0
    """Elastic: stall of all replicas when it comes back."""
    spares: int = 0
    """Hot spare hosts, beyond the devices of the job."""
    repair_s: float = field(default_factory=lambda: timing_seconds("repair-delta"))
    """Mean time until a host that was replaced comes back as a spare (exponential)."""
    corruption_s: float = 3600.0
    """Mean time from a silent corruption until it is noticed (exponential)."""


@dataclass(frozen=True)
class EarlyFailures:
    """Early failures: this share of new devices fails beyond the steady rates, decaying exponentially with age."""

    share: float = 0.0
    mean_s: float = field(default_factory=lambda: timing_seconds("early-failures-last") * DAY)
    age_s: float = 0.0
    """Age of the fleet when the run begins (burn-in)."""


@dataclass(frozen=True)
class Stragglers:
    """Hosts that become slow and stay so until found. A lock-step job runs at the pace of its slowest host."""

    per_day: float = 0.0
    """How often one host becomes slow, in a day of running."""
    slowdown: float = field(default_factory=lambda: timing_seconds("slow-host-slowdown"))
    """Share of its speed that a slow host loses."""
    last_s: float = DAY
    """Mean time until it is found and removed (exponential)."""


@dataclass(frozen=True)
class FleetRun:
    """One training run on one fleet. Raises InputError when it cannot be."""

    devices: int
    checkpoint: CheckpointPolicy
    causes: tuple[Cause, ...]
    node_devices: int = 8
    sites: int = 1
    days: float = 30.0
    mode: Mode = "synchronous"
    recovery: Recovery = field(default_factory=Recovery)
    learners: int = 1
    """Semi-synchronous: learners that train on their own and meet in merges."""
    quorum: int = 1
    """Semi-synchronous: learners that must be up for merges to go on; else those that are up wait."""
    learner_elastic: bool = False
    """Semi-synchronous: whether a learner is elastic in itself."""
    replica_devices: int = 0
    """Elastic: devices of one data-parallel replica, which leaves and comes back as a whole."""
    merge_s: float = 600.0
    """Semi-synchronous: training between two merges, which is what a learner that fails loses."""
    merge_share: float = 0.0
    """Semi-synchronous: share of a learner's time that merging takes."""
    corruption_contained: bool = False
    """Semi-synchronous: whether merges keep one learner's corruption from the others."""
    fails_while_stopped: bool = True
    """Whether hardware fails at the same rate while the job stands still; else only while it trains."""
    infant: EarlyFailures = field(default_factory=EarlyFailures)
    stragglers: Stragglers = field(default_factory=Stragglers)
    rate_log_sd: float = 0.0
    """Not knowing this fleet's rates: standard deviation of the logarithm of one factor on all, drawn per replica."""

    def __post_init__(self) -> None:
        for wrong in _wrong(self):
            raise InputError(f"fleet: {wrong}")

    @property
    def nodes(self) -> int:
        """Hosts, without spares."""
        return self.devices // self.node_devices

    @property
    def units(self) -> int:
        """Parts that stop and start on their own: learners, or 1."""
        return self.learners if self.mode == "semi-synchronous" else 1

    @property
    def elastic(self) -> bool:
        """Whether a part goes on with fewer replicas."""
        return self.mode == "elastic" or (self.mode == "semi-synchronous" and self.learner_elastic)

    @property
    def unit_nodes(self) -> int:
        """Hosts of the largest unit; units differ by one host at most."""
        return -(-self.nodes // self.units)

    @property
    def restart_s(self) -> float:
        """Seconds to restart what one failure stops: a replica when elastic, else a whole part."""
        recovery = self.recovery
        size = self.replica_devices if self.elastic else self.unit_nodes * self.node_devices
        return float(recovery.restart_s * (size / recovery.restart_devices) ** recovery.restart_growth)

    @property
    def horizon_s(self) -> float:
        """Length of the run in seconds."""
        return self.days * DAY

    @property
    def extrapolation(self) -> bool:
        """Whether the fleet is larger than anybody has measured."""
        return self.devices > MEASURED_DEVICES

    def group_nodes(self, cause: Cause) -> int:
        """Hosts that one failure of this cause takes."""
        return cause.group_nodes or -(-self.nodes // self.sites)

    def components(self, cause: Cause) -> int:
        """How many components can fail for this cause."""
        match cause.component:
            case "device":
                return self.devices
            case "site":
                return self.sites
            case _:
                return max(1, self.nodes // self.group_nodes(cause))

    def failures_per_s(self, *, silent: bool | None = None) -> float:
        """Steady failures of the whole fleet a second; with `silent`, only those that are silent or are not."""
        chosen = (cause for cause in self.causes if silent is None or cause.silent == silent)
        return sum(cause.per_day * self.components(cause) for cause in chosen) / DAY


def causes_of(profile: str) -> tuple[Cause, ...]:
    """Causes of a shipped profile. Raises InputError naming the profiles there are."""
    return load_profile(profile).causes


def _wrong(run: FleetRun) -> Iterator[str]:
    """Complaints about a run, the most basic first."""
    yield from _wrong_numbers(run)
    yield from _wrong_sizes(run)
    yield from _wrong_mode(run)
    yield from _wrong_checkpoint(run.checkpoint)
    yield from _wrong_causes(run)


def _wrong_numbers(run: FleetRun) -> Iterator[str]:
    for part in (run, run.checkpoint, run.recovery, run.infant, run.stragglers):
        for name, value in vars(part).items():
            if isinstance(value, int | float) and not (math.isfinite(value) and value >= 0):
                yield f"{name} = {value}: must be a finite number, not negative"
    if run.infant.share >= 1 or run.stragglers.slowdown >= 1 or run.merge_share >= 1:
        yield "infant share, straggler slowdown and merge_share are shares: below 1"


def _wrong_sizes(run: FleetRun) -> Iterator[str]:
    if run.devices < 1 or run.node_devices < 1 or run.sites < 1 or run.days <= 0:
        yield "devices, node_devices, sites and days must be above 0"
        return
    if run.devices % run.node_devices:
        yield f"devices = {run.devices}: must be a multiple of node_devices = {run.node_devices}"
    if run.sites > run.nodes:
        yield f"sites = {run.sites}: at most the {run.nodes} hosts"
    if run.recovery.restart_devices < 1:
        yield "restart_devices must be above 0"


def _wrong_mode(run: FleetRun) -> Iterator[str]:
    if run.mode not in MODES:
        yield f"mode = {run.mode!r}: use one of {', '.join(MODES)}"
    if run.mode != "semi-synchronous" and run.learners != 1:
        yield f"learners = {run.learners}: only semi-synchronous runs have more than one"
    if not 1 <= run.learners <= run.nodes:
        yield f"learners = {run.learners}: must be from 1 to the {run.nodes} hosts"
        return
    if not 1 <= run.quorum <= run.learners:
        yield f"quorum = {run.quorum}: must be from 1 to learners = {run.learners}"
    unit_devices = run.unit_nodes * run.node_devices
    if run.elastic and not 1 <= run.replica_devices <= unit_devices:
        yield f"replica_devices = {run.replica_devices}: must be from 1 to the {unit_devices} of a job or learner"
    if run.mode == "semi-synchronous" and run.merge_s <= 0:
        yield f"merge_s = {run.merge_s}: must be above 0"


def _wrong_checkpoint(checkpoint: CheckpointPolicy) -> Iterator[str]:
    if checkpoint.interval_s <= 0:
        yield f"checkpoint interval_s = {checkpoint.interval_s}: must be above 0"
    if checkpoint.peer_interval_s is not None and checkpoint.peer_interval_s <= 0:
        yield f"checkpoint peer_interval_s = {checkpoint.peer_interval_s}: must be above 0, or left out"
    if checkpoint.write_s > checkpoint.interval_s + checkpoint.stall_s:
        yield (
            f"checkpoint interval_s = {checkpoint.interval_s}: shorter than writing takes (write_s = "
            f"{checkpoint.write_s:g}); lengthen it or give more storage bandwidth"
        )
    if checkpoint.peer_survives not in COMPONENTS:
        yield f"checkpoint peer_survives = {checkpoint.peer_survives!r}: use one of {', '.join(COMPONENTS)}"


def _wrong_causes(run: FleetRun) -> Iterator[str]:
    for cause in run.causes:
        if not (math.isfinite(cause.per_day) and cause.per_day >= 0):
            yield f"cause {cause.name!r}: per_day = {cause.per_day}: must be a finite number, not negative"
        if cause.component not in COMPONENTS:
            yield f"cause {cause.name!r}: component = {cause.component!r}: use one of {', '.join(COMPONENTS)}"
        if cause.group_nodes < 0 or (cause.component in ("device", "host") and cause.group_nodes != 1):
            yield f"cause {cause.name!r}: group_nodes = {cause.group_nodes}: 1 for a device or host, else 0 or more"
    names = [cause.name for cause in run.causes]
    if len(set(names)) != len(names):
        yield "two causes have the same name"
