"""Shards in processes of their own: the coordinator as a shard knows it, a shard as the coordinator knows it."""

import math
import threading
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import closing
from typing import Protocol

from tenfold.core import TenfoldError
from tenfold.learners.messages import HeldFragment, MembershipView, ShardReport, UnpublishedReply, UnpublishedRequest
from tenfold.learners.syncer.shard import SyncerShard
from tenfold.learners.syncer.store import Fenced
from tenfold.learners.wire import Link, Refused, Security, Unreachable, reached

EVERY_S = 0.2
ANSWER_S = 2.0
ASK_S = 2.0  # how long a contribution of an unknown incarnation waits for the coordinator's word
TELL_S = 1.0
FRESH_S = 1.0
UNPUBLISHED_S = 3.0  # a learner that heals asks again after this


class ShardAccess(Protocol):
    """What the coordinator needs of a shard, here (SyncerShard) or in another process (RemoteShard)."""

    @property
    def fragments(self) -> Collection[int]:
        """Indices of its fragments."""

    def fence(self, incarnation: int) -> dict[int, int] | None:
        """Accept no more of an incarnation; fragment → steps in accepted contributions. None: not known to be so."""

    def unpublished(self, held: Mapping[int, HeldFragment]) -> Sequence[int]:
        """Fragments of which somebody holds what was never published. May wait; TenfoldError: ask again."""

    @property
    def versions(self) -> dict[int, int]:
        """Newest version of each fragment."""

    def is_empty(self, mark: int) -> bool:
        """Whether nothing waits to be merged, now that all of `mark` samples handed out are trained and sent."""


class RemoteMembership:
    """Implements MembershipSource. One thread reports, and does what the answers ask for.

    While the coordinator is away a shard goes on with what it knew last: learners train on and contribute meanwhile,
    and who trained a moment ago is the best guess at who does now. A wrong guess costs a round that waits, or one that
    does not; it cannot count a sample twice, since an incarnation's samples are handed out again only after this shard
    has said that it is fenced here. Before the first answer nothing is known, so nothing is merged (`await_first`).
    """

    def __init__(self, find: Callable[[], str | None], security: Security, number: int, recipe: str, code: str) -> None:
        """`find` tells where the coordinator listens; a restarted one may be elsewhere."""
        self._find, self._security, self._number = find, security, number
        self._recipe, self._code = recipe, code
        self._known = MembershipView()
        self._begun = self._answered = self._told = 0
        self._answered_at = -math.inf
        self._fenced: dict[int, dict[int, int]] = {}
        self._changed = threading.Condition()
        self._wake, self._stopping = threading.Event(), threading.Event()
        self._link: Link | None = None
        self.failure: TenfoldError | None = None
        """Why this process must stop."""

    def follow(self, shard: SyncerShard, address: str) -> None:
        """Report for this shard, which listens at `address`, until closed."""
        self._shard, self._address = shard, address
        self._thread = threading.Thread(target=self._run, name="reports", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Send no more reports."""
        self._stopping.set()
        self._wake.set()
        if self._link is not None:
            self._link.close()

    @property
    def finished(self) -> bool:
        """Whether the coordinator has said that the run is finished."""
        return self._known.finished

    def await_first(self, stopping: threading.Event) -> None:
        """Return when the coordinator has answered once: a round must not be merged as if nobody else trained."""
        while not self._answered and not stopping.is_set():
            self._refreshed(EVERY_S)

    # MembershipSource

    def expected(self) -> Collection[int]:
        """Incarnations that trained when the coordinator last answered."""
        return self._known.expected

    def may_contribute(self, incarnation: int) -> bool:
        """Raises TenfoldError when that is not known now: the sender tries again."""
        if incarnation in self._known.active:
            return True
        if not self._refreshed(ASK_S):
            raise TenfoldError(f"shard {self._number} cannot ask the coordinator about incarnation {incarnation} now")
        return incarnation in self._known.active

    def draining(self) -> bool:
        """Whether all samples were trained when the coordinator last answered."""
        return self._known.draining

    def done(self) -> int | None:
        """What was said just now: while the coordinator is away, the run goes on."""
        return self._known.done if time.monotonic() - self._answered_at < FRESH_S else None

    def quarantine(self, incarnation: int, reason: str) -> None:
        """Tell now if that is possible. It is in the store, from where every report tells it until it is heard."""
        self._refreshed(TELL_S)

    def _refreshed(self, patience: float) -> bool:
        """Whether a report that began after this call was answered in time."""
        with self._changed:
            wanted = self._begun + 1
            self._wake.set()
            return self._changed.wait_for(lambda: self._answered >= wanted, patience)

    # Reports

    def _run(self) -> None:
        while not self._stopping.is_set():
            self._wake.clear()
            try:
                self._exchange()
            except (Fenced, Refused) as error:
                self.failure = error
                return
            except TenfoldError:  # away, or a full disk: the next report says it again
                self._wake.wait(EVERY_S)
                continue
            except Exception as error:  # the main thread must hear of it: without reports a shard is not one
                self.failure = TenfoldError(f"reports failed ({type(error).__name__}: {error})")
                return
            if not self._fenced:
                self._wake.wait(EVERY_S)

    def _exchange(self) -> None:
        with self._changed:
            self._begun += 1
            number = self._begun
        refusals = self._shard.store.refusals_after(self._told)
        report = self._report(tuple((incarnation, reason) for _, incarnation, reason in refusals))
        answer = self._ask(report)
        self._told = refusals[-1][0] if refusals else self._told
        with self._changed:
            self._known, self._answered, self._answered_at = answer, number, time.monotonic()
            self._changed.notify_all()
        self._fenced = {}
        self._fenced = {incarnation: self._shard.fence(incarnation) for incarnation in answer.fence}

    def _report(self, quarantined: tuple[tuple[int, str], ...]) -> ShardReport:
        known, shard = self._known, self._shard
        empty = known.draining and shard.is_empty(known.mark)
        return ShardReport(
            shard=self._number,
            recipe=self._recipe,
            code=self._code,
            generation=shard.store.database.generation,
            address=self._address,
            versions=shard.versions,
            fenced=self._fenced,
            empty_since=known.mark if empty else None,
            quarantined=quarantined,
        )

    def _ask(self, report: ShardReport) -> MembershipView:
        address = self._find()
        if address is None:
            raise Unreachable("the coordinator has not said yet where it listens")
        if self._link is None or self._link.address != address:
            if self._link is not None:
                self._link.close()
            self._link = Link(address, self._security, streams=1, patience=ANSWER_S)
        return self._link.ask(report, MembershipView, timeout=ANSWER_S)


class RemoteShard:
    """Never waits for the shard, but for `unpublished`, which is asked without any lock held."""

    def __init__(self, number: int, fragments: Collection[int], security: Security) -> None:
        """`fragments`: indices of those that lie there."""
        self.number, self.fragments, self._security = number, fragments, security
        self._last: ShardReport | None = None
        self._fenced: dict[int, dict[int, int]] = {}

    def heard(self, report: ShardReport) -> None:
        """Take in a report. Raises Refused from a process that another one has taken over."""
        if self._last is not None and report.generation < self._last.generation:
            raise Refused(f"another process has taken over shard {self.number}; this one must stop")
        self._fenced |= report.fenced
        self._last = report

    @property
    def address(self) -> str:
        """Where it listens. Raises TenfoldError before its first report."""
        if self._last is None:
            raise TenfoldError(f"shard {self.number} of the syncer is away")
        return self._last.address

    @property
    def versions(self) -> dict[int, int]:
        """Newest version of each fragment, as far as is known."""
        return self._last.versions if self._last else {}

    def fence(self, incarnation: int) -> dict[int, int] | None:
        """What the shard has answered; None: not yet, it is asked by every answer to a report."""
        return self._fenced.get(incarnation)

    def is_empty(self, mark: int) -> bool:
        """Whether nothing waited to be merged after all samples up to this mark were trained and sent."""
        return self._last is not None and self._last.empty_since == mark

    def unpublished(self, held: Mapping[int, HeldFragment]) -> Sequence[int]:
        """As SyncerShard.unpublished. Raises Unreachable (a TenfoldError) when the shard is away: ask again."""
        address = reached(self.address, "127.0.0.1")
        with closing(Link(address, self._security, streams=1, patience=UNPUBLISHED_S)) as link:
            return link.ask(UnpublishedRequest(held=dict(held)), UnpublishedReply, timeout=UNPUBLISHED_S).fragments
