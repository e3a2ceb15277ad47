"""A fleet as `tenfold plan --simulate` asks about it: which failures, which sizes, and what people are told."""

import math
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path

from tenfold.core.errors import InputError
from tenfold.planner.fleet import (
    FleetCurves,
    FleetRun,
    FleetSection,
    IntervalChoice,
    SparesChoice,
    expected_goodput,
    first_interval,
    fleet_run,
    goodput_curves,
    load_fleet,
    profile_names,
    simulate_fleet,
)
from tenfold.planner.hardware import Cluster

LARGEST_FLEET = 10_000_000
STEADY = 0.97
FEW_REPLICAS = 10
FACTORS = (1 / 8, 1 / 2, 1, 4, 16, 64)
HOUR = 3600


def fleet_of(text: str, cluster: Cluster, checkpoint_bytes: float = 0.0) -> FleetRun:
    """A TOML file with a [fleet] table, or the name of a profile of failure rates. Raises InputError for neither.

    `checkpoint_bytes` go with a profile: those of the model, if one is known.
    """
    if Path(text).exists() or text.endswith(".toml"):
        return load_fleet(Path(text), cluster)
    if text in profile_names():
        return fleet_run(FleetSection(profile=text, checkpoint_bytes=checkpoint_bytes), cluster)
    raise InputError(f"--simulate {text}: no such file and no profile; profiles are {', '.join(profile_names())}")


def sizes_around(cluster: Cluster) -> list[int]:
    """Fleet sizes for the curves: whole hosts, from an eighth of the cluster to 64 times it."""
    host = cluster.node_devices
    sizes = {max(1, round(cluster.devices * factor / host)) * host for factor in FACTORS}
    return sorted(size for size in sizes if size <= LARGEST_FLEET)


def goodput_of(run: FleetRun) -> Callable[[int], float]:
    """Share of the time of so many devices that failures leave for training, simulated once for each size."""

    @cache
    def goodput(devices: int) -> float:
        spares = math.ceil(run.recovery.spares * devices / run.devices)
        sized = replace(run, devices=devices, recovery=replace(run.recovery, spares=spares))
        tuned = replace(sized, checkpoint=replace(sized.checkpoint, interval_s=first_interval(sized)))
        return simulate_fleet(tuned, FEW_REPLICAS).goodput.mean

    return goodput


def curves_around(run: FleetRun, cluster: Cluster, replica_devices: int) -> FleetCurves:
    """Goodput of three ways to train against the size of the fleet.

    `replica_devices` are those of one data-parallel replica where the run does not say; what divides all sizes counts.
    """
    sizes = sizes_around(cluster)
    replica = run.replica_devices or math.gcd(replica_devices, *sizes)
    return goodput_curves(
        replace(run, replica_devices=replica), sizes, learner_devices=_learner_devices(run, min(sizes))
    )


def _learner_devices(run: FleetRun, most: int) -> int:
    """The largest part of a fleet, halved from `most`, that alone would still spend STEADY of its time on training."""
    size = most
    while size % (2 * run.node_devices) == 0 and size > 2 * run.node_devices:
        alone = replace(run, devices=size, mode="synchronous", learners=1, quorum=1)
        checkpoint = replace(alone.checkpoint, interval_s=first_interval(alone))
        if expected_goodput(replace(alone, checkpoint=checkpoint)) >= STEADY:
            break
        size //= 2
    return size


def assumed_line(run: FleetRun) -> str:
    """What the figures rest on, most of all."""
    recovery, checkpoint = run.recovery, run.checkpoint
    return (
        f"assumes: found in {_span(recovery.detect_s)}, restarted in {_span(run.restart_s)}, a checkpoint every "
        f"{_span(checkpoint.interval_s)} stalls {checkpoint.stall_s:.0f} s, {recovery.spares} spare hosts"
    )


def interval_line(choice: IntervalChoice) -> str:
    """The checkpoint interval that the simulator prefers, beside the formulas'."""
    young, daly, best = (_span(seconds) for seconds in (choice.young_s, choice.daly_s, choice.best_s))
    return f"checkpoint every {best} (Young {young}, Daly {daly})"


def spares_line(choice: SparesChoice) -> str:
    """The number of spare hosts that is worth most."""
    return f"spare hosts: {choice.best} worth most; {choice.standby} are enough 99% of the time"


def _span(seconds: float) -> str:
    return f"{seconds / HOUR:.1f} h" if seconds >= 2 * HOUR else f"{seconds / 60:.1f} min"
