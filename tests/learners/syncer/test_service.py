"""A real syncer on real sockets, and clients that do what they should not."""

import math
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch

from tenfold.config import Campaign
from tenfold.core.errors import InputError
from tenfold.learners.learner.exchange import fetch_all, fetch_fragment
from tenfold.learners.messages import (
    Contribution,
    Done,
    HealedRequest,
    Heartbeat,
    HeartbeatReply,
    HeldFragment,
    JoinReply,
    JoinRequest,
    LeaseReply,
    LeaseRequest,
    LeaveRequest,
    LinkFigures,
    NewsReply,
    NewsRequest,
    Origin,
    Published,
    VersionNews,
)
from tenfold.learners.outer import FragmentState, apply_difference, digest_of_values, encode
from tenfold.learners.record.log import RunLog
from tenfold.learners.syncer.coordinator import Coordinator
from tenfold.learners.syncer.facts import RunFacts
from tenfold.learners.syncer.recorder import Recorder
from tenfold.learners.syncer.service import FileWatch, SyncerHandler, make_shard
from tenfold.learners.syncer.shard import SyncerShard
from tenfold.learners.syncer.store import Fenced, FragmentStore
from tenfold.learners.wire import BlobServer, Link, Refused, Security
from tenfold.ledger import EndCause, EventPayload, FilesShort, Ledger
from tests.waiting import PATIENCE_S, until

CAMPAIGN = Campaign.model_validate(
    {
        "model": {"depth": 1, "width": 32, "head_dim": 16, "context": 32},
        "train": {"batch_tokens": 256},
        "learners": {"count": 2, "fragments": 2, "grace": 0.0, "strikes": 2},
    }
)
VOCABULARY = 300
TOTAL = 800


@dataclass
class RunningSyncer:
    """A syncer in this process."""

    coordinator: Coordinator
    shard: SyncerShard
    server: BlobServer
    said: list[str] = field(default_factory=list)

    def link(self, token: str = "secret") -> Link:
        return Link(self.server.address, Security(token), streams=2, patience=5.0)


@dataclass
class FakeLearner:
    """Does what a learner does, but for training."""

    syncer: RunningSyncer
    name: str
    abandoned: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        self.link = self.syncer.link()
        request = JoinRequest(name=self.name, address=None, batch=8, recipe="r", code="c", abandoned=self.abandoned)
        self.incarnation = self.link.ask(request, JoinReply).incarnation or 0
        self.values = fetch_all([self.link], [0, 1], (0, 1))

    def heal(self, values: dict[int, torch.Tensor] | None = None) -> None:
        values = values or {index: tensor for index, (_, tensor) in self.values.items()}
        held = {
            i: HeldFragment(version=self.values[i][0], digests=(digest_of_values(tensor),))
            for i, tensor in values.items()
        }
        self.link.ask(HealedRequest(incarnation=self.incarnation, origin=Origin(kind="initial"), held=held), Done)

    def lease(self, samples: int = 128, backlog: int = 0, received: int = 0) -> LeaseReply:
        request = LeaseRequest(incarnation=self.incarnation, samples=samples, backlog=backlog, received=received)
        return self.link.ask(request, LeaseReply)

    def contribute(self, vector: torch.Tensor, sequence: int = 0, **changed: Any) -> dict[str, Any]:
        version = self.values[0][0]
        contribution = Contribution(
            incarnation=self.incarnation,
            fragment=0,
            sequence=sequence,
            base_version=version,
            joined_version=version,
            step=8 * (sequence + 1),
            tokens=2048,
            precision="int4",
        )
        header = contribution.to_json() | changed
        key = f"contribution/{header['incarnation']}/{header['fragment']}/{header['sequence']}/{header['rank']}"
        return self.link.put(key, header, encode(vector, "int4"))

    @property
    def size(self) -> int:
        return int(self.values[0][1].numel())


def open_syncer(folder: Path, stack: ExitStack, port: int = 0) -> RunningSyncer:
    ledger_path, said = folder / "ledger.sqlite", []

    def open_ledger() -> tuple[Ledger, int]:
        ledger = Ledger(ledger_path)
        return ledger, ledger.start_run("train", "f", {})

    recorder = Recorder(open_ledger, said.append)
    stack.callback(recorder.close)
    coordinator = Coordinator(
        folder, RunFacts("r", "c", {"seed": 0}, "corpus", TOTAL, 8, CAMPAIGN.learners.strikes, 5.0, 0), recorder
    )
    stack.callback(coordinator.close)
    shard = make_shard(CAMPAIGN, VOCABULARY, folder / "shard-0", coordinator, recorder)
    stack.callback(shard.store.close)
    coordinator.shards.append(shard)
    server = BlobServer(SyncerHandler(coordinator, shard, recorder.rejected), Security("secret"), control_port=port)
    stack.callback(server.close)
    return RunningSyncer(coordinator, shard, server, said)


@pytest.fixture
def syncer(tmp_path: Path) -> Iterator[RunningSyncer]:
    with ExitStack() as stack:
        yield open_syncer(tmp_path, stack)


def small_move(learner: FakeLearner, seed: int = 0) -> torch.Tensor:
    return 0.01 * torch.randn(learner.size, generator=torch.Generator().manual_seed(seed))


def test_contributions_are_merged_and_learners_told_which(syncer: RunningSyncer) -> None:
    one, two = FakeLearner(syncer, "one"), FakeLearner(syncer, "two")
    one.heal()
    two.heal()
    assert one.contribute(small_move(one, 1)) == {}
    assert one.contribute(small_move(one, 1)) == {}  # the same again: once
    two.contribute(small_move(two, 2))
    syncer.shard.merge_due(time.monotonic())
    assert syncer.shard.versions == {0: 1, 1: 0}
    news = one.link.ask(NewsRequest(incarnation=one.incarnation, known={0: 0, 1: 0}, patience=0.1), NewsReply)
    assert news.versions == {0: VersionNews(version=1, merged=(0,), done=None, learners=2)}
    merged = syncer.shard.store.merged(0, 1)
    assert [(each.what.incarnation, each.weight) for each in merged] == [(one.incarnation, 0.5), (two.incarnation, 0.5)]


def test_a_learner_that_is_not_healed_cannot_contribute_nor_get_samples(syncer: RunningSyncer) -> None:
    learner = FakeLearner(syncer, "one")
    with pytest.raises(Refused, match="join and heal first"):
        learner.contribute(small_move(learner))
    with pytest.raises(Refused, match="not healed yet"):
        learner.lease(8)
    random = {index: torch.randn_like(tensor) for index, (_, tensor) in learner.values.items()}
    with pytest.raises(Refused, match="not version 0 as published"):
        learner.heal(random)
    with pytest.raises(Refused, match=r"fragments \[1\] missing"):
        learner.heal({0: learner.values[0][1]})
    assert syncer.shard.store.waiting(0) == []


@pytest.mark.parametrize(
    ("what", "reason"),
    [
        (lambda v: torch.full_like(v, math.nan), "NaN or infinite"),
        (lambda v: torch.full_like(v, math.inf), "NaN or infinite"),
        (lambda v: torch.full_like(v, 1e30), "times that of the weights"),
        (lambda v: v[:-70], "bytes instead of"),
        (lambda v: torch.cat([v, v]), "bytes instead of"),
    ],
)
def test_bad_values_are_quarantined_and_the_sender_starts_again(syncer: RunningSyncer, what: Any, reason: str) -> None:
    learner = FakeLearner(syncer, "one")
    learner.heal()
    with pytest.raises(Refused, match=f"quarantined: .*{reason}"):
        learner.contribute(what(small_move(learner)))
    with pytest.raises(Refused, match="not training here"):
        learner.contribute(small_move(learner))
    assert syncer.coordinator.membership.get(learner.incarnation).state == "evicted"
    again = FakeLearner(syncer, "one")
    again.heal()
    assert again.contribute(small_move(again)) == {}
    assert any("quarantined" in line and reason in line for line in syncer.said)


def test_a_learner_with_too_many_strikes_is_kept_out(syncer: RunningSyncer) -> None:
    for _ in range(2):
        learner = FakeLearner(syncer, "bad")
        learner.heal()
        with pytest.raises(Refused, match="quarantined"):
            learner.contribute(torch.full((learner.size,), math.nan))
    with pytest.raises(Refused, match="barred after 2 strikes"):
        FakeLearner(syncer, "bad")
    FakeLearner(syncer, "good").heal()


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"base_version": 7}, "base version 7, but the newest is 0"),
        ({"precision": "float32"}, "precision float32 instead of int4"),
        ({"tokens": 0}, "0 tokens"),
        ({"fragment": 9}, "no fragment 9"),
        ({"incarnation": 99}, "incarnation 99 is not training"),
        ({"rank": 3}, "rank 3 of 1"),
        ({"history": "x"}, "history: .*must be a list"),
        ({"extra": 1}, "extra: Extra inputs are not permitted"),
        ({"step": -1}, "step: Input should be greater than or equal to 0, not '-1'"),
    ],
)
def test_a_malformed_contribution_is_refused_with_the_reason(
    syncer: RunningSyncer, changed: dict[str, Any], reason: str
) -> None:
    learner = FakeLearner(syncer, "one")
    learner.heal()
    with pytest.raises(Refused, match=reason):
        learner.contribute(small_move(learner), **changed)
    assert [syncer.shard.store.waiting(index) for index in syncer.shard.fragments] == [[]] * len(syncer.shard.fragments)


@pytest.mark.parametrize(
    ("method", "request_", "reason"),
    [
        ("join", {"name": "x"}, "malformed"),
        ("join", {"name": "x", "address": None, "batch": 8, "recipe": "other", "code": "c"}, "another configuration"),
        ("join", {"name": "x" * 500, "address": None, "batch": 8, "recipe": "r"}, "malformed"),
        ("lease", {"incarnation": 5, "samples": 8, "backlog": 0, "received": 0}, "no incarnation 5"),
        ("heartbeat", {"incarnation": "one", "step": 0}, "malformed message .incarnation: .* not 'one'"),
        ("lease", {"incarnation": 2**70, "samples": 8, "backlog": 0, "received": 0}, "malformed message .incarnation"),
        ("news", {"incarnation": 1, "known": {"x": 1}, "patience": 1.0}, "malformed message .known"),
        ("report", {"shard": 1}, "report: malformed message .recipe: Field required"),
        ("nonsense", {}, "no method"),
    ],
)
def test_a_malformed_message_is_refused_and_the_syncer_incarnations_on(
    syncer: RunningSyncer, method: str, request_: dict[str, Any], reason: str
) -> None:
    with pytest.raises(Refused, match=reason):
        syncer.link().call(method, request_)
    assert syncer.link().call("status", {})["samples"] == 0


def test_a_wrong_token_is_refused_and_in_the_ledger(tmp_path: Path) -> None:
    with ExitStack() as stack:
        syncer = open_syncer(tmp_path, stack)
        with pytest.raises(Refused, match="token"):
            syncer.link("guess").call("status", {})
    ledger = Ledger(tmp_path / "ledger.sqlite", read_only=True)
    assert [event.message for event in ledger.events() if event.kind == "refused"] == ["a call with a wrong token"]
    ledger.close()


def test_everything_accepted_survives_the_syncer_and_an_old_one_cannot_publish(tmp_path: Path) -> None:
    with ExitStack() as stack:
        old = open_syncer(tmp_path, stack)
        learner = FakeLearner(old, "one")
        learner.heal()
        learner.contribute(small_move(learner, 1))
        new = open_syncer(tmp_path, stack)  # the old one was only asleep
        assert [each.what.incarnation for each in new.shard.store.waiting(0)] == [learner.incarnation]
        with pytest.raises(Fenced):
            old.shard.merge_due(time.monotonic() + 60)
        new.shard.merge_due(time.monotonic() + 60)
        assert new.shard.versions[0] == 1
        newest = new.shard.store.newest(0)
        assert newest is not None
        handed_out = torch.frombuffer(bytearray(new.shard.values(0, 0, 1).data), dtype=torch.float32)
        assert torch.equal(newest.values, handed_out)
    store = FragmentStore(tmp_path / "shard-0")
    again = store.newest(0)
    assert again is not None
    assert torch.equal(again.values, newest.values)
    store.close()


def beat(learner: FakeLearner, step: int) -> None:
    """What a learner says four times a second."""
    learner.link.ask(Heartbeat(incarnation=learner.incarnation, step=step), HeartbeatReply)


def test_steps_that_were_not_sent_are_counted_by_the_next_syncer_too(tmp_path: Path) -> None:
    with ExitStack() as stack:
        first = open_syncer(tmp_path, stack)
        learner = FakeLearner(first, "one")
        learner.heal()
        learner.lease()
        learner.contribute(small_move(learner))  # after 8 steps
        beat(learner, 11)
        until(
            lambda: (
                (first.coordinator.tick(), first.coordinator.membership.noted_steps())[1] == {learner.incarnation: 11}
            )
        )
    with ExitStack() as stack:
        second = open_syncer(tmp_path, stack)
        FakeLearner(second, "one")  # the machine was lost: the incarnation before never says anything again
        (sealed,) = [line for line in second.said if line.startswith("sealed")]
        assert sealed.endswith("8 steps count, 3 trained again")


def test_a_version_says_how_far_the_run_is_only_while_every_learner_is_heard_of(syncer: RunningSyncer) -> None:
    one, two = FakeLearner(syncer, "one"), FakeLearner(syncer, "two")
    one.heal()
    two.heal()
    one.lease()
    beat(one, 8)
    one.contribute(small_move(one, 1))
    syncer.shard.merge_due(time.monotonic())
    assert syncer.shard.store.published(0, 1).done is None, "what two has done is not known"
    beat(two, 0)
    one.contribute(small_move(one, 2), sequence=1)
    syncer.shard.merge_due(time.monotonic())
    assert syncer.shard.store.published(0, 2) == Published(64, 2)


def test_a_merge_log_of_another_format_is_refused_in_one_line(tmp_path: Path) -> None:
    with ExitStack() as stack:
        open_syncer(tmp_path, stack)
    with closing(sqlite3.connect(tmp_path / "shard-0" / "merge-log.sqlite")) as db:
        db.execute("PRAGMA user_version = 1")
    with pytest.raises(InputError, match="merge log of format 1, this tenfold reads format 2"):
        FragmentStore(tmp_path / "shard-0")
    with pytest.raises(InputError, match="format 1"), RunLog.opened(tmp_path):
        pass


def test_differences_lead_from_one_version_to_another(syncer: RunningSyncer) -> None:
    learner = FakeLearner(syncer, "one")
    learner.heal()
    for sequence in range(3):
        learner.contribute(small_move(learner, sequence), sequence=sequence)
        syncer.shard.merge_due(time.monotonic())
    header, data = learner.link.get("differences/0/2/3")
    assert header["digest"] == syncer.shard.store.values_digest(0, 3)
    values, size = learner.values[0][1], len(data) // 2
    _, first = learner.link.get("differences/0/1/1")
    for difference in (first, data[:size], data[size:]):
        values = apply_difference(values, difference, "int4")
    assert digest_of_values(values) == header["digest"]
    for wrong in ("0/3/2", "0/1/9", "0/3/4", "1/1/1", "7/1/1", "0/0/0"):
        with pytest.raises(Refused, match="differences"):
            learner.link.get(f"differences/{wrong}")


def test_an_eviction_gives_back_what_is_not_committed(syncer: RunningSyncer) -> None:
    one, two = FakeLearner(syncer, "one"), FakeLearner(syncer, "two")
    one.heal()
    two.heal()
    lease = one.lease().lease
    assert lease is not None and (lease.first_sample, lease.samples) == (0, 128)
    one.contribute(small_move(one))  # after 8 steps of 8 samples
    FakeLearner(syncer, "one")  # joined again: the incarnation before is over
    assert syncer.coordinator.membership.get(one.incarnation).steps == 8
    again = two.lease().lease
    assert again is not None and again.first_sample == 64


def test_a_lease_whose_answer_was_lost_is_given_again(syncer: RunningSyncer) -> None:
    learner = FakeLearner(syncer, "one")
    learner.heal()

    lost = learner.lease(8).lease
    assert learner.lease(8).lease == lost
    second = learner.lease(8, received=1).lease
    assert lost is not None and second is not None and second.first_sample == lost.first_sample + 8
    assert learner.lease(8, received=1).lease == second


def test_a_version_on_disk_that_was_damaged_is_not_loaded(tmp_path: Path) -> None:
    store = FragmentStore(tmp_path)
    store.publish(0, FragmentState.first(torch.ones(10)), None, [], Published(0, 0), "d")
    path = next((tmp_path / "fragment-0").glob("version-*"))
    path.write_bytes(path.read_bytes()[:-1] + b"\x01")
    with pytest.raises(Exception, match="does not match its hash"):
        store.newest(0)
    store.close()


def send_part(learner: FakeLearner, rank: int, ranks: int, **changed: Any) -> dict[str, Any]:
    """A part of the pseudo-gradient of fragment 0, as a rank of several would send it."""
    size = fetch_fragment(learner.link, 0, (rank, ranks))[1].numel()
    return learner.contribute(small_move(learner, rank)[:size], rank=rank, ranks=ranks, **changed)


def test_parts_of_ranks_are_merged_when_all_are_here(syncer: RunningSyncer) -> None:
    learner = FakeLearner(syncer, "one")
    learner.heal()
    send_part(learner, 1, 2)
    syncer.shard.merge_due(time.monotonic() + 60)
    assert syncer.shard.versions[0] == 0
    send_part(learner, 0, 2)
    syncer.shard.merge_due(time.monotonic() + 60)
    assert syncer.shard.versions[0] == 1


@pytest.mark.parametrize(
    ("changed", "said"), [({"ranks": 1}, "ranks 1"), ({"tokens": 7}, "tokens 7"), ({"step": 9}, "")]
)
def test_parts_that_contradict_each_other_are_quarantined(
    syncer: RunningSyncer, changed: dict[str, Any], said: str
) -> None:
    learner = FakeLearner(syncer, "one")
    learner.heal()
    send_part(learner, 1, 2)
    with pytest.raises(Refused, match=f"quarantined: {said}.* in the part of rank 1"):
        send_part(learner, 0, changed.pop("ranks", 2), **changed)
    assert syncer.coordinator.membership.get(learner.incarnation).state == "evicted"
    syncer.shard.merge_due(time.monotonic() + 60)
    assert syncer.shard.versions[0] == 0


def test_every_rank_must_hold_what_was_published(syncer: RunningSyncer) -> None:
    learner = FakeLearner(syncer, "one")
    parts = [[digest_of_values(fetch_fragment(learner.link, i, (rank, 2))[1]) for rank in range(2)] for i in range(2)]

    def heal(changed: list[str]) -> None:
        held = {i: HeldFragment(version=0, digests=tuple(each)) for i, each in enumerate((parts[0], changed))}
        origin = Origin(kind="initial", ranks=2)
        learner.link.ask(HealedRequest(incarnation=learner.incarnation, origin=origin, held=held), Done)

    with pytest.raises(Refused, match="1 digests of fragment 1"):
        heal(parts[1][:1])
    with pytest.raises(Refused, match="not version 0 as published"):
        heal([parts[1][0], digest_of_values(torch.ones(3))])
    heal(parts[1])
    assert syncer.coordinator.membership.get(learner.incarnation).state == "active"


def test_the_schedule_follows_what_was_given_out_not_the_last_heartbeat(syncer: RunningSyncer) -> None:
    """A learner alone, whose heartbeats are late: its next samples stand where it will be when it comes to them."""
    learner = FakeLearner(syncer, "one")
    learner.heal()
    for received, backlog in enumerate((0, 8, 16)):
        lease = learner.lease(16, backlog, received).lease
        assert lease is not None and lease.position == lease.first_sample


@pytest.mark.parametrize("figure", [math.nan, math.inf, -1.0, "fast"])
def test_figures_of_a_link_reach_the_ledger_and_nonsense_does_not(tmp_path: Path, figure: Any) -> None:
    with ExitStack() as stack:
        syncer = open_syncer(tmp_path, stack)
        learner = FakeLearner(syncer, "one")
        learner.heal()
        link = LinkFigures(up_bytes_per_second=1e6, round_trip_seconds=0.1)
        heartbeat = Heartbeat(incarnation=learner.incarnation, step=1, link=link)
        learner.link.ask(heartbeat, HeartbeatReply)
        wrong = heartbeat.to_json() | {"link": link.to_json() | {"up_bytes_per_second": figure}}
        with pytest.raises(Refused, match=r"heartbeat: malformed message .link.up_bytes_per_second"):
            learner.link.call("heartbeat", wrong)
    ledger = Ledger(tmp_path / "ledger.sqlite", read_only=True)
    values = {name: [value for _, value in ledger.metric(1, name)] for name in ledger.metric_names(1)}
    ledger.close()
    assert values == {"link/one/up_bytes_per_second": [1e6], "link/one/round_trip_seconds": [0.1]}


# Names, configurations, code


def test_of_two_processes_with_one_name_the_first_ends_and_does_not_come_back(syncer: RunningSyncer) -> None:
    first = FakeLearner(syncer, "one")
    first.heal()
    second = FakeLearner(syncer, "one")
    second.heal()
    heard = first.link.ask(Heartbeat(incarnation=first.incarnation, step=0), HeartbeatReply)
    assert heard.cause is EndCause.REPLACED
    with pytest.raises(Refused, match=r"one: another learner of this name has joined; .* another --name"):
        FakeLearner(syncer, "one", abandoned=(first.incarnation, 0))
    assert second.link.ask(Heartbeat(incarnation=second.incarnation, step=0), HeartbeatReply).ended is None
    assert len(syncer.coordinator.membership.all()) == 2, "they do not take each other's place"


def test_a_learner_that_began_anew_itself_may_come_back_however_often(syncer: RunningSyncer) -> None:
    before = FakeLearner(syncer, "one")
    for _ in range(3):
        again = FakeLearner(syncer, "one", abandoned=(before.incarnation, 0))
        assert syncer.coordinator.membership.cause(before.incarnation) is EndCause.REJOINED
        lost_answer = FakeLearner(syncer, "one", abandoned=(before.incarnation, 0))
        assert lost_answer.incarnation == again.incarnation + 1
        before = lost_answer


@pytest.mark.parametrize("name", ["", "../evil", "a/b", ".hidden", "-x", "a\nb", "x" * 101, "a b", "a\x00"])
def test_a_name_that_cannot_be_a_folder_is_refused_on_the_wire(syncer: RunningSyncer, name: str) -> None:
    request = {"name": name, "address": None, "batch": 8, "recipe": "r", "code": "c"}
    with pytest.raises(Refused, match=r"join: malformed message .name: "):
        syncer.link().call("join", request)
    assert syncer.coordinator.membership.all() == []


@pytest.mark.parametrize("address", ["x", "http://a:1", "a:b", "a:1:2:3", "a b:1", "[::1:80", "h:123456"])
def test_an_address_that_is_none_is_refused_on_the_wire(syncer: RunningSyncer, address: str) -> None:
    request = {"name": "one", "address": address, "batch": 8, "recipe": "r", "code": "c"}
    with pytest.raises(Refused, match=r"join: malformed message .address: "):
        syncer.link().call("join", request)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"recipe": "other", "config": {"seed": 1}}, r"one: another configuration than the syncer's .seed: 0 → 1."),
        ({"recipe": "other", "config": {"seed": 0}, "manifest": "another"}, "one: another corpus; copy the folder"),
        ({"code": "theirs"}, "one: other code than the syncer's .theirs, not c."),
    ],
)
def test_a_learner_of_another_run_is_refused_by_what_differs(
    syncer: RunningSyncer, changed: dict[str, Any], said: str
) -> None:
    request = {"name": "one", "address": None, "batch": 8, "recipe": "r", "code": "c", **changed}
    with pytest.raises(Refused, match=said):
        syncer.link().call("join", request)


def test_learners_may_differ_in_their_number_and_batch(syncer: RunningSyncer) -> None:
    config = {"seed": 1, "learners": {"count": 7, "batch_tokens": 64}}
    request = {"name": "one", "address": None, "batch": 8, "recipe": "other", "code": "c", "config": config}
    with pytest.raises(Refused, match=r"\(seed: 0 → 1\)"):
        syncer.link().call("join", request)


# What may not be lost, and what may not be silent


@pytest.mark.parametrize(
    "loss",
    [
        [10**30, 1.0, 8, 8.0],
        [2**61, 1.0, 8, 8.0],
        [TOTAL, 1.0, 8, 8.0],
        [0, 1e309, 8, 8.0],
        [0, 1.0, 0, 8.0],
        [-1, 1.0, 8, 8.0],
    ],
)
def test_a_malformed_beat_is_refused_and_the_others_are_written(
    syncer: RunningSyncer, tmp_path: Path, loss: list[float]
) -> None:
    learner = FakeLearner(syncer, "one")
    learner.heal()
    beat = {"incarnation": learner.incarnation, "step": 1, "losses": [loss]}
    with pytest.raises(Refused):
        learner.link.call("heartbeat", beat)
    learner.link.call("heartbeat", beat | {"losses": [[0, 16.0, 8, 8.0]]})
    syncer.coordinator.recorder.close()
    with closing(Ledger(tmp_path / "ledger.sqlite", read_only=True)) as ledger:
        assert ledger.metric(1, "train/loss") == [(1, 2.0)]


def test_a_run_without_learners_says_that_it_waits(syncer: RunningSyncer, monkeypatch: pytest.MonkeyPatch) -> None:
    learner = FakeLearner(syncer, "one")
    learner.heal()
    monkeypatch.setattr("tenfold.learners.syncer.coordinator.ALONE_S", 0.2)
    syncer.coordinator.tick()
    assert not any("nobody-trains" in line for line in syncer.said)
    learner.link.ask(LeaveRequest(incarnation=learner.incarnation), Done)
    time.sleep(0.3)
    syncer.coordinator.tick()
    assert any(f"nobody-trains: no learner for 0 s, {TOTAL} samples are left; waiting" in line for line in syncer.said)


def test_leases_do_not_follow_a_wall_clock_that_is_set(syncer: RunningSyncer, monkeypatch: pytest.MonkeyPatch) -> None:
    gone = [FakeLearner(syncer, name) for name in ("a", "b", "c")]
    one = FakeLearner(syncer, "one")
    for each in (*gone, one):
        each.heal()
    for each in gone:
        each.link.ask(LeaveRequest(incarnation=each.incarnation), Done)
    monkeypatch.setattr("tenfold.learners.syncer.coordinator.RETURNING_S", 0.1)
    wall = time.time
    monkeypatch.setattr(time, "time", lambda: wall() - 8 * 3600.0)
    time.sleep(0.2)
    request = LeaseRequest(incarnation=one.incarnation, samples=TOTAL, backlog=0, received=0)
    lease = syncer.coordinator.lease(request).lease
    assert lease is not None
    assert lease.samples == TOTAL // 2, "those that are gone for long are not expected back"


def test_files_that_run_out_are_said_once() -> None:
    said: list[EventPayload] = []
    watch = FileWatch(lambda what, message: said.append(what), limit=lambda: psutil.Process().num_fds())
    for now in (0.0, 1.0, 10.0, 20.0):
        watch.look(now)
    assert [type(each) for each in said] == [FilesShort]


def test_a_slow_disk_that_takes_one_contribution_holds_up_no_other(
    syncer: RunningSyncer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also of one that is sent twice at once, of which one is still being written when its learner is given up."""
    slow, other = FakeLearner(syncer, "slow"), FakeLearner(syncer, "other")
    slow.heal()
    other.heal()
    store, reached, go_on = syncer.shard.store, threading.Event(), threading.Event()
    keep = store.keep_payload

    def late(contribution: Contribution, data: memoryview) -> str:
        if threading.current_thread() is sender:
            reached.set()
            assert go_on.wait(PATIENCE_S)
        return keep(contribution, data)

    moved = small_move(slow, 1)
    header = Contribution(
        incarnation=slow.incarnation,
        fragment=0,
        sequence=0,
        base_version=0,
        joined_version=0,
        step=8,
        tokens=2048,
        precision="int4",
    )
    sender = threading.Thread(target=syncer.shard.receive, args=(header, memoryview(encode(moved, "int4"))))
    monkeypatch.setattr(store, "keep_payload", late)
    sender.start()
    assert reached.wait(PATIENCE_S)
    other.contribute(small_move(other, 2))
    assert slow.contribute(moved) == {}
    syncer.shard.fence(slow.incarnation)
    go_on.set()
    sender.join()
    syncer.shard.merge_due(time.monotonic())
    assert [each.what.incarnation for each in store.merged(0, 1)] == [slow.incarnation, other.incarnation]


def test_what_an_earlier_version_took_and_did_not_merge_is_merged(tmp_path: Path) -> None:
    with ExitStack() as stack:
        syncer = open_syncer(tmp_path, stack)
        learner = FakeLearner(syncer, "one")
        learner.heal()
        learner.contribute(small_move(learner, 1))
    (payload,) = (tmp_path / "shard-0" / "contributions").glob("*.bin")
    payload.rename(payload.with_name(f"{learner.incarnation}-0-0-0.bin"))
    with ExitStack() as stack:
        syncer = open_syncer(tmp_path, stack)
        syncer.shard.store.tidy()
        syncer.shard.merge_due(time.monotonic() + 60)
        assert syncer.shard.versions[0] == 1
    assert not list((tmp_path / "shard-0" / "contributions").glob("*.bin"))
