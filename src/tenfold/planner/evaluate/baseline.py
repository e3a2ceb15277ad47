"""What the cost model has to beat: constant model FLOP/s utilisation and the pipeline's bubble."""

from collections.abc import Sequence

import numpy as np

from tenfold.planner.calibration.measured import Measured
from tenfold.planner.cost.numbers import Array


def constant_mfu_seconds(measured: Measured, keys: Sequence[str]) -> Array:
    """Step time of each run if its family always had the utilisation of the median of its runs with other `keys`.

    Where a family has no others, all families' runs stand in; nan if there are none either.
    """
    families, key = np.array(measured.families), np.array(keys)
    ideal = _ideal_seconds(measured)
    slower = measured.seconds / ideal
    told = np.empty(len(measured))
    for family, each in sorted(set(zip(families, key, strict=True))):
        here = (families == family) & (key == each)
        others = (families == family) & (key != each)
        known = slower[others if others.any() else key != each]
        told[here] = ideal[here] * (np.median(known) if len(known) else np.nan)
    return told


def _ideal_seconds(measured: Measured) -> Array:
    """At full utilisation, with the bubble (p − 1) / (v · m)."""
    layout, shape = measured.layout, measured.shape
    flops = layout.sequences * shape.context * shape.training_flops_per_token
    bubble = (layout.pipeline - 1) / (layout.interleaving * layout.accumulation)
    return np.asarray(flops / (measured.device.matmul_flops * layout.devices) * (1 + bubble))
