"""Faults on purpose: when, what, how. Front door."""

from tenfold.cluster.chaos.faults import Context, NotInjected, inject
from tenfold.cluster.chaos.inside import ENVIRONMENT, InjectedFaults, allow_faults_from_signals
from tenfold.cluster.chaos.proxy import FaultyProxy
from tenfold.cluster.chaos.run import Chaos
from tenfold.cluster.chaos.schedule import Injection, planned

__all__ = [
    "ENVIRONMENT",
    "Chaos",
    "Context",
    "FaultyProxy",
    "InjectedFaults",
    "Injection",
    "NotInjected",
    "allow_faults_from_signals",
    "inject",
    "planned",
]
