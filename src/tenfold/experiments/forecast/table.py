"""Finished rungs as the tables that laws are fitted to."""

import math
from collections.abc import Sequence

from tenfold.data import Manifest
from tenfold.experiments.ladder.tasks import RungResult
from tenfold.scaling.laws import ladder_laws
from tenfold.scaling.predict import ScalingLaw, fit_scaling_law
from tenfold.scaling.table import Points, RunTable


def nats_per_token(manifest: Manifest, holdout: str, bits_per_byte: float) -> float:
    """Loss on a holdout: its bits are spread over its tokens."""
    text = next(text for text in manifest.holdouts if text.name == holdout)
    return bits_per_byte * math.log(2) * text.bytes / text.tokens


def fit_ladder_law(table: RunTable, seed: int) -> ScalingLaw:
    """The law of a ladder, its coefficients held near usual ones."""
    return fit_scaling_law(table, seed=seed, laws=ladder_laws(table))


def run_table(rungs: Sequence[RungResult], losses: Sequence[float], source: str, corpus_tokens: int) -> RunTable:
    """Rungs with a loss each. Cool-downs of one trunk share its luck, so the bootstrap draws them together."""
    tokens = [float(rung.tokens) for rung in rungs]
    points = Points.of(
        [rung.parameters for rung in rungs],
        tokens,
        [rung.compute for rung in rungs],
        [min(seen, corpus_tokens) for seen in tokens],
    )
    return RunTable.of(points, losses, [rung.trunk_fingerprint for rung in rungs], source)
