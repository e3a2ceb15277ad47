"""A run on this machine: one supervisor starts syncer and learners, restarts what dies, and says how far it is."""

import json
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tenfold.cluster.chaos.faults import Chaos
from tenfold.cluster.chaos.orders import take_orders
from tenfold.cluster.chaos.schedule import Injection, planned
from tenfold.cluster.settings import CHAOS_VARIABLE, TOKEN_VARIABLE
from tenfold.cluster.supervise import Child, Children, CrashLoop
from tenfold.cluster.wire import Link, Refused, Security, Unreachable
from tenfold.config import Campaign
from tenfold.errors import Interrupted, TenfoldError
from tenfold.train.console import RunConsole, duration
from tenfold.train.signals import StopRequest, stop_on_signal

POLL_S = 0.1
STATUS_S = 0.3
STARTING_S = 120.0
REJOIN_S = 2.0  # a sealed learner whose process lives and does not join again within this is killed
CRASH_WINDOW_S = 60.0
GRACE_S = 15.0
SYNCER = "syncer"


@dataclass(frozen=True)
class LocalRun:
    """What the supervisor needs to know."""

    campaign: Campaign
    directory: Path
    overrides: tuple[str, ...]
    token: str
    sequences: int
    steps: int
    tokens_per_sample: int

    @property
    def folder(self) -> Path:
        """State of the syncer and the learners, and their logs."""
        return self.directory / "cluster"


@dataclass
class _Watch:
    """What the supervisor remembers of each learner."""

    sealed_at: dict[str, float] = field(default_factory=dict)
    next_line: int = 0
    line_at: float = 0.0
    line_samples: int = 0


class Supervisor:
    """Processes of one run."""

    def __init__(self, run: LocalRun, console: RunConsole, say: Callable[..., None], on_loss: Callable[[int, float], str]):
        """`say` writes an event to the ledger; `on_loss(step, loss)` is told the loss at every line and may add to it."""
        self.run_, self.console, self._say, self._on_loss = run, console, say, on_loss
        self._children = Children()
        self._crashes = CrashLoop(run.campaign.cluster.crash_limit, CRASH_WINDOW_S)
        self._restart_at: dict[str, tuple[float, Child]] = {}
        self._kept: dict[str, Child] = {}
        self._given_up: dict[str, str] = {}
        self._watch = _Watch(next_line=run.campaign.train.log_every)
        self._port = run.campaign.cluster.port
        self._link: Link | None = None
        self._address = ""
        self._chaos: Chaos | None = None
        self._due: list[Injection] = []
        self.status: dict[str, Any] = {}

    def train(self) -> None:
        """Until the run is finished. Raises Interrupted when asked to stop, TenfoldError when it cannot go on."""
        with stop_on_signal() as stop, self._children:
            try:
                self._start(stop)
                self._follow(stop)
            finally:
                if self._chaos:
                    self._chaos.close()
                self._children.stop_all(GRACE_S)
        if stop.is_set:
            done = self.status.get("samples", 0) // self.run_.sequences
            raise Interrupted(
                f"stopped as asked; step {done}/{self.run_.steps} is saved. Run the same command again to go on"
            )

    # Starting

    def _start(self, stop: StopRequest) -> None:
        self._start_child(self._syncer())
        self._await_syncer(stop)
        for number in range(self.run_.campaign.cluster.learners):
            if self.run_.campaign.cluster.launch == "local":
                self._start_child(self._learner(f"learner-{number}"))
        chaos = self.run_.campaign.chaos
        targets = [SYNCER, *(name for name in self._kept if name != SYNCER)]
        self._due = planned(chaos, targets, horizon_seconds=24 * 3600.0)
        self._chaos = Chaos(self._children, {}, self._say)

    def _start_child(self, child: Child) -> None:
        self._kept[child.name] = child
        self._children.start(child)

    def _command(self, *words: str) -> tuple[str, ...]:
        sets = [word for override in self.run_.overrides for word in ("--set", override)]
        return (sys.executable, "-m", "tenfold", *words, *sets)

    def _environment(self) -> Mapping[str, str]:
        chaos = self.run_.campaign.chaos
        return {TOKEN_VARIABLE: self.run_.token, CHAOS_VARIABLE: "1" if chaos.faults or chaos.per_hour else "0"}

    def _child(self, name: str, command: tuple[str, ...]) -> Child:
        return Child(name, command, self._environment(), self.run_.folder / "logs" / f"{name}.log")

    def _syncer(self) -> Child:
        directory = str(self.run_.directory)
        return self._child(SYNCER, self._command("syncer", directory, "--port", str(self._port), "--child"))

    def _learner(self, name: str) -> Child:
        words = ("learner", str(self.run_.directory), "--syncer", self._address, "--name", name, "--child")
        return self._child(name, self._command(*words))

    @property
    def _address_file(self) -> Path:
        return self.run_.folder / "syncer.json"

    def _await_syncer(self, stop: StopRequest) -> None:
        """Until the syncer says where it listens; from then on it always listens there."""
        deadline = time.monotonic() + STARTING_S
        while time.monotonic() < deadline and not stop.is_set:
            for ended in self._children.poll():
                raise TenfoldError(f"the syncer did not start ({ended.status}): {ended.last_line}")
            found = _read(self._address_file)
            if found and found.get("pid") == self._children.pid(SYNCER):
                self._address = str(found["address"])
                self._port = int(self._address.rsplit(":", 1)[1])
                security = Security(self.run_.token, root_certificate=_path(self.run_.campaign.cluster.tls_certificate))
                self._link = Link(self._address, security, streams=1)
                self._kept[SYNCER] = self._syncer()
                return
            time.sleep(POLL_S)
        if not stop.is_set:
            raise TenfoldError(f"the syncer did not start within {STARTING_S:g} s; see {self.run_.folder / 'logs'}")

    # Following

    def _follow(self, stop: StopRequest) -> None:
        next_status = 0.0
        while not stop.is_set:
            self._restart_dead()
            self._take_orders()
            now = time.monotonic()
            if now >= next_status:
                next_status = now + STATUS_S
                self._look()
            if self.status.get("finished"):
                self._await_end()
                return
            time.sleep(POLL_S)

    def _look(self) -> None:
        assert self._link is not None
        try:
            self.status = self._link.call("status", {}, timeout=2.0, patience=2.0)
        except (Unreachable, Refused):
            return  # it is being restarted
        self._kill_the_stalled()
        self._inject_due()
        self._show()

    def _restart_dead(self) -> None:
        now = time.monotonic()
        for ended in self._children.poll():
            child = self._kept.get(ended.name)
            if child is None or (ended.returncode == 0 and ended.name != SYNCER):
                continue  # it left, or the run is finished
            if ended.returncode == 0 and self._is_finished():
                continue
            delay = self._crashes.note(ended.name, now, ended)
            if delay is None:
                self._give_up(ended.name)
                continue
            self._say("died", f"{ended.name} died ({ended.status}); started again", learner=ended.name)
            self.console.say(f"{ended.name} died ({ended.status}); starting it again")
            self._restart_at[ended.name] = (now + delay, child)
        for name, (at, child) in list(self._restart_at.items()):
            if now >= at:
                del self._restart_at[name]
                self._children.start(child)

    def _give_up(self, name: str) -> None:
        report = self._crashes.report(name)
        self._given_up[name] = report
        self._say("given-up", report, learner=name)
        self.console.say(f"warning: {report}")
        if name == SYNCER or self._given_up.keys() >= self._kept.keys() - {SYNCER}:
            raise TenfoldError(f"{report}; see {self.run_.folder / 'logs'}")

    def _kill_the_stalled(self) -> None:
        """A learner the syncer has given up but whose process hangs on is killed, and so started again."""
        now = time.monotonic()
        for name, learner in self.status.get("learners", {}).items():
            if learner["state"] != "sealed" or self._children.pid(name) is None:
                self._watch.sealed_at.pop(name, None)
                continue
            since = self._watch.sealed_at.setdefault(name, now)
            if "barred" in str(learner["reason"]):
                continue
            if now - since > REJOIN_S:
                self._watch.sealed_at.pop(name)
                self.console.say(f"{name}: {learner['reason']}; killed")
                self._children.kill(name)

    def _is_finished(self) -> bool:
        return bool(self.status.get("finished")) or (_read(self._address_file) or {}).get("finished") is True

    def _await_end(self) -> None:
        """The learners hear that the run is finished and end; so does the syncer."""
        deadline = time.monotonic() + GRACE_S
        while time.monotonic() < deadline and any(self._children.pid(name) for name in self._kept):
            self._children.poll()
            time.sleep(POLL_S)

    # Faults and orders

    def _inject_due(self) -> None:
        """Planned faults, by share of the run's tokens or by time since all learners train."""
        assert self._chaos is not None
        share = self.status["samples"] / self.status["total_samples"]
        for injection in list(self._due):
            if injection.is_due(share, self._chaos.seconds):
                self._due.remove(injection)
                self._chaos.inject(injection)

    def _take_orders(self) -> None:
        for order in take_orders(self.run_.folder / "orders"):
            match order.get("what"):
                case "fault" if self._chaos:
                    self._chaos.order(order)
                case "join":
                    self._start_child(self._learner(str(order["name"])))
                case "leave":
                    self._kept.pop(str(order["name"]), None)
                    self._children.stop(str(order["name"]))

    # Showing

    def _show(self) -> None:
        samples, sequences = int(self.status["samples"]), self.run_.sequences
        step, now = samples // sequences, time.monotonic()
        self.console.advance(step, self.run_.steps)
        if step < self._watch.next_line or self.status["loss"] is None:
            return
        watch = self._watch
        seconds = now - watch.line_at if watch.line_at else 0.0
        rate = (samples - watch.line_samples) * self.run_.tokens_per_sample / seconds if seconds else 0.0
        left = (self.run_.steps * sequences - samples) * self.run_.tokens_per_sample
        alive = sum(learner["state"] == "active" for learner in self.status["learners"].values())
        loss = float(self.status["loss"])
        versions = sum(self.status["versions"].values())
        self.console.say(
            f"step {step:>{len(str(self.run_.steps))}}/{self.run_.steps}  loss {loss:.4f}  {rate:,.0f} tok/s  "
            f"{alive} learners  {versions} merges  ETA {duration(left / rate) if rate else '?'}{self._on_loss(step, loss)}"
        )
        every = self.run_.campaign.train.log_every
        watch.next_line, watch.line_at, watch.line_samples = (step // every + 1) * every, now, samples


def _read(path: Path) -> dict[str, Any] | None:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return value if isinstance(value, dict) else None


def _path(name: str | None) -> Path | None:
    return Path(name) if name else None
