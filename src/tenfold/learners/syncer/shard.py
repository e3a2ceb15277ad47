"""One shard of the syncer: takes contributions to its fragments, merges them, hands out versions."""

import threading
import time
from collections import deque
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import torch
from torch import Tensor

from tenfold.core import TenfoldError
from tenfold.learners.messages import (
    Contribution,
    DifferencesHeader,
    Done,
    FragmentHeader,
    HeldFragment,
    Message,
    NewsReply,
    NewsRequest,
    Published,
    Refused,
    Request,
    UnpublishedReply,
    UnpublishedRequest,
    VersionNews,
    parse,
)
from tenfold.learners.outer import (
    KEPT_DIFFERENCES,
    ElementRange,
    Fragment,
    FragmentState,
    OuterOptimizer,
    decode,
    digest_of_values,
    encoded_size,
    place_part,
    take_spans,
)
from tenfold.learners.syncer.merge_policy import (
    REMEMBERED_NORMS,
    AdaptiveGrace,
    AwakeClock,
    NormGuard,
    ThroughputShares,
    merge_time,
    not_finite,
    root_mean_square,
)
from tenfold.learners.syncer.store import Fenced, FragmentStore, StoredContribution
from tenfold.learners.wire import Blob
from tenfold.ledger import EventPayload, MergeFailed

RESTORED = 4096  # contributions that the pace of learners is told from after a restart
HANDED_OUT = 4096  # digests remembered of parts that joining learners took
MERGE_AGAIN_S = 1.0  # after a merge that the disk refused
LONGEST_POLL_S = 2.0
R = TypeVar("R", bound=Request)


class MembershipSource(Protocol):
    """What a shard must know about the learners."""

    def expected(self) -> Collection[int]:
        """Incarnations that are training: a round may wait for them."""

    def may_contribute(self, incarnation: int) -> bool:
        """Whether an incarnation is healed and not ended."""

    def draining(self) -> bool:
        """Whether all samples are trained, so that what waits is merged without waiting for anybody."""

    def done(self) -> int | None:
        """Samples of the run that are trained; None when that is not known just now."""

    def quarantine(self, incarnation: int, reason: str) -> None:
        """An incarnation sent something bad: end it and count a strike."""


@dataclass(frozen=True)
class ShardSettings:
    """How a shard merges."""

    optimizer: OuterOptimizer
    quorum: int
    grace: float
    norm_limit: float


class SyncerShard:
    """Fragments, their versions and the contributions on their way into the next ones. Safe for many threads."""

    def __init__(
        self,
        store: FragmentStore,
        fragments: Mapping[int, Fragment],
        initial: Callable[[Fragment], Tensor],
        spans: Callable[[Fragment, int, int], list[ElementRange]],
        settings: ShardSettings,
        members: MembershipSource,
        say: Callable[[EventPayload, str], None],
    ) -> None:
        """`initial` gives version 0; `spans` what a rank holds; `say(event, message)` notes events."""
        self.store, self.fragments, self.settings = store, fragments, settings
        self._members, self._spans, self._say = members, spans, say
        self._lock = threading.RLock()
        self._newer = threading.Condition(self._lock)
        """A version was published: what every learner waits for, and nothing else wakes them all."""
        self._due = threading.Event()
        """Something came that may make a merge due."""
        self._grace = {index: AdaptiveGrace(settings.grace) for index in fragments}
        self._failing: set[int] = set()
        self._pace = {index: ThroughputShares() for index in fragments}
        self._norms = NormGuard(settings.norm_limit)
        self._clock = AwakeClock(store.awake())
        self._arrived: dict[int, dict[int, float]] = {index: {} for index in fragments}
        self._handed_out: deque[tuple[int, int, str]] = deque(maxlen=HANDED_OUT)
        self._state = {index: self._restore(fragment, initial) for index, fragment in fragments.items()}

    def _restore(self, fragment: Fragment, initial: Callable[[Fragment], Tensor]) -> FragmentState:
        state = self.store.newest(fragment.index)
        if state is None:
            state = FragmentState.first(initial(fragment))
            self.store.publish(fragment.index, state, None, [], Published(None, 0), digest_of_values(state.values))
        for rank, ranks, norm, tokens in self.store.recent_norms(fragment.index, REMEMBERED_NORMS):
            self._norms.note((fragment.index, rank, ranks), norm, tokens)
        for incarnation, at, tokens in self.store.recent_arrivals(fragment.index, RESTORED):
            self._pace[fragment.index].note(incarnation, at, tokens)
        now = time.monotonic()
        for waiting in self.store.waiting(fragment.index):
            self._arrived[fragment.index].setdefault(waiting.what.incarnation, now)
        return state

    # Contributions

    def admit(self, contribution: Contribution, size: int) -> None:
        """Before any byte is taken. Raises Refused; a known incarnation that sends something wrong is ended."""
        self._check_sender(contribution)
        if self.store.has(contribution):
            return
        reason = self._wrong_with(contribution, size)
        if reason is not None:
            self._quarantine(contribution, reason)

    def receive(self, contribution: Contribution, data: memoryview) -> None:
        """Check the values and keep them. The same contribution sent again is accepted again, once."""
        self._check_sender(contribution)
        if self.store.has(contribution):
            return
        pseudo_gradient = decode(data, self._size(contribution), self.settings.optimizer.precision)
        norm = root_mean_square(pseudo_gradient)
        part = (contribution.fragment, contribution.rank, contribution.ranks)
        weights_norm = self._weights_norm(contribution.fragment)
        reason = not_finite(pseudo_gradient) or self._norms.check(part, norm, contribution.tokens, weights_norm)
        if reason is not None:
            self._quarantine(contribution, reason)
        sha256 = self.store.keep_payload(contribution, data)  # before the lock: a disk is slow, and others wait for it
        with self._lock:
            if self.store.has(contribution):
                return  # sent twice at once
            if self.store.is_fenced(contribution.incarnation):
                self.store.drop_payload(contribution, sha256)
                raise Refused(f"incarnation {contribution.incarnation} has ended; join again")
            reason = self._other_than_its_parts(contribution)
            if reason is None:
                awake = self._clock.now()
                self.store.add(contribution, sha256, len(data), norm, awake)
                self._norms.note(part, norm, contribution.tokens)
                self._note_arrival(contribution, awake)
                self._due.set()
        if reason is not None:
            self.store.drop_payload(contribution, sha256)
            self._quarantine(contribution, reason)

    def _other_than_its_parts(self, c: Contribution) -> str | None:
        """What a part says differently than the parts of other ranks that are here; None: nothing."""
        for other in self.store.parts(c.incarnation, c.fragment, c.sequence):
            for name in ("ranks", "step", "tokens", "base_version", "joined_version"):
                if getattr(other, name) != getattr(c, name):
                    return f"{name} {getattr(c, name)}, but {getattr(other, name)} in the part of rank {other.rank}"
        return None

    def _check_sender(self, c: Contribution) -> None:
        if c.fragment not in self.fragments:
            raise Refused(f"contribution: no fragment {c.fragment} here; there are {sorted(self.fragments)}")
        if not self._members.may_contribute(c.incarnation) and not self.store.has(c):
            raise Refused(f"contribution: incarnation {c.incarnation} is not training here; join and heal first")

    def _wrong_with(self, c: Contribution, size: int) -> str | None:
        """What is wrong with an announced contribution, in words; None when nothing is."""
        precision, current = self.settings.optimizer.precision, self._state[c.fragment].version
        if c.precision != precision:
            return f"precision {c.precision[:20]} instead of {precision}"
        if not 0 <= c.rank < c.ranks <= self.fragments[c.fragment].size:
            return f"rank {c.rank} of {c.ranks}"
        expected = encoded_size(self._size(c), precision)
        if size != expected:
            return f"{size} bytes instead of {expected} for fragment {c.fragment}"
        if c.base_version > current:
            return f"base version {c.base_version}, but the newest is {current}"
        if c.joined_version > c.base_version:
            return f"joined at version {c.joined_version}, after its base {c.base_version}"
        if c.tokens < 1 or c.step < 1:
            return f"{c.tokens} tokens after {c.step} steps"
        return None

    def _size(self, c: Contribution) -> int:
        return sum(end - start for start, end in self._spans(self.fragments[c.fragment], c.rank, c.ranks))

    def _quarantine(self, contribution: Contribution, reason: str) -> None:
        header = contribution.to_json() | {"history": len(contribution.history)}
        self.store.refuse(contribution.incarnation, header, reason)
        self._members.quarantine(contribution.incarnation, reason)
        raise Refused(f"quarantined: {reason}")

    def _weights_norm(self, fragment: int) -> float:
        return root_mean_square(self._state[fragment].values)

    def _note_arrival(self, c: Contribution, awake: float) -> None:
        if c.rank == 0:
            self._pace[c.fragment].note(c.incarnation, awake, c.tokens)
        now = time.monotonic()
        if c.incarnation not in self._arrived[c.fragment]:
            self._arrived[c.fragment][c.incarnation] = now
            self._grace[c.fragment].arrived(c.incarnation, now)

    def fence(self, incarnation: int) -> dict[int, int]:
        """Accept nothing of this incarnation any more; fragment → its steps that are in accepted contributions."""
        with self._lock:
            steps = self.store.fence(incarnation)
            for pace in self._pace.values():
                pace.forget(incarnation)
            self._due.set()
        return steps

    # Versions

    def merge_due(self, now: float) -> float:
        """Merge what is due; seconds until something may be due again (at most one)."""
        wait = MERGE_AGAIN_S
        for index in self.fragments:
            at = self._due_at(index)
            if at > now:
                wait = min(wait, at - now)
            else:
                self._try_to_merge(index)
        return max(0.0, wait)

    def _try_to_merge(self, index: int) -> None:
        """A damaged contribution or a full disk stops this fragment until it is mended, and no other."""
        try:
            self._merge(index)
            self._failing.discard(index)
        except Fenced:
            raise
        except TenfoldError as error:
            if index not in self._failing:
                self._say(MergeFailed(index), f"fragment {index}: {error}; tried again every {MERGE_AGAIN_S:g} s")
            self._failing.add(index)

    def run(self, stopping: threading.Event) -> None:
        """Merge until told to stop. Raises Fenced when another process has taken over."""
        while not stopping.is_set():
            self._clock.now()
            self._due.clear()  # what comes from here on is looked at next
            self._due.wait(self.merge_due(time.monotonic()))

    def _due_at(self, index: int) -> float:
        arrived = self._complete(index)
        if arrived and self._members.draining():
            return 0.0
        expected = [incarnation for incarnation in self._members.expected() if not self.store.is_fenced(incarnation)]
        at = merge_time(arrived, expected, self.settings.quorum, self._grace[index])
        if at < float("inf"):
            self._grace[index].quorum(max(arrived.values()))
        return at

    def _complete(self, index: int) -> dict[int, float]:
        """Incarnations whose contribution is here with the parts of all their ranks, and when it came."""
        if not self._arrived[index]:
            return {}
        incarnations = {waiting.what.incarnation for waiting in self.store.waiting(index)}
        return {incarnation: at for incarnation, at in self._arrived[index].items() if incarnation in incarnations}

    def _merge(self, index: int) -> None:
        """All that waits for a fragment becomes its next version."""
        done = self._members.done()
        with self._lock:
            waiting = self.store.waiting(index)
            alive = set(self._members.expected()) | {each.what.incarnation for each in waiting}
            state, weights = self._state[index], self.weights_of(index, waiting, alive)
            pseudo_gradients = [
                (weight, self.pseudo_gradient_of(each)) for weight, each in zip(weights, waiting, strict=True)
            ]
            following, difference = self.settings.optimizer.step(state, pseudo_gradients)
            made_of = list(zip(waiting, weights, strict=True))
            published = Published(done, len(alive))
            self.store.publish(index, following, difference, made_of, published, digest_of_values(following.values))
            self._state[index] = following
            self._arrived[index] = {}
            self._grace[index].merged([each.what.incarnation for each in waiting])
            self._newer.notify_all()

    def weights_of(self, index: int, waiting: list[StoredContribution], training: Collection[int]) -> list[float]:
        """Weight of each part in the merge, while `training` train; the parts of one contribution weigh the same.

        Where every round waits for everybody all pseudo-gradients were made in the same time, and their tokens tell
        exactly what else the throughput of each learner can only estimate.
        """
        if self.settings.quorum:
            return [self._pace[index].share(each.what.incarnation, training) for each in waiting]
        # Each rank's part of a contribution carries the tokens of the whole, which count once.
        total = sum(each.what.tokens for each in waiting if each.what.rank == 0)
        return [each.what.tokens / total for each in waiting]

    def pseudo_gradient_of(self, waiting: StoredContribution) -> Tensor:
        """The pseudo-gradient of one part, zero where the part has nothing: float32, as long as the fragment."""
        c = waiting.what
        part = decode(self.store.payload(waiting), self._size(c), self.settings.optimizer.precision)
        return place_part(part, self._spans(self.fragments[c.fragment], c.rank, c.ranks), self.fragments[c.fragment])

    def news(self, request: NewsRequest) -> NewsReply:
        """Newer versions than the known ones, at once or when one comes, and which of the asker's are in them."""
        deadline, known = time.monotonic() + min(request.patience, LONGEST_POLL_S), request.known
        with self._newer:
            while True:
                newer = {i: s.version for i, s in self._state.items() if s.version > known.get(i, -1)}
                left = deadline - time.monotonic()
                if newer or left <= 0:
                    break
                self._newer.wait(left)
        return NewsReply(versions={index: self._news_of(request.incarnation, index, newer[index]) for index in newer})

    def _news_of(self, incarnation: int, index: int, version: int) -> VersionNews:
        merged = self.store.merged_sequences(incarnation, index, version)
        published = self.store.published(index, version)
        return VersionNews(version=version, merged=tuple(merged), done=published.done, learners=published.learners)

    def differences(self, index: int, first: int, last: int) -> Blob:
        """What leads from the version before `first` to `last`, version by version, each as long as the others."""
        if not 0 < last - first + 1 <= KEPT_DIFFERENCES:
            raise Refused(f"differences {first} to {last}: at most {KEPT_DIFFERENCES} are kept")
        found = [self.store.difference(index, version) for version in range(first, last + 1)]
        kept = [difference for difference in found if difference is not None]
        digest = self.store.values_digest(index, last)
        if index not in self.fragments or len(kept) < len(found) or digest is None:
            raise Refused(f"no differences {first} to {last} of fragment {index}; take the whole fragment")
        return Blob(DifferencesHeader(digest=digest).to_json(), b"".join(kept))

    def values(self, index: int, rank: int, ranks: int) -> Blob:
        """The newest version of a fragment, or of a rank's part of it, in float32."""
        if index not in self.fragments or not 0 <= rank < ranks:
            raise Refused(f"no fragment {index}, rank {rank} of {ranks}")
        state = self._state[index]
        part = take_spans(state.values, self._spans(self.fragments[index], rank, ranks)).contiguous()
        digest = digest_of_values(part)
        self._handed_out.append((index, state.version, digest))
        header = FragmentHeader(version=state.version, digest=digest)
        return Blob(header.to_json(), part.view(torch.uint8).numpy().tobytes())

    def unpublished(self, held: Mapping[int, HeldFragment]) -> Sequence[int]:
        """Fragments of which somebody holds what was never published.

        A digest may be that of a version, or of a rank's part of it that was handed out lately.
        """
        return [
            index
            for index, fragment in held.items()
            if not all(self._is_published(index, fragment.version, digest) for digest in fragment.digests)
        ]

    def _is_published(self, index: int, version: int, digest: str) -> bool:
        return digest == self.store.values_digest(index, version) or (index, version, digest) in self._handed_out

    @property
    def versions(self) -> dict[int, int]:
        """Newest version of each fragment."""
        return {index: state.version for index, state in self._state.items()}

    def is_empty(self, mark: int) -> bool:
        """Whether nothing waits to be merged. Raises Fenced when that is for another process to say."""
        with self.store.database.write():
            return not any(self.store.waiting(index) for index in self.fragments)


class ShardHandler:
    """What arrives on the ports of a shard in a process of its own; anything malformed is refused with a reason."""

    def __init__(self, shard: SyncerShard, rejected: Callable[[str], None]) -> None:
        self._shard, self.rejected = shard, rejected
        self._answers: dict[str, tuple[type[Request], Callable[[Any], Message]]] = {}
        self._answer(NewsRequest, shard.news)
        self._answer(UnpublishedRequest, lambda r: UnpublishedReply(fragments=tuple(shard.unpublished(r.held))))

    def _answer(self, request: type[R], answer: Callable[[R], Message]) -> None:
        self._answers[request.method] = (request, answer)

    def call(self, method: str, request: dict[str, Any]) -> dict[str, Any]:
        """The answer to a request. Raises Refused."""
        if method not in self._answers:
            raise Refused(f"no method {method[:40]!r}")
        kind, answer = self._answers[method]
        return answer(parse(kind, request, method)).to_json()

    def admit(self, key: str, header: dict[str, Any], size: int) -> None:
        """Take nothing but contributions."""
        self._shard.admit(self._contribution(key, header), size)

    def receive(self, key: str, header: dict[str, Any], data: memoryview) -> dict[str, Any]:
        """Take a contribution, whole."""
        self._shard.receive(self._contribution(key, header), data)
        return Done().to_json()

    def blob(self, key: str) -> Blob:
        """fragment/INDEX/RANK/RANKS: its newest version; differences/INDEX/FIRST/LAST: what leads to those."""
        kind, *rest = key.split("/")
        try:
            numbers = [int(part) for part in rest]
        except ValueError:
            raise Refused(f"no blob {key[:80]!r}") from None
        if kind == "fragment" and len(numbers) == 3:
            return self._shard.values(*numbers)
        if kind == "differences" and len(numbers) == 3:
            return self._shard.differences(*numbers)
        raise Refused(f"no blob {key[:80]!r}")

    @staticmethod
    def _contribution(key: str, header: dict[str, Any]) -> Contribution:
        if not key.startswith("contribution/"):
            raise Refused(f"only contributions are taken here, not {key[:80]!r}")
        contribution = parse(Contribution, header, "contribution")
        if key != contribution.key:
            raise Refused(f"contribution: its header says {contribution.key}, its name is {key[:80]!r}")
        return contribution
