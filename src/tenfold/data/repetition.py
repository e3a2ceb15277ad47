"""What seeing the same text again is worth.

Muennighoff et al., arXiv 2305.16264, fit D' = U + U·R*·(1 − e^(−R/R*)) to hundreds of runs: U distinct tokens seen
1 + R times are worth D' new ones. Up to about four epochs nearly nothing is lost; after about forty, nearly nothing is
gained. Their runs are of models that fit their data; one that is too large for it turns to learning it by heart sooner.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

DECAY_OF_REPETITION = 15.39  # R*, their section 6
LITTLE_LOST = 4.0  # epochs
NOTHING_GAINED = 40.0  # epochs


def worth_in_new_tokens(distinct: float, epochs: float) -> float:
    """New tokens that `distinct` ones are worth when each is seen `epochs` times; below one epoch those seen."""
    if epochs <= 1:
        return distinct * epochs
    return distinct * (1 + DECAY_OF_REPETITION * (1 - math.exp(-(epochs - 1) / DECAY_OF_REPETITION)))


@dataclass(frozen=True)
class Repetition:
    """How often a run sees its text."""

    tokens: int
    """Of the run."""
    distinct: int
    """Training tokens of the corpus."""
    epochs: Mapping[str, float]
    """By source."""

    @property
    def most(self) -> float:
        """Epochs of the source that is seen most often."""
        return max(self.epochs.values())

    @property
    def is_excessive(self) -> bool:
        """Whether some text is repeated past any gain."""
        return self.most > NOTHING_GAINED

    def lines(self) -> list[str]:
        """For people, before training: how many epochs, and what they mean where it is more than a few."""
        lines = [f"{epochs_in_words(self.epochs)}: {self.tokens:,} tokens to train on, {self.distinct:,} in the corpus"]
        if self.most > LITTLE_LOST:
            lines.append(self._meaning())
        return lines

    def _meaning(self) -> str:
        worth = worth_in_new_tokens(self.distinct, self.tokens / self.distinct)
        fewer = f"train.tokens = {int(self.tokens * LITTLE_LOST / self.most)} for {LITTLE_LOST:.0f} epochs"
        share = f"these are worth about {worth:,.0f} new ones. "
        if len(set(self.epochs.values())) > 1:  # fewer tokens would rob the other sources
            share, fewer = "", f"a lower weight of source {max(self.epochs, key=lambda name: self.epochs[name])!r}"
        return (
            f"repeated tokens lose their value from about {LITTLE_LOST:.0f} epochs on and have none left after about "
            f"{NOTHING_GAINED:.0f} (arXiv 2305.16264): {share}Look whether a holdout turns upward; more text helps, "
            f"a smaller model, a higher train.optimizer.weight_decay, or {fewer}"
        )


def epochs_in_words(epochs: Mapping[str, float]) -> str:
    """`3.40 epochs`; where sources differ, the least and the most often seen: `1.20 (web) – 32.0 (notes) epochs`."""
    least, most = min(epochs, key=lambda name: epochs[name]), max(epochs, key=lambda name: epochs[name])
    if epochs[least] == epochs[most]:
        return f"{_figure(epochs[least])} epochs"
    return f"{_figure(epochs[least])} ({least}) – {_figure(epochs[most])} ({most}) epochs"


def _figure(value: float) -> str:
    return f"{value:.2g}" if value < 0.1 else f"{value:.2f}" if value < 10 else f"{value:.1f}"
