"""Faults on purpose: when, what, how. Front door."""

from tenfold.learners.chaos.faults import Context, NotInjected, inject
from tenfold.learners.chaos.inside import ENVIRONMENT, InjectedFaults, allow_faults_from_signals
from tenfold.learners.chaos.proxy import FaultyProxy
from tenfold.learners.chaos.run import Chaos
from tenfold.learners.chaos.schedule import Injection, planned

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
