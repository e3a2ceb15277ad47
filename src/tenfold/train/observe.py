"""Observers: whatever watches a run. The loop knows none of them by name.

An observer overrides the hooks that it needs; a hook nobody overrides is not called. Hooks run on every rank, in the
order of the list: one that talks to other ranks must do so on all of them, and be `essential`. What one notices reaches
the observers of its own rank; the first rank's have ledger and console, and learn of the others' failures too.
"""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal, TypeAlias

from tenfold.core import Interrupted
from tenfold.ledger import EventPayload, Evidence, IncidentClosed, IncidentPayload, ObserverFailed

if TYPE_CHECKING:
    from tenfold.train.batching import Batch
    from tenfold.train.checkpoint import Checkpoint
    from tenfold.train.step import StepMeasure, TrainState


@dataclass(frozen=True)
class Notice:
    """Something that a person should know: an event, an incident, which wants an explanation, or that one is over.

    `evidence` is kept with an incident; a notice of the same cause adds to it.
    """

    what: EventPayload | IncidentPayload | IncidentClosed
    message: str
    evidence: tuple[Evidence, ...] = ()


@dataclass(frozen=True)
class Stopping:
    """How a run ends, after `step` steps: done, interrupted (it will go on), or failed, with the incident."""

    status: Literal["done", "interrupted", "failed"]
    step: int
    message: str = ""
    incident: IncidentPayload | None = None


@dataclass(frozen=True)
class LoopRequest:
    """What a rank wants of the loop; all ranks learn of it in the message that has the figures of the next step."""

    stop: bool = False
    """End here, with a checkpoint."""
    save: bool = False
    """Take a checkpoint."""
    back_to: int = 0
    """Go back to before this step, and leave out the batches from there to now; 0: go on."""
    beyond: int = 0
    """Leave out so many batches after now as well."""

    @property
    def flags(self) -> tuple[float, ...]:
        """As numbers whose sum over the ranks says it, where one rank at most asks to go back."""
        return float(self.stop), float(self.save), float(self.back_to), float(self.beyond)

    @classmethod
    def of(cls, stop: float, save: float, back_to: float, beyond: float) -> "LoopRequest":
        """Back from sums over the ranks."""
        return cls(stop > 0, save > 0, round(back_to), round(beyond))


NOTHING = LoopRequest()


class Observer:
    """What watches a run. Every hook may be left as it is."""

    name: ClassVar[str] = ""
    """Under which its state lies in a checkpoint; empty: its class's name."""
    essential: bool = False
    """Whether the run must stop when this observer fails. Others are reported and taken out."""
    _report: Callable[[Notice], None] | None = None
    _save: Callable[[], None] | None = None
    _ask: Callable[[LoopRequest], None] | None = None

    def started(self, step: int) -> None:
        """Training begins, or goes on, after `step` steps."""

    def resumed(self, step: int, checkpoint: "Checkpoint") -> None:
        """The run went back to a checkpoint; comes before `started`, and after `load_state_dict`."""

    def before_step(self, batch: "Batch") -> None:
        """A batch is at hand."""

    def gradients_ready(self, state: "TrainState") -> None:
        """All gradients of a step are there, averaged over the ranks and not yet clipped."""

    def after_step(self, measure: "StepMeasure") -> None:
        """A step is done, and was finite."""

    def saving(self, step: int) -> None:
        """A checkpoint is about to be taken: what should be on disk before it must be written now."""

    def saved(self, step: int) -> None:
        """The checkpoint after `step` steps is whole on disk. It may be told some steps later."""

    def noticed(self, notice: Notice) -> None:
        """The loop or another observer has something to report."""

    def stopping(self, stopping: Stopping) -> None:
        """The run ends here."""

    def agreeing(self) -> Mapping[str, float]:
        """Figures that must be the same on every rank now; asked after `saving`, and compared by the loop."""
        return {}

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint should keep: plain values, as JSON has them. Nothing: there is none."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take back what `state_dict` gave; not called where the checkpoint has nothing of this name."""

    def notice(
        self,
        what: EventPayload | IncidentPayload | IncidentClosed,
        message: str,
        evidence: tuple[Evidence, ...] = (),
    ) -> None:
        """Report something to all observers of the run."""
        if self._report:
            self._report(Notice(what, message, evidence))

    def save_now(self) -> None:
        """Ask for a checkpoint after this step. With several ranks all of them must ask at the same step."""
        if self._save:
            self._save()

    def ask(self, request: LoopRequest) -> None:
        """Ask for something that all ranks do after the next step; of the ranks, one at most may ask to go back."""
        if self._ask:
            self._ask(request)


HOOKS = (
    "started",
    "resumed",
    "before_step",
    "gradients_ready",
    "after_step",
    "saving",
    "saved",
    "noticed",
    "stopping",
)
Hook: TypeAlias = tuple[Observer, Callable[..., None]]


def name_of(observer: Observer) -> str:
    """Its name in checkpoints and reports."""
    return observer.name or type(observer).__name__


class Observers:
    """The observers of one run, told in order. Raises ValueError when two have the same name."""

    def __init__(self, observers: Iterable[Observer] = ()) -> None:
        self._all = list(observers)
        names = [name_of(observer) for observer in self._all]
        if twice := next((name for name in names if names.count(name) > 1), None):
            raise ValueError(f"two observers are called {twice!r}: give one of them another `name`")
        for observer in self._all:
            observer._report, observer._save, observer._ask = self.noticed, self._ask_to_save, self.ask
        self._save_asked, self._request = False, NOTHING
        self._hooks = {hook: self._overriding(hook) for hook in HOOKS}
        self._failures: list[Notice] = []

    def _overriding(self, hook: str) -> tuple[Hook, ...]:
        overridden = [o for o in self._all if getattr(type(o), hook) is not getattr(Observer, hook)]
        return tuple((observer, getattr(observer, hook)) for observer in overridden)

    def __iter__(self) -> Iterator[Observer]:
        return iter(self._all)

    def _tell(self, hook: str, *arguments: object) -> None:
        for observer, call in self._hooks[hook]:
            self._guarded(observer, call, *arguments)

    def _guarded(self, observer: Observer, call: Callable[..., Any], *arguments: object) -> Any:
        """One call; None when it fails and the run may go on without this observer."""
        try:
            return call(*arguments)
        except Interrupted:
            raise
        except Exception as error:
            if observer.essential:
                raise
            self._take_out(observer, error)
            return None

    def _take_out(self, observer: Observer, error: Exception) -> None:
        if observer not in self._all:  # it failed again while it was told of its own end
            return
        self._all.remove(observer)
        self._hooks = {hook: tuple(h for h in hooks if h[0] is not observer) for hook, hooks in self._hooks.items()}
        why = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
        message = f"observer {name_of(observer)} failed and is taken out, the run goes on without it: {why}"
        notice = Notice(ObserverFailed(observer=name_of(observer)), message)
        self._failures.append(notice)
        self.noticed(notice)

    def _ask_to_save(self) -> None:
        self._save_asked = True

    def ask(self, request: LoopRequest) -> None:
        """Keep a request until `take_request`, joined with those before it."""
        before = self._request
        self._request = LoopRequest(
            before.stop or request.stop,
            before.save or request.save,
            before.back_to or request.back_to,
            max(before.beyond, request.beyond),
        )

    def take_request(self) -> LoopRequest:
        """What observers of this rank have asked for since the last call."""
        request, self._request = self._request, NOTHING
        return request

    def take_save_request(self) -> bool:
        """Whether an observer has asked for a checkpoint since the last call."""
        asked, self._save_asked = self._save_asked, False
        return asked

    def take_failures(self) -> list[Notice]:
        """Observers taken out since the last call: what the other ranks have not heard of."""
        failures, self._failures = self._failures, []
        return failures

    def started(self, step: int) -> None:
        """Tell every observer; this and the methods below are the hooks of `Observer`."""
        self._tell("started", step)

    def resumed(self, step: int, checkpoint: "Checkpoint") -> None:
        self._tell("resumed", step, checkpoint)

    def before_step(self, batch: "Batch") -> None:
        self._tell("before_step", batch)

    @property
    def gradients_hook(self) -> "Callable[[TrainState], None] | None":
        """What to call when gradients are ready; None when nobody wants to know."""
        return self._gradients_ready if self._hooks["gradients_ready"] else None

    def _gradients_ready(self, state: "TrainState") -> None:
        self._tell("gradients_ready", state)

    def after_step(self, measure: "StepMeasure") -> None:
        self._tell("after_step", measure)

    def saving(self, step: int) -> None:
        self._tell("saving", step)

    def saved(self, step: int) -> None:
        self._tell("saved", step)

    def noticed(self, notice: Notice) -> None:
        self._tell("noticed", notice)

    def stopping(self, stopping: Stopping) -> None:
        self._tell("stopping", stopping)

    def agreeing(self) -> dict[str, float]:
        """Figures of all observers of this rank that must be the same on every rank, by name."""
        figures: dict[str, float] = {}
        for observer in list(self._all):
            figures |= self._guarded(observer, observer.agreeing) or {}
        return figures

    def state_dict(self) -> dict[str, Any]:
        """States of all that have one, by name."""
        states = {name_of(observer): self._guarded(observer, _plain_state, observer) for observer in list(self._all)}
        return {name: state for name, state in states.items() if state}

    def load_state_dict(self, states: Mapping[str, Any]) -> None:
        """Give each observer its state back. One that was not there when it was saved gets none."""
        for observer in list(self._all):
            if state := states.get(name_of(observer)):
                self._guarded(observer, observer.load_state_dict, state)


def _plain_state(observer: Observer) -> Any:
    """Its state as JSON gives it back. Raises TypeError or ValueError when it is not of plain values."""
    return json.loads(json.dumps(observer.state_dict(), allow_nan=False))


NOBODY = Observers()
