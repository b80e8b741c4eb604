"""A backlog: many pending tasks of all priorities, some of them wanting a capability, and others blocked by them."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import msgspec

from ops.bench.queue_calls import BenchAgent
from ops.bench.queue_site import Say, Site
from ops.edge import CommandError

ITEMS = 1_000
"""Pending tasks and blocked ones of one request."""

BLOCKED = 40
"""Of them; each waits for two others of its request, none of which ever ends."""

PENDING = ITEMS - BLOCKED
PRIORITIES = 10
POSTERS = 8
REGISTRARS = 64
CAPABILITIES = ("python", "rust")
TYPE = "bench"
QUEUE = "default"


class _Item(msgspec.Struct):
    status: int


class _Items(msgspec.Struct):
    items: list[_Item]


_items = msgspec.json.Decoder(_Items)


def request_body(first: int, pending: int) -> dict[str, Any]:
    """One batch: `pending` pending tasks numbered from `first`, and blocked ones in proportion. Half of the pending
    want a capability."""
    items: list[dict[str, Any]] = []
    for number in range(first, first + pending):
        item: dict[str, Any] = {"type": TYPE, "priority": number % PRIORITIES, "payload": {"n": number}}
        if number // PRIORITIES % 2:
            item["requires"] = [{"name": CAPABILITIES[number // 2 // PRIORITIES % len(CAPABILITIES)]}]
        items.append(item)
    for index in range(min(pending // 2, pending * BLOCKED // PENDING)):
        needed = [f"{QUEUE}-{first + 2 * index}", f"{QUEUE}-{first + 2 * index + 1}"]
        items[2 * index]["task_id"], items[2 * index + 1]["task_id"] = needed
        items.append({"type": TYPE, "payload": {"n": first + index}, "depends_on": needed})
    return {"items": items}


async def add_pending(site: Site, first: int, count: int, say: Say) -> float:
    """Create tasks numbered `first` and following, `count` of them pending. Returns the tasks created a second."""
    if count <= 0:
        return 0.0
    starts = iter(range(first, first + count, PENDING))
    created, started_at = 0, time.perf_counter()

    async def post() -> None:
        nonlocal created
        for start in starts:
            body = request_body(start, min(PENDING, first + count - start))
            answer = await site.leader.require("POST", "/api/tasks/batch", body)
            if any(item.status != 201 for item in _items.decode(answer).items):
                raise CommandError(f"a task was refused: {answer[:300].decode('utf-8', 'replace')}")
            before, created = created, created + len(body["items"])
            if created * 10 // count != before * 10 // count:
                say(f"{first + min(created, count):,} tasks")

    await asyncio.gather(*(post() for _ in range(POSTERS)))
    return created / (time.perf_counter() - started_at)


def fleet(site: Site, count: int, slots: int) -> list[BenchAgent]:
    """So many agents, spread over the nodes; each has both capabilities."""
    return [BenchAgent(site.caller(number), f"agent-{number}", slots, CAPABILITIES) for number in range(count)]


async def register(agents: list[BenchAgent]) -> float:
    """Let all of them come (again). Returns the registrations a second."""
    waiting, started_at = iter(agents), time.perf_counter()

    async def each() -> None:
        for agent in waiting:
            await agent.register()

    await asyncio.gather(*(each() for _ in range(min(REGISTRARS, len(agents)))))
    return len(agents) / (time.perf_counter() - started_at)
