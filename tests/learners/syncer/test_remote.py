"""A syncer of several processes: whoever is away, incarnations end on all shards, and nothing is lost or done twice."""

import json
import random
import re
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch

from tenfold.campaign import run_replay, run_syncer
from tenfold.config import Campaign, parse_campaign
from tenfold.core.errors import InputError, TenfoldError
from tenfold.learners.learner.exchange import fetch_all
from tenfold.learners.messages import (
    Contribution,
    Done,
    EndRequest,
    HealedRequest,
    Heartbeat,
    HeartbeatReply,
    HeldFragment,
    JoinReply,
    JoinRequest,
    Lease,
    LeaseReply,
    LeaseRequest,
    MembershipView,
    Origin,
    ShardReport,
    ShardsReply,
    ShardsRequest,
    parse,
)
from tenfold.learners.outer import digest_of_values, encode, shard_of
from tenfold.learners.record.log import RunLog
from tenfold.learners.syncer.coordinator import Coordinator
from tenfold.learners.syncer.facts import RunFacts
from tenfold.learners.syncer.recorder import Recorder
from tenfold.learners.syncer.remote import RemoteMembership
from tenfold.learners.syncer.service import SyncerHandler, make_shard, remote_shards
from tenfold.learners.syncer.shard import ShardHandler
from tenfold.learners.wire import BlobServer, Link, Refused, Security, Unreachable
from tenfold.ledger import Ledger
from tests.learners.small import committed_samples, learners_campaign, total_samples, train
from tests.waiting import until

CAMPAIGN = Campaign.model_validate(
    {
        "model": {"depth": 1, "width": 32, "head_dim": 16, "context": 32},
        "train": {"batch_tokens": 256},
        "learners": {"count": 2, "fragments": 2, "syncer_shards": 2, "grace": 0.0, "strikes": 2},
    }
)
VOCABULARY, TOTAL, SECURITY = 300, 128, Security("secret")


def _serving(handler: SyncerHandler | ShardHandler, port: int) -> BlobServer:
    """A server where one was before; a connection of another process may have that port for a while."""
    found: list[BlobServer] = []

    def is_bound() -> bool:
        with suppress(InputError):
            found.append(BlobServer(handler, SECURITY, control_port=port))
        return bool(found)

    until(is_bound)
    return found[0]


@dataclass
class Coordinating:
    """Coordinator and shard 0 on real sockets, in this process."""

    folder: Path
    port: int = 0
    total: int = TOTAL
    said: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.stack = ExitStack()
        recorder = _recorder(self.folder, self.said, self.stack)
        self.coordinator = Coordinator(self.folder, RunFacts("r", "c", {}, "", self.total, 8, 2, 5.0, 0), recorder)
        self.stack.callback(self.coordinator.close)
        self.shard = make_shard(CAMPAIGN, VOCABULARY, self.folder / "shard-0", self.coordinator, recorder)
        self.stack.callback(self.shard.store.close)
        self.coordinator.remote = remote_shards(CAMPAIGN, SECURITY)
        self.coordinator.shards += [self.shard, *self.coordinator.remote.values()]
        handler = SyncerHandler(self.coordinator, self.shard, recorder.rejected)
        self.server = _serving(handler, self.port)
        self.stack.callback(self.server.close)
        self.port = self.server.control_port

    def ended(self, incarnation: int) -> bool:
        """Whether an incarnation is over, its samples settled."""
        self.coordinator.tick()
        return self.coordinator.membership.get(incarnation).state == "evicted"


@dataclass
class FurtherShard:
    """Shard 1 on real sockets, in this process."""

    folder: Path
    coordinator_port: int
    port: int = 0

    def __post_init__(self) -> None:
        self.stack = ExitStack()
        recorder = _recorder(self.folder, [], self.stack)
        self.members = RemoteMembership(lambda: f"127.0.0.1:{self.coordinator_port}", SECURITY, 1, "r", "c")
        self.shard = make_shard(CAMPAIGN, VOCABULARY, self.folder / "shard-1", self.members, recorder, 1)
        self.stack.callback(self.shard.store.close)
        self.server = _serving(ShardHandler(self.shard, recorder.rejected), self.port)
        self.port = self.server.control_port
        self.stack.callback(self.server.close)
        self.stack.callback(self.members.close)
        self.members.follow(self.shard, self.server.address)


def _recorder(folder: Path, said: list[str], stack: ExitStack) -> Recorder:
    def open_ledger() -> tuple[Ledger, int]:
        ledger = Ledger(folder / "ledger.sqlite")
        return ledger, ledger.start_run("train", "f", {})

    recorder = Recorder(open_ledger, said.append)
    stack.callback(recorder.close)
    return recorder


@dataclass
class Syncer:
    """Both, which die and come back one by one."""

    folder: Path
    total: int = TOTAL

    def __post_init__(self) -> None:
        self.first = Coordinating(self.folder, total=self.total)
        self.second: FurtherShard | None = None
        self.port_of_second = 0
        self.start_shard()

    def stop_shard(self) -> None:
        assert self.second
        self.second.stack.close()
        self.second = None

    def start_shard(self) -> FurtherShard:
        self.second = FurtherShard(self.folder, self.first.port, self.port_of_second)
        self.port_of_second = self.second.port
        return self.second

    def restart_coordinator(self) -> None:
        self.first.stack.close()
        self.first = Coordinating(self.folder, self.first.port, self.total)

    def close(self) -> None:
        if self.second:
            self.stop_shard()
        self.first.stack.close()


@pytest.fixture
def syncer(tmp_path: Path) -> Iterator[Syncer]:
    syncer = Syncer(tmp_path)
    yield syncer
    syncer.close()


class FakeLearner:
    """Does what a learner does, but for training."""

    def __init__(self, syncer: Syncer, name: str, patience: float = 10.0) -> None:
        self.link = Link(syncer.first.server.address, SECURITY, streams=1, patience=patience)
        request = JoinRequest(name=name, address=None, batch=8, recipe="r", code="c")
        self.incarnation = self.link.ask(request, JoinReply).incarnation or 0
        (further,) = self.link.ask(ShardsRequest(), ShardsReply).shards
        self.links = [self.link, Link(further, SECURITY, streams=1, patience=patience)]
        self.values, self.leases = fetch_all(self.links, [0, 1], (0, 1)), 0

    def heal(self, **changed: torch.Tensor) -> None:
        held = {
            i: HeldFragment(version=v, digests=(digest_of_values(changed.get(f"fragment_{i}", t)),))
            for i, (v, t) in self.values.items()
        }
        self.link.ask(HealedRequest(incarnation=self.incarnation, origin=Origin(kind="initial"), held=held), Done)

    def lease(self, samples: int = 64) -> Lease | None:
        request = LeaseRequest(incarnation=self.incarnation, samples=samples, backlog=0, received=self.leases)
        lease = self.link.ask(request, LeaseReply).lease
        self.leases += lease is not None
        return lease

    def first_sample(self) -> int | None:
        """Of a new lease."""
        lease = self.lease()
        return lease.first_sample if lease else None

    def end(self, reason: str) -> None:
        self.link.ask(EndRequest(incarnation=self.incarnation, reason=reason), Done)

    def contribution(self, fragment: int, step: int, sequence: int = 0) -> Contribution:
        return Contribution(
            incarnation=self.incarnation,
            fragment=fragment,
            sequence=sequence,
            base_version=0,
            joined_version=0,
            step=step,
            tokens=32 * step,
            precision="int4",
        )

    def contribute(self, fragment: int, step: int, sequence: int = 0, scale: float = 0.01) -> dict[str, Any]:
        contribution = self.contribution(fragment, step, sequence)
        size = self.values[fragment][1].numel()
        vector = scale * torch.randn(size, generator=torch.Generator().manual_seed(step))
        link = self.links[shard_of(fragment, 2)]
        return link.put(contribution.key, contribution.to_json(), encode(vector, "int4"))

    def beat(self, step: int, flushed: bool = False) -> HeartbeatReply:
        heartbeat = Heartbeat(incarnation=self.incarnation, step=step, idle=flushed, flushed=flushed)
        return self.link.ask(heartbeat, HeartbeatReply)


def test_a_learner_takes_and_sends_each_fragment_at_its_shard(syncer: Syncer) -> None:
    learner = FakeLearner(syncer, "one")
    with pytest.raises(Refused, match="fragment 1 is not version 0 as published"):
        learner.heal(fragment_1=torch.zeros(3))
    with pytest.raises(Refused, match="not training here"):
        learner.contribute(1, 8)
    learner.heal()
    for fragment in (0, 1):  # at once: shard 1 need not have heard of the incarnation before
        assert learner.contribute(fragment, 8) == {}
    with pytest.raises(Refused, match=r"no fragment 1 here; there are \[0\]"):
        astray = learner.contribution(1, 8, sequence=1)
        learner.link.put(astray.key, astray.to_json(), b"")
    assert syncer.second
    for shard in (syncer.first.shard, syncer.second.shard):
        shard.merge_due(time.monotonic())
    assert syncer.first.shard.versions == {0: 1}
    until(lambda: syncer.first.coordinator.status().versions == {0: 1, 1: 1})


def test_an_incarnation_is_settled_only_when_the_shard_that_was_away_has_fenced_it(syncer: Syncer) -> None:
    one, two = FakeLearner(syncer, "one"), FakeLearner(syncer, "two")
    one.heal()
    two.heal()
    assert one.first_sample() == 0
    assert two.first_sample() == 32
    one.contribute(0, 1)
    one.contribute(1, 3)  # its last: after step 3, at the shard that goes away
    syncer.stop_shard()
    one.end("a loss that is no number")  # whoever waited for the shard that is away would not be answered
    assert one.beat(4).ended == "a loss that is no number"
    assert two.beat(1) == HeartbeatReply(finished=False)
    assert not syncer.first.ended(one.incarnation)
    with pytest.raises(Refused, match="not training here"):
        one.contribute(0, 4, sequence=1)
    assert two.first_sample() == 64, "samples of an incarnation that is being ended are nobody's"
    syncer.restart_coordinator()
    assert not syncer.first.ended(one.incarnation)
    request = JoinRequest(name="one", address=None, batch=8, recipe="r", code="c")
    again = two.link.ask(request, JoinReply).incarnation
    assert again and again > two.incarnation, "its learner may join again meanwhile"
    syncer.start_shard()
    until(lambda: syncer.first.ended(one.incarnation))
    assert syncer.first.coordinator.membership.get(one.incarnation).steps == 3, "what only shard 1 had accepted counts"
    assert syncer.first.coordinator.leases.granted_to(one.incarnation) == 32
    assert syncer.first.coordinator.leases.progress().given_back == 32 - 3 * 8
    with pytest.raises(Refused, match="not training here"):
        one.contribute(1, 4, sequence=1)


def test_a_quarantine_by_a_shard_reaches_a_coordinator_that_was_away_and_counts_once(syncer: Syncer) -> None:
    learner = FakeLearner(syncer, "bad")
    learner.heal()
    learner.contribute(1, 1)
    syncer.first.stack.close()
    with pytest.raises(Refused, match="quarantined: norm"):
        learner.contribute(1, 2, sequence=1, scale=1e30)
    with pytest.raises(Refused, match="has ended"):
        learner.contribute(1, 3, sequence=2)
    syncer.first = Coordinating(syncer.folder, syncer.first.port)
    until(lambda: syncer.first.ended(learner.incarnation))
    syncer.stop_shard()
    syncer.start_shard()  # tells it again
    again = FakeLearner(syncer, "bad")
    again.heal()
    assert again.contribute(1, 1) == {}
    with pytest.raises(Refused, match="quarantined"):
        again.contribute(1, 2, sequence=1, scale=1e30)
    with pytest.raises(Refused, match="barred after 2 strikes"):
        FakeLearner(syncer, "bad")


def test_a_shard_goes_on_without_the_coordinator_but_takes_nobody_unknown(syncer: Syncer) -> None:
    known = FakeLearner(syncer, "known")
    known.heal()
    known.contribute(1, 1)
    stranger = FakeLearner(syncer, "stranger")
    syncer.first.stack.close()
    assert syncer.second
    assert known.contribute(1, 2, sequence=1) == {}
    syncer.second.shard.merge_due(time.monotonic() + 60)
    assert syncer.second.shard.versions == {1: 1}
    with pytest.raises(TenfoldError, match="cannot ask the coordinator about incarnation 2 now"):
        syncer.second.members.may_contribute(stranger.incarnation)
    with pytest.raises(Unreachable):  # neither taken nor refused: tried again until the coordinator is back
        stranger.links[1].put("contribution/2/1/0/0", stranger.contribution(1, 1).to_json(), b"", patience=0.3)
    syncer.first = Coordinating(syncer.folder, syncer.first.port)


def test_the_run_ends_when_the_last_shard_has_merged_what_it_had(syncer: Syncer) -> None:
    learner = FakeLearner(syncer, "one")
    learner.heal()
    steps = 0
    while lease := learner.lease(TOTAL):
        steps += lease.samples // 8
    assert steps == TOTAL // 8
    learner.contribute(0, steps)
    learner.contribute(1, steps)
    learner.beat(steps, flushed=True)
    assert syncer.second
    until(syncer.second.members.draining)
    syncer.first.shard.merge_due(time.monotonic())
    time.sleep(0.5)  # some reports later
    syncer.first.coordinator.tick()
    assert not syncer.first.coordinator.finished, "shard 1 has not merged"
    syncer.second.shard.merge_due(time.monotonic())

    def finished() -> bool:
        syncer.first.coordinator.tick()
        return syncer.first.coordinator.finished

    until(finished)
    until(lambda: bool(syncer.second and syncer.second.members.finished))


class Walk:
    """Learners and processes of the syncer that do anything in any order."""

    def __init__(self, syncer: Syncer, seed: int) -> None:
        self.syncer, self.random = syncer, random.Random(seed)
        self.learners: dict[str, FakeLearner] = {}
        self.steps: dict[int, int] = {}
        self.granted: dict[int, int] = {}
        self.sent: Counter[tuple[int, int]] = Counter()

    def go(self, moves: int) -> None:
        """Bring everybody up at the end."""
        often = [self.join, self.lease, self.train, self.train, self.send, self.send, self.send, self.merge]
        seldom = [self.end, self.stop_shard, self.restart]
        for _ in range(moves):
            if self.syncer.second is None and self.random.random() < 0.2:
                self.syncer.start_shard()
            with suppress(Unreachable, Refused):
                self.random.choice(often if self.random.random() < 0.9 else seldom)()
        if self.syncer.second is None:
            self.syncer.start_shard()

    def someone(self) -> FakeLearner:
        """Raises Refused when there is nobody."""
        if not self.learners:
            raise Refused("nobody there")
        return self.random.choice(sorted(self.learners.items()))[1]

    def join(self) -> None:
        """Who is not there, or now and then who is: its process has died unnoticed."""
        name = self.random.choice("ab")
        if name not in self.learners or self.random.random() < 0.2:
            self.learners.pop(name, None)
            learner = FakeLearner(self.syncer, name, patience=0.5)
            learner.heal()
            self.learners[name] = learner

    def lease(self) -> None:
        learner = self.someone()
        lease = learner.lease(16)
        samples = lease.samples if lease else 0
        self.granted[learner.incarnation] = self.granted.get(learner.incarnation, 0) + samples // 8

    def train(self) -> None:
        incarnation = self.someone().incarnation
        self.steps[incarnation] = min(self.steps.get(incarnation, 0) + 1, self.granted.get(incarnation, 0))

    def send(self) -> None:
        learner, fragment = self.someone(), self.random.randrange(2)
        if step := self.steps.get(learner.incarnation, 0):
            learner.contribute(fragment, step, self.sent[learner.incarnation, fragment])
            self.sent[learner.incarnation, fragment] += 1

    def end(self) -> None:
        learner = self.someone()
        self.learners.pop(next(name for name, each in self.learners.items() if each is learner))
        learner.end("drawn")

    def merge(self) -> None:
        self.syncer.first.shard.merge_due(time.monotonic())

    def stop_shard(self) -> None:
        if self.syncer.second:
            self.syncer.stop_shard()

    def restart(self) -> None:
        self.syncer.restart_coordinator()


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_whatever_happens_every_sample_counts_once(tmp_path: Path, seed: int) -> None:
    syncer = Syncer(tmp_path, total=1024)
    walk = Walk(syncer, seed)
    walk.go(300)
    assert len({incarnation for incarnation, _ in walk.sent}) > 2 and walk.sent.total() > 20
    last = FakeLearner(syncer, "last")
    for learner in walk.learners.values():
        with suppress(Refused):
            learner.end("the last one does the rest")
    last.heal()
    until(lambda: not syncer.first.coordinator.membership.ending())
    steps = 0
    while lease := last.lease(1024):
        steps += -(-lease.samples // 8)
    for fragment in (0, 1):
        last.contribute(fragment, steps)
    last.beat(steps, flushed=True)
    assert syncer.second
    shards = (syncer.first.shard, syncer.second.shard)

    def finished() -> bool:
        for shard in shards:
            shard.merge_due(time.monotonic())
        syncer.first.coordinator.tick()
        return syncer.first.coordinator.finished

    until(finished)
    with RunLog.opened(syncer.folder) as log:
        counted = sorted(n for _, first, _, done in log.committed() for n in range(first, first + done))
        accepted = [each.what for each in log.contributions()]
        incarnations = log.incarnations()
    syncer.close()
    assert counted == list(range(1024))
    for each in incarnations:
        assert each.steps == max((c.step for c in accepted if c.incarnation == each.number), default=0), each


def test_a_shard_that_was_taken_over_is_sent_away(syncer: Syncer) -> None:
    old = syncer.second
    assert old
    FakeLearner(syncer, "one")  # shard 1 has reported
    new = FurtherShard(syncer.folder, syncer.first.port)
    until(lambda: old.members.failure is not None)
    assert "taken over" in str(old.members.failure)
    until(lambda: syncer.first.coordinator.remote[1].address == new.server.address)
    new.stack.close()


def test_a_shard_of_another_configuration_is_refused(syncer: Syncer) -> None:
    stranger = ShardReport(shard=1, recipe="other", code="c", generation=9, address="127.0.0.1:1", versions={})
    link = Link(syncer.first.server.address, SECURITY, streams=1, patience=5.0)
    with pytest.raises(Refused, match="another configuration"):
        link.ask(stranger, MembershipView)


def test_learners_wait_for_a_shard_that_has_not_said_where_it_is(tmp_path: Path) -> None:
    first = Coordinating(tmp_path)
    with pytest.raises(TenfoldError, match="shard 1 of the syncer is away"):
        first.coordinator.addresses(ShardsRequest())
    first.stack.close()


def test_messages_survive_the_wire() -> None:
    report = ShardReport(
        shard=1,
        recipe="r",
        code="c",
        generation=3,
        address="h:1",
        versions={1: 2},
        fenced={7: {1: 40}},
        empty_since=128,
        quarantined=((7, "bad"),),
    )
    view = MembershipView(
        expected=frozenset({1}), active=frozenset({1, 2}), draining=True, done=60, mark=64, fence=(3,), finished=False
    )
    for message in (report, view):
        assert parse(type(message), json.loads(json.dumps(message.to_json())), "message") == message


FAULTS = """
syncer_shards = 2
[chaos]
faults = [
  { kind = "kill", target = "syncer-1", at = 0.15 },
  { kind = "stop", target = "syncer-1", at = 0.3, seconds = 3 },
  { kind = "kill", target = "learner-1", at = 0.32 },
  { kind = "kill", target = "syncer", at = 0.5 },
  { kind = "partition", target = "syncer-1", at = 0.65, seconds = 2 },
]
"""


@pytest.mark.slow
def test_shard_and_coordinator_killed_while_learners_train(tmp_path: Path) -> None:
    campaign = learners_campaign(tmp_path, tokens=240_000, more=FAULTS)
    result = train(campaign)
    assert committed_samples(campaign) == list(range(total_samples(campaign)))
    with closing(Ledger(campaign / "ledger.sqlite", read_only=True)) as ledger:
        events = list(ledger.events())
    done = [(event.data["fault"], event.data["target"]) for event in events if event.kind == "chaos"]
    assert [target for fault, target in done if fault == "kill"] == ["syncer-1", "learner-1", "syncer"], result["said"]
    assert ("stop", "syncer-1") in done and ("partition", "syncer-1") in done
    died = [event.data["learner"] for event in events if event.kind == "died"]
    assert sorted(died) == ["learner-1", "syncer", "syncer-1"]
    with RunLog.opened(campaign / "learners") as log:
        (killed,) = {incarnation.name for incarnation in log.incarnations() if incarnation.state == "evicted"}
        assert killed == "learner-1"
        assert all(log.newest_version(fragment) > 10 for fragment in range(3))
    assert not list((campaign / "learners" / "shard-0").glob("fragment-1"))
    assert sorted(path.name for path in (campaign / "learners" / "shard-1").glob("fragment-*")) == ["fragment-1"]
    assert run_replay(campaign, ())["weights_digest"] == result["weights_digest"]
    with pytest.raises(InputError, match=r"--shard 2: learners.syncer_shards = 2"):
        run_syncer(campaign, (), 2, None, 0, child=True)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"syncer_shards": 5}, "learners: syncer_shards 5: each holds a fragment; at most 4"),
        ({"syncer_shards": 0}, "learners.syncer_shards = 0"),
        ({"syncer_shards": 2, "port": 65533}, "learners: port 65533: 4 ports from there on go beyond 65535"),
    ],
)
def test_shards_that_cannot_be_are_one_clear_line(values: dict[str, int], message: str) -> None:
    text = "\n".join(["[learners]", *(f"{key} = {value}" for key, value in values.items())])
    with pytest.raises(InputError, match=f"^c.toml: {re.escape(message)}"):
        parse_campaign(text, "c.toml")
