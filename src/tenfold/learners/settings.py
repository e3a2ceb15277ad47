"""What every process of a run works out from the campaign in the same way."""

from dataclasses import replace
from pathlib import Path

import torch

from tenfold.config import Campaign
from tenfold.core.errors import InputError
from tenfold.learners.outer import Fragment, OuterOptimizer, cut_model
from tenfold.learners.wire import Security
from tenfold.model import Transformer, initialise
from tenfold.train.ranks import Ranks


def batch_of(campaign: Campaign) -> int:
    """Samples of one inner step of a learner. Raises InputError when the batch cannot be shared out."""
    cluster, train, context = campaign.cluster, campaign.train, campaign.model.context
    if cluster.batch_tokens is not None:
        if cluster.batch_tokens % context:
            raise InputError(
                f"cluster.batch_tokens = {cluster.batch_tokens}: must be a multiple of model.context {context}"
            )
        return cluster.batch_tokens // context
    sequences = train.batch_tokens // context
    if sequences % cluster.learners:
        raise InputError(
            f"cluster.learners = {cluster.learners}: {sequences} sequences of train.batch_tokens cannot be shared "
            "equally; set cluster.batch_tokens"
        )
    return sequences // cluster.learners


def fragments_of(campaign: Campaign, model: Transformer) -> list[Fragment]:
    """The same cut at every learner and at the syncer."""
    shapes = {name: list(parameter.shape) for name, parameter in model.named_parameters()}
    return cut_model(shapes, campaign.cluster.fragments)


def sharing_machine(campaign: Campaign, ranks: Ranks) -> Ranks:
    """Learners started here share the cores: each counts the others as ranks of its machine."""
    if campaign.cluster.launch != "local":
        return ranks
    return replace(ranks, local_world_size=ranks.local_world_size * campaign.cluster.learners)


def server_security(campaign: Campaign, token: str) -> Security:
    """For a side that listens; it trusts its own certificate when it connects to itself."""
    cluster = campaign.cluster
    certificate = Path(cluster.tls_certificate) if cluster.tls_certificate else None
    key = Path(cluster.tls_key) if cluster.tls_key else None
    return Security(token, certificate, key, certificate)


def outer_optimizer(campaign: Campaign) -> OuterOptimizer:
    """As [cluster] says."""
    cluster = campaign.cluster
    return OuterOptimizer(cluster.outer_learning_rate, cluster.outer_momentum, cluster.precision)


def initial_model(campaign: Campaign, vocab_size: int) -> Transformer:
    """The initial weights: a function of the seed."""
    model = Transformer(campaign.model, vocab_size, torch.float32)
    initialise(model, campaign.seed)
    return model
