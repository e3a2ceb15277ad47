"""Rungs that repeat their text until they do worse: no law of runs that still learn holds for what is above them."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

from tenfold.core import InputError
from tenfold.experiments.tasks import FLAT, RungResult


@dataclass(frozen=True)
class Overfit:
    """A rung that did worse on a holdout than a shorter one of the same size."""

    longer: RungResult
    shorter: RungResult


def overfitted(rungs: Sequence[RungResult], holdout: str, corpus_tokens: int) -> list[Overfit]:
    """Of each size the shortest rung that did worse than one before it, having seen some text more than once."""
    found = []
    by_size = sorted(rungs, key=lambda rung: (rung.size, rung.tokens))
    for _, of_size in groupby(by_size, key=lambda rung: rung.size):
        best: RungResult | None = None
        for rung in of_size:
            worse = best is not None and rung.holdouts[holdout] > best.holdouts[holdout] * (1 + FLAT)
            if worse and best is not None and rung.tokens > corpus_tokens:
                found.append(Overfit(rung, best))
                break
            best = rung if best is None or rung.holdouts[holdout] < best.holdouts[holdout] else best
    return found


def refuse_overfitted(rungs: Sequence[RungResult], holdout: str, corpus_tokens: int, target_tokens: int) -> None:
    """Raises InputError where a rung overfits: the target repeats its text more often still."""
    overfits = overfitted(rungs, holdout, corpus_tokens)
    if not overfits:
        return
    first = min(overfits, key=lambda each: each.longer.tokens)
    longer, shorter = first.longer, first.shorter
    raise InputError(
        f"predict: {longer.size} overfits on {holdout}: {longer.holdouts[holdout]:.3f} bits per byte after "
        f"{longer.tokens / corpus_tokens:.1f} epochs, {shorter.holdouts[holdout]:.3f} after "
        f"{shorter.tokens / corpus_tokens:.1f}; the target sees its text {target_tokens / corpus_tokens:.1f} times, "
        "and no law of runs that still learn says where that ends. Lower train.tokens, give more text, or set "
        "ladder.sizes = 0"
    )
