"""What a learner tells the coordinator and asks it for, over real sockets; the coordinator is a test."""

from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest

from tenfold.learners.learner import coordination
from tenfold.learners.learner.coordination import HeartbeatSender, LearnerStatus, LeaseQueue
from tenfold.learners.learner.replica import InnerStep
from tenfold.learners.messages import (
    Heartbeat,
    HeartbeatReply,
    Lease,
    LeaseReply,
    LeaseRequest,
    Message,
    Refused,
    parse,
)
from tenfold.learners.wire import Blob, BlobServer, Link, LinkMeasure, Security
from tests.waiting import until

SECURITY = Security("secret")


@dataclass
class Coordinator:
    """Answers what it is told to, and keeps what it was asked; its last answer stands."""

    answers: list[Message | Refused]
    asked: list[dict[str, Any]] = field(default_factory=list)

    def call(self, method: str, request: dict[str, Any]) -> dict[str, Any]:
        self.asked.append(request)
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Refused):
            raise answer
        return answer.to_json()

    def admit(self, key: str, header: dict[str, Any], size: int) -> None:
        raise Refused("nothing is taken")

    def receive(self, key: str, header: dict[str, Any], data: memoryview) -> dict[str, Any]:
        raise Refused("nothing is taken")

    def blob(self, key: str) -> Blob:
        raise Refused("nothing is given")

    def rejected(self, reason: str) -> None:
        pass


@contextmanager
def linked(coordinator: Coordinator) -> Iterator[Link]:
    with closing(BlobServer(coordinator, SECURITY)) as server, closing(Link(server.address, SECURITY)) as link:
        yield link


def heard(coordinator: Coordinator) -> list[Heartbeat]:
    return [parse(Heartbeat, request, "heartbeat") for request in coordinator.asked]


def test_losses_of_a_long_silence_are_told_bit_by_bit_and_only_then_that_all_is_sent(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(coordination, "LOSSES_AT_A_TIME", 2)
    monkeypatch.setattr(coordination, "HEARTBEAT_S", 0.3)  # time for all five to be there before the first
    coordinator = Coordinator([HeartbeatReply()])
    with linked(coordinator) as link:
        status = LearnerStatus(step=5, flushed=True)
        sender = HeartbeatSender(link, 7, status, LinkMeasure(), LinkMeasure(), print)
        for position in range(5):
            sender.loss(position, 1.0, 8, 20.0)
        until(lambda: len(coordinator.asked) >= 4)
        sender.close()
    said = heard(coordinator)
    assert [[loss.position for loss in each.losses] for each in said[:3]] == [[0, 1], [2, 3], [4]]
    assert [each.flushed for each in said[:3]] == [False, False, True]
    assert all((each.incarnation, each.step) == (7, 5) for each in said)


def test_an_end_is_heard_and_nothing_more_is_said() -> None:
    coordinator = Coordinator([HeartbeatReply(), HeartbeatReply(ended="no progress")])
    with linked(coordinator) as link:
        sender = HeartbeatSender(link, 7, LearnerStatus(), LinkMeasure(), LinkMeasure(), print)
        until(lambda: sender.ended == "no progress")
        sender.threads[0].join(60.0)
        sender.threads[0].check()
    assert len(coordinator.asked) == 2


def test_leases_are_cut_into_inner_steps_and_the_next_is_asked_for_by_number() -> None:
    leases = [Lease(1, 7, 0, 20, 100, 2), Lease(2, 7, 64, 8, 140, 2)]
    coordinator = Coordinator([*(LeaseReply(lease=lease) for lease in leases), LeaseReply(wait=0.05)])
    with linked(coordinator) as link, closing(LeaseQueue(link, 7, 8, 64)) as queue:
        steps = [queue.next(60.0) for _ in range(4)]
        assert steps == [
            InnerStep(0, 8, 100, 1, 2),
            InnerStep(8, 8, 116, 1, 2),
            InnerStep(16, 4, 132, 1, 2),
            InnerStep(64, 8, 140, 2, 2),
        ]
        until(lambda: queue.is_exhausted)
    asked = [parse(LeaseRequest, request, "lease") for request in coordinator.asked]
    assert [each.received for each in asked[:3]] == [0, 1, 2]


def test_a_refusal_of_leases_is_kept_and_the_end_of_the_run_is_known() -> None:
    with linked(Coordinator([Refused("incarnation 7 has ended; join again")])) as link:
        queue = LeaseQueue(link, 7, 8, 64)
        until(lambda: queue.refused is not None)
        assert queue.refused == "incarnation 7 has ended; join again"
        assert queue.next(0.01) is None
        queue.close()
    with linked(Coordinator([LeaseReply(finished=True)])) as link, closing(LeaseQueue(link, 7, 8, 64)) as queue:
        until(lambda: queue.finished)
