"""The fleet that fails while it trains: failure rates, simulation of a whole run, checkpoint interval, spares, size.

Front door: `simulate_fleet(FleetRun) -> FleetResult`; `fleet_run` makes a FleetRun of a cluster and a `[fleet]` table;
`best_interval` and `best_spares` choose; `goodput_curves` says where synchronous training stops making sense.
"""

from tenfold.planner.fleet.choose import (
    IntervalChoice,
    SparesChoice,
    SparesTried,
    best_interval,
    best_spares,
    daly_interval,
    expected_goodput,
    first_interval,
    standby_spares,
    young_interval,
)
from tenfold.planner.fleet.curves import CurvePoint, FleetCurves, goodput_curves
from tenfold.planner.fleet.rates import Cause, Component, Profile, Timing, load_profile, profile_names, timings
from tenfold.planner.fleet.result import KINDS, FleetResult, Interval, Kind
from tenfold.planner.fleet.run import (
    MEASURED_DEVICES,
    MODES,
    Checkpoint,
    FleetRun,
    Infant,
    Mode,
    Recovery,
    Stragglers,
    causes_of,
)
from tenfold.planner.fleet.section import FleetCause, FleetSection, fleet_run, load_fleet, parse_fleet
from tenfold.planner.fleet.simulate import simulate_fleet

__all__ = [
    "KINDS",
    "MEASURED_DEVICES",
    "MODES",
    "Cause",
    "Checkpoint",
    "Component",
    "CurvePoint",
    "FleetCause",
    "FleetCurves",
    "FleetResult",
    "FleetRun",
    "FleetSection",
    "Infant",
    "Interval",
    "IntervalChoice",
    "Kind",
    "Mode",
    "Profile",
    "Recovery",
    "SparesChoice",
    "SparesTried",
    "Stragglers",
    "Timing",
    "best_interval",
    "best_spares",
    "causes_of",
    "daly_interval",
    "expected_goodput",
    "first_interval",
    "fleet_run",
    "goodput_curves",
    "load_fleet",
    "load_profile",
    "parse_fleet",
    "profile_names",
    "simulate_fleet",
    "standby_spares",
    "timings",
    "young_interval",
]
