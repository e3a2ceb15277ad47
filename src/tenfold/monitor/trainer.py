"""Hugging Face Trainer watched: a callback that opens the watch when training begins and tells it every step."""

from pathlib import Path
from typing import Any

from tenfold.core import InputError
from tenfold.monitor.anyone import WatchedLoop
from tenfold.train import Observer


def watching_callback(run: str | Path, *, every: int | None = None, observers: tuple[Observer, ...] = ()) -> Any:
    """A TrainerCallback for `Trainer(callbacks=[…])`; the arguments are those of `WatchedLoop`.

    Raises InputError where transformers is missing.
    """
    try:
        from transformers import TrainerCallback
    except ImportError as error:
        raise InputError("to watch Hugging Face Trainer, transformers is needed: pip install 'tenfold[hf]'") from error

    class Watching(TrainerCallback):
        """Watches the process that logs; the others of a distributed run train as they did."""

        watch: WatchedLoop | None = None

        def on_train_begin(self, args: Any, state: Any, control: Any, **given: Any) -> None:
            if not state.is_world_process_zero:
                return
            optimizer = getattr(given["optimizer"], "optimizer", given["optimizer"])  # accelerate wraps it
            loop = WatchedLoop(
                given["model"],
                optimizer,
                run=run,
                step=state.global_step,
                total=state.max_steps,
                every=every,
                observers=observers,
            )
            self.watch = loop.__enter__()

        def on_step_end(self, args: Any, state: Any, control: Any, **given: Any) -> None:
            if self.watch:
                self.watch.step()

        def on_train_end(self, args: Any, state: Any, control: Any, **given: Any) -> None:
            if self.watch:
                self.watch.__exit__(None, None, None)
            self.watch = None

    return Watching()
