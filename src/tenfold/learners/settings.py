"""What every process of a run works out from the campaign in the same way."""

from dataclasses import replace
from pathlib import Path

import torch

from tenfold.config import Campaign
from tenfold.core import InputError
from tenfold.learners.outer import Fragment, OuterOptimizer, cut_model
from tenfold.learners.wire import Security
from tenfold.model import Transformer, initialise
from tenfold.train import Ranks


def batch_of(campaign: Campaign) -> int:
    """Samples of one inner step of a learner. Raises InputError when the batch cannot be shared out."""
    learners, train, context = campaign.learners, campaign.train, campaign.model.context
    if learners.batch_tokens is not None:
        if learners.batch_tokens % context:
            raise InputError(
                f"learners.batch_tokens = {learners.batch_tokens}: must be a multiple of model.context {context}"
            )
        return learners.batch_tokens // context
    sequences = train.batch_tokens // context
    if sequences % learners.count:
        raise InputError(
            f"learners.count = {learners.count}: {sequences} sequences of train.batch_tokens cannot be shared "
            "equally; set learners.batch_tokens"
        )
    return sequences // learners.count


def fragments_of(campaign: Campaign, model: Transformer) -> list[Fragment]:
    """The same cut at every learner and at the syncer."""
    shapes = {name: list(parameter.shape) for name, parameter in model.named_parameters()}
    return cut_model(shapes, campaign.learners.fragments)


def sharing_machine(campaign: Campaign, ranks: Ranks) -> Ranks:
    """Learners started here share the cores: each counts the others as ranks of its machine."""
    if campaign.learners.launch != "local":
        return ranks
    return replace(ranks, local_world_size=ranks.local_world_size * campaign.learners.count)


def server_security(campaign: Campaign, token: str) -> Security:
    """For a side that listens; it trusts its own certificate when it connects to itself."""
    learners = campaign.learners
    certificate = Path(learners.tls_certificate) if learners.tls_certificate else None
    key = Path(learners.tls_key) if learners.tls_key else None
    return Security(token, certificate, key, certificate)


def outer_optimizer(campaign: Campaign) -> OuterOptimizer:
    """The outer step that [learners] asks for."""
    learners = campaign.learners
    return OuterOptimizer(learners.outer_learning_rate, learners.outer_momentum, learners.precision)


def initial_model(campaign: Campaign, vocab_size: int) -> Transformer:
    """The initial weights: a function of the seed."""
    model = Transformer(campaign.model, vocab_size, torch.float32)
    initialise(model, campaign.seed)
    return model
