# What other rooms may use of this one. The package loads each name when it is first asked for.
from .doctor import MachineDescription as MachineDescription
from .doctor import Peak as Peak
from .doctor import describe_machine as describe_machine
from .doctor import measured_peak as measured_peak
from .identity import choose_compute_dtype as choose_compute_dtype
from .identity import cpu_name as cpu_name
from .identity import environment as environment
from .identity import forget_peak as forget_peak
from .identity import has_cpp_compiler as has_cpp_compiler
from .identity import numerics_fingerprint as numerics_fingerprint
from .identity import peak_resident_bytes as peak_resident_bytes
from .identity import resident_bytes as resident_bytes
from .identity import usable_cores as usable_cores
