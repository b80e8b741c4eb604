"""A watch over many connections: ordered, each revision once, no gap, and honest when that is impossible."""

from __future__ import annotations

import asyncio
import json
from typing import Any
from urllib.parse import parse_qsl

import pytest
from hive_client import ClusterRestored, Compacted, Watch
from hive_client.client import Client
from hive_client.errors import Forbidden, UnexpectedReply
from hive_client.sse import EVENT_BYTES_MAX, EventParser, EventTooLarge
from hive_client.testing import EagerClock, FakeHive, ManualClock

from tests.clients.running import async_test, raised, until
from tests.clients.scripted import URLS, ScriptedStream, ScriptedWire, cut, not_sent, ok


def sse(event: str, document: Any, revision: int | None = None) -> list[bytes]:
    lines = [f"event: {event}", f"data: {json.dumps(document)}", *([] if revision is None else [f"id: {revision}"]), ""]
    return [line.encode() for line in lines]


def hello(revision: int, cluster_id: str = "c1") -> list[bytes]:
    return sse("hello", {"cluster_id": cluster_id, "revision": revision, "oldest_revision": 1})


def message(revision: int, *names: str) -> list[bytes]:
    changes = [{"type": "task.created", "resource_id": name} for name in names or ("t",)]
    return sse("changes", {"revision": revision, "changes": changes}, revision)


def watch_on(*streams: ScriptedStream | Exception, from_revision: int | None = None) -> tuple[Watch, ScriptedWire]:
    wire = ScriptedWire(ok(), streams=streams)
    client = Client(URLS, wire=wire, clock=EagerClock())
    return client.changes.watch(from_revision=from_revision, topics=["tasks", "agent.a1"]), wire


def asked(wire: ScriptedWire) -> list[str]:
    queries = [dict(parse_qsl(request.target.partition("?")[2])) for _, request in wire.sent]
    return [query.get("from_revision", "") for query in queries]


async def take(watch: Watch, count: int) -> list[int]:
    return [(await anext(watch)).revision for _ in range(count)]


@async_test
async def test_it_resumes_after_the_last_message_on_another_node_and_repeats_nothing() -> None:
    watch, wire = watch_on(
        ScriptedStream(hello(9), message(3), message(5), cut_at_end=True),
        not_sent(),
        ScriptedStream(hello(9), message(5), message(6)),
        ScriptedStream(hello(9), message(7)),
        from_revision=3,
    )
    assert await take(watch, 4) == [3, 5, 6, 7]
    assert asked(wire) == ["3", "6", "6", "7"]
    assert [endpoint for endpoint, _ in wire.sent] == [URLS[0], URLS[1], URLS[2], URLS[2]]
    assert (watch.revision, watch.reconnects) == (7, 3)
    assert "topics=tasks%2Cagent.a1" in wire.sent[0][1].target


@async_test
async def test_from_now_means_from_where_the_first_connection_began() -> None:
    watch, wire = watch_on(ScriptedStream(hello(9)), ScriptedStream(hello(12), message(10)))
    assert await take(watch, 1) == [10]
    assert asked(wire) == ["", "10"]


@async_test
async def test_progress_moves_the_bookmark_so_that_idle_watches_do_not_fall_behind() -> None:
    watch, wire = watch_on(
        ScriptedStream(hello(9), sse("progress", {"revision": 40})), ScriptedStream(hello(60), message(50))
    )
    assert await take(watch, 1) == [50]
    assert asked(wire) == ["", "41"]


@async_test
async def test_a_split_message_is_put_together_and_half_of_one_is_forgotten() -> None:
    part_one = sse("changes", {"revision": 5, "changes": [{"resource_id": "a"}]})
    part_two = sse("changes", {"revision": 5, "changes": [{"resource_id": "b"}]}, 5)
    watch, wire = watch_on(
        ScriptedStream(hello(9), message(4), part_one, cut_at_end=True),
        ScriptedStream(hello(9), part_one, part_two, message(6)),
    )
    watch._next = 4
    assert await take(watch, 1) == [4]
    whole = await anext(watch)
    assert [change.resource_id for change in whole.changes] == ["a", "b"]
    assert asked(wire) == ["4", "5"]


@async_test
async def test_a_slow_reader_takes_it_up_again_where_it_was() -> None:
    watch, wire = watch_on(
        ScriptedStream(hello(9), message(4), sse("slow_reader", {"code": "slow_reader", "resume_from": 5})),
        ScriptedStream(hello(9), message(5)),
        from_revision=4,
    )
    assert await take(watch, 2) == [4, 5]
    assert asked(wire) == ["4", "5"]


@pytest.mark.parametrize("event", ["compacted", "error"])
@async_test
async def test_compacted_is_raised_whether_it_comes_as_event_or_as_status(event: str) -> None:
    gone = {"code": "compacted", "status": 410, "retry": "no", "oldest_revision": 30}
    watch, _ = watch_on(ScriptedStream(hello(40), sse(event, gone)), from_revision=3)
    assert (await raised(anext(watch), Compacted)).oldest_revision == 30
    watch, _ = watch_on(ScriptedStream([json.dumps(gone).encode()], status=410), from_revision=3)
    assert (await raised(anext(watch), Compacted)).oldest_revision == 30


@async_test
async def test_a_restored_cluster_is_never_taken_for_the_old_one() -> None:
    watch, _ = watch_on(ScriptedStream(hello(9), sse("cluster_restored", {"code": "cluster_restored"})))
    await raised(anext(watch), ClusterRestored)
    watch, _ = watch_on(ScriptedStream(hello(9)), ScriptedStream(hello(9, "c2"), message(10), cluster_id="c2"))
    await raised(anext(watch), ClusterRestored)


@async_test
async def test_a_node_that_shuts_down_says_so_in_the_stream_and_another_goes_on() -> None:
    goodbye = {"code": "shutting_down", "status": 503, "retry": "safe", "detail": "the node is stopping"}
    watch, _ = watch_on(ScriptedStream(hello(9), sse("shutting_down", goodbye)), ScriptedStream(hello(9), message(10)))
    assert await take(watch, 1) == [10]
    forbidden = {"code": "forbidden", "status": 403, "retry": "no"}
    watch, _ = watch_on(ScriptedStream(hello(9), sse("forbidden", forbidden)))
    await raised(anext(watch), Forbidden)


@async_test
async def test_what_no_retry_can_mend_is_raised() -> None:
    refusal = {"code": "forbidden", "status": 403, "retry": "no", "permission": "watch"}
    watch, _ = watch_on(ScriptedStream([json.dumps(refusal).encode()], status=403))
    assert (await raised(anext(watch), Forbidden)).permission == "watch"
    stream = ScriptedStream([b"data: {broken", b""])
    watch, _ = watch_on(stream)
    await raised(anext(watch), UnexpectedReply)
    assert stream.closed


@async_test
async def test_unknown_kinds_and_comments_are_passed_over_and_ephemeral_ones_have_no_number() -> None:
    watch, _ = watch_on(
        ScriptedStream(
            hello(9), [b": keep-alive"], sse("novelty", {"x": 1}),
            sse("changes", {"changes": [{"type": "agent.performance_update"}]}), message(10),
        )
    )  # fmt: skip
    assert await take(watch, 2) == [0, 10]


@async_test
async def test_closing_ends_the_iteration() -> None:
    stream = ScriptedStream(hello(9), message(10))
    watch, _ = watch_on(stream)
    async with watch:
        await anext(watch)
    assert stream.closed
    assert [m async for m in watch] == []


@async_test
async def test_the_fakes_changes_arrive_live_and_survive_a_cut() -> None:
    async with FakeHive() as fake, Client(fake.url) as client:
        await client.tasks.create(task_id="t1")
        async with client.changes.watch(from_revision=1, topics="tasks") as watch:
            first = await anext(watch)
            assert [change.type for change in first.changes] == ["task.created", "task.pending"]
            following = asyncio.create_task(anext(watch))
            fake.break_streams()
            await until(lambda: watch.reconnects == 1)
            await client.tasks.cancel("t1")
            assert [change.type for change in (await following).changes] == ["task.cancelled"]
            assert watch.reconnects == 1


@async_test
async def test_pages_and_polls_of_changes() -> None:
    fake = FakeHive(ManualClock())
    client = fake.client()
    await client.tasks.create(task_id="t1")
    await client.sessions.create(session_id="s1")
    page = await client.changes.list(from_revision=1, topics=["sessions"])
    assert ([m.revision for m in page.items], page.next_revision) == ([2], 3)
    polling = asyncio.create_task(client.changes.poll(from_revision=3))
    await client.tasks.cancel("t1")
    assert [m.revision for m in (await polling).items] == [3]
    fake.compact(before=3)
    assert (await raised(client.changes.list(from_revision=1), Compacted)).oldest_revision == 3
    await raised(anext(client.changes.watch(from_revision=2)), Compacted)


@async_test
async def test_a_cut_that_comes_as_an_exception_while_opening_is_retried() -> None:
    watch, _ = watch_on(cut(), ScriptedStream(hello(9), message(10)))
    assert await take(watch, 1) == [10]


def test_the_parser_joins_data_lines_and_bounds_an_event() -> None:
    parser = EventParser()
    for line in (b"event: x", b"data: a", b"data:b", b"id: 7", b"retry: 5"):
        assert parser.feed(line) is None
    event = parser.feed(b"")
    assert event is not None
    assert (event.event, event.data, event.id) == ("x", "a\nb", "7")
    assert parser.feed(b"") is None
    with pytest.raises(EventTooLarge):
        for _ in range(3):
            parser.feed(b"data: " + b"x" * (EVENT_BYTES_MAX // 2))
