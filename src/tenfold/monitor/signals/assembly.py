"""The signals of a run of tenfold's own trainer, in the order in which its loop tells them."""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from tenfold.core import CampaignFiles, RunConsole
from tenfold.data import Manifest, Tokenizer, load_tokenizer
from tenfold.experiments import ForecastWatcher
from tenfold.monitor.actions import Actions
from tenfold.monitor.detect.watcher import RunWatcher
from tenfold.monitor.health import MachineHealth
from tenfold.monitor.signals.board import SignalBoard, probe_interval, reading_interval
from tenfold.monitor.signals.digests import Digests, ReplicaDigest
from tenfold.monitor.signals.lives import Lives
from tenfold.monitor.signals.norms import Norms
from tenfold.monitor.signals.probe import ModelProbe
from tenfold.monitor.signals.process import StepTimes
from tenfold.monitor.signals.spectrum import AttentionSpectrum
from tenfold.monitor.signals.stall import StallWatch, write_stall
from tenfold.monitor.signals.text import BatchText, VocabularyText, odd_bytes
from tenfold.train import Journal, Learner, Observer

COUNTED_SAMPLES = 256
"""Of the training order, evenly spaced, in which tokens are counted to tell frequent from rare ones."""


def signals_of(learner: Learner, board: SignalBoard, tokenizer: Tokenizer, folder: Path) -> list[Observer]:
    """Observers of everything that is measured beside the step, the first and the last to be told at their ends.

    Sharded models are not probed, since all ranks would have to run the probe; norms and digests are then those of the
    first rank's part.
    """
    campaign, plan, model = learner.campaign, learner.plan, learner.model
    reading = reading_interval(plan.tokens_per_step, campaign)
    probing = probe_interval(plan.sequences, campaign)
    times = StepTimes(learner.root, board, folder)
    signals: list[Observer] = [times, _text_of(learner, board, tokenizer)]
    signals += [Norms(model, board, reading), Digests(model, board, reading)]
    if learner.ranks.world_size == 1 or campaign.train.parallel != "fsdp":
        counts = token_counts(learner, tokenizer.vocab_size)
        signals += [ModelProbe(model, board, counts, probing), AttentionSpectrum(model, board, probing)]
    return [*signals, times.last]


def _text_of(learner: Learner, board: SignalBoard, tokenizer: Tokenizer) -> BatchText:
    odd, lengths = odd_bytes(tokenizer.token_bytes), tokenizer.byte_lengths
    return BatchText(board, learner.stream, VocabularyText(odd, lengths, tokenizer.end_of_document))


def token_counts(learner: Learner, vocabulary: int) -> Tensor:
    """How often each token occurs in some samples of the training order, [vocabulary], int64."""
    total = learner.plan.steps * learner.plan.sequences
    numbers = np.unique(np.linspace(0, total - 1, min(COUNTED_SAMPLES, total)).astype(np.int64))
    tokens = learner.stream.take(numbers)
    return torch.from_numpy(np.bincount(tokens.reshape(-1).astype(np.int64), minlength=vocabulary))


def watched(
    learner: Learner, journal: Journal, files: CampaignFiles, console: RunConsole, others: list[Observer]
) -> list[Observer]:
    """All observers of a run: what [watch] asks for, with `others` between the first and the last.

    The first rank alone measures and acts: gradients are the same on all, and it has ledger and console; of replicas
    each takes the digest that they are compared by. Raises
    InputError for an action about incidents that there are none of.
    """
    watch = learner.campaign.watch
    if watch.enabled and learner.ranks.world_size > 1 and learner.campaign.train.parallel == "ddp":
        others = [*others, ReplicaDigest(learner.model)]
    if not learner.ranks.is_first:
        return others
    facts = {"campaign": learner.campaign.name, "fingerprint": learner.identity.fingerprint}
    acting: list[Observer] = [Actions(watch.actions, facts)] if watch.actions else []
    if not watch.enabled:
        return [*others, *acting]

    def tell(step: int, seconds: float, where: str) -> None:
        console.warn(write_stall(files, journal.run_id, step, seconds, where))

    tokenizer = load_tokenizer(files.data, Manifest.load(files.data))
    board = SignalBoard(journal.note)
    signals = signals_of(learner, board, tokenizer, files.directory)
    forecast = next((each.forecast for each in others if isinstance(each, ForecastWatcher)), None)
    watching = [
        MachineHealth(board.put, files.directory, learner.ranks.device),
        Lives(learner.campaign),
        StallWatch(tell),
        RunWatcher(board, watch.false_alarms, forecast=forecast),
    ]
    return [*signals[:-1], *others, *watching, *acting, *signals[-1:]]
