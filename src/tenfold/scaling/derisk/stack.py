"""Several changes at once: the product of what each is worth alone, and whether the stack together holds it."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tenfold.core.errors import InputError
from tenfold.scaling.derisk.assessment import Assessment
from tenfold.scaling.derisk.worth import LEVELS, Worth


@dataclass(frozen=True)
class StackCheck:
    """All changes together against the product: measured over predicted, whether 1 is inside its 95% interval."""

    held: bool
    ratio: Worth
    why: str

    def record(self) -> dict[str, Any]:
        """The same as JSON values."""
        return {"held": self.held, "ratio": self.ratio.record(), "why": self.why}


def stacked(assessments: Sequence[Assessment]) -> Worth:
    """Product of the multipliers at the target, were the changes independent of each other.

    Half widths in ln add in squares. Changes measured against the same reference runs share those runs' luck, which
    this leaves out. Raises InputError where the assessments are for different targets.
    """
    targets = {assessment.target.compute for assessment in assessments}
    if len(targets) > 1:
        raise InputError(
            f"changes assessed for {len(targets)} different targets cannot be stacked; assess them for one"
        )
    value = sum(math.log(assessment.at_target.value) for assessment in assessments)
    worths = [assessment.at_target for assessment in assessments]
    return Worth.around(value, {level: math.hypot(*(worth.half(level) for worth in worths)) for level in LEVELS})


def stack_held(predicted: Worth, measured: Worth) -> StackCheck:
    """Compare the product with what all changes together were measured to be worth; both intervals count."""
    halves = {level: math.hypot(predicted.half(level), measured.half(level)) for level in LEVELS}
    ratio = Worth.around(math.log(measured.value / predicted.value), halves)
    both = f"together {measured.says(0.95)}, as a product {predicted.says(0.95)}: the ratio {ratio.says(0.95)}"
    if ratio.below(0.95):
        return StackCheck(False, ratio, f"{both} lies below 1, the changes overlap")
    if ratio.above(0.95):
        return StackCheck(False, ratio, f"{both} lies above 1, the changes help each other")
    return StackCheck(True, ratio, f"{both} holds 1, the gains multiply as far as these runs can tell")
