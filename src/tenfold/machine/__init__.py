"""What this machine is and what it can do. Front door of the room."""

from tenfold.machine.doctor import MachineDescription, describe_machine
from tenfold.machine.identity import environment, has_cpp_compiler, numerics_fingerprint, usable_cores
from tenfold.machine.memory import forget_peak, peak_resident_bytes, resident_bytes
from tenfold.machine.peak import Peak, measured_peak

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
