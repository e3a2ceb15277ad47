"""The weights a run with learners has published, and their holdouts' scores while it goes on."""

import threading
from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from tenfold.config import Campaign
from tenfold.core.errors import TenfoldError
from tenfold.core.folder import CampaignFiles
from tenfold.data import Manifest
from tenfold.learners.log import RunLog
from tenfold.learners.outer import cut_model
from tenfold.model import Transformer

PATIENCE_S = 10.0


def published_weights(campaign: Campaign, manifest: Manifest, files: CampaignFiles) -> dict[str, Tensor]:
    """The newest version of every fragment, by parameter. Raises TenfoldError when one is missing or damaged."""
    with torch.device("meta"):  # only names and shapes are needed
        model = Transformer(campaign.model, manifest.vocab_size, torch.float32)
    parameters = dict(model.named_parameters())
    fragments = cut_model({name: list(p.shape) for name, p in parameters.items()}, campaign.learners.fragments)
    weights = {}
    with RunLog.opened(files.learners) as log:
        for fragment in fragments:
            state = log.newest_state(fragment.index)
            if state is None:
                raise TenfoldError(f"{files.learners}: no version of fragment {fragment.index}")
            parts = torch.split(state.values, list(fragment.sizes))
            for name, part in zip(fragment.names, parts, strict=True):
                weights[f"model/{name}"] = part.view_as(parameters[name]).clone()
    return weights


class RunningScores:
    """Scores what is published each time the run has come `every` steps further, in a thread beside it.

    The learners do not wait for it; what falls due while a score is under way is left out, and one that fails is said
    and costs nothing else.
    """

    def __init__(
        self,
        every: int,
        score: Callable[[], Mapping[str, float]],
        note: Callable[[int, Mapping[str, float]], None],
        warn: Callable[[str], None],
    ) -> None:
        """`note(step, scores)` takes bits per byte by holdout, from the thread."""
        self._every, self._score, self._note, self._warn = every, score, note, warn
        self._next: int | None = None
        self._thread: threading.Thread | None = None

    def reached(self, step: int) -> None:
        """The run has done so many steps, and goes on."""
        if self._next is not None and step >= self._next and not (self._thread and self._thread.is_alive()):
            self._thread = threading.Thread(target=self.score, args=(step,), name="scores", daemon=True)
            self._thread.start()
            self._next = None
        if self._next is None:
            self._next = (step // self._every + 1) * self._every

    def score(self, step: int) -> None:
        """Score what is published now."""
        try:
            self._note(step, self._score())
        except Exception as error:  # whatever it is, a run must not end of its scores
            self._warn(f"warning: no scores at step {step} ({type(error).__name__}: {str(error)[:200]})")

    def close(self) -> None:
        """Wait for the score under way, but not long."""
        if self._thread:
            self._thread.join(PATIENCE_S)
