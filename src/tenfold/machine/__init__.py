"""What this machine is and what it can do. Front door of the room."""

from tenfold.machine.doctor import MachineDescription, Peak, describe_machine, measured_peak
from tenfold.machine.identity import (
    environment,
    forget_peak,
    has_cpp_compiler,
    numerics_fingerprint,
    peak_resident_bytes,
    resident_bytes,
    usable_cores,
)

__all__ = [
    "MachineDescription",
    "Peak",
    "describe_machine",
    "environment",
    "forget_peak",
    "has_cpp_compiler",
    "measured_peak",
    "numerics_fingerprint",
    "peak_resident_bytes",
    "resident_bytes",
    "usable_cores",
]
