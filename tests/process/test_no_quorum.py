"""One node of three alive: writes say so and did not happen, stale reads go on, and nobody has to help afterwards."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.process.ledger import Receipt, Told, events_found
from tests.process.running import async_test, until
from tests.process.stage import Stage, cluster_of

pytestmark = pytest.mark.process

SESSION = "s"
TIMEOUT_MS = 800
# What a busy machine may add to a node's own timeout. It is long after the node should have answered.
ANSWERS_WITHIN_S = TIMEOUT_MS / 1000 + 5.0


async def post(http: aiohttp.ClientSession, endpoint: str, label: str) -> tuple[int, dict[str, Any]]:
    """One append, without a key and once."""
    body = {"type": "custom.load", "data": {"label": label}}
    url = f"{endpoint}/api/sessions/{SESSION}/events?timeout_ms={TIMEOUT_MS}"
    async with asyncio.timeout(ANSWERS_WITHIN_S), http.post(url, json=body) as reply:
        return reply.status, await reply.json(content_type=None)


def note(told: Told, label: str, status: int, document: dict[str, Any]) -> None:
    if status == 201:
        told.acknowledge(label, (str(document["first_seq"]), document["revision"]))
    elif document["retry"] == "safe":
        told.not_happened.add(label)
    else:
        assert (status, document["retry"]) == (504, "same_key")
        told.unknown.add(label)


async def get(http: aiohttp.ClientSession, url: str) -> tuple[int, dict[str, Any], str]:
    async with http.get(url) as reply:
        return reply.status, await reply.json(content_type=None), reply.headers.get("Hive-Leader", "")


async def check_survivor(stage: Stage, http: aiohttp.ClientSession, survivor: str, told: Told) -> None:
    """What the last node says of itself, of reads and of writes."""
    endpoint = stage.endpoint(survivor)

    async def alone() -> bool | None:
        status = await stage.status(survivor)
        return True if status.leader_id is None and not status.has_quorum else None

    await until(alone)
    for number in range(3):
        label = f"{survivor}-alone-{number}"
        status, problem = await post(http, endpoint, label)
        assert (status, problem["code"], problem["retry"]) == (503, "no_leader", "safe")
        note(told, label, status, problem)

    status, session, leader = await get(http, f"{endpoint}/api/sessions/{SESSION}")
    assert (status, session["last_seq"], leader) == (200, len(told.acknowledged), "")
    assert (await get(http, f"{endpoint}/livez"))[0] == 200
    assert (await get(http, f"{endpoint}/readyz"))[0] == 503
    assert (await get(http, f"{endpoint}/readyz?stale=true"))[0] == 200
    url = f"{endpoint}/api/sessions/{SESSION}?consistency=linearizable&timeout_ms=300"
    status, problem, _ = await get(http, url)
    assert (status, problem["code"]) == (503, "no_leader")
    status, problem, _ = await get(http, f"{endpoint}/api/sessions/{SESSION}?max_lag_ms=1&timeout_ms=300")
    assert (status, problem["code"]) == (503, "too_stale")


@pytest.mark.parametrize("leader_survives", [True, False])
@async_test()
async def test_one_of_three(tmp_path: Path, leader_survives: bool) -> None:
    async with cluster_of(3, tmp_path / "data") as stage, aiohttp.ClientSession() as http:
        await stage.client.sessions.create(session_id=SESSION)
        told = Told()
        for number in range(5):
            status, document = await post(http, stage.endpoint("n1"), f"before-{number}")
            note(told, f"before-{number}", status, document)
        assert len(told.acknowledged) == 5
        await stage.converged()

        leader_id, followers = await stage.leader_id(), await stage.follower_ids()
        survivor = leader_id if leader_survives else followers[0]
        dead = [node_id for node_id in stage.node_ids if node_id != survivor]
        await stage.kill(*dead)
        # A leader may not know yet that it is alone: then the honest answer is "unknown", and also within the timeout.
        status, document = await post(http, stage.endpoint(survivor), "at-once")
        assert document["code"] in ("no_leader", "outcome_unknown")
        note(told, "at-once", status, document)
        await check_survivor(stage, http, survivor, told)

        # This client waits for a leader: it gets one when a second node comes back, and nobody does anything else.
        waiting = asyncio.create_task(
            stage.client.sessions.append(SESSION, type="custom.load", data={"label": "waiting"}, timeout_s=60.0)
        )
        await stage.start(dead[0])
        done = await waiting
        told.acknowledge("waiting", (str(done.first_seq), done.revision))
        receipts: dict[str, list[Receipt]] = await events_found(stage.client, SESSION)
        assert told.broken_promises(receipts) == []
        await stage.start(dead[1])
        await stage.converged()
