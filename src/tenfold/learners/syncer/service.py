"""The syncer's processes: what arrives on their ports, and how each serves and merges until the run is finished.

The first holds the coordinator and shard 0, and notices deaths; the others (`[learners] syncer_shards`) a shard each.
"""

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tenfold.config import Campaign
from tenfold.core.errors import TenfoldError
from tenfold.core.signals import StopRequest
from tenfold.learners.messages import ShardReport
from tenfold.learners.outer import cut_model, shard_of, spans_of_rank, vector_of
from tenfold.learners.settings import initial_model, outer_optimizer
from tenfold.learners.syncer.coordinator import Coordinator, RunFacts
from tenfold.learners.syncer.recorder import Recorder
from tenfold.learners.syncer.remote import RemoteMembership, RemoteShard
from tenfold.learners.syncer.shard import MembershipSource, Shard, ShardSettings
from tenfold.learners.syncer.store import Fenced, FragmentStore
from tenfold.learners.threads import WatchedThread
from tenfold.learners.wire import Blob, BlobServer, Refused, Security
from tenfold.ledger import Ledger
from tenfold.train.plan import RunPlan

LONGEST_POLL_S = 2.0


class ShardHandler:
    """The wire's Handler of a shard in a process of its own."""

    def __init__(self, shard: Shard, recorder: Recorder) -> None:
        self._shard, self._recorder = shard, recorder

    def call(self, method: str, request: dict[str, Any]) -> dict[str, Any]:
        """Control messages."""
        try:
            return self._dispatch(method, request)
        except (LookupError, TypeError, ValueError, AttributeError, OverflowError) as error:
            raise Refused(f"{method[:40]}: malformed request ({type(error).__name__}: {str(error)[:80]})") from None

    def _dispatch(self, method: str, r: dict[str, Any]) -> dict[str, Any]:
        match method:
            case "news":
                known = {int(index): _number(version) for index, version in r["known"].items()}
                news = self._shard.news(_number(r["life"]), known, min(float(r["patience"]), LONGEST_POLL_S))
                return {"versions": {str(index): each for index, each in news.items()}}
            case "unpublished":
                claims = {
                    int(index): (_number(version), of_ranks) for index, (version, *of_ranks) in r["claims"].items()
                }
                return {"fragments": self._shard.unpublished(claims)}
            case _:
                raise Refused(f"no method {method[:40]!r}")

    def admit(self, key: str, header: dict[str, Any], size: int) -> None:
        """Only contributions are taken."""
        self._must_match(key, header)
        self._shard.admit(header, size)

    def receive(self, key: str, header: dict[str, Any], data: memoryview) -> dict[str, Any]:
        """A contribution, whole."""
        self._must_match(key, header)
        return self._shard.receive(header, data)

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

    def rejected(self, reason: str) -> None:
        """For the ledger."""
        self._recorder.say("refused", reason[:300])

    @staticmethod
    def _must_match(key: str, header: Mapping[str, Any]) -> None:
        names = ("life", "fragment", "sequence", "rank")
        if key != "/".join(["contribution", *(str(header.get(name)) for name in names)]):
            raise Refused(f"only contributions are taken here, not {key[:80]!r}")


class SyncerHandler(ShardHandler):
    """The same of the process that holds the coordinator and the first shard."""

    def __init__(self, coordinator: Coordinator, shard: Shard, recorder: Recorder) -> None:
        super().__init__(shard, recorder)
        self._coordinator = coordinator

    def _dispatch(self, method: str, r: dict[str, Any]) -> dict[str, Any]:
        coordinator = self._coordinator
        match method:
            case "join":
                abandoned = [_number(n) for n in r.get("abandoned") or ()]
                return coordinator.join(
                    _text(r["name"]), r.get("address"), _count(r["batch"]), _text(r["recipe"]), abandoned
                )
            case "healed":
                return coordinator.healed(_number(r["life"]), r["origin"], r["digests"])
            case "lease":
                counts = _count(r["samples"]), _number(r["backlog"]), _number(r["received"])
                return coordinator.lease(_number(r["life"]), *counts)
            case "beat":
                return coordinator.beat(_number(r["life"]), r["beat"])
            case "end":
                return coordinator.end(_number(r["life"]), _text(r["reason"]))
            case "leave":
                return coordinator.leave(_number(r["life"]))
            case "status":
                return coordinator.status()
            case "shards":
                return coordinator.addresses()
            case "report":
                return coordinator.report(ShardReport.from_dict(r)).to_dict()
            case _:
                return super()._dispatch(method, r)


def _number(value: Any) -> int:
    if type(value) is not int or value < 0:
        raise ValueError(f"{str(value)[:40]!r} is not a whole number, 0 or more")
    return value


def _count(value: Any) -> int:
    if _number(value) == 0:
        raise ValueError("0 where at least 1 is needed")
    return int(value)


def _text(value: Any) -> str:
    if not isinstance(value, str) or not 0 < len(value) <= 200 or not value.isprintable():
        raise ValueError("not a short printable text")
    return value


TICK_S = 0.1
RETRY_S = 1.0
LINGER_S = 2.0  # learners hear at their next beat that the run is finished


@dataclass(frozen=True)
class SyncerSite:
    """Where a syncer keeps its state and listens."""

    folder: Path
    security: Security
    bind: str
    port: int
    bulk_port: int = 0

    def shard(self, number: int) -> Path:
        """Where a shard keeps its merge log and its versions."""
        return self.folder / f"shard-{number}"


def serve(
    campaign: Campaign,
    plan: RunPlan,
    vocab_size: int,
    recipe: str,
    where: SyncerSite,
    open_ledger: Callable[[], tuple[Ledger, int]],
    stop: StopRequest,
    ready: Callable[[BlobServer], None],
) -> bool:
    """Coordinator and shard 0, until stopped; True when the run is finished. `ready` is told when it listens.

    Raises Fenced when another syncer takes over.
    """
    recorder = Recorder(open_ledger, lambda line: print(line, flush=True))
    facts = RunFacts(
        recipe,
        plan.steps * plan.sequences,
        plan.sequences,
        campaign.learners.strikes,
        campaign.learners.stalled_after,
        campaign.learners.count,
    )
    coordinator = Coordinator(where.folder, facts, recorder)
    shard = make_shard(campaign, vocab_size, where.shard(0), coordinator, recorder)
    coordinator.remote = remote_shards(campaign, where.security)
    coordinator.shards += [shard, *coordinator.remote.values()]
    server = _server(SyncerHandler(coordinator, shard, recorder), where)
    try:
        ready(server)
        recorder.say("serving", "the syncer serves")
        _work(coordinator, shard, stop)
        return coordinator.finished
    finally:
        server.close()
        coordinator.close()
        shard.shelf.close()
        recorder.close()


def serve_shard(
    campaign: Campaign,
    number: int,
    vocab_size: int,
    recipe: str,
    where: SyncerSite,
    find: Callable[[], str | None],
    open_ledger: Callable[[], tuple[Ledger, int]],
    stop: StopRequest,
    ready: Callable[[BlobServer], None],
) -> bool:
    """Shard `number`, from 1 on, until stopped; True when the run is finished. `find` tells where the coordinator is.

    Raises Fenced when another process takes over, Refused when the coordinator does not want this one.
    """
    recorder = Recorder(open_ledger, lambda line: print(line, flush=True))
    members = RemoteMembership(find, where.security, number, recipe)
    shard = make_shard(campaign, vocab_size, where.shard(number), members, recorder, number)
    server = _server(ShardHandler(shard, recorder), where)
    try:
        members.follow(shard, server.address)
        ready(server)
        recorder.say("serving", f"shard {number} of the syncer serves", shard=number)
        _merge_while_wanted(shard, members, stop)
        return members.finished
    finally:
        members.close()
        server.close()
        shard.shelf.close()
        recorder.close()


def _server(handler: ShardHandler, where: SyncerSite) -> BlobServer:
    return BlobServer(handler, where.security, bind=where.bind, control_port=where.port, bulk_port=where.bulk_port)


def remote_shards(campaign: Campaign, security: Security) -> dict[int, RemoteShard]:
    """The shards in processes of their own, by number."""
    count = campaign.learners.syncer_shards
    held = {
        number: [i for i in range(campaign.learners.fragments) if shard_of(i, count) == number]
        for number in range(count)
    }
    return {number: RemoteShard(number, held[number], security) for number in range(1, count)}


def make_shard(
    campaign: Campaign, vocab_size: int, folder: Path, members: MembershipSource, recorder: Recorder, number: int = 0
) -> Shard:
    """A shard of a campaign's model, at its newest versions or at the initial weights."""
    learners, model = campaign.learners, initial_model(campaign, vocab_size)
    weights = {name: parameter.detach() for name, parameter in model.named_parameters()}
    shapes = {name: list(tensor.shape) for name, tensor in weights.items()}
    fragments = cut_model(shapes, learners.fragments)
    shelf = FragmentStore(folder)
    shelf.tidy()
    return Shard(
        shelf,
        {each.index: each for each in fragments if shard_of(each.index, learners.syncer_shards) == number},
        lambda fragment: vector_of(weights, fragment),
        lambda fragment, rank, ranks: spans_of_rank(fragment, shapes, rank, ranks),
        ShardSettings(outer_optimizer(campaign), learners.quorum, learners.grace, learners.norm_limit),
        members,
        recorder.say,
    )


def _work(coordinator: Coordinator, shard: Shard, stop: StopRequest) -> None:
    """Merging in a thread, the watch over lives here."""
    stopping, linger = threading.Event(), threading.Event()
    merging = WatchedThread("merging", lambda: shard.run(stopping))
    while not (stop.is_set or merging.failure or coordinator.finished):
        linger.wait(TICK_S if _ticked(coordinator) else RETRY_S)
    stopping.set()
    merging.join()
    merging.check()
    if coordinator.finished:
        linger.wait(LINGER_S)


def _ticked(coordinator: Coordinator) -> bool:
    """Whether it could do what time asks for; a full disk is no reason to die of. Raises Fenced."""
    try:
        coordinator.tick()
    except Fenced:
        raise
    except TenfoldError as error:
        print(f"warning: {error}; tried again", flush=True)
        return False
    return True


def _merge_while_wanted(shard: Shard, members: RemoteMembership, stop: StopRequest) -> None:
    """Merging in a thread; here it is noticed that nobody wants it any more."""
    stopping, wait = threading.Event(), threading.Event()

    def merge() -> None:
        members.await_first(stopping)
        shard.run(stopping)

    merging = WatchedThread("merging", merge)
    while not (stop.is_set or merging.failure or members.failure or members.finished):
        wait.wait(TICK_S)
    stopping.set()
    merging.join()
    if members.failure:
        raise members.failure
    merging.check()
