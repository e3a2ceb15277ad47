"""The feed goes on where a reader stopped, and says so where it cannot."""

import asyncio
from collections.abc import Awaitable

from sse_starlette import ServerSentEvent

from tenfold.ledger import Event
from tenfold.monitor.page import feed as module
from tenfold.monitor.page.feed import Feed
from tenfold.monitor.page.layers import describe
from tenfold.monitor.page.learners import learners_of
from tenfold.monitor.page.source import News, grouped


def numbered(first: int, last: int) -> list[News]:
    return [News("rows", {"number": number}) for number in range(first, last + 1)]


async def next_of(following: Awaitable[ServerSentEvent]) -> tuple[str | None, str]:
    event = await following
    return event.event, str(event.data)


def test_a_reader_that_was_cut_off_gets_what_it_missed_and_then_what_comes() -> None:
    async def read() -> None:
        feed = Feed()
        cursor = feed.cursor
        feed.publish(numbered(1, 2))
        following = feed.follow(cursor)
        assert await next_of(anext(following)) == ("rows", '{"number":1}')
        second = await anext(following)
        waiting = asyncio.ensure_future(next_of(anext(following)))
        await asyncio.sleep(0)
        assert not waiting.done()
        feed.publish(numbered(3, 3))
        assert await waiting == ("rows", '{"number":3}')
        again = feed.follow(str(second.id))
        assert await next_of(anext(again)) == ("rows", '{"number":3}')

    asyncio.run(read())


def test_a_reader_of_another_life_or_of_too_long_ago_begins_anew() -> None:
    async def read() -> None:
        feed = Feed()
        first = feed.cursor
        for number in range(1, 400):
            feed.publish([News("rows", {"padding": "x" * 20_000, "number": number})])
        for cursor in (first, "", "other-3", f"{first.split('-')[0]}-99999"):
            following = feed.follow(cursor)
            assert await next_of(anext(following)) == ("reset", "{}")
            waiting = asyncio.ensure_future(next_of(anext(following)))
            await asyncio.sleep(0)
            assert not waiting.done()
            waiting.cancel()
        assert sum(len(each.text) for each in feed._kept) <= module.MOST_KEPT_BYTES

    asyncio.run(read())


def test_closing_ends_every_reader() -> None:
    async def read() -> list[ServerSentEvent]:
        feed = Feed()
        reading = asyncio.ensure_future(_all(feed))
        await asyncio.sleep(0)
        feed.close()
        return await reading

    assert asyncio.run(read()) == []


async def _all(feed: Feed) -> list[ServerSentEvent]:
    return [event async for event in feed.follow(feed.cursor)]


def test_curves_with_the_same_steps_share_them() -> None:
    rows = {"a": ([1, 2, 3], [1.0, 2.0, None]), "b": ([1, 2, 3], [0.5, 0.5, 0.5]), "c": ([10, 20], [1.0, 1.0])}
    assert grouped(rows | {"d": ([1, 5, 6], [0.0, 0.0, 0.0])}) == [
        {"steps": [1, 3], "values": {"a": [1.0, 2.0, None], "b": [0.5, 0.5, 0.5]}},
        {"steps": [10, 2, 10], "values": {"c": [1.0, 1.0]}},
        {"steps": [0, 0, 0, 1, 5, 6], "values": {"d": [0.0, 0.0, 0.0]}},
    ]


def test_a_metric_stands_in_its_layer_with_unit_and_family() -> None:
    block = describe("block/3/grad_norm")
    assert (block["layer"], block["family"], block["member"]) == ("learning", "block/grad_norm", "3")
    assert describe("link/a/b/up_bytes_per_second")["member"] == "a/b"
    assert describe("device/gpu0/power")["family"] == "device/power"
    assert describe("train/mfu")["layer"] == "process" and describe("train/mfu")["unit"] == "share"
    assert describe("something/new") == {
        "name": "something/new",
        "layer": "other",
        "unit": "",
        "meaning": "a metric of a newer version",
    }


def test_a_learner_that_died_and_came_back() -> None:
    told = [("joined", {"life": 0, "name": "a"}), ("healed", {"life": 0}), ("died", {"learner": "a"})]
    told += [("sealed", {"life": 0, "steps": 7}), ("joined", {"life": 1, "name": "a"}), ("healed", {"life": 1})]
    told += [("quarantined", {"life": 1, "strikes": 1}), ("finished", {}), ("unknown", {"life": 9})]
    events = [Event(1, float(at), kind, "", data) for at, (kind, data) in enumerate(told)]
    (learner,) = learners_of(events)
    assert [state for state, _ in learner["spans"]] == ["healing", "training", "out", "healing", "training", "finished"]
    assert (learner["lives"], learner["steps"], learner["strikes"]) == (2, 7, 1)
