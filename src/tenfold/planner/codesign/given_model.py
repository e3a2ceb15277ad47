"""The search for the least time or cost that trains a given model."""

from collections.abc import Iterator

from tenfold.core.errors import InputError
from tenfold.planner.codesign.batch import critical_batch
from tenfold.planner.codesign.design import Design, trained_on
from tenfold.planner.codesign.load import given_shape, given_tokens
from tenfold.planner.codesign.terms import Terms
from tenfold.planner.codesign.trials import Laboratory, Trial, batch_sizes, parts
from tenfold.planner.cost.shape import Shape
from tenfold.planner.hardware import Cluster

AROUND = 0.1
"""Share of the critical batch that batches are tried around."""
DOUBLINGS = 2


def search_given(laboratory: Laboratory) -> list[Trial]:
    """Trials of the model over batches and, where cost is the aim, parts of the cluster. Raises InputError if none."""
    terms = laboratory.terms
    shape = shape_of(terms)
    _check_serving(shape, terms)
    found = []
    for cluster in parts(terms.cluster) if terms.goal.aim == "cost" else [terms.cluster]:
        sizes = _batches(terms, shape, cluster)
        found += [trial for size in sizes if (trial := laboratory.trial(shape, size, cluster)) is not None]
    if not found:
        raise InputError(next(iter(laboratory.reasons.values())))
    return found


def shape_of(terms: Terms) -> Shape:
    """Of the given model."""
    if terms.goal.model is None:
        raise InputError(f'aim = "{terms.goal.aim}" needs a [model] to train')
    return given_shape(terms.goal.model)


def designs_of(trials: list[Trial], terms: Terms) -> Iterator[Design]:
    """Every layout of every trial, trained as long as it needs."""
    for trial in trials:
        tokens = tokens_of(trial, terms)
        for choice in trial.found.best:
            yield trained_on(trial, choice, tokens, terms)


def tokens_of(trial: Trial, terms: Terms) -> float:
    """With a batch that is given exactly the tokens that are; else what its size needs."""
    tokens = given_tokens(terms.goal)
    return tokens if terms.goal.batch.tokens is not None else terms.needed(tokens, trial.batch_tokens)


def _batches(terms: Terms, shape: Shape, cluster: Cluster) -> list[int]:
    context = float(shape.context)
    if terms.goal.batch.tokens is not None:
        return [int(terms.goal.batch.tokens // context)]
    critical = critical_batch(given_tokens(terms.goal), terms.goal.batch.critical_tokens)
    return batch_sizes(AROUND * critical, context, cluster, DOUBLINGS)


def _check_serving(shape: Shape, terms: Terms) -> None:
    served = terms.serving_seconds(shape)
    if served is None or terms.serving is None or terms.fast_enough(served):
        return
    takes = "does not fit there" if served == float("inf") else f"takes {served * 1e3:.1f} ms"
    raise InputError(
        f"serving.milliseconds_per_token = {terms.serving.seconds_per_token * 1e3:g}: on {terms.serving.devices} "
        f"{terms.serving.accelerator.name} the model {takes}"
    )
