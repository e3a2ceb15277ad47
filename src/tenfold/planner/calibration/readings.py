"""Ways to read a row of which some cells are blank: every usual value of each, with how usual it is.

What people leave out is not 1 or none, but what they did not think of writing. A forecast of such a row is the mean
over its readings, and its interval is as much wider as they differ (`calibration.forecasts`).
"""

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from tenfold.planner.cost.layout import Array, Layout, Shape

RECOMPUTED = ((0.0, 0.45), (1.0, 0.2), (2.0, 0.35))
"""None, selective, full, and how many of the published runs of several frameworks used each."""
HABIT = 0.98
"""How usual a framework's habit is; what does not fit in memory that way was run in another."""
SPLIT_SHARDING = ((1.0, 0.8), (0.0, 0.2))
"""ZeRO stages of models that are split by tensor or pipeline parallelism too."""
WHOLE_SHARDING = ((3.0, 0.5), (1.0, 0.4), (0.0, 0.1))
"""ZeRO stages of models that are not."""
NOT_INTERLEAVED = 0.5
"""How many of the pipelines that could be are not interleaved."""
MOST_TENSOR, MOST_CONTEXT, MOST_MICRO_BATCH = 16.0, 16.0, 8.0
MOST_SPLIT = 64
UNUSUAL = 0.1
"""How usual stages of different length, or tensor parallelism beyond a domain, are beside what is usual."""
LONG_CONTEXT = 32_768.0
"""Tokens from which on contexts are often split."""
MOST_READINGS = 60
USABLE = 0.96
"""Share of a device's memory beyond which a run is forecast to fail. Of 1,758 published runs on 80 GB the fullest held
97%; a plan leaves more room (`search.question.MEMORY_SHARE`)."""
TOO_FULL = 1e-3
"""Likelihood of a reading that cannot fit in memory, beside one that does."""
COUNTED_SPREAD = 0.33
"""Standard deviation of memory that is counted and not fitted, in logarithms."""


def chance_to_fit(held: Array, capacity: float, spread: float) -> Array:
    """Chance that a forecast of so many bytes, off by `spread` in logarithms, is within what the device can give."""
    from scipy.special import ndtr  # plans start without it

    return TOO_FULL + (1 - TOO_FULL) * np.asarray(ndtr(np.log(USABLE * capacity / held) / spread))


@dataclass(frozen=True)
class Known:
    """What a row says of its layout; None where it does not."""

    devices: float
    sequences: float
    shape: Shape
    domain: float
    """Devices that the scale-up link joins."""
    tensor: float | None
    pipeline: float | None
    context: float | None
    data: float | None
    expert: float | None
    micro_batch: float | None
    accumulation: float | None
    interleaving: float | None
    sharding: float | None
    recomputation: float | None
    usual_recomputation: float | None = None
    """What the framework's users do as a rule, where the row does not say it."""


Weighted = tuple[Layout, float]


def readings(known: Known, base: Layout) -> list[Weighted]:
    """Layouts that the row may mean, likeliest first, weights summing to 1. `base` has all that a row always says.

    Empty where no layout fits together.
    """
    found = [
        (layout, weight)
        for degrees, usual in _degrees(known)
        for batch, likely in _batches(known, degrees)
        for layout, weight in _variants(known, replace(base, **degrees, **batch), usual * likely)
    ]
    found = sorted(found, key=lambda pair: -pair[1])[:MOST_READINGS]
    total = sum(weight for _, weight in found)
    return [(layout, weight / total) for layout, weight in found]


def _degrees(known: Known) -> Iterator[tuple[dict[str, float], float]]:
    """Tensor, pipeline, context, data and expert degrees that make up the devices."""
    options = [_tensor(known), _pipeline(known), _context(known)]
    all_given = None not in (known.tensor, known.pipeline)
    for (tensor, a), (pipeline, b), (context, c) in itertools.product(*options):
        shares = known.devices / (tensor * pipeline * context)
        data = max(1.0, shares)
        fits = shares == data == round(data) and known.data in (None, data) and known.sequences >= data
        if not (fits or all_given):  # a printed dp that does not fit is not used: some pages round it
            continue
        for expert, weight in _expert(known, data * context * tensor):
            degrees = {"tensor": tensor, "pipeline": pipeline, "context": context, "data": data, "expert": expert}
            yield degrees, a * b * c * weight


def _given(value: float | None, usual: Sequence[tuple[float, float]]) -> Sequence[tuple[float, float]]:
    return usual if value is None else ((value, 1.0),)


def _powers(most: float) -> list[float]:
    return [2.0**power for power in range(int(math.log2(max(most, 1.0))) + 1)]


def _tensor(known: Known) -> Sequence[tuple[float, float]]:
    """Divisors of the heads, as a rule powers of two inside the scale-up domain; FSDP has none beside it as a rule."""
    if known.tensor is not None:
        return [(known.tensor, 1.0)]
    heads = float(known.shape.heads)
    usual = _powers(min(MOST_TENSOR, known.domain))
    most = int(min(heads, known.devices, MOST_SPLIT))
    fitting = [float(each) for each in range(2, most + 1) if heads % each == 0 and known.devices % each == 0]
    return _shared(
        fitting, [1.0 if each in usual else UNUSUAL for each in fitting], 0.85 if known.sharding == 3 else 0.25
    )


def _shared(values: Sequence[float], weights: Sequence[float], alone: float) -> list[tuple[float, float]]:
    """No split at all with the weight `alone`, and the others by their weights."""
    total = sum(weights)
    return [(1.0, alone), *((each, (1 - alone) * one / total) for each, one in zip(values, weights, strict=True))]


def _pipeline(known: Known) -> Sequence[tuple[float, float]]:
    """Stages, as a rule such that share out the layers evenly; FSDP has none beside it as a rule."""
    if known.pipeline is not None:
        return [(known.pipeline, 1.0)]
    layers = float(known.shape.layers)
    most = int(min(layers, known.devices, MOST_SPLIT))
    stages = [float(each) for each in range(2, most + 1) if known.devices % each == 0]
    weights = [1.0 if layers % each == 0 or (layers + 2) % each == 0 else UNUSUAL for each in stages]
    return _shared(stages, weights, 0.9 if known.sharding == 3 else 0.3)


def _context(known: Known) -> Sequence[tuple[float, float]]:
    if known.shape.context < LONG_CONTEXT:
        return _given(known.context, [(1.0, 1.0)])
    ranks = _powers(MOST_CONTEXT)
    return _given(known.context, [(each, 1 / len(ranks)) for each in ranks])


def _expert(known: Known, ranks: float) -> Sequence[tuple[float, float]]:
    experts = float(known.shape.experts)
    if not experts:
        return [(1.0, 1.0)]
    if known.expert is not None:
        return [(known.expert, 1.0)] if ranks % known.expert == 0 else []
    fitting = [each for each in _powers(min(experts, ranks)) if experts % each == 0 and ranks % each == 0]
    return [(each, 1 / len(fitting)) for each in fitting]


def _batches(known: Known, degrees: dict[str, float]) -> Iterator[tuple[dict[str, float], float]]:
    """Micro-batch and how many of them one step has."""
    own = known.sequences / degrees["data"]
    micro = known.micro_batch
    if micro is None and known.accumulation is not None:
        micro = max(1.0, own / known.accumulation)
    fitting = [each for each in _powers(min(MOST_MICRO_BATCH, own)) if own % each == 0] or [1.0]
    for each, weight in _given(micro, [(size, 1 / len(fitting)) for size in fitting]):
        if own >= each:
            yield {"micro_batch": each, "accumulation": own / each}, weight


def _variants(known: Known, layout: Layout, weight: float) -> Iterator[Weighted]:
    """Sharding, interleaving and recomputation."""
    split = layout.tensor * layout.pipeline > 1
    shardings = _given(known.sharding, SPLIT_SHARDING if split else WHOLE_SHARDING)
    chunks = _given(known.interleaving, _interleaving(known, layout))
    options = itertools.product(shardings, chunks, _recomputations(known))
    for (sharding, a), (interleaving, b), (recomputation, c) in options:
        yield (
            replace(layout, sharding=sharding, interleaving=interleaving, recomputation=recomputation),
            weight * a * b * c,
        )


def _recomputations(known: Known) -> Sequence[tuple[float, float]]:
    habit = known.usual_recomputation
    if known.recomputation is not None or habit is None:
        return _given(known.recomputation, RECOMPUTED)
    others = [each for each, _ in RECOMPUTED if each != habit]
    return [(habit, HABIT), *((each, (1 - HABIT) / len(others)) for each in others)]


def _interleaving(known: Known, layout: Layout) -> Sequence[tuple[float, float]]:
    layers, pipeline = float(known.shape.layers), float(layout.pipeline)
    if pipeline == 1 or layout.accumulation % pipeline:
        return [(1.0, 1.0)]
    chunks = [
        float(each)
        for each in range(2, int((layers + 2) // pipeline) + 1)
        if layers % (pipeline * each) == 0 or (layers + 2) % (pipeline * each) == 0
    ]
    if not chunks:
        return [(1.0, 1.0)]
    return [(1.0, NOT_INTERLEAVED), *((each, (1 - NOT_INTERLEAVED) / len(chunks)) for each in chunks)]
