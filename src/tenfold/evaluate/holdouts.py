"""Scores of a model on the holdouts of a campaign, while it trains and at the end."""

from collections.abc import Mapping
from functools import partial

import torch

from tenfold.config import Campaign
from tenfold.core.folder import CampaignFiles
from tenfold.data import HoldoutDocument, Manifest, load_holdout
from tenfold.evaluate.score import Score, limit_documents, score_documents
from tenfold.model import Transformer
from tenfold.train.loop import HoldoutScorer

EVALUATION_BATCH = 32


def holdout_scorer(campaign: Campaign, files: CampaignFiles, manifest: Manifest) -> HoldoutScorer:
    """Scores the first documents of every holdout while training goes on."""
    documents = {
        h.name: limit_documents(load_holdout(files.data, manifest, h.name), campaign.evaluate.during_bytes)
        for h in campaign.data.holdouts
    }
    return partial(score_holdouts, campaign=campaign, manifest=manifest, documents=documents)


def full_scorer(campaign: Campaign, files: CampaignFiles, manifest: Manifest) -> HoldoutScorer:
    """Scores every holdout whole, as the final evaluation does."""
    documents = {holdout.name: load_holdout(files.data, manifest, holdout.name) for holdout in manifest.holdouts}
    return partial(score_holdouts, campaign=campaign, manifest=manifest, documents=documents)


def score_holdouts(
    model: Transformer,
    device: torch.device,
    campaign: Campaign,
    manifest: Manifest,
    documents: Mapping[str, list[HoldoutDocument]],
) -> dict[str, float]:
    """Bits per byte of the model as it is, on each holdout."""
    return {
        name: score(model, campaign, manifest, held_out, device).bits_per_byte for name, held_out in documents.items()
    }


def score(
    model: Transformer, campaign: Campaign, manifest: Manifest, documents: list[HoldoutDocument], device: torch.device
) -> Score:
    """Exact score of one holdout: every byte counted once. Eager: windows of many lengths would each compile anew."""
    context = campaign.model.context
    with torch.no_grad(), torch.compiler.set_stance("force_eager"):
        return score_documents(
            model.token_nats,
            [(document.tokens, len(document.text)) for document in documents],
            manifest.end_of_document,
            context,
            campaign.evaluate.stride or context // 2,
            EVALUATION_BATCH,
            device,
        )
