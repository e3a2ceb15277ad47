"""Watching for anybody's loop: signals, incidents and the page around a plain PyTorch model and its optimizer.

The loop trains as it did. A hook of the optimizer shows gradients and weights just before they meet, and
`WatchedLoop.step` tells the loss; whatever fails here is reported, taken out, and never felt by the loop.
"""

import math
import time
from collections.abc import Mapping
from contextlib import ExitStack, closing
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import torch
from torch import Tensor, nn

from tenfold.core import CampaignFiles, InputError, RunConsole, digest_of, run_console
from tenfold.ledger import GRAD_NORM, LEARNING_RATE, LOSS, Ledger, RunFailed
from tenfold.machine import environment
from tenfold.monitor.detect.watcher import RunWatcher
from tenfold.monitor.signals.board import SignalBoard, reading_interval
from tenfold.monitor.signals.digests import Digests
from tenfold.monitor.signals.norms import Norms
from tenfold.monitor.signals.process import StepTimes
from tenfold.monitor.signals.stall import StallWatch, write_stall
from tenfold.monitor.signals.text import BatchText
from tenfold.train import Batch, ConsoleWarnings, Journal, Observer, Observers, StepMeasure, Stopping

FLUSH_EVERY = 10
"""Steps whose figures are written to the ledger together."""
FIRST_TOKENS = 8192
"""Tokens that a step is taken to have before one has said how many."""


class LooseJournal(Journal):
    """The journal of a loop whose text is not known: no bits per byte."""

    def after_step(self, measure: StepMeasure) -> None:
        figures = {LOSS: measure.nats, GRAD_NORM: measure.grad_norm, LEARNING_RATE: measure.learning_rate}
        self.note(measure.step, figures)
        if measure.step % self._flush_every == 0:
            self.flush()


class LateText(BatchText):
    """Signals of a batch that is shown when its step is done."""

    name = "signals-text"

    def __init__(self, board: SignalBoard) -> None:
        super().__init__(board)
        self.shown: Tensor | None = None

    def before_step(self, batch: Batch) -> None:
        """There is nothing to see yet."""

    def after_step(self, measure: StepMeasure) -> None:
        if self.shown is not None:
            super().before_step(Batch(measure.step - 1, measure.first_sample, measure.samples, [self.shown]))
            super().after_step(measure)


class WatchedLoop:
    """What watches one run of a loop. Use it in a `with`, and call `step` after every step of the optimizer.

        with tenfold.watch(model, optimizer, run="runs/mine") as watch:
            for batch in loader:
                ...  # an ordinary step
                watch.step(loss, batch)

    Everything is written to `ledger.sqlite` in the folder; `tenfold watch runs/mine` shows it.
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        *,
        run: str | Path,
        step: int = 0,
        total: int | None = None,
        every: int | None = None,
        observers: tuple[Observer, ...] = (),
    ) -> None:
        """`run`: a folder, made where there is none. `step`: steps done before, of a run that goes on; `total`: steps
        of the whole run, where it is known. `every`: steps between two readings of all weights. `observers`: more of
        them, told as those of a run of tenfold's.

        Raises InputError for a folder that cannot be written or is one of tenfold's own campaigns.
        """
        if not any(parameter.requires_grad for parameter in model.parameters()):
            raise InputError("tenfold.watch: the model has no parameter that is trained")
        self._model, self._optimizer = model, optimizer
        self._folder, self._step, self._total, self._every = Path(run), step, total or 0, every
        self._more, self._stack, self._samples = observers, ExitStack(), 0
        self._grad_norm, self._in_parts = math.nan, False
        self._losses: list[Tensor] = []
        self._began = time.perf_counter()

    def __enter__(self) -> Self:
        folder = self._folder
        if (folder / "campaign.toml").exists():
            raise InputError(f"{folder}: a campaign, which tenfold itself trains and watches; give another folder")
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(f"{folder}: cannot be made ({error.strerror}); give another folder") from error
        with ExitStack() as stack:  # what is opened is closed again where the rest cannot be
            console = stack.enter_context(run_console())
            ledger = stack.enter_context(closing(Ledger(folder / "ledger.sqlite")))
            self._observers = self._observers_of(ledger, console)
            self._stack = stack.pop_all()
        self._hook = self._optimizer.register_step_pre_hook(self._before_update)
        self._forward_hook = self._model.register_forward_hook(self._keep_loss, with_kwargs=True)
        self._observers.started(self._step)
        return self

    def _observers_of(self, ledger: Ledger, console: RunConsole) -> Observers:
        shape = {name: list(parameter.shape) for name, parameter in self._model.named_parameters()}
        name = self._folder.resolve().name
        description = {"name": name, "config": {"shape": shape}, "manifest": "", "environment": environment()}
        journal = LooseJournal(ledger, digest_of([name, shape]), description, "train", FLUSH_EVERY)
        board, files = SignalBoard(journal.note), CampaignFiles(self._folder)
        every = self._every or reading_interval(FIRST_TOKENS)
        times, self._text = StepTimes(self._model, board, self._folder), LateText(board)
        signals = [times, self._text, Norms(self._model, board, every), Digests(self._model, board, every)]
        stall = StallWatch(lambda *what: console.warn(write_stall(files, journal.run_id, *what)))
        watcher = RunWatcher(board)
        return Observers([*signals, journal, stall, watcher, *self._more, ConsoleWarnings(console), times.last])

    def _before_update(self, *_: object) -> None:
        """Of the optimizer: gradients are whole, weights are those of before the step."""
        grads = [parameter.grad for parameter in self._model.parameters() if parameter.grad is not None]
        if grads:
            self._grad_norm = float(nn.utils.get_total_norm(grads))
        self._observers.before_step(Batch(self._step, self._samples, 0, []))
        if hook := self._observers.gradients_hook:
            hook(None)  # type: ignore[arg-type]  # no signal of these looks at the state

    def _keep_loss(self, module: nn.Module, arguments: Any, given: Mapping[str, Any], output: Any) -> None:
        """Keep the loss that a model returns beside its logits, as those of Hugging Face do.

        Where it is told how many tokens a step has in all its micro-batches, it returns the part of one of them.
        """
        self._in_parts = given.get("num_items_in_batch") is not None
        loss = output.get("loss") if isinstance(output, Mapping) else getattr(output, "loss", None)
        if module.training and isinstance(loss, Tensor) and loss.numel() == 1:
            self._losses.append(loss.detach())  # read when the step is done, so that no device is waited for

    def step(self, loss: Tensor | float | None = None, batch: Tensor | None = None) -> None:
        """Tell that a step is done: its loss in nats a token (default: the mean of what the model returned as `loss`
        since the step before) and its tokens [sequences, T], where the text is to be looked at too.
        """
        told = loss.detach() if isinstance(loss, Tensor) else loss
        value = self._returned() if told is None else float(told)
        self._losses.clear()
        self._step += 1
        samples = len(batch) if batch is not None else 1
        tokens = batch.numel() if batch is not None else 0
        self._text.shown = batch if batch is not None and batch.dim() == 2 and not batch.is_floating_point() else None
        now = time.perf_counter()
        rate = self._optimizer.param_groups[0]["lr"]
        measure = StepMeasure(
            step=self._step,
            steps=self._total,
            first_sample=self._samples,
            samples=samples,
            tokens=tokens,
            nats=value,
            bytes=math.nan,
            grad_norm=self._grad_norm,
            learning_rate=float(rate),
            seconds=now - self._began,
        )
        self._samples += samples
        self._observers.after_step(measure)
        self._began = time.perf_counter()

    def _returned(self) -> float:
        """The loss of the step as the model returned it; NaN where it returned none."""
        if not self._losses:
            return math.nan
        total = float(torch.stack(self._losses).float().sum())
        return total if self._in_parts else total / len(self._losses)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._hook.remove()
        self._forward_hook.remove()
        with self._stack:
            if error is None:
                self._observers.stopping(Stopping("done", self._step))
            elif isinstance(error, KeyboardInterrupt):
                self._observers.stopping(Stopping("interrupted", self._step, f"interrupted after step {self._step}"))
            else:
                said = f"{type(error).__name__}: {error}"
                self._observers.stopping(Stopping("failed", self._step, said, RunFailed()))
