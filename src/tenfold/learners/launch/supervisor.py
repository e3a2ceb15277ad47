"""A run led from this machine: one supervisor starts syncer and learners, restarts what dies, says how far it is."""

import sys
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from tenfold.config import LINK_FAULTS, SYNCER, Fault
from tenfold.core import (
    Child,
    Children,
    CrashLoop,
    Ended,
    ForkServer,
    Interrupted,
    Rate,
    RunConsole,
    StopRequest,
    TenfoldError,
    stop_on_signal,
)
from tenfold.learners.faults.inject import ENVIRONMENT as CHAOS_VARIABLE
from tenfold.learners.faults.inject import FaultContext, Injection
from tenfold.learners.faults.proxy import FaultyProxy
from tenfold.learners.faults.schedule import FaultInjector, planned
from tenfold.learners.launch.commands import answer_command, check_name, clear_commands, commands_folder, take_commands
from tenfold.learners.launch.local_run import Launcher, LocalRun
from tenfold.learners.launch.processes import address_file, read_address
from tenfold.learners.launch.slurm import Slurm, SlurmJobs, learner_job
from tenfold.learners.messages import StatusReply, StatusRequest
from tenfold.learners.syncer.recorder import Recorder
from tenfold.learners.wire import Link, Refused, Security, Unreachable, is_loopback
from tenfold.learners.wire.security import TOKEN_VARIABLE
from tenfold.ledger import FaultInjected, FaultOver, FaultSkipped, OrderRefused, ProcessDied, ProcessGivenUp

POLL_S = 0.05
STATUS_S = 0.25
STARTING_S = 120.0
REJOIN_S = 0.5  # an evicted learner whose process is alive and does not join again within this is killed
CRASH_WINDOW_S = 60.0
GRACE_S = 15.0
SILENCE_S = 30.0  # without a word of the syncer, or without a learner, until that is said; then between two lines
CHAOS_HORIZON_S = 7 * 24 * 3600.0


@dataclass
class _Line:
    """When the last console line was, and where the run stood."""

    next_step: int
    rate: Rate | None = None
    """Of samples, since that line."""


@dataclass
class _Restarts:
    """Which processes are to be started again when, and which deaths are our own doing."""

    crashes: CrashLoop
    due: dict[str, tuple[float, Child]] = field(default_factory=dict)
    intended: set[str] = field(default_factory=set)
    given_up: set[str] = field(default_factory=set)
    earlier: dict[str, int] = field(default_factory=dict)
    """Newest incarnation of each learner that is not one of the process that runs, or that was killed for it."""
    evicted_at: dict[int, float] = field(default_factory=dict)
    """When an incarnation was first seen ended while its learner's process lived."""


@dataclass
class _Quiet:
    """Since when something has been missing, and when that was last said."""

    since: dict[str, float] = field(default_factory=dict)
    said_at: dict[str, float] = field(default_factory=dict)

    def due(self, what: str, now: float) -> float:
        """It is missing at `now` (s): for how long, where a line is due; else 0."""
        since = self.since.setdefault(what, now)
        if now - self.said_at.get(what, since) < SILENCE_S:
            return 0.0
        self.said_at[what] = now
        return now - since

    def over(self, what: str) -> None:
        """It is there."""
        self.since.pop(what, None)
        self.said_at.pop(what, None)


class Supervisor:
    """Processes of one run. Use `train`."""

    def __init__(
        self, run: LocalRun, console: RunConsole, recorder: Recorder, on_loss: Callable[[int, float], str]
    ) -> None:
        """`on_loss(step, loss)` is told the loss at every console line and may add to the line."""
        self._run, self._console, self._recorder, self._on_loss = run, console, recorder, on_loss
        self._stack = ExitStack()
        self._learners: Launcher
        if run.in_slurm:
            self._children, self._learners = Children(), _slurm_jobs(run, console)
        else:
            self._children = self._learners = self._forked_children()
        self._restarts = _Restarts(CrashLoop(run.campaign.learners.crash_limit, CRASH_WINDOW_S))
        self._kept: dict[str, Child] = {}
        self._proxies: dict[str, list[FaultyProxy]] = {}
        port = run.campaign.learners.port  # one that was asked for passes a firewall, so do the next
        self._ports = {
            name: (port + 2 * shard, port + 2 * shard + 1) if port else (0, 0) for shard, name in enumerate(run.syncers)
        }
        self._address = ""
        self._link: Link | None = None
        self._chaos: FaultInjector | None = None
        self._line = _Line(next_step=run.campaign.train.log_every)
        self.status = StatusReply()
        self._quiet = _Quiet()

    def train(self) -> None:
        """Until the run is finished. Raises Interrupted when asked to stop, TenfoldError when it cannot go on."""
        with stop_on_signal() as stop:
            with self._stack:  # faults end first: a slowed process would be stopped again
                self._stack.callback(self._stop)
                self._start(stop)
                self._follow(stop)
            if stop.is_set:
                raise self._interrupted()

    def _stop(self) -> None:
        """Learners first: what they have not sent yet, they send to the syncer now."""
        if self._learners is self._children:
            self._children.stop(set(self._children.running) - set(self._run.syncers), GRACE_S)
        else:
            self._learners.stop_all(GRACE_S)
        self._children.stop_all(GRACE_S)

    def _interrupted(self) -> Interrupted:
        done = self.status.samples // self._run.sequences
        return Interrupted(
            f"stopped as asked; step {done}/{self._run.steps} is reached. Run the same command again to go on"
        )

    # Starting

    def _forked_children(self) -> Children:
        server = ForkServer((sys.executable, "-m", "tenfold", "fork-server"))
        self._stack.callback(server.close)
        return Children(server)

    def _launcher(self, name: str) -> Launcher:
        return self._children if name in self._run.syncers else self._learners

    def _start(self, stop: StopRequest) -> None:
        clear_commands(commands_folder(self._run.folder))
        for name in self._run.syncers:
            self._start_child(self._syncer(name))
        for name in self._run.syncers:
            self._await_syncer(name, stop)
        if stop.is_set:
            return
        self.status = self._ask_status(STARTING_S)  # which incarnations there are that no process of now has
        for name in self._run.learners:
            self._start_child(self._learner(name))

    def _start_child(self, child: Child) -> None:
        self._launch(child)
        self._kept[child.name] = child
        self._restarts.due.pop(child.name, None)  # a command came before its restart was due

    def _launch(self, child: Child) -> None:
        learner = self.status.learners.get(child.name)
        if learner is not None:
            self._restarts.earlier[child.name] = learner.incarnation
        self._launcher(child.name).start(child)

    def _child(self, name: str, *words: str) -> Child:
        command = (sys.executable, "-m", "tenfold", *words, *self._run.sets, "--child")
        return Child(name, command, self._environment(), self._run.logs / f"{name}.log")

    def _environment(self) -> Mapping[str, str]:
        return {TOKEN_VARIABLE: self._run.token, CHAOS_VARIABLE: "1"}  # `tenfold chaos` may come at any time

    def _syncer(self, name: str) -> Child:
        control, bulk = map(str, self._ports[name])
        shard = () if name == SYNCER else ("--shard", str(self._run.syncers.index(name)))
        return self._child(name, "syncer", str(self._run.directory), *shard, "--port", control, "--bulk-port", bulk)

    def _learner(self, name: str) -> Child:
        address = self._address
        if self._run.disturbs_links:
            host = address.rsplit(":", 1)[0]
            if name not in self._proxies:
                ports = [port for of_shard in self._ports.values() for port in of_shard]
                self._proxies[name] = [self._stack.enter_context(FaultyProxy(host, port)) for port in ports]
            proxies = self._proxies[name]
            pairs = zip(proxies[::2], proxies[1::2], strict=True)
            address = ",".join(f"127.0.0.1:{control.port}:{bulk.port}" for control, bulk in pairs)
        words = ("learner", "run", str(self._run.directory.resolve()), "--syncer", address)
        if self._run.in_slurm:
            return learner_job(name, (*words, *self._run.sets), self._run.campaign.learners.slurm_ranks, self._run.logs)
        return self._child(name, *words, "--name", name)

    def _await_syncer(self, name: str, stop: StopRequest) -> None:
        """Until this process of the syncer says where it listens; from then on it always listens there."""
        deadline, path = time.monotonic() + STARTING_S, address_file(self._run.folder, self._run.syncers.index(name))
        while time.monotonic() < deadline and not stop.is_set:
            for ended in self._children.poll():
                raise TenfoldError(f"the {ended.name} did not start ({ended.how}): {ended.last_line}")
            found = read_address(path)
            if found and found["pid"] == self._children.pid(name):
                self._ports[name] = (found["port"], found["bulk_port"])
                self._kept[name] = self._syncer(name)
                if name == SYNCER:
                    self._connect(found["address"])
                return
            time.sleep(POLL_S)
        if not stop.is_set:
            raise TenfoldError(f"the {name} did not start within {STARTING_S:g} s; see {self._run.logs}")

    def _connect(self, address: str) -> None:
        certificate = self._run.campaign.learners.tls_certificate
        security = Security(self._run.token, root_certificate=Path(certificate) if certificate else None)
        self._address, self._link = address, Link(address, security, streams=1)

    # Following

    def _follow(self, stop: StopRequest) -> None:
        next_status = 0.0
        while not stop.is_set:
            self._restart_dead()
            self._take_commands()
            now = time.monotonic()
            if now >= next_status:
                next_status = now + STATUS_S
                self._look()
            if self._is_finished():
                self._await_end()
                return
            time.sleep(POLL_S)

    def _look(self) -> None:
        try:
            self.status = self._ask_status(2.0)
        except (Unreachable, Refused) as error:  # it is being restarted, or hangs
            since = self._quiet.due("syncer", time.monotonic())
            if since:
                self._console.warn(f"the syncer has not answered for {since:.0f} s ({error}); asked again")
            return
        self._quiet.over("syncer")
        self._say_whether_alone()
        self._kill_the_stalled()
        self._begin_chaos()
        self._show()

    def _say_whether_alone(self) -> None:
        """A run that waits for learners says so, and how to start one."""
        if any(learner.state in ("active", "joining") for learner in self.status.learners.values()):
            self._quiet.over("learners")
            return
        since = self._quiet.due("learners", time.monotonic())
        if since:
            left = self.status.total_samples - self.status.samples
            how = f"start one: tenfold learner join {self._run.directory} --name NAME, or stop here and go on later"
            self._console.warn(f"no learner has trained for {since:.0f} s, {left:,} samples are left; {how}")

    def _ask_status(self, patience: float) -> StatusReply:
        assert self._link is not None
        return self._link.ask(StatusRequest(), StatusReply, timeout=2.0, patience=patience)

    def _restart_dead(self) -> None:
        now, restarts = time.monotonic(), self._restarts
        for ended in (*self._children.poll(), *self._learners.poll()):
            child = self._kept.get(ended.name)
            if child is None or self._is_finished() or (ended.code == 0 and ended.name not in self._run.syncers):
                continue
            delay: float | None = 0.0
            if ended.name in restarts.intended:
                restarts.intended.discard(ended.name)
            else:
                delay = restarts.crashes.note(ended.name, now, ended.waited)
            if delay is None:
                self._give_up(ended)
                continue
            self._recorder.say(ProcessDied(ended.name, ended.how), f"{ended.name} died ({ended.how}); started again")
            self._console.say(f"{ended.name} died ({ended.how}); starting it again")
            restarts.due[ended.name] = (now + delay, child)
        for name, (at, child) in list(restarts.due.items()):
            if now >= at:
                del restarts.due[name]
                self._launch(child)

    def _give_up(self, ended: Ended) -> None:
        report = self._restarts.crashes.report(ended)
        self._restarts.given_up.add(ended.name)
        self._recorder.say(ProcessGivenUp(ended.name), report)
        self._console.warn(report)
        if ended.name in self._run.syncers or self._restarts.given_up >= self._kept.keys() - set(self._run.syncers):
            raise TenfoldError(f"{report}; see {self._run.logs}")

    def _kill_the_stalled(self) -> None:
        """A learner the syncer has given up but whose process hangs on is killed, and so started again."""
        now, restarts = time.monotonic(), self._restarts
        for name, learner in self.status.learners.items():
            incarnation = learner.incarnation
            if learner.state not in ("evicting", "evicted") or incarnation <= restarts.earlier.get(name, 0):
                continue  # one of a process before: that which starts now is to be left alone
            if now - restarts.evicted_at.setdefault(incarnation, now) > REJOIN_S:
                restarts.earlier[name] = incarnation
                if self._learners.kill(name):
                    restarts.intended.add(name)
                    self._console.say(f"{name}: {learner.reason}; killed")

    def _is_finished(self) -> bool:
        found = read_address(address_file(self._run.folder))
        return self.status.finished or bool(found and found["finished"])

    def _await_end(self) -> None:
        """The learners hear that the run is finished and end; so does the syncer."""
        deadline = time.monotonic() + GRACE_S
        while time.monotonic() < deadline and (self._children.running or self._learners.running):
            time.sleep(POLL_S)

    # Faults and commands

    def _begin_chaos(self) -> None:
        """Once every learner has trained: faults are planned from there."""
        learners = self.status.learners
        training = all(name in learners and learners[name].steps for name in self._run.learners)
        if self._chaos is not None or not training:
            return
        targets = [*self._run.syncers, *self._run.learners]
        injections = planned(self._run.campaign.chaos, targets, CHAOS_HORIZON_S, self._run.campaign.seed)
        context = FaultContext(self._children, self._proxies)
        self._chaos = self._stack.enter_context(FaultInjector(injections, context, self._heard_of_fault, self._share))

    def _share(self) -> float:
        return self.status.samples / max(1, self._run.steps * self._run.sequences)

    def _heard_of_fault(self, what: FaultInjected | FaultOver | FaultSkipped, message: str) -> None:
        if isinstance(what, FaultInjected) and what.fault == "kill":
            self._restarts.intended.add(what.target)
        self._recorder.say(what, message)
        self._console.say(f"{what.kind}: {message}")

    def _take_commands(self) -> None:
        for command in take_commands(commands_folder(self._run.folder), self._refuse_command):
            try:
                self._obey(command.what)
            except (KeyError, ValidationError, TenfoldError) as error:
                refusal = str(error).splitlines()[0]
                self._refuse_command(refusal)
                answer_command(command, refusal)
            else:
                answer_command(command)

    def _refuse_command(self, why: str) -> None:
        self._recorder.say(OrderRefused(), why)
        self._console.warn(f"command not obeyed: {why}")

    def _obey(self, command: Mapping[str, Any]) -> None:
        match command.get("what"):
            case "fault":
                self._add_fault(Fault.model_validate(command["fault"]))
            case "join":
                name = check_name(str(command["name"]))
                if name in self._learners.running:
                    raise TenfoldError(f"{name} is at work already")
                self._start_child(self._learner(name))
                self._console.say(f"{name} is started, as asked")
            case "leave":
                name = self._known(str(command["name"]))
                del self._kept[name]
                self._restarts.due.pop(name, None)
                self._learners.ask_to_stop(name)
                self._console.say(f"{name} is asked to leave")
            case what:
                raise TenfoldError(f"unknown command {what!r}")

    def _add_fault(self, fault: Fault) -> None:
        if self._chaos is None:
            raise TenfoldError("faults begin when every learner has trained its first step")
        if self._run.in_slurm and fault.target not in self._run.syncers:
            raise TenfoldError("faults hit processes of this machine; here the learners are jobs of Slurm")
        target = fault.target if fault.target in self._run.syncers else self._known(fault.target)
        if fault.kind in LINK_FAULTS and not self._run.disturbs_links:
            raise TenfoldError(f"{fault.kind}: connections pass a proxy only where [chaos] plans such a fault")
        if target not in self._launcher(target).running:
            raise TenfoldError(f"{target} is not running now")
        self._chaos.add(Injection(fault.kind, target, 0.0, None, fault.seconds, fault.amount))

    def _known(self, name: str) -> str:
        learners = sorted(self._kept.keys() - set(self._run.syncers))
        if name not in learners:
            raise TenfoldError(f"no learner {name}; there are {', '.join(learners)}")
        return name

    # Showing

    def _show(self) -> None:
        run, line, status = self._run, self._line, self.status
        samples = status.samples
        step, total = samples // run.sequences, run.steps * run.sequences
        self._console.advance(step, run.steps)
        if samples and line.rate is None:
            line.rate = Rate(samples)
        if step < line.next_step or status.loss is None or line.rate is None:
            return
        rate = line.rate.rate(samples) * run.tokens_per_sample
        alive = sum(learner.state == "active" for learner in status.learners.values())
        loss, merges = status.loss, sum(status.versions.values())
        self._console.say(
            f"step {step:>{len(str(run.steps))}}/{run.steps}  loss {loss:.4f}  {rate:,.0f} tok/s  "
            f"{alive} learners  {merges} merges  {line.rate.eta(samples, total)}{self._on_loss(step, loss)}"
        )
        every = run.campaign.train.log_every
        self._line = _Line((step // every + 1) * every, Rate(samples))


def _slurm_jobs(run: LocalRun, console: RunConsole) -> SlurmJobs:
    learners = run.campaign.learners
    if is_loopback(learners.bind):
        console.say(
            f"the syncer listens on {learners.bind}; jobs on other machines need learners.bind and a certificate"
        )
    return SlurmJobs(Slurm.of_folder(run.folder), learners.slurm_options, console.say)
