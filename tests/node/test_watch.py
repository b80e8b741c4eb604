"""`GET /api/watch`: the stream of server-sent events and its promises."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import aiohttp
import msgspec

from node.api.context import Api
from node.api.live import AgentLive, LiveAgents, NoLive
from node.api.watch import EVENT_BYTES_MAX, WatchTimings
from statemachine import commands
from statemachine.commands import AppendEvents, NewEvent
from statemachine.entry import Frame, encode_frame
from tests.node.harness import Node, run, running, until, with_node
from tests.node.test_conventions import refused


@dataclass
class Event:
    """One server-sent event."""

    kind: str
    id: int | None
    data: Any


class Stream:
    """Reads a stream event by event."""

    def __init__(self, reply: aiohttp.ClientResponse) -> None:
        self.reply = reply

    async def next(self) -> Event:
        event = Event("message", None, None)
        while True:
            line = (await self.reply.content.readuntil(b"\n")).decode().rstrip("\n")
            if not line and event.data is not None:
                return event
            assert line, "the stream ended"
            name, _, value = line.partition(": ")
            if name == "event":
                event.kind = value
            elif name == "id":
                event.id = int(value)
            elif name == "data":
                event.data = json.loads(value)

    async def take(self, count: int) -> list[Event]:
        return [await self.next() for _ in range(count)]

    async def rest(self) -> bytes:
        return await self.reply.read()


@asynccontextmanager
async def watching(node: Node, query: str = "", **headers: str) -> AsyncIterator[Stream]:
    async with node.client.get(f"{node.url}/api/watch{query}", headers=headers, read_bufsize=1 << 22) as reply:
        assert reply.status == 200
        assert reply.headers["Content-Type"].startswith("text/event-stream")
        assert reply.headers["Hive-Cluster"] == node.replica.cluster_id
        yield Stream(reply)


def fast(api: Api) -> None:
    """Timings for tests that wait for something that time alone brings."""
    api.provide(WatchTimings(progress_s=0.01, slow_s=0.05))


def test_hello_then_what_was_then_what_comes() -> None:
    async def test(node: Node) -> None:
        await node.post("/api/sessions", {"session_id": "s1"})
        await node.post("/api/sessions", {"session_id": "s2"})
        async with watching(node, "?from_revision=2") as stream:
            hello = await stream.next()
            assert hello == Event(
                "hello", 1, {"cluster_id": node.replica.cluster_id, "revision": 2, "oldest_revision": 1}
            )
            first = await stream.next()
            assert (first.kind, first.id, first.data["revision"]) == ("message", 2, 2)
            assert first.data["changes"][0]["type"] == "session.created"
            assert first.data["changes"][0]["data"]["session_id"] == "s2"
            await node.post("/api/sessions/s1/events", {"type": "custom.a"})
            second = await stream.next()
            assert (second.id, second.data["changes"][0]["type"]) == (3, "event.appended")

    with_node(test)


def test_from_now_and_topics() -> None:
    async def test(node: Node) -> None:
        await node.post("/api/sessions", {"session_id": "s1"})
        async with watching(node, "?topics=session.s2&data=none") as stream:
            assert (await stream.next()).id == 1
            await node.post("/api/sessions/s1/events", {"type": "custom.a"})
            await node.post("/api/sessions", {"session_id": "s2"})
            await node.post("/api/sessions?project=p1", {"session_id": "s2"})
            await node.post("/api/sessions/s2/events", {"type": "custom.a"})
            events = await stream.take(2)
            assert [event.id for event in events] == [3, 5]
            assert events[0].data["changes"][0]["data"] is None

    with_node(test)


def test_every_revision_comes_once_and_in_order_across_streams() -> None:
    async def test(node: Node) -> None:
        seen: list[int] = []
        async with watching(node, "?from_revision=1") as stream:
            await stream.next()
            for number in range(10):
                await node.post("/api/sessions", {"session_id": f"a{number}"})
            seen += [event.id or 0 for event in await stream.take(4)]
        for number in range(10):
            await node.post("/api/sessions", {"session_id": f"b{number}"})
        async with watching(node, "?from_revision=1", **{"Last-Event-ID": str(seen[-1])}) as stream:
            await stream.next()
            seen += [event.id or 0 for event in await stream.take(16)]
        assert seen == list(range(1, 21))

    with_node(test)


def test_many_revisions_are_read_in_steps() -> None:
    async def test(node: Node) -> None:
        await node.post("/api/sessions", {"session_id": "s1"})
        for _ in range(600):
            node.replica.apply([])
        for number in range(600):
            await node.post("/api/sessions", {"session_id": f"x{number}"})
        async with watching(node, "?from_revision=1&data=none") as stream:
            await stream.next()
            assert [event.id for event in await stream.take(601)] == list(range(1, 602))

    with_node(test)


def test_idle_streams_say_where_they_are() -> None:
    async def test() -> None:
        async with running(fast) as node, watching(node, "?topics=tasks") as stream:
            await stream.next()
            await node.post("/api/sessions", {"session_id": "s1"})
            while (event := await stream.next()).data["revision"] < 1:
                assert event.kind == "progress"
            assert event == Event("progress", 1, {"revision": 1})

    run(test())


def test_what_is_applied_as_an_idle_stream_says_where_it_is_comes_all_the_same() -> None:
    async def test() -> None:
        async with running(lambda api: api.provide(WatchTimings(progress_s=0.0005, slow_s=5))) as node:
            await node.post("/api/sessions", {"session_id": "s1"})
            count = 400

            async def write() -> None:
                for _ in range(count):
                    await node.post("/api/sessions/s1/events", {"type": "custom.a"})

            async with watching(node, "?from_revision=2&data=none") as stream, asyncio.TaskGroup() as group:
                group.create_task(write())
                told: list[int | None] = []
                while not told or told[-1] != count + 1:
                    event = await stream.next()
                    if event.kind == "message":
                        told.append(event.id)
                    assert event.id is None or event.id <= len(told) + 1, "said to be behind what was never sent"
            assert told == list(range(2, count + 2))

    run(test())


def test_a_large_message_is_split_and_numbered_at_its_end() -> None:
    async def test(node: Node) -> None:
        payload = {"x": "y" * 240_000}
        items = [{"task_id": f"t{number}", "payload": payload} for number in range(10)]
        made = await node.post("/api/tasks/batch", {"items": items, "atomic": True})
        assert made.json["revision"] == 1
        await node.post("/api/sessions", {"session_id": "s1"})
        async with watching(node, "?from_revision=1&data=full") as stream:
            await stream.next()
            parts = [await stream.next()]
            while parts[-1].id is None:
                parts.append(await stream.next())
            assert len(parts) == 3
            assert all(part.data["revision"] == 1 for part in parts)
            assert all(len(json.dumps(part.data)) < EVENT_BYTES_MAX for part in parts)
            changes_of = [change for part in parts for change in part.data["changes"]]
            assert [change["resource_id"] for change in changes_of] == [f"t{number}" for number in range(10)]
            assert all(change["data"]["payload"] == payload for change in changes_of)
            assert (await stream.next()).id == 2

    with_node(test)


def test_an_append_that_is_too_large_is_told_by_its_seqs() -> None:
    async def test(node: Node) -> None:
        await node.post("/api/sessions", {"session_id": "s1"})
        event = {"type": "custom.a", "data": {"x": "y" * 240_000}}
        await node.post("/api/sessions/s1/events", {"items": [event] * 5})
        async with watching(node, "?from_revision=2&data=full") as stream:
            await stream.next()
            data = (await stream.next()).data["changes"][0]["data"]
            assert (data["first_seq"], data["last_seq"], data["events"]) == (1, 5, None)

    with_node(test)


def _appends(node: Node, text: str, count: int) -> Sequence[bytes]:
    data = json.dumps({"x": text}).encode()
    return [
        encode_frame(
            Frame(
                commands.NUMBERS[AppendEvents],
                1,
                "default",
                "test",
                "",
                None,
                None,
                0,
                0,
                msgspec.Raw(commands.encode(AppendEvents("s1", (NewEvent(f"e{n}", "custom.a", data),)))),
            )
        )
        for n in range(count)
    ]


def test_a_slow_reader_is_cut_off_and_told_where_to_resume() -> None:
    async def test() -> None:
        async with running(lambda api: api.provide(WatchTimings(slow_s=0.05))) as node:
            await node.post("/api/sessions", {"session_id": "s1"})
            for _ in range(60):
                node.replica.apply(_appends(node, "y" * 240_000, 1))
            reader, writer = await asyncio.open_connection("127.0.0.1", node.port, limit=1_024)
            writer.write(b"GET /api/watch?from_revision=1&data=full HTTP/1.1\r\nHost: x\r\n\r\n")
            await writer.drain()
            await until(lambda: node.api.traffic.streams_open == 1)
            await until(lambda: node.api.traffic.streams_open == 0)
            assert (await node.post("/api/sessions", {"session_id": "s2"})).status == 201
            received = await reader.read()
            writer.close()
            numbers = [int(line[4:]) for line in received.split(b"\n") if line.startswith(b"id: ")]
            end = received[received.index(b"event: slow_reader") :]
            facts = json.loads(end[end.index(b"data: ") + 6 :].partition(b"\n")[0])
            assert facts["code"] == "slow_reader"
            assert facts["resume_from"] == numbers[-1] + 1, "all that was sent before can still be read"
            assert numbers == list(range(numbers[-1] + 1))
            assert received.endswith(b"0\r\n\r\n")

    run(test())


def test_streams_end_when_the_node_stops() -> None:
    async def test(node: Node) -> None:
        async with watching(node) as stream:
            await stream.next()
            node.server.stop_accepting()
            end = await stream.next()
            assert (end.kind, end.data["code"], end.data["retry"]) == ("shutting_down", "shutting_down", "safe")
            assert await stream.rest() == b""

    with_node(test)


def test_streams_of_clients_that_went_are_forgotten() -> None:
    async def test(node: Node) -> None:
        async with watching(node) as stream:
            await stream.next()
            assert node.api.traffic.streams_open == 1
        await until(lambda: node.api.traffic.streams_open == 0)
        assert node.api.wakeups.waiting == 0

    with_node(test)


def test_a_restore_ends_streams() -> None:
    async def test() -> None:
        async with running(fast) as node, watching(node) as stream:
            await stream.next()
            node.replica.cluster_id = "another"
            while (event := await stream.next()).kind == "progress":
                pass
            assert event.kind == "cluster_restored"

    run(test())


class Heard(NoLive):
    """A leader that hears an agent's figures."""

    def __init__(self) -> None:
        self.at_ms = 1_000

    async def live_agents(self, agent_ids: Sequence[str] | None, timeout_s: float) -> LiveAgents:
        assert agent_ids is None
        return LiveAgents(self.at_ms, (AgentLive("a1", self.at_ms, 1, True, b'{"cpu_usage": 0.5}'),))


def test_ephemeral_updates_have_no_number() -> None:
    live = Heard()

    def prepare(api: Api) -> None:
        fast(api)
        api.live = live

    async def test() -> None:
        async with running(prepare) as node, watching(node, "?ephemeral=true") as stream:
            await stream.next()
            while (event := await stream.next()).kind == "progress":
                pass
            assert (event.kind, event.id, event.data["revision"]) == ("message", None, None)
            change = event.data["changes"][0]
            assert (change["type"], change["resource_id"]) == ("agent.performance_update", "a1")
            assert change["data"] == {"cpu_usage": 0.5}
            assert (await stream.next()).kind == "progress", "nothing new was heard, so nothing is told again"

    run(test())


def test_bad_requests_and_head() -> None:
    async def test(node: Node) -> None:
        refused(await node.get("/api/watch", headers={"Last-Event-ID": "x"}), "invalid_request", "Last-Event-ID")
        refused(await node.get("/api/watch?project=unknown"), "unknown_project")
        head = await node.ask("HEAD", "/api/watch")
        assert (head.status, head.headers["Content-Type"]) == (200, "text/event-stream")

    with_node(test)
