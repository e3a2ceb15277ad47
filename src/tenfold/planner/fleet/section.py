"""The `[fleet]` table: what a simulation needs to know beyond the cluster."""

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, ValidationError

from tenfold.config import Section, explain, parse_document, read_text
from tenfold.core import InputError
from tenfold.planner.fleet.choose import first_interval, standby_spares
from tenfold.planner.fleet.run import (
    Cause,
    CheckpointPolicy,
    Component,
    EarlyFailures,
    FleetRun,
    Mode,
    Recovery,
    Stragglers,
    causes_of,
    profile_names,
    timing_seconds,
)
from tenfold.planner.hardware.accelerator import DAY
from tenfold.planner.hardware.cluster import Cluster

_NotNegative = Annotated[float, Field(ge=0)]
_Positive = Annotated[float, Field(gt=0)]
_Count = Annotated[int, Field(ge=0)]
_AtLeastOne = Annotated[int, Field(ge=1)]


class FleetCause(Section):
    """One `[[fleet.cause]]`: a cause beside those of the profile."""

    name: str
    """Shown in the results."""
    component: Component
    """device, host, rack, switch or site."""
    per_day: _NotNegative
    """Failures of one component a day."""
    group_nodes: _Count = 1
    """Hosts that go at once; 0 is the whole site."""
    replaced: bool = True
    """Whether its hosts leave for repair and need spares."""
    silent: bool = False
    """Whether it corrupts the training unseen."""


class FleetSection(Section):
    """The keys of `[fleet]`."""

    profile: str = "llama3-h100"
    """Shipped failure rates; "none" for only those of [[fleet.cause]]."""
    days: Annotated[float, Field(gt=0, le=36_500)] = 30.0
    """Length of the run."""
    mode: Mode = "synchronous"
    """synchronous, elastic or semi-synchronous."""
    checkpoint_bytes: _NotNegative = 0.0
    """Of one durable checkpoint; over the cluster's storage bandwidth, the time that writing takes."""
    checkpoint_interval_s: _Positive | None = None
    """Training between durable checkpoints. Default: Daly's for these failures."""
    checkpoint_stall_s: _NotNegative | None = None
    """Training stands still so long for each. Default: what writing takes; without checkpoint_bytes BLOOM's 40 s."""
    peer_interval_s: _Positive | None = None
    """Training between copies in the memory of other hosts. Default: no copies."""
    peer_stall_s: _NotNegative = 0.0
    """Training stands still so long for each copy."""
    peer_survives: Component = "host"
    """Largest group whose loss the copies survive."""
    detect_s: _NotNegative | None = None
    """From a failure until it is known and located. Default: MegaScale's 10 minutes."""
    restart_s: _NotNegative | None = None
    """From then until training goes on. Default: Meta's 10 minutes at 100,000 devices."""
    restart_devices: _AtLeastOne = 100_000
    """Size at which restart_s was measured."""
    restart_growth: _NotNegative = 0.0
    """Power of the size with which the restart grows."""
    reconfigure_s: _NotNegative = 30.0
    """Elastic: stall of all replicas when one leaves."""
    rejoin_s: _NotNegative = 30.0
    """Elastic: stall of all replicas when one comes back."""
    spares: _Count | None = None
    """Hot spare hosts beyond the cluster's devices. Default: enough for the hosts in repair 99% of the time."""
    repair_s: _NotNegative | None = None
    """Mean repair of a host. Default: Delta's 2.2 hours."""
    corruption_s: _NotNegative = 3600.0
    """Mean time until silent corruption is noticed."""
    learners: _AtLeastOne = 1
    """Semi-synchronous: learners."""
    quorum: _AtLeastOne = 1
    """Semi-synchronous: learners that merges need."""
    learner_elastic: bool = False
    """Semi-synchronous: whether each learner is elastic."""
    replica_devices: _Count = 0
    """Elastic: devices of one data-parallel replica."""
    merge_s: _Positive = 600.0
    """Semi-synchronous: training between merges."""
    merge_share: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Semi-synchronous: share of time that merging takes."""
    corruption_contained: bool = False
    """Semi-synchronous: whether merges keep corruption inside its learner."""
    fails_while_stopped: bool = True
    """Whether hardware fails as often while the job stands still."""
    infant_share: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Share of new devices that fail early; 3 to 10% is reported."""
    infant_days: _Positive = 90.0
    """Mean age at an early failure."""
    burn_in_days: _NotNegative = 0.0
    """Age of the fleet when the run begins."""
    straggler_per_day: _NotNegative = 0.0
    """Hosts that become slow, of one host a day."""
    straggler_slowdown: Annotated[float, Field(ge=0, lt=1)] = 0.1
    """Share of its speed that a slow host loses."""
    straggler_hours: _NotNegative = 24.0
    """Mean time until it is found."""
    rate_log_sd: Annotated[float, Field(ge=0, le=2)] = 0.0
    """Doubt about the rates: standard deviation of their common factor's logarithm."""
    cause: list[FleetCause] = Field(default_factory=list)
    """Causes beside those of the profile."""


class _FleetFile(Section):
    fleet: FleetSection = FleetSection()


def load_fleet(path: Path, cluster: Cluster) -> FleetRun:
    """Read `[fleet]` from a TOML file (other tables are not looked at). Raises InputError with one line."""
    text = read_text(path, f"profiles of failure rates: {', '.join(profile_names())}")
    document = parse_document(text, str(path))
    return fleet_run(parse_fleet(document, str(path)), cluster)


def parse_fleet(document: dict[str, Any], where: str) -> FleetSection:
    """`[fleet]` of a parsed TOML document called `where`; all defaults when there is none. Raises InputError."""
    try:
        return _FleetFile.model_validate({"fleet": document.get("fleet", {})}).fleet
    except ValidationError as error:
        raise InputError(explain(error, where, root=_FleetFile)) from None


def fleet_run(section: FleetSection, cluster: Cluster) -> FleetRun:
    """The run on this cluster. Raises InputError when the two do not fit."""
    run = FleetRun(
        cluster.devices,
        _checkpoint(section, cluster),
        _causes(section),
        node_devices=cluster.node_devices,
        sites=max(1, len(cluster.sites)),
        days=section.days,
        mode=section.mode,
        recovery=_recovery(section),
        learners=section.learners,
        quorum=section.quorum,
        learner_elastic=section.learner_elastic,
        replica_devices=section.replica_devices,
        merge_s=section.merge_s,
        merge_share=section.merge_share,
        corruption_contained=section.corruption_contained,
        fails_while_stopped=section.fails_while_stopped,
        infant=EarlyFailures(section.infant_share, section.infant_days * DAY, section.burn_in_days * DAY),
        stragglers=Stragglers(section.straggler_per_day, section.straggler_slowdown, section.straggler_hours * 3600),
        rate_log_sd=section.rate_log_sd,
    )
    if section.spares is None:
        run = replace(run, recovery=replace(run.recovery, spares=standby_spares(run)))
    if section.checkpoint_interval_s is None:
        run = replace(run, checkpoint=replace(run.checkpoint, interval_s=first_interval(run)))
    return run


def _checkpoint(section: FleetSection, cluster: Cluster) -> CheckpointPolicy:
    if section.checkpoint_bytes and cluster.storage_bandwidth <= 0:
        raise InputError(f"fleet: checkpoint_bytes needs a storage bandwidth above 0 on cluster {cluster.name!r}")
    write = section.checkpoint_bytes / cluster.storage_bandwidth if section.checkpoint_bytes else 0.0
    measured = write if section.checkpoint_bytes else timing_seconds("checkpoint-stall-bloom")
    stall = measured if section.checkpoint_stall_s is None else section.checkpoint_stall_s
    return CheckpointPolicy(
        section.checkpoint_interval_s or max(write, 1.0),
        stall,
        max(write, stall),
        section.peer_interval_s,
        section.peer_stall_s,
        section.peer_survives,
        storage_bound=bool(section.checkpoint_bytes) and section.checkpoint_stall_s is None,
    )


def _recovery(section: FleetSection) -> Recovery:
    def or_measured(value: float | None, name: str) -> float:
        return timing_seconds(name) if value is None else value

    return Recovery(
        or_measured(section.detect_s, "detect-and-diagnose"),
        or_measured(section.restart_s, "restart-100k"),
        section.restart_devices,
        section.restart_growth,
        section.reconfigure_s,
        section.rejoin_s,
        section.spares or 0,
        or_measured(section.repair_s, "repair-delta"),
        section.corruption_s,
    )


def _causes(section: FleetSection) -> tuple[Cause, ...]:
    shipped = () if section.profile == "none" else causes_of(section.profile)
    own = (Cause(**cause.model_dump()) for cause in section.cause)
    return (*shipped, *own)
