"""Hugging Face Trainer as a learner: a data set that asks for its samples, and a callback that makes the outer step."""

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from torch.utils.data import IterableDataset

from tenfold.core import InputError

if TYPE_CHECKING:
    from tenfold.learners.anyone.outer_loop import OuterLoop


class LeasedSamples(IterableDataset[Any]):
    """The samples that this learner is to train on, `batch` for each of its steps.

    The last step of a lease may have fewer: its samples are repeated then, so that steps and batches stay in pace.
    """

    def __init__(self, outer: "OuterLoop", batch: int, sample: Callable[[int], Any]) -> None:
        super().__init__()
        self._outer, self._batch, self._sample = outer, batch, sample

    def __iter__(self) -> Iterator[Any]:
        """Samples by their numbers in the run, until it is finished or the syncer has none now."""
        for numbers in self._outer:
            for place in range(self._batch):
                yield self._sample(numbers[place % len(numbers)])


def callback_of(outer: "OuterLoop", tokens: int) -> Any:
    """A TrainerCallback that makes the outer step after each step of the optimizer, on so many tokens."""
    try:
        from transformers import TrainerCallback
    except ImportError as error:
        raise InputError("Hugging Face Trainer as a learner needs transformers: pip install 'tenfold[hf]'") from error

    class OuterStep(TrainerCallback):
        """Ends training when all samples of the run are trained."""

        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> Any:
            if not outer.step(tokens):
                control.should_training_stop = True
            return control

        def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
            if logs and "loss" in logs:
                outer.note_loss(float(logs["loss"]))

    return OuterStep()
