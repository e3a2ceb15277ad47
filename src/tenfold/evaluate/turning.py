"""Whether a holdout turns upward while training goes on, and where each was lowest."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from tenfold.ledger import HoldoutTurned

RISE, LARGE_RISE = 0.01, 0.05
"""Shares by which scores must lie above the lowest before them, to count as more than noise: twice running, or once."""


@dataclass(frozen=True)
class Lowest:
    """The lowest score of a holdout so far."""

    step: int
    bits_per_byte: float


class TurnWatch:
    """Shown the scores of a run one after the other, tells which holdouts have turned upward: once for each turn."""

    def __init__(self) -> None:
        self.lowest: dict[str, Lowest] = {}
        self._turned: set[str] = set()
        self._risen: set[str] = set()
        """Holdouts whose last score lay above the lowest."""

    def observe(self, step: int, scores: Mapping[str, float]) -> list[HoldoutTurned]:
        """The holdouts that are found to have turned at this step."""
        return [turn for name, value in scores.items() if (turn := self._observe(step, name, value))]

    def _observe(self, step: int, name: str, value: float) -> HoldoutTurned | None:
        lowest = self.lowest.get(name)
        if lowest is None or value < lowest.bits_per_byte:
            self.lowest[name] = Lowest(step, value)
            self._turned.discard(name)
            self._risen.discard(name)
            return None
        again, has_risen = name in self._risen, value > lowest.bits_per_byte * (1 + RISE)
        (self._risen.add if has_risen else self._risen.discard)(name)
        is_turn = (has_risen and again) or value > lowest.bits_per_byte * (1 + LARGE_RISE)
        if name in self._turned or not is_turn:
            return None
        self._turned.add(name)
        return HoldoutTurned(step, name, value, lowest.step, lowest.bits_per_byte)

    def state_dict(self) -> dict[str, Any]:
        """For a checkpoint."""
        lowest = {name: asdict(low) for name, low in self.lowest.items()}
        return {"lowest": lowest, "turned": sorted(self._turned), "risen": sorted(self._risen)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Back from a checkpoint."""
        self.lowest = {name: Lowest(**low) for name, low in state["lowest"].items()}
        self._turned, self._risen = set(state["turned"]), set(state["risen"])


def turn_in_words(turn: HoldoutTurned, epochs: str) -> str:
    """What it means and what helps, for people; `epochs`: how often the text has been seen."""
    return (
        f"{turn.holdout} turned upward: {turn.bits_per_byte:.3f} bits per byte at step {turn.step}, {turn.lowest:.3f} "
        f"at step {turn.lowest_step}, after {epochs} of the text, which is learned by heart from here on. Fewer "
        "train.tokens help, a higher train.optimizer.weight_decay, a smaller model, or more text; "
        "checkpoint.keep_best keeps the best checkpoint"
    )
