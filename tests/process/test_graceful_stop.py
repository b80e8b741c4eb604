"""SIGTERM: the leader hands over before it goes; what it holds is on disk, with a mark that says so; it comes back."""

from __future__ import annotations

import asyncio
import itertools
import json
import time
from contextlib import suppress
from pathlib import Path

import aiohttp
import pytest
from hive_client import Client

from tests.process.running import async_test, show
from tests.process.stage import Stage, cluster_of

pytestmark = pytest.mark.process

SESSION = "s"
GAP_S_MAX = 5.0
"""No measure of speed, only "by itself"; what was measured is shown."""


class Pulse:
    """One writer; knows the longest time between two acknowledgements."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._stopping = asyncio.Event()
        self._written = asyncio.Event()
        self.acknowledged = 0
        self.longest_gap_s = 0.0

    async def run(self) -> None:
        last = time.monotonic()
        for number in itertools.count(1):
            done = await self._client.sessions.append(SESSION, type="custom.pulse")
            assert done.last_seq == number, "each is there once"
            now = time.monotonic()
            self.longest_gap_s = max(self.longest_gap_s, now - last)
            last = now
            self.acknowledged = number
            self._written.set()
            if self._stopping.is_set():
                return

    async def more(self, count: int) -> None:
        wanted = self.acknowledged + count
        while self.acknowledged < wanted:
            self._written.clear()
            await self._written.wait()

    def stop(self) -> None:
        self._stopping.set()


async def stop_leader_under_load(stage: Stage) -> tuple[str, float]:
    """The node that led and was stopped by SIGTERM, and the longest gap in the acknowledgements, seconds."""
    await stage.client.sessions.create(session_id=SESSION)
    pulse = Pulse(stage.client)
    leader_id = await stage.leader_id()
    async with asyncio.TaskGroup() as group:
        group.create_task(pulse.run())
        await pulse.more(20)
        assert await stage.stop(leader_id) == 0
        await pulse.more(20)
        pulse.stop()
    return leader_id, pulse.longest_gap_s


def clean_mark(stage: Stage, node_id: str) -> object:
    return json.loads((stage.directory(node_id) / "node.json").read_bytes())["clean"]


@async_test()
async def test_leader_hands_over_before_it_goes(tmp_path: Path) -> None:
    async with cluster_of(3, tmp_path / "data") as stage:
        leader_id, gap_s = await stop_leader_under_load(stage)
        show(f"longest gap in writes while the leader {leader_id} was stopped: {gap_s * 1000:.0f} ms")
        assert gap_s < GAP_S_MAX
        next_leader_id = await stage.leader_id()
        assert next_leader_id != leader_id
        # It was still there to see whom it had handed over to: nobody had to miss it first.
        roles = [line for line in stage.log_of(leader_id).splitlines() if " role=" in line]
        assert f"role=follower term=2 leader={next_leader_id}" in roles[-1]
        assert clean_mark(stage, leader_id) is not None
        await stage.start(leader_id)
        assert clean_mark(stage, leader_id) is None, "a mark that outlived its stop would be believed after power loss"
        await stage.converged()


@async_test()
async def test_all_stop_cleanly_and_serve_again(tmp_path: Path) -> None:
    async with cluster_of(3, tmp_path / "data") as stage:
        await stage.client.sessions.create(session_id=SESSION, title="kept")
        statuses = await asyncio.gather(*(stage.stop(node_id) for node_id in stage.node_ids))
        assert statuses == [0, 0, 0]
        assert all(clean_mark(stage, node_id) is not None for node_id in stage.node_ids)
        for node_id in stage.node_ids:
            assert "stopped" in stage.cluster.nodes[node_id].last_line()
        await stage.start(*stage.node_ids)
        assert (await stage.client.sessions.get(SESSION)).title == "kept"
        await stage.converged()


@async_test()
async def test_open_polls_and_streams_do_not_hold_up_a_stop(tmp_path: Path) -> None:
    async with (
        cluster_of(1, tmp_path / "data", ("--shutdown-timeout-ms", "60000")) as stage,
        aiohttp.ClientSession(stage.endpoint("n1")) as http,
    ):
        await stage.client.sessions.create(session_id=SESSION)
        poll = asyncio.create_task(http.get(f"/api/sessions/{SESSION}/events", params={"wait_ms": 60_000}))
        async with http.get("/api/watch") as stream:
            assert await stream.content.readline()
            # Killed after the grace, which is far below the time the poll may take: then the status is not 0.
            assert await stage.stop("n1") == 0
            with suppress(aiohttp.ClientError):
                await stream.read()
        answered = await asyncio.gather(poll, return_exceptions=True)
        assert isinstance(answered[0], aiohttp.ClientResponse | aiohttp.ClientError)
