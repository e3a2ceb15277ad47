"""The coordinator at work: who trains, on which samples, who has died, when all is done."""

import math
import threading
import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from tenfold.core import TenfoldError
from tenfold.learners.messages import (
    Done,
    EndRequest,
    HealedRequest,
    Heartbeat,
    HeartbeatReply,
    HeldFragment,
    JoinReply,
    JoinRequest,
    LearnerState,
    Lease,
    LeaseReply,
    LeaseRequest,
    LeaveRequest,
    LinkFigures,
    MembershipView,
    Peer,
    Refused,
    ShardReport,
    ShardsReply,
    ShardsRequest,
    StatusReply,
)
from tenfold.learners.syncer.facts import RunFacts
from tenfold.learners.syncer.leases import LEASES_SCHEMA, Leases, samples_after
from tenfold.learners.syncer.membership import ENDING, MEMBERSHIP_SCHEMA, Incarnation, Liveness, Membership
from tenfold.learners.syncer.recorder import Recorder
from tenfold.learners.syncer.remote import RemoteShard, ShardAccess
from tenfold.learners.syncer.store import FencedDatabase
from tenfold.ledger import (
    AllTrained,
    EndCause,
    LearnerEnded,
    LearnerHealed,
    LearnerJoined,
    LearnerLeft,
    LearnerQuarantined,
    LearnerStalled,
    NobodyTrains,
    WorkAbandoned,
    link_metric,
)

TAKEN = "another learner of this name has joined; a run needs every name once, so give one of the two another --name"
COORDINATOR_SCHEMA = MEMBERSHIP_SCHEMA + LEASES_SCHEMA
STALL_FACTOR = 8.0  # times the longest recent step
PAUSE_S = 2.0  # between two ticks, which are a tenth of a second apart
LINK_S = 2.0  # between two figures of a learner's link in the ledger
HEARD_S = 2.0  # a learner speaks several times a second
WAIT_S = 0.3  # a learner without a lease asks again after this
NOTED_S = 1.0  # between two times that it is put on disk how far each incarnation is
RETURNING_S = 60.0  # a learner that has gone is expected back for so long
ALONE_S = 30.0  # without a learner, until that is said, and then between two times that it is said


@dataclass
class _LastHeartbeat:
    """What an incarnation last said about itself."""

    step: int = 0
    idle: bool = False
    flushed: bool = False
    tokens_per_second: float = 0.0
    longest_gap: float = 0.0
    link_noted_at: dict[str, float] = field(default_factory=dict)
    heard_at: float = -math.inf


@dataclass
class Coordinator:
    """Incarnations and leases in one database. Safe for many threads."""

    folder: Path
    facts: RunFacts
    recorder: Recorder
    shards: list[ShardAccess] = field(default_factory=list)
    remote: dict[int, RemoteShard] = field(default_factory=dict)
    """Those of the shards that are in other processes, by number."""

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        self._database = FencedDatabase(self.folder / "coordinator.sqlite", COORDINATOR_SCHEMA)
        self.membership = Membership(self._database, self.facts.strikes)
        self.leases = Leases(self._database, self.facts.total_samples)
        self._liveness = Liveness(self.facts.stalled_after, STALL_FACTOR)
        self._lock = threading.RLock()
        self._heard = {number: _LastHeartbeat(step) for number, step in self.membership.noted_steps().items()}
        self._noted: dict[int, int] = {}
        self._noted_at = self._began = self._trained_at = self._said_alone_at = time.monotonic()
        self._gone: dict[str, float] = {}
        self._abandoned: dict[int, int] = {}
        self._ticked_at = time.monotonic()
        self.finished = self.leases.progress().settled >= self.facts.total_samples
        for each in self.membership.active():
            self._liveness.started(each.number, time.monotonic())

    def close(self) -> None:
        """Close the database."""
        self._database.close()

    # What a shard asks

    def expected(self) -> Collection[int]:
        """Incarnations that train now; those that have run out of samples are not waited for."""
        return [each.number for each in self.membership.active() if not self._last(each.number).idle]

    def may_contribute(self, incarnation: int) -> bool:
        """Whether an incarnation is healed and not ended."""
        return any(each.number == incarnation for each in self.membership.active())

    def draining(self) -> bool:
        """Whether every sample is trained and sent. An incarnation that is being ended may give some back."""
        with self._lock:
            flushed = all(self._last(each.number).flushed for each in self.membership.active())
            return flushed and self.leases.is_exhausted and not self.membership.ending()

    def done(self) -> int | None:
        """Samples of the run that are trained; None while an incarnation that trains has not been heard of lately."""
        since = time.monotonic() - HEARD_S
        with self._lock:
            if any(self._last(each.number).heard_at < since for each in self.membership.active()):
                return None
            return self._done()

    def quarantine(self, incarnation: int, reason: str) -> None:
        """End an incarnation that sent something bad, with a strike against its learner. Told again, nothing changes.

        The strike comes first: killed in between, this is told again, or the learner joins again and so ends it.
        """
        with self._lock:
            known, strikes = self.membership.get(incarnation), self.membership.strike(incarnation, reason)
            self.end_incarnation(known, EndCause.QUARANTINED, f"quarantined: {reason}")
        if strikes is None:
            return
        kept_out = f"; kept out after {strikes} strikes" if strikes >= self.facts.strikes else ""
        event = LearnerQuarantined(life=incarnation, strikes=strikes)
        self.recorder.say(event, f"{known.name}: {reason}{kept_out}")

    def report(self, report: ShardReport) -> MembershipView:
        """Hear what a shard in another process says; tell it what it needs to know."""
        shard = self.remote.get(report.shard)
        if shard is None or report.recipe != self.facts.recipe:
            raise Refused(f"shard {report.shard}: the syncer runs another configuration or corpus")
        if report.code != self.facts.code:
            raise Refused(f"shard {report.shard}: the syncer runs other code; start all its processes anew")
        for incarnation, reason in report.quarantined:
            self.quarantine(incarnation, reason)
        with self._lock:
            shard.heard(report)
            self._conclude()
            draining = self.draining()
            return MembershipView(
                expected=frozenset(self.expected()),
                active=frozenset(each.number for each in self.membership.active()),
                draining=draining,
                done=self.done(),
                mark=self.leases.progress().granted if draining else 0,
                fence=tuple(each.number for each in self.membership.ending() if shard.fence(each.number) is None),
                finished=self.finished,
            )

    # What a learner asks

    def addresses(self, _: ShardsRequest) -> ShardsReply:
        """Tell where the shards in other processes listen. Raises TenfoldError while one has not said so."""
        return ShardsReply(shards=tuple(shard.address for _, shard in sorted(self.remote.items())))

    def join(self, r: JoinRequest) -> JoinReply:
        """Begin a new incarnation of a learner; any that it had before ends.

        Raises Refused for a process whose incarnation ended because another one joined under its name.
        """
        self.facts.check_joining(r)
        with self._lock:
            if self.finished:
                return JoinReply()
            lived = r.abandoned[0] if r.abandoned else None
            if lived is not None and self.membership.cause(lived) is EndCause.REPLACED:
                raise Refused(f"{r.name}: {TAKEN}")
            earlier = self.membership.unfinished(r.name)
            if earlier is not None and earlier.number == lived:
                self.end_incarnation(earlier, EndCause.REJOINED, "joined again")
            elif earlier is not None:
                self.end_incarnation(earlier, EndCause.REPLACED, "joined again")
            try:
                number = self.membership.join(r.name, r.address, r.batch).number
            except TenfoldError as error:
                raise Refused(str(error)) from None
            self._liveness.joining(number, time.monotonic())
            peers = [Peer(name=e.name, incarnation=e.number, address=e.address) for e in self._freshest() if e.address]
        self.recorder.say(LearnerJoined(life=number, name=r.name), f"{r.name} joins as incarnation {number}")
        if r.abandoned is not None:
            self._note_abandoned(*r.abandoned)
        return JoinReply(incarnation=number, peers=tuple(peers))

    def _note_abandoned(self, number: int, steps: int) -> None:
        """Say how many of an incarnation's steps do not count, as soon as that is known."""
        known = self._any(number)
        if known.steps is None:
            self._abandoned[number] = steps
            return
        lost = max(0, steps - known.steps)
        message = f"{known.name}: {lost} steps of incarnation {number} were not sent and do not count"
        self.recorder.say(WorkAbandoned(life=number, steps=lost), message)

    def _freshest(self) -> list[Incarnation]:
        """Those who have spoken lately, the furthest first: one that is dead may not be known to be so yet."""
        since = time.monotonic() - HEARD_S
        heard = [each for each in self.membership.active() if self._last(each.number).heard_at > since]
        return sorted(heard, key=lambda each: (-self._done_by(each), each.number))

    def healed(self, r: HealedRequest) -> Done:
        """Let an incarnation train that has its state.

        Raises Refused unless every fragment is on every rank, bit for bit, one that was published.
        """
        self._check_published(self._known(r.incarnation).name, r.held, r.origin.ranks)
        with self._lock:
            known = self._known(r.incarnation)
            if known.state == "joining":
                versions = {str(index): fragment.version for index, fragment in r.held.items()}
                self.membership.activate(r.incarnation, r.origin.to_json() | {"versions": versions})
                self._liveness.started(r.incarnation, time.monotonic())
        of = r.origin
        where = "the initial state" if of.incarnation is None else f"incarnation {of.incarnation}, step {of.step}"
        event = LearnerHealed(life=r.incarnation, seconds=of.seconds, source=of.kind)
        self.recorder.say(event, f"{known.name} trains from {where} ({of.kind})")
        return Done()

    def _check_published(self, name: str, held: Mapping[int, HeldFragment], ranks: int) -> None:
        """Without the lock, since a shard in another process may let one wait."""
        missing = {index for shard in self.shards for index in shard.fragments} ^ held.keys()
        if missing:
            raise Refused(f"{name}: not healed: fragments {sorted(missing)} missing or unknown")
        for index, fragment in held.items():
            if len(fragment.digests) != ranks:
                raise Refused(f"{name}: not healed: {len(fragment.digests)} digests of fragment {index}, {ranks} ranks")
        for shard in self.shards:
            for index in shard.unpublished({index: held[index] for index in shard.fragments}):
                raise Refused(f"{name}: not healed: fragment {index} is not version {held[index].version} as published")

    def lease(self, r: LeaseRequest) -> LeaseReply:
        """Hand out more samples.

        A lease that was granted but never heard of, as when this process or the line dies in between, is given again.
        """
        with self._lock:
            if self.finished:
                return LeaseReply(finished=True)
            known, granted = self._active(r.incarnation), self.leases.of_incarnation(r.incarnation)
            lease = granted[r.received] if r.received < len(granted) else self._grant(known, r.samples, r.backlog)
            if lease is None:
                return LeaseReply(wait=WAIT_S)
            self._last(r.incarnation).flushed = self._last(r.incarnation).idle = False
        return LeaseReply(lease=lease)

    def _grant(self, to: Incarnation, samples: int, backlog: int) -> Lease | None:
        active = max(1, len([each for each in self.membership.active() if not self._last(each.number).idle]))
        # What it has left it says now; its last heartbeat is older, and the schedule's position would jump.
        here = max(0, self.leases.granted_to(to.number) - backlog)
        done, total = self._done() - self._done_by(to) + here, self.facts.total_samples
        # Nobody holds more than half of its fair share of what is left, so that others do not run dry near the end; and
        # nobody is given the same again after every step.
        fair = (total - done) // (2 * max(active, self._expected_soon()))
        if backlog > fair // 2:
            return None
        wanted = min(samples, max((fair - backlog) // to.batch * to.batch, to.batch if backlog == 0 else 0))
        position = min(done + backlog * active, total - 1)
        return self.leases.grant(to.number, wanted, position=position, stride=active) if wanted else None

    def _expected_soon(self) -> int:
        """Learners that are here, come back or are being started: among them the rest will be shared."""
        now = time.monotonic()  # the wall clock may be set back by hours
        unfinished = (*self.membership.active(), *self.membership.joining())
        here = {each.name for each in unfinished} | {n for n, at in self._gone.items() if now - at < RETURNING_S}
        is_beginning = now - self._began < RETURNING_S
        return max(len(here), self.facts.learners if is_beginning else 0)

    def heartbeat(self, r: Heartbeat) -> HeartbeatReply:
        """Hear what an incarnation does now; say whether it is still one."""
        with self._lock:
            known = self._any(r.incarnation)
            if known.state not in ("active", "joining"):
                cause = self.membership.cause(known.number)
                return HeartbeatReply(ended=known.reason or "ended", cause=cause, finished=self.finished)
            if any(loss.position >= self.facts.total_samples for loss in r.losses):
                raise Refused(f"{known.name}: a loss beyond the end of the run")
            last = self._last(r.incarnation)
            last.heard_at = time.monotonic()
            last.step, last.idle = r.step, r.idle
            last.flushed = r.flushed and r.step >= self._steps_granted(known)
            last.tokens_per_second, last.longest_gap = r.tokens_per_second, r.longest_gap
            self._liveness.progress(r.incarnation, time.monotonic(), r.step, r.waits)
            self._note_link(known, last, r.link)
        for loss in r.losses:
            self.recorder.loss(loss.position // self.facts.sequences + 1, loss.nats, loss.tokens, loss.size)
        return HeartbeatReply(finished=self.finished)

    def _note_link(self, of: Incarnation, last: _LastHeartbeat, link: LinkFigures) -> None:
        """What a learner measures of its link, as metrics at the run's present step."""
        now = time.monotonic()
        for name, figure in link:
            if figure and now >= last.link_noted_at.get(name, -math.inf) + LINK_S:  # 0: not measured yet
                last.link_noted_at[name] = now
                self.recorder.metric(self._done() // self.facts.sequences, link_metric(of.name, name), figure)

    def end(self, r: EndRequest) -> Done:
        """End an incarnation that has found itself wrong."""
        with self._lock:
            self.end_incarnation(self._known(r.incarnation), EndCause.DIVERGED, r.reason)
        return Done()

    def leave(self, r: LeaveRequest) -> Done:
        """Let a learner go: what it has sent counts, the rest of its samples is handed out again."""
        with self._lock:
            known = self._known(r.incarnation)
            self.end_incarnation(known, EndCause.LEFT, "left")
        self.recorder.say(LearnerLeft(life=r.incarnation), f"{known.name} leaves")
        return Done()

    # Time passes

    def tick(self) -> None:
        """End incarnations that make no progress; notice the end of the run."""
        with self._lock:
            now, before, self._ticked_at = time.monotonic(), self._ticked_at, time.monotonic()
            if now - before > PAUSE_S:  # this process itself stood still: nobody could report progress
                for each in self.membership.active():
                    self._liveness.started(each.number, now)
                for each in self.membership.joining():
                    self._liveness.joining(each.number, now)
            self._note_absence(now)
            for number, seconds in self._liveness.stalled(time.monotonic()):
                self._give_up(self.membership.get(number), seconds)
            self._conclude()
            self._note_steps()
            if not self.finished and self.draining():
                mark = self.leases.progress().granted
                if all(shard.is_empty(mark) for shard in self.shards):
                    self._finish()

    def _give_up(self, stalled: Incarnation, seconds: float) -> None:
        if stalled.state not in ("active", "joining"):
            self._liveness.forget(stalled.number)
            return
        reason = f"no progress for {seconds:.1f} s"
        self.end_incarnation(stalled, EndCause.STALLED, reason)
        self.recorder.say(LearnerStalled(life=stalled.number, seconds=seconds), f"{stalled.name}: {reason}")

    def _note_absence(self, now: float) -> None:
        """A run that waits for learners says so."""
        if self.finished or self.membership.active() or self.membership.joining():
            self._trained_at = self._said_alone_at = now
        elif now - self._said_alone_at >= ALONE_S:
            self._said_alone_at = now
            left = self.facts.total_samples - self._done()
            message = (
                f"no learner for {now - self._trained_at:.0f} s, {left:,} samples are left; waiting for one to join"
            )
            self.recorder.say(NobodyTrains(now - self._trained_at, left), message)

    def _note_steps(self) -> None:
        """Put on disk how far each incarnation is: when this process dies too, it can be told what was lost."""
        if time.monotonic() - self._noted_at < NOTED_S:
            return
        self._noted_at = time.monotonic()
        steps = {each.number: self._last(each.number).step for each in self.membership.active()}
        if steps != self._noted:
            self.membership.note_steps(steps)
            self._noted = steps

    def _finish(self) -> None:
        for each in self.membership.active():
            steps = self._last(each.number).step
            self.leases.settle(each.number, self._samples_after(each, steps))
            self.membership.end(each.number, "finished", "all samples trained", steps)
            self.membership.note_cause(each.number, EndCause.FINISHED)
        self.finished = self.leases.progress().settled >= self.facts.total_samples
        gaps = {e.name: self._last(e.number).longest_gap for e in self.membership.all() if e.state == "finished"}
        self.recorder.say(AllTrained(longest_gaps=gaps), f"all {self.facts.total_samples:,} samples trained")

    def end_incarnation(self, known: Incarnation, cause: EndCause, reason: str) -> None:
        """End an incarnation: nothing more of it is accepted, and what it has not committed is handed out again.

        The first takes effect at once, the second when every shard has fenced it. While one is away the incarnation is
        in between, also over a restart of this process: it gets nothing, and its samples are nobody's.
        """
        state: Literal["evicted", "left"] = "left" if cause is EndCause.LEFT else "evicted"
        self.membership.begin_end(known.number, state, cause, reason)
        self._liveness.forget(known.number)
        self._conclude()

    def _conclude(self) -> None:
        """Settle the incarnations that all shards have fenced: before, one of them could still accept a later
        contribution, and samples handed out again would count twice.
        """
        for each in self.membership.ending():
            answers = [shard.fence(each.number) for shard in self.shards]
            steps = [answer for answer in answers if answer is not None]
            if len(steps) == len(self.shards):
                self._settle(each, {fragment: n for answer in steps for fragment, n in answer.items()})

    def _settle(self, ended: Incarnation, steps_by_fragment: Mapping[int, int]) -> None:
        committed, last = max(steps_by_fragment.values(), default=0), self._last(ended.number)
        lost = max(0, last.step - committed)
        self.leases.settle(ended.number, self._samples_after(ended, committed))
        self.membership.end(ended.number, ENDING[ended.state], ended.reason or "", committed)
        self._heard.pop(ended.number, None)
        self._gone[ended.name] = time.monotonic()
        cause = self.membership.cause(ended.number)
        behind = {f: committed - steps_by_fragment.get(f, 0) for shard in self.shards for f in shard.fragments}
        event = LearnerEnded(
            life=ended.number,
            steps=committed,
            unsent_steps=lost,
            longest_gap=last.longest_gap,
            steps_missing_in_fragments={str(f): n for f, n in behind.items() if n},
            cause=cause.value if cause else None,
        )
        who = f"{ended.name} (incarnation {ended.number})"
        self.recorder.say(event, f"{who} ended: {ended.reason}; {committed} steps count, {lost} trained again")
        if ended.number in self._abandoned:
            self._note_abandoned(ended.number, self._abandoned.pop(ended.number))

    # Sums

    def _last(self, number: int) -> _LastHeartbeat:
        return self._heard.setdefault(number, _LastHeartbeat())

    def _known(self, number: int) -> Incarnation:
        known = self._any(number)
        if known.state not in ("active", "joining"):
            raise Refused(f"incarnation {number} has ended; join again")
        return known

    def _any(self, number: int) -> Incarnation:
        try:
            return self.membership.get(number)
        except TenfoldError:
            raise Refused(f"no incarnation {number}; join first") from None

    def _active(self, number: int) -> Incarnation:
        known = self._known(number)
        if known.state != "active":
            raise Refused(f"incarnation {number} is not healed yet")
        return known

    def _samples_after(self, of: Incarnation, steps: int) -> int:
        return samples_after(self.leases.of_incarnation(of.number), of.batch, steps)

    def _steps_granted(self, of: Incarnation) -> int:
        return sum(-(-lease.samples // of.batch) for lease in self.leases.of_incarnation(of.number))

    def _done_by(self, of: Incarnation) -> int:
        return self._samples_after(of, self._last(of.number).step)

    def _done(self) -> int:
        """Those whose end is under way count as they were: what they lose of it is little."""
        unsettled = (*self.membership.active(), *self.membership.ending())
        return self.leases.progress().settled + sum(self._done_by(each) for each in unsettled)

    def status(self) -> StatusReply:
        """For people and for the supervisor."""
        with self._lock:
            incarnations = self.membership.all()
            newest = {each.name: each for each in incarnations}
            return StatusReply(
                finished=self.finished,
                samples=self._done(),
                total_samples=self.facts.total_samples,
                versions={i: v for shard in self.shards for i, v in shard.versions.items()},
                loss=self.recorder.recent_loss(10),
                learners={name: self._state_of(each) for name, each in newest.items()},
                incarnations=len(incarnations),
            )

    def _state_of(self, each: Incarnation) -> LearnerState:
        last = self._last(each.number)
        return LearnerState(
            incarnation=each.number,
            state=ENDING.get(each.state, each.state),
            reason=each.reason,
            cause=self.membership.cause(each.number) if each.reason else None,
            steps=last.step if each.state == "active" else each.steps,
            tokens_per_second=last.tokens_per_second,
        )
