"""The coordinator at work: who trains, on which samples, who has died, when all is done."""

import math
import threading
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

from tenfold.core.errors import TenfoldError
from tenfold.learners.messages import FragmentClaim, MembershipView, ShardReport
from tenfold.learners.syncer.leases import LEASES_SCHEMA, Lease, Leases
from tenfold.learners.syncer.membership import ENDING, MEMBERSHIP_SCHEMA, Incarnation, Liveness, Membership
from tenfold.learners.syncer.recorder import Recorder
from tenfold.learners.syncer.remote import RemoteShard
from tenfold.learners.syncer.store import FencedDatabase
from tenfold.learners.wire import Refused

COORDINATOR_SCHEMA = MEMBERSHIP_SCHEMA + LEASES_SCHEMA
STALL_FACTOR = 8.0  # times the longest recent step
PAUSE_S = 2.0  # between two ticks, which are a tenth of a second apart
LINK_S = 2.0  # between two figures of a learner's link in the ledger
LINK_FIGURES = ("up_bytes_per_second", "down_bytes_per_second", "round_trip_seconds")
HEARD_S = 2.0  # a learner speaks several times a second
WAIT_S = 0.3  # a learner without a lease asks again after this
NOTED_S = 1.0  # between two times that it is put on disk how far each life is
RETURNING_S = 60.0  # a learner that has gone is expected back for so long


class ShardAccess(Protocol):
    """What the coordinator needs of a shard, here (Shard) or in another process (RemoteShard)."""

    @property
    def fragments(self) -> Collection[int]:
        """Indices of its fragments."""

    def seal(self, life: int) -> dict[int, int] | None:
        """Accept no more of a life; fragment → steps in accepted contributions. None: not known to be sealed yet."""

    def unpublished(self, claims: Mapping[int, FragmentClaim]) -> list[int]:
        """Fragments of which somebody claims to have what was never published. May wait; TenfoldError: ask again."""

    @property
    def versions(self) -> dict[int, int]:
        """Newest version of each fragment."""

    def is_empty(self, mark: int) -> bool:
        """Whether nothing waits to be merged, now that all of `mark` samples handed out are trained and sent."""


@dataclass(frozen=True)
class RunFacts:
    """What the coordinator hands out."""

    recipe: str
    total_samples: int
    sequences: int
    """Samples in one global step."""
    strikes: int
    stalled_after: float
    learners: int
    """As many as are meant to train."""


@dataclass
class _LastHeartbeat:
    """What a life last said about itself."""

    step: int = 0
    idle: bool = False
    flushed: bool = False
    tokens_per_second: float = 0.0
    longest_gap: float = 0.0
    link_noted_at: dict[str, float] = field(default_factory=dict)
    heard_at: float = -math.inf


@dataclass
class Coordinator:
    """Lives and leases in one book. Safe for many threads."""

    folder: Path
    facts: RunFacts
    recorder: Recorder
    shards: list[ShardAccess] = field(default_factory=list)
    remote: dict[int, RemoteShard] = field(default_factory=dict)
    """Those of the shards that are in other processes, by number."""

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        self._book = FencedDatabase(self.folder / "coordinator.sqlite", COORDINATOR_SCHEMA)
        self.lives = Membership(self._book, self.facts.strikes)
        self.leases = Leases(self._book, self.facts.total_samples)
        self._liveness = Liveness(self.facts.stalled_after, STALL_FACTOR)
        self._lock = threading.RLock()
        self._pulses = {life: _LastHeartbeat(step) for life, step in self.lives.noted_steps().items()}
        self._noted: dict[int, int] = {}
        self._noted_at = self._began = time.monotonic()
        self._abandoned: dict[int, int] = {}
        self._ticked_at = time.monotonic()
        self.finished = self.leases.progress().settled >= self.facts.total_samples
        for life in self.lives.active():
            self._liveness.started(life.number, time.monotonic())

    def close(self) -> None:
        """Close the book."""
        self._book.close()

    # What a shard asks

    def expected(self) -> Collection[int]:
        """Lives that train now; those that have run out of samples are not waited for."""
        return [life.number for life in self.lives.active() if not self._pulse(life.number).idle]

    def may_contribute(self, life: int) -> bool:
        """Whether a life is healed and not ended."""
        return any(each.number == life for each in self.lives.active())

    def draining(self) -> bool:
        """Whether every sample is trained and sent. A life that is being sealed may give some back."""
        with self._lock:
            flushed = all(self._pulse(life.number).flushed for life in self.lives.active())
            return flushed and self.leases.is_exhausted and not self.lives.ending()

    def done(self) -> int | None:
        """Samples of the run that are trained; None while a life that trains has not been heard of lately."""
        since = time.monotonic() - HEARD_S
        with self._lock:
            if any(self._pulse(life.number).heard_at < since for life in self.lives.active()):
                return None
            return self._done()

    def quarantine(self, life: int, reason: str) -> None:
        """End a life that sent something bad, and count a strike against its learner. Told again, it changes nothing.

        The strike comes first: killed in between, this is told again, or the learner joins again and so ends the life.
        """
        with self._lock:
            known, strikes = self.lives.get(life), self.lives.strike(life, reason)
            self.seal(known, f"quarantined: {reason}")
        if strikes is None:
            return
        kept_out = f"; kept out after {strikes} strikes" if strikes >= self.facts.strikes else ""
        self.recorder.say("quarantined", f"{known.name}: {reason}{kept_out}", life=life, strikes=strikes)

    def report(self, report: ShardReport) -> MembershipView:
        """What a shard in another process says; what it needs to know."""
        shard = self.remote.get(report.shard)
        if shard is None or report.recipe != self.facts.recipe:
            raise Refused(f"shard {report.shard}: the syncer runs another configuration or corpus")
        for life, reason in report.quarantined:
            self.quarantine(life, reason)
        with self._lock:
            shard.heard(report)
            self._conclude()
            draining = self.draining()
            return MembershipView(
                expected=frozenset(self.expected()),
                active=frozenset(life.number for life in self.lives.active()),
                draining=draining,
                done=self.done(),
                mark=self.leases.progress().granted if draining else 0,
                seal=tuple(life.number for life in self.lives.ending() if shard.seal(life.number) is None),
                finished=self.finished,
            )

    # What a learner asks

    def addresses(self) -> dict[str, Any]:
        """Where the shards in other processes listen, in order. Raises TenfoldError while one has not said so."""
        return {"shards": [shard.address for _, shard in sorted(self.remote.items())]}

    def join(
        self, name: str, address: str | None, batch: int, recipe: str, abandoned: Sequence[int] = ()
    ) -> dict[str, Any]:
        """A new life for a learner; any life it had before ends.

        `abandoned`: (life, steps) where the same process lived before, for the record of what was lost.
        """
        if recipe != self.facts.recipe:
            raise Refused(
                f"{name}: another configuration or corpus (recipe {recipe[:12]}, not {self.facts.recipe[:12]})"
            )
        with self._lock:
            if self.finished:
                return {"finished": True}
            earlier = self.lives.unfinished(name)
            if earlier is not None:
                self.seal(earlier, "joined again")
            try:
                life = self.lives.join(name, address, batch)
            except TenfoldError as error:
                raise Refused(str(error)) from None
            self._liveness.joining(life.number, time.monotonic())
            peers = [self._peer(each) for each in self._freshest() if each.address]
        self.recorder.say("joined", f"{name} joins as life {life.number}", life=life.number)
        if len(abandoned) == 2:
            self._note_abandoned(*abandoned)
        return {"life": life.number, "peers": peers}

    def _note_abandoned(self, number: int, steps: int) -> None:
        """Say how many of a life's steps do not count, as soon as that is known."""
        life = self._any(number)
        if life.steps is None:
            self._abandoned[number] = steps
            return
        lost = max(0, steps - life.steps)
        message = f"{life.name}: {lost} steps of life {number} were not sent and do not count"
        self.recorder.say("abandoned", message, life=number, steps=lost)

    def _freshest(self) -> list[Incarnation]:
        """Lives that have spoken lately, the furthest first: one that is dead may not be known to be so yet."""
        since = time.monotonic() - HEARD_S
        heard = [life for life in self.lives.active() if self._pulse(life.number).heard_at > since]
        return sorted(heard, key=lambda life: (-self._done_by(life), life.number))

    def _peer(self, life: Incarnation) -> dict[str, Any]:
        return {"name": life.name, "life": life.number, "address": life.address}

    def healed(self, number: int, origin: Mapping[str, Any], digests: Mapping[str, Any]) -> dict[str, Any]:
        """A life has its state. `digests`: fragment → [version, digest of the part each rank holds, ...].

        Raises Refused unless every fragment is on every rank, bit for bit, one that was published.
        """
        self._check_published(self._known(number).name, digests, int(origin.get("ranks", 1)))
        with self._lock:
            life = self._known(number)
            if life.state == "joining":
                versions = {index: version for index, (version, *_) in digests.items()}
                self.lives.activate(number, dict(origin) | {"versions": versions})
                self._liveness.started(number, time.monotonic())
        where = "the initial state" if origin.get("life") is None else f"life {origin['life']}, step {origin['step']}"
        self.recorder.say(
            "healed", f"{life.name} trains from {where} ({origin['kind']})", life=number, seconds=origin.get("seconds")
        )
        return {}

    def _check_published(self, name: str, digests: Mapping[str, Any], ranks: int) -> None:
        """Without the lock, since a shard in another process may let one wait."""
        missing = {str(index) for shard in self.shards for index in shard.fragments} ^ digests.keys()
        if missing:
            raise Refused(f"{name}: not healed: fragments {sorted(missing)} missing or unknown")
        claims = {int(index): (int(version), of_ranks) for index, (version, *of_ranks) in digests.items()}
        for index, (_, of_ranks) in claims.items():
            if not 0 < len(of_ranks) == ranks:
                raise Refused(f"{name}: not healed: {len(of_ranks)} digests of fragment {index}, {ranks} ranks")
        for shard in self.shards:
            for index in shard.unpublished({index: claims[index] for index in shard.fragments}):
                raise Refused(f"{name}: not healed: fragment {index} is not version {claims[index][0]} as published")

    def lease(self, number: int, samples: int, backlog: int, received: int) -> dict[str, Any]:
        """More samples for a life that has `backlog` samples left and has heard of `received` leases.

        One that was granted but never heard of, as when this process or the line dies in between, is given again.
        """
        with self._lock:
            if self.finished:
                return {"finished": True}
            life, granted = self._active(number), self.leases.of_life(number)
            lease = granted[received] if received < len(granted) else self._grant(life, samples, backlog)
            if lease is None:
                return {"wait": WAIT_S}
            self._pulse(number).flushed = self._pulse(number).idle = False
        return {"lease": asdict(lease)}

    def _grant(self, life: Incarnation, samples: int, backlog: int) -> Lease | None:
        active = max(1, len([each for each in self.lives.active() if not self._pulse(each.number).idle]))
        # What it has left it says now; its last beat is older, and the schedule's position would jump.
        here = max(0, self.leases.granted_to(life.number) - backlog)
        done, total = self._done() - self._done_by(life) + here, self.facts.total_samples
        # Nobody holds more than half of its fair share of what is left, so that others do not run dry near the end; and
        # nobody is given the same again after every step.
        fair = (total - done) // (2 * max(active, self._expected_soon()))
        if backlog > fair // 2:
            return None
        wanted = min(samples, max((fair - backlog) // life.batch * life.batch, life.batch if backlog == 0 else 0))
        position = min(done + backlog * active, total - 1)
        return self.leases.grant(life.number, wanted, position=position, stride=active) if wanted else None

    def _expected_soon(self) -> int:
        """Learners that are here, come back or are being started: among them the rest will be shared."""
        now, lives = time.time(), self.lives.all()
        here = {life.name for life in lives if life.ended_at is None or now - life.ended_at < RETURNING_S}
        is_beginning = time.monotonic() - self._began < RETURNING_S
        return max(len(here), self.facts.learners if is_beginning else 0)

    def beat(self, number: int, beat: Mapping[str, Any]) -> dict[str, Any]:
        """What a life does now; the reply says whether it is still one."""
        with self._lock:
            life = self._any(number)
            if life.state not in ("active", "joining"):
                return {"ended": life.reason or "ended", "finished": self.finished}
            pulse = self._pulse(number)
            pulse.heard_at = time.monotonic()
            pulse.step, pulse.idle = int(beat["step"]), bool(beat["idle"])
            pulse.flushed = bool(beat["flushed"]) and pulse.step >= self._steps_granted(life)
            pulse.tokens_per_second = float(beat["tokens_per_second"])
            pulse.longest_gap = float(beat["longest_gap"])
            self._liveness.progress(number, time.monotonic(), pulse.step, int(beat["waits"]))
            self._note_link(life, pulse, beat["link"])
        for position, nats, tokens, size in beat["losses"]:
            self.recorder.loss(int(position) // self.facts.sequences + 1, float(nats), max(1, int(tokens)), float(size))
        return {"finished": self.finished}

    def _note_link(self, life: Incarnation, pulse: _LastHeartbeat, link: Mapping[str, Any]) -> None:
        """What a learner measures of its link, as metrics at the run's present step."""
        figures = {name: float(link[name]) for name in LINK_FIGURES}
        if not all(math.isfinite(figure) and figure >= 0 for figure in figures.values()):
            raise ValueError("a figure of the link is not finite")
        now = time.monotonic()
        for name, figure in figures.items():
            if figure and now >= pulse.link_noted_at.get(name, -math.inf) + LINK_S:  # 0: not measured yet
                pulse.link_noted_at[name] = now
                self.recorder.metric(self._done() // self.facts.sequences, f"link/{life.name}/{name}", figure)

    def end(self, number: int, reason: str) -> dict[str, Any]:
        """A learner has found itself wrong (a loss that is not finite): what it has not sent is void."""
        with self._lock:
            self.seal(self._known(number), reason)
        return {}

    def leave(self, number: int) -> dict[str, Any]:
        """A learner goes for good, after it has sent everything."""
        with self._lock:
            life = self._known(number)
            self.seal(life, "left", state="left")
        self.recorder.say("left", f"{life.name} leaves", life=number)
        return {}

    # Time passes

    def tick(self) -> None:
        """End lives that make no progress; notice the end of the run."""
        with self._lock:
            now, before, self._ticked_at = time.monotonic(), self._ticked_at, time.monotonic()
            if now - before > PAUSE_S:  # this process itself stood still: nobody could report progress
                for life in self.lives.active():
                    self._liveness.started(life.number, now)
            for number, seconds in self._liveness.stalled(time.monotonic()):
                life = self.lives.get(number)
                if life.state not in ("active", "joining"):
                    self._liveness.forget(number)
                    continue
                self.seal(life, f"no progress for {seconds:.1f} s")
                self.recorder.say("stalled", f"{life.name}: no progress for {seconds:.1f} s", life=number)
            self._conclude()
            self._note_steps()
            if not self.finished and self.draining():
                mark = self.leases.progress().granted
                if all(shard.is_empty(mark) for shard in self.shards):
                    self._finish()

    def _note_steps(self) -> None:
        """Put on disk how far each life is: when this process dies too, it can be told what was lost."""
        if time.monotonic() - self._noted_at < NOTED_S:
            return
        self._noted_at = time.monotonic()
        steps = {life.number: self._pulse(life.number).step for life in self.lives.active()}
        if steps != self._noted:
            self.lives.note_steps(steps)
            self._noted = steps

    def _finish(self) -> None:
        for life in self.lives.active():
            steps = self._pulse(life.number).step
            self.leases.settle(life.number, self._samples_after(life, steps))
            self.lives.end(life.number, "finished", "all samples trained", steps)
        self.finished = self.leases.progress().settled >= self.facts.total_samples
        gaps = {
            life.name: self._pulse(life.number).longest_gap for life in self.lives.all() if life.state == "finished"
        }
        self.recorder.say("finished", f"all {self.facts.total_samples:,} samples trained", longest_gaps=gaps)

    def seal(self, life: Incarnation, reason: str, state: Literal["sealed", "left"] = "sealed") -> None:
        """End a life: nothing more of it is accepted, and what it has not committed is handed out again.

        The first takes effect at once, the second when every shard has sealed it. While one is away the life is in
        between, also over a restart of this process: it gets nothing, and its samples are nobody's.
        """
        self.lives.begin_end(life.number, state, reason)
        self._liveness.forget(life.number)
        self._conclude()

    def _conclude(self) -> None:
        """Settle the lives that all shards have sealed: before, one of them could still accept a later contribution,
        and samples handed out again would count twice.
        """
        for life in self.lives.ending():
            answers = [shard.seal(life.number) for shard in self.shards]
            steps = [answer for answer in answers if answer is not None]
            if len(steps) == len(self.shards):
                self._settle(life, {fragment: n for answer in steps for fragment, n in answer.items()})

    def _settle(self, life: Incarnation, steps_by_fragment: Mapping[int, int]) -> None:
        committed = max(steps_by_fragment.values(), default=0)
        lost, gap = self._pulse(life.number).step - committed, self._pulse(life.number).longest_gap
        self.leases.settle(life.number, self._samples_after(life, committed))
        self.lives.end(life.number, ENDING[life.state], life.reason or "", committed)
        self._pulses.pop(life.number, None)
        behind = {f: committed - steps_by_fragment.get(f, 0) for shard in self.shards for f in shard.fragments}
        self.recorder.say(
            "sealed",
            f"{life.name} (life {life.number}) ended: {life.reason}; {committed} steps count, "
            f"{max(0, lost)} trained again",
            life=life.number,
            steps=committed,
            unsent_steps=max(0, lost),
            longest_gap=gap,
            steps_missing_in_fragments={str(f): n for f, n in behind.items() if n},
        )
        if life.number in self._abandoned:
            self._note_abandoned(life.number, self._abandoned.pop(life.number))

    # Sums

    def _pulse(self, life: int) -> _LastHeartbeat:
        return self._pulses.setdefault(life, _LastHeartbeat())

    def _known(self, number: int) -> Incarnation:
        life = self._any(number)
        if life.state not in ("active", "joining"):
            raise Refused(f"life {number} has ended; join again")
        return life

    def _any(self, number: int) -> Incarnation:
        try:
            return self.lives.get(number)
        except TenfoldError:
            raise Refused(f"no life {number}; join first") from None

    def _active(self, number: int) -> Incarnation:
        life = self._known(number)
        if life.state != "active":
            raise Refused(f"life {number} is not healed yet")
        return life

    def _samples_after(self, life: Incarnation, steps: int) -> int:
        return samples_after(self.leases.of_life(life.number), life.batch, steps)

    def _steps_granted(self, life: Incarnation) -> int:
        return sum(-(-lease.samples // life.batch) for lease in self.leases.of_life(life.number))

    def _done_by(self, life: Incarnation) -> int:
        return self._samples_after(life, self._pulse(life.number).step)

    def _done(self) -> int:
        """Lives whose end is under way count as they were: what they lose of it is little."""
        unsettled = (*self.lives.active(), *self.lives.ending())
        return self.leases.progress().settled + sum(self._done_by(life) for life in unsettled)

    def status(self) -> dict[str, Any]:
        """For people and for the supervisor."""
        with self._lock:
            lives = self.lives.all()
            last = {life.name: life for life in lives}
            return {
                "finished": self.finished,
                "samples": self._done(),
                "total_samples": self.facts.total_samples,
                "versions": {str(i): v for shard in self.shards for i, v in shard.versions.items()},
                "loss": self.recorder.recent_loss(10),
                "learners": {
                    name: {
                        "life": life.number,
                        "state": ENDING.get(life.state, life.state),
                        "reason": life.reason,
                        "steps": self._pulse(life.number).step if life.state == "active" else life.steps,
                        "tokens_per_second": self._pulse(life.number).tokens_per_second,
                    }
                    for name, life in last.items()
                },
                "lives": len(lives),
            }


def samples_after(leases: Sequence[Lease], batch: int, steps: int) -> int:
    """Samples that the first `steps` steps of a life consume: `batch` a step, the rest of a lease in its last step."""
    samples = 0
    for lease in leases:
        here = min(steps, -(-lease.samples // batch))
        samples += min(here * batch, lease.samples)
        steps -= here
    return samples
