"""A node that is out of service: it says so, lets go of whoever listens, and serves nothing of its state."""

from __future__ import annotations

import asyncio
from typing import NoReturn

import msgspec
import pytest
from hive_client import Client

from statemachine import counters, projects
from tests.node.harness import Node, until, with_node
from tests.node.test_conventions import refused

WHY = "this node is out of service: at entry 7 its state is not that of the majority"


def end(node: Node) -> None:
    """As the core does it: the reason first, then the news of it."""
    node.replica.out_of_service = WHY
    node.replica._tell_role()


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("GET", "/api/sessions", None),
        ("GET", "/api/tasks?consistency=linearizable", None),
        ("GET", "/api/status/agents", None),
        ("GET", "/api/changes", None),
        ("GET", "/api/watch?topics=*", None),
        ("POST", "/api/sessions", {}),
        ("POST", "/api/tasks", {"title": "t"}),
        ("POST", "/api/agents/a/heartbeat", {}),
    ],
)
def test_nothing_of_the_state_is_served(method: str, path: str, body: object) -> None:
    async def test(node: Node) -> None:
        end(node)
        answer = await node.ask(method, path, body)
        refused(answer, "too_stale")
        assert answer.json["detail"] == WHY

    with_node(test)


def test_it_says_what_is_wrong() -> None:
    async def test(node: Node) -> None:
        end(node)
        assert (await node.get("/livez")).status == 200
        for path in ("/readyz", "/readyz?stale=true"):
            ready = await node.get(path)
            refused(ready, "too_stale")
            assert ready.json["checks"]["in_service"] == {"ok": False, "detail": WHY}
        for path in ("/api", "/api/status/cluster", "/api/cluster/members", "/metrics", "/api/openapi.json"):
            assert (await node.get(path)).status == 200, path

    with_node(test)


def test_it_says_so_also_when_its_state_cannot_be_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is wrong with the state may be anything, and status and metrics are how people get to know it."""

    def unreadable(_: object) -> NoReturn:
        raise msgspec.DecodeError("damaged")

    async def test(node: Node) -> None:
        monkeypatch.setattr(counters, "total", unreadable)
        monkeypatch.setattr(projects, "scan", unreadable)
        assert (await node.get("/metrics")).status == 500
        end(node)
        status = (await node.get("/api/status/cluster")).json
        assert (status["counts"], status["idempotency"], status["changes"]) == (None, None, None)
        metrics = await node.get("/metrics")
        assert metrics.status == 200
        assert b"hive_tasks" not in metrics.raw
        async with Client(node.url) as client:
            assert (await client.cluster.status()).counts == {}

    with_node(test)


def test_whoever_waits_or_listens_is_let_go() -> None:
    async def test(node: Node) -> None:
        await node.post("/api/tasks", {"task_id": "t"})
        waiting = asyncio.create_task(node.get("/api/tasks/t?until=ended&wait_ms=60000"))
        async with node.client.get(f"{node.url}/api/watch?topics=*") as stream:
            await until(lambda: node.api.wakeups.waiting >= 2)
            end(node)
            refused(await waiting, "too_stale")
            assert b"event: too_stale" in await stream.content.read()

    with_node(test)


def test_in_service_again_it_serves_again() -> None:
    async def test(node: Node) -> None:
        end(node)
        refused(await node.get("/api/sessions"), "too_stale")
        node.replica.out_of_service = ""
        assert (await node.get("/api/sessions")).status == 200

    with_node(test)
