"""What an operator does by hand: hand leadership over, take snapshots."""

from __future__ import annotations

import aiohttp

from tests.nemesis.strike import Strike


async def hand_over_to(strike: Strike, node_id: str | None) -> None:
    """Ask the leader to let this one lead; whether it is possible now is not the question."""
    await _ask(strike, await strike.leader(), "/api/cluster/transfer-leadership", {"to": node_id})


async def hand_over(strike: Strike) -> str:
    """To some follower."""
    target = await strike.follower()
    await hand_over_to(strike, target)
    return target


async def take_snapshot(strike: Strike, node_id: str) -> None:
    """One that is busy or away takes none."""
    await _ask(strike, node_id, "/api/cluster/snapshot", {})


async def take_snapshots(strike: Strike) -> str:
    """On most nodes."""
    some = strike.some(strike.majority)
    for node_id in some:
        await take_snapshot(strike, node_id)
    return ", ".join(some)


async def _ask(strike: Strike, node_id: str, path: str, body: dict[str, str | None]) -> None:
    try:
        async with strike.fleet.http.post(strike.fleet.members[node_id].own_endpoint + path, json=body) as reply:
            await reply.read()
    except (aiohttp.ClientError, TimeoutError):
        return
