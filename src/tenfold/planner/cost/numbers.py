"""What the cost model computes with: one number, or an array with one number for each layout or run."""

from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

Array: TypeAlias = npt.NDArray[np.float64]
Numbers: TypeAlias = float | npt.NDArray[Any]
