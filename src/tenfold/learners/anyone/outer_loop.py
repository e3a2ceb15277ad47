"""The outer step for anybody's loop: a context manager around a plain PyTorch model and its optimizer.

The loop trains as it did. Between two of its steps it calls `OuterLoop.step`, which sends what is due, takes what has
arrived from the other learners, and waits for neither.
"""

import math
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from uuid import uuid4

import torch
from torch import Tensor, nn

from tenfold.core import InputError, StopRequest, TenfoldError, raise_file_limit
from tenfold.learners.anyone.founding import FoundingPart, SettingsReply, SettingsRequest, part_key, recipe_of
from tenfold.learners.anyone.trainer import LeasedSamples, callback_of
from tenfold.learners.learner.connections import Connections
from tenfold.learners.learner.coordination import Agreement, LearnerStatus
from tenfold.learners.learner.joining import (
    IncarnationEnded,
    JoinedIncarnation,
    Joiner,
    JoinIdentity,
    JoiningModel,
    LearnerSite,
    PeerService,
    snapshot_of,
)
from tenfold.learners.learner.replica import InnerStep, Replica
from tenfold.learners.messages import Done, EndRequest, LeaveRequest
from tenfold.learners.outer import Fragment, cut_model, vector_of
from tenfold.learners.threads import WatchedThread, join_threads
from tenfold.learners.wire import BlobServer, Link, Refused, Security, Unreachable
from tenfold.learners.wire.security import token_from
from tenfold.train import Ranks, code_of_exchange

IDLE_S = 0.05
GOODBYE_S = 10.0
THREAD_S = 60.0
FIRST_WAIT_S = 60.0
SMOOTHING = 0.9  # of the pace
LOOPBACK = ("127.", "localhost", "[::1]")


@dataclass(frozen=True)
class OptimizerState:
    """The state of any torch optimizer, by the name of the parameter that it belongs to."""

    names: Mapping[int, str]
    """id of a parameter → its name."""
    parameters: Mapping[str, nn.Parameter]
    optimizer: torch.optim.Optimizer

    def tensors(self) -> dict[str, Tensor]:
        """Every tensor of it; what is no tensor stays with its learner."""
        return {
            f"{self.names[id(parameter)]}/{what}": value
            for parameter, state in self.optimizer.state.items()
            for what, value in state.items()
            if isinstance(value, Tensor) and id(parameter) in self.names
        }

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """Take another learner's, also before this optimizer has made a step.

        Raises TenfoldError when a tensor is of no parameter here, of another shape, or not finite.
        """
        for name, tensor in tensors.items():
            parameter = self.parameters.get(name.rpartition("/")[0])
            if parameter is None or (tensor.dim() and tensor.shape != parameter.shape):
                raise TenfoldError(f"inner state: {name} belongs to no parameter of this model")
            if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
                raise TenfoldError(f"inner state: {name} holds NaN or infinity")
        for name, tensor in tensors.items():
            of, _, what = name.rpartition("/")
            parameter = self.parameters[of]
            device = parameter.device if tensor.dim() else tensor.device
            self.optimizer.state[parameter][what] = tensor.clone().to(device)

    def clear(self) -> None:
        """Begin at zero, as torch does."""
        self.optimizer.state.clear()


class OuterLoop:
    """One learner of a run, around a loop of its own. Use it in a `with`, and iterate over it for samples.

        with tenfold.learner(model, optimizer, syncer="host:7000", name="a", batch=16) as outer:
            for samples in outer:
                ...  # an ordinary step, on these numbers of samples
                outer.step(tokens, loss)

    Every number below the run's total comes once, whichever learner gets it; those of a learner that dies come again.
    A loop with an order of its own leaves `samples` out, calls `step` alone, and ends when that returns False.
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        *,
        syncer: str,
        name: str,
        batch: int,
        token: str | None = None,
        token_file: str | Path | None = None,
        tls_root: str | Path | None = None,
        recipe: Mapping[str, Any] | None = None,
    ) -> None:
        """`syncer`: HOST:PORT as `tenfold syncer` printed it; `name`: this learner's own; `batch`: samples of one step.

        The token is given, or in a file, or in TENFOLD_TOKEN. `recipe`: whatever all learners of the run must have the
        same, such as {"learning_rate": 3e-4}; one that differs is refused by its key. Raises InputError for parameters
        that are not float32.
        """
        self._parameters = dict(model.named_parameters())
        for each, parameter in self._parameters.items():
            if parameter.dtype != torch.float32:
                raise InputError(f"{each} is {parameter.dtype}: a learner exchanges float32 parameters; use autocast")
        if batch < 1:
            raise InputError(f"batch = {batch}: samples of one step, at least 1")
        self._model, self._batch, self._config = model, batch, dict(recipe or {})
        given = token or token_from(Path(token_file) if token_file else None, Path("token"))
        self._security = Security(given, root_certificate=Path(tls_root) if tls_root else None)
        names = {id(parameter): name for name, parameter in self._parameters.items()}
        self._inner = OptimizerState(names, self._parameters, optimizer)
        self._syncer, self._name = syncer, name
        self._status, self._peers, self._stop = LearnerStatus(), PeerService(), StopRequest()
        self._stack, self._incarnation = ExitStack(), ExitStack()
        self._replica: Replica | None = None
        self._connections: Connections | None = None
        self._threads: list[WatchedThread] = []
        self._handed: deque[InnerStep] = deque()
        self._void, self._last = 0, (0, 0)
        self._places: dict[str, int] = {}
        self._seconds_per_step, self._stepped_at = 0.0, time.monotonic()
        self.finished = False
        """Whether all samples of the run are trained."""

    # In and out

    def __enter__(self) -> Self:
        raise_file_limit()
        settings = self._founded()
        self._site = LearnerSite(self._name, self._syncer, self._security, self._peer_address(), None)
        shapes = {name: list(parameter.shape) for name, parameter in self._parameters.items()}
        fragments = cut_model(shapes, min(settings.fragments, len(shapes)))
        identity = JoinIdentity(recipe_of(shapes, self._config), code_of_exchange(), self._config, "")
        alone = Ranks(0, 1, next(iter(self._parameters.values())).device)
        joining = JoiningModel(
            self._model, self._inner, alone, identity, settings.precision, settings.inner_steps, settings.total
        )
        self._joiner = Joiner(joining, self._site, fragments, self._batch, self._stop, Agreement(alone))
        self._join(None)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if not self.finished:
                self._leave(GOODBYE_S)
        finally:
            self._incarnation.close()
            self._stack.close()
            join_threads(self._threads, THREAD_S)

    def _peer_address(self) -> str | None:
        """Where learners that join may take the optimizer's state: beside a syncer on loopback."""
        if not self._syncer.startswith(LOOPBACK):
            return None
        server = BlobServer(self._peers, self._security)
        self._stack.callback(server.close)
        return server.address

    def _founded(self) -> SettingsReply:
        """How the run exchanges; brings the model where nobody has."""
        with closing(Link(self._syncer, self._security, patience=FIRST_WAIT_S)) as link:
            settings = link.ask(SettingsRequest(), SettingsReply)
            if settings.recipe is None:
                with suppress(Refused):  # another learner was first
                    self._found(link, settings)
            while settings.recipe is None:
                time.sleep(IDLE_S)
                settings = link.ask(SettingsRequest(), SettingsReply)
        return settings

    def _found(self, link: Link, settings: SettingsReply) -> None:
        shapes = {name: tuple(parameter.shape) for name, parameter in self._parameters.items()}
        values = {name: parameter.detach().cpu() for name, parameter in self._parameters.items()}
        founder = uuid4().hex
        for fragment in cut_model(shapes, min(settings.fragments, len(shapes))):
            part = FoundingPart(
                founder=founder, index=fragment.index, shapes=shapes, config=self._config, batch=self._batch
            )
            link.put(part_key(part), part.to_json(), _bytes_of(values, fragment))

    def _join(self, abandoned: tuple[int, int] | None) -> None:
        """Begin an incarnation, or find that the run is finished. Raises Refused when kept out."""
        self._incarnation.close()
        while True:
            try:
                joined = self._joiner.join(abandoned)
            except IncarnationEnded as error:
                abandoned = error.incarnation, error.steps
            else:
                break
        self._status.step, self._status.longest_gap, self._stepped_at = 0, 0.0, time.monotonic()
        self._void, self._handed = len(self._handed), deque()
        if joined is None:
            self.finished, self._replica = True, None
        else:
            self._connect(joined)

    def _connect(self, joined: JoinedIncarnation) -> None:
        self._replica = joined.replica
        self._places = self._where_it_lies()
        connections = Connections(self._site, joined, self._batch, self._status, is_first=True)
        self._connections = self._incarnation.enter_context(connections)
        self._threads = [thread for thread in self._threads if thread.is_alive] + connections.threads

    # The loop

    def __iter__(self) -> Iterator[range]:
        """Numbers of the samples of each next step, until the run is finished.

        It ends early where the syncer has no more now and a step that was given out is still to be trained, as with a
        loop that fetches ahead: iterate again after that.
        """
        while (step := self._next_step()) is not None:
            self._handed.append(step)
            yield range(step.first_sample, step.first_sample + step.samples)

    def step(self, tokens: int, loss: float | Tensor | None = None) -> bool:
        """One step of the loop is done, on so many tokens, with this mean loss (nats a token); False when all is.

        Call it after every step of the optimizer. A step that began before the syncer gave this learner up is undone.
        """
        if self.finished:
            return False
        if self._void:
            self._undo()
            return True
        taken = self._handed.popleft() if self._handed else self._next_step()
        if taken is None or self._replica is None or self._connections is None:
            return False
        nats = float(loss.detach()) if isinstance(loss, Tensor) else loss
        self._last = taken.position, tokens
        if nats is not None and not math.isfinite(nats):
            self._begin_again(self._replica, f"its loss is {nats}")
            return True
        self._count(taken, tokens, nats)
        self._exchange(self._replica, self._connections)
        return not self.finished

    def note_loss(self, loss: float) -> None:
        """Say the mean loss (nats a token) of the last step, where it was not known when `step` was called."""
        if self._connections and self._connections.heartbeat and math.isfinite(loss):
            position, tokens = self._last
            self._connections.heartbeat.loss(position, loss * tokens, max(1, tokens), 0.0)

    def dataset(self, sample: Callable[[int], Any]) -> LeasedSamples:
        """The samples of this learner as a torch data set for Hugging Face Trainer; `sample` makes one by its number.

        Needs `dataloader_num_workers=0`, and a batch (with accumulation) of as many samples as this learner's.
        """
        return LeasedSamples(self, self._batch, sample)

    def callback(self, tokens: int) -> Any:
        """A callback for Hugging Face Trainer: the outer step after each step, on so many tokens."""
        return callback_of(self, tokens)

    def _undo(self) -> None:
        """What was trained for an incarnation that is over counts nowhere: its samples go to others."""
        self._void -= 1
        for fragment in self._replica.fragments if self._replica else ():
            fragment.drop_unsent()

    def _next_step(self) -> InnerStep | None:
        """The samples of the next step; None when the run is finished. Waits for samples, and sends what is left."""
        while not self.finished:
            assert self._replica is not None and self._connections is not None and self._connections.leases is not None
            if self._connections.is_finished:
                self.finished = True
            elif why := self._connections.why_ended:
                self._say(f"incarnation {self._replica.number}: {why}; joining again")
                self._join((self._replica.number, self._replica.step))
            elif step := self._connections.leases.next(IDLE_S):
                self._status.idle = self._status.flushed = False
                return self._replica.placed(step)
            elif self._handed and self._connections.leases.is_exhausted:
                return None
            elif not self._handed:
                self._idle(self._replica, self._connections)
        return None

    def _idle(self, replica: Replica, connections: Connections) -> None:
        assert connections.leases is not None
        self._status.waits += 1
        self._status.idle = connections.leases.is_exhausted
        self._peers.serve(lambda: (snapshot_of(replica), self._inner.tensors()))
        connections.merge_arrived(replica)
        if self._status.idle:
            connections.send(replica, replica.unsent())
            self._status.flushed = connections.uplink.is_empty and not replica.unsent()

    def _count(self, taken: InnerStep, tokens: int, nats: float | None) -> None:
        assert self._replica is not None and self._connections is not None
        now = time.monotonic()
        seconds, self._stepped_at = now - self._stepped_at, now
        before = self._seconds_per_step
        self._seconds_per_step = SMOOTHING * before + (1 - SMOOTHING) * seconds if before else seconds
        self._replica.trained(tokens)
        self._status.step += 1
        self._status.tokens_per_second = tokens / max(self._seconds_per_step, 1e-6)
        if self._connections.leases:
            self._connections.leases.pace(self._seconds_per_step)
        if self._connections.heartbeat and nats is not None:
            self._connections.heartbeat.loss(taken.position, nats * tokens, tokens, 0.0)

    def _exchange(self, replica: Replica, connections: Connections) -> None:
        """Send what is due, take what has arrived."""
        due = replica.due()
        if due and self._where_it_lies() != self._places:
            raise InputError(
                f"{self._name}: the model's parameters were moved; bring it to its device before tenfold.learner, and "
                "let nothing replace them"
            )
        if not all(replica.fragments[index].is_finite for index in due):
            self._begin_again(replica, "its weights are not finite")
            return
        connections.send(replica, due)
        self._peers.serve(lambda: (snapshot_of(replica), self._inner.tensors()))
        connections.merge_arrived(replica)

    def _where_it_lies(self) -> dict[str, int]:
        """The memory of each parameter: the outer step reads and writes it there."""
        return {name: parameter.data_ptr() for name, parameter in self._parameters.items()}

    def _begin_again(self, replica: Replica, reason: str) -> None:
        """This learner has found itself wrong: what it has not sent is void; it takes good state from others."""
        self._say(f"incarnation {replica.number}: {reason}; joining again")
        self._tell(EndRequest(incarnation=replica.number, reason=reason))
        self._join((replica.number, replica.step))

    def _leave(self, patience: float) -> None:
        """Send what is trained, say goodbye: the samples that were not trained go to the others."""
        replica, connections = self._replica, self._connections
        if replica is None or connections is None:
            return
        until = time.monotonic() + patience
        while not (connections.uplink.is_empty and not replica.unsent()) and time.monotonic() < until:
            if connections.why_ended or connections.is_finished:
                break
            connections.send(replica, replica.unsent())
            time.sleep(IDLE_S)
        self._tell(LeaveRequest(incarnation=replica.number))

    def _tell(self, request: EndRequest | LeaveRequest) -> None:
        with closing(Link(self._syncer, self._security, patience=GOODBYE_S)) as link, suppress(Refused, Unreachable):
            link.ask(request, Done)

    def _say(self, line: str) -> None:
        print(f"{self._name}: {line}", file=sys.stderr, flush=True)


def _bytes_of(values: dict[str, Tensor], fragment: Fragment) -> bytes:
    return vector_of(values, fragment).view(torch.uint8).numpy().tobytes()
