"""Scores on the holdouts of a campaign: an observer while it trains, and the finished model on the whole of them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from tenfold.config import Campaign
from tenfold.core import CampaignFiles, RunConsole, digest_of, read_json, write_json
from tenfold.data import HoldoutDocument, Manifest, Workspace, epochs_in_words, load_holdout, token_byte_lengths
from tenfold.evaluate.score import (
    Score,
    compressed_bits_per_byte,
    score_documents,
    scoring_code_version,
)
from tenfold.evaluate.turning import TurnWatch, turn_in_words
from tenfold.model import Transformer
from tenfold.train import (
    Journal,
    Learner,
    Observer,
    Ranks,
    StepMeasure,
    Throughput,
    choose_device,
    load_trained,
    make_deterministic,
    plan_run,
    trained_as,
)

EVALUATION_BATCH = 32
HoldoutScorer = Callable[[Transformer, torch.device], Mapping[str, float]]
"""Scores a model, which lies on that device, on every holdout: name → bits per byte."""


@dataclass(frozen=True)
class BestKept:
    """The holdout by which the best checkpoint is kept, and what keeps the one after a step."""

    holdout: str
    keep: Callable[[int], None]


class HoldoutScores(Observer):
    """Scores the holdouts now and then and at the end, into the journal. The time it takes is no training time."""

    name = "holdouts"

    def __init__(
        self,
        learner: Learner,
        score_holdouts: HoldoutScorer,
        journal: Journal,
        throughput: Throughput,
        console: RunConsole | None = None,
        best: "BestKept | None" = None,
    ) -> None:
        """`best`: asked to keep the checkpoint of the lowest score."""
        self.essential = learner.ranks.world_size > 1  # ranks that share a model score it together, or wait for ever
        self._learner, self._score, self._journal = learner, score_holdouts, journal
        self._throughput, self._console, self._best = throughput, console, best
        self.watch = TurnWatch()

    def after_step(self, measure: StepMeasure) -> None:
        if not (measure.is_last or measure.step % self._learner.plan.evaluate_every == 0):
            return
        with self._throughput.watch.paused():
            scores = self._score(self._learner.model, self._learner.ranks.device)
        self._journal.note_holdouts(measure.step, scores)
        if scores and self._console:
            shown = "  ".join(f"{name} {value:.3f}" for name, value in scores.items())
            self._console.say(f"step {measure.step}/{measure.steps}  bits per byte  {shown}")
        epochs = epochs_in_words(self._learner.stream.epochs(measure.first_sample + measure.samples))
        for turn in self.watch.observe(measure.step, scores):
            self.notice(turn, turn_in_words(turn, epochs))
        if self._best and self._is_best(measure.step):
            self._best.keep(measure.step)
            self.save_now()

    def _is_best(self, step: int) -> bool:
        """Whether this step's score is the lowest; the first rank decides for all, so that all save or none."""
        assert self._best
        lowest = self.watch.lowest.get(self._best.holdout)
        return bool(self._learner.ranks.gathered(lowest is not None and lowest.step == step)[0])

    def state_dict(self) -> dict[str, Any]:
        return self.watch.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.watch.load_state_dict(state)
        if self._best and (lowest := self.watch.lowest.get(self._best.holdout)):
            self._best.keep(lowest.step)


def holdout_scorer(campaign: Campaign, files: CampaignFiles, manifest: Manifest) -> HoldoutScorer:
    """Scores the first `during_bytes` of every holdout while training goes on."""
    limit, lengths = campaign.evaluate.during_bytes, token_byte_lengths(files.data, manifest)
    documents = {
        h.name: limit_documents(load_holdout(files.data, manifest, h.name), limit, lengths)
        for h in campaign.data.holdouts
    }
    return partial(score_holdouts, campaign=campaign, manifest=manifest, documents=documents)


def limit_documents(
    documents: Sequence[HoldoutDocument], limit: int, byte_lengths: NDArray[np.int64]
) -> list[HoldoutDocument]:
    """Whole documents in their order, as many as fit into `limit` bytes.

    Where they fill less than half of it, the first that does not fit is cut to what is left.
    """
    chosen: list[HoldoutDocument] = []
    left, too_long = limit, None
    for document in documents:
        if len(document.text) <= left:
            chosen.append(document)
            left -= len(document.text)
        elif too_long is None:
            too_long = document
    if too_long is not None and left > limit / 2:
        chosen.append(_beginning(too_long, left, byte_lengths))
    return chosen


def _beginning(document: HoldoutDocument, limit: int, byte_lengths: NDArray[np.int64]) -> HoldoutDocument:
    """The first tokens of a document, those that stand for `limit` bytes at most, but one at least."""
    ends = np.cumsum(byte_lengths[document.tokens])
    count = max(1, int(np.searchsorted(ends, limit, side="right")))
    return HoldoutDocument(document.text[: ends[count - 1]], document.tokens[:count])


def full_scorer(campaign: Campaign, files: CampaignFiles, manifest: Manifest) -> HoldoutScorer:
    """Scores every holdout whole, as the final evaluation does: `max_bytes` of a holdout bounds both.

    A law of losses on a part of it would forecast the loss on that part.
    """
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
            campaign.stride,
            EVALUATION_BATCH,
            device,
        )


def evaluate_trained(workspace: Workspace, *, best: bool = False) -> dict[str, Any]:
    """Score the trained model, or its best checkpoint, on the whole of every holdout, beside compressors."""
    campaign, files, manifest = workspace.campaign, workspace.files, workspace.manifest
    trained = trained_as(workspace)
    of = [trained.result.weights_digest, manifest.digest, campaign.digested_stride, scoring_code_version()]
    made_from = digest_of([*of, asdict(trained.best)] if best and trained.best else of)
    file = files.evaluation_of_best if best else files.evaluation
    evaluation = read_json(file) or {}
    if evaluation.get("made_from") != made_from:
        device = choose_device(campaign.train.device)
        make_deterministic(plan_run(campaign, manifest.vocab_size, Ranks(0, 1, device)).threads)
        model = load_trained(workspace, trained, device, best=best)
        evaluation = {
            "made_from": made_from,
            "weights_digest": trained.result.weights_digest,
            "manifest": manifest.digest,
            "holdouts": {h.name: _evaluate_one(model, workspace, h.name, device) for h in manifest.holdouts},
        }
        write_json(file, evaluation)
    for name, scores in evaluation["holdouts"].items():
        peers = "  ".join(f"{peer} {scores[f'{peer}_bits_per_byte']:.3f}" for peer in ("gzip", "zstd", "xz"))
        workspace.console.say(f"evaluate: {name}: {scores['bits_per_byte']:.3f} bits per byte  ({peers})")
    return evaluation


def _evaluate_one(model: Transformer, workspace: Workspace, name: str, device: torch.device) -> dict[str, Any]:
    documents = load_holdout(workspace.files.data, workspace.manifest, name)
    peers = compressed_bits_per_byte(b"".join(document.text for document in documents))
    return {
        **asdict(score(model, workspace.campaign, workspace.manifest, documents, device)),
        "documents": len(documents),
        **{f"{peer}_bits_per_byte": value for peer, value in peers.items()},
    }
