"""Where signals of a step meet: observers put figures here, the ledger and the detectors get them."""

import math
from collections.abc import Callable, Mapping

from tenfold.config import Campaign

TOKENS_FOR_EACH_READING = 16_384
"""Tokens of training that pay for one reading of all weights and gradients. A step costs 6 FLOP a parameter and token,
the readings together some 30 bytes a parameter: with 20 FLOP a byte, as CPUs have it, 0.6% of half as many tokens."""
PROBED_SEQUENCES = 2
PROBE_SHARE = 0.0015
"""Of a step's time, at most, for forward passes of the probed sequences; a forward pass is a third of a step's work."""


class SignalBoard:
    """The signals of the latest step. `note` takes them on, as `Journal.note` does."""

    def __init__(self, note: Callable[[int, Mapping[str, float]], None] | None = None) -> None:
        self._note = note
        self._step, self._values = -1, dict[str, float]()

    def put(self, step: int, values: Mapping[str, float]) -> None:
        """Add figures of `step`, the number of steps done. Those of an earlier step are forgotten."""
        if step != self._step:
            self._step, self._values = step, {}
        self._values.update(values)
        if self._note and values:
            self._note(step, values)

    def values(self, step: int) -> Mapping[str, float]:
        """What has been put for `step`; empty where nothing has."""
        return self._values if step == self._step else {}


def reading_interval(tokens_per_step: int, campaign: Campaign | None = None) -> int:
    """Steps between two readings of all weights: a function of the configuration alone, so that runs are alike."""
    if campaign and campaign.watch.every:
        return campaign.watch.every
    return max(1, math.ceil(TOKENS_FOR_EACH_READING / tokens_per_step))


def probe_interval(sequences_per_step: int, campaign: Campaign | None = None) -> int:
    """Steps between two probes of the model on PROBED_SEQUENCES sequences of the batch."""
    if campaign and campaign.watch.every:
        return campaign.watch.every
    return max(1, math.ceil(PROBED_SEQUENCES / (3 * sequences_per_step * PROBE_SHARE)))
