"""[ladder]: the small runs that forecast the target."""

from typing import Annotated

from pydantic import Field, model_validator

from tenfold.config.base import Section

FEWEST_SIZES = 3  # a curve forecast tests itself on the third


class Ladder(Section):
    """[ladder]: small runs with the target's code and data, from which its loss is forecast before it is trained."""

    sizes: Annotated[int, Field(ge=0, le=12)] = 4
    """Model sizes, 3 or more; 0 for no ladder and no forecast."""
    budgets: Annotated[int, Field(ge=2, le=12)] = 5
    """Amounts of compute, evenly spaced in their logarithm from smallest to largest."""
    smallest: Annotated[float, Field(gt=0, lt=1)] = 0.001
    """Compute of the smallest rungs, as a share of the target's."""
    largest: Annotated[float, Field(gt=0, lt=1)] = 0.1
    """Compute of the largest rungs, as a share of the target's."""
    workers: Annotated[int, Field(gt=0, le=1024)] | None = None
    """Rungs trained at the same time here. Default: one for each GPU, or for every `threads` cores."""
    threads: Annotated[int, Field(gt=0, le=1024)] = 1
    """CPU threads of one rung."""
    transfer: bool = True
    """Check on the two smallest sizes that the best learning rate is the same at both."""

    @model_validator(mode="after")
    def _spreads(self) -> "Ladder":
        if self.sizes in range(1, FEWEST_SIZES):
            raise ValueError(f"sizes = {self.sizes}: give {FEWEST_SIZES} or more, or 0 for no ladder")
        if self.smallest >= self.largest:
            raise ValueError(f"smallest {self.smallest} must be below largest {self.largest}")
        return self
