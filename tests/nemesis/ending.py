"""What the cluster holds when everything is quiet again, asked of every node past the proxies.

Nothing changes by itself any more once no agent is there and no task is held: leases end, and silent agents are
declared offline, only where there are some. The load takes its agents away at its end.
"""

from __future__ import annotations

from typing import Any

from tests.nemesis.contents import SilentError, contents, feed, items
from tests.nemesis.fleet import Fleet
from tests.nemesis.history import History
from tests.nemesis.load_work import GROUP, RESULTS
from tests.nemesis.promises import Ending

QUIET_WITHIN_S = 30.0
LEVEL_WITHIN_S = 30.0
TRIES_MAX = 5
"""A new leader writes an entry of its own; what an ended session leaves behind is done in the background."""
STRONG = "&consistency=linearizable"
HELD = ("assigned", "running")


async def look_at_the_end(fleet: Fleet, history: History) -> Ending | None:
    """Wait until nothing is left that changes by itself and all nodes have applied the same, then read everything. None
    if that cannot be, which is a defect."""
    if moving := await _moving(fleet):
        history.defects.append(f"at the end {moving}")
        return None
    for _ in range(TRIES_MAX):
        before = await _level(fleet)
        if before is None:
            history.defects.append(f"the nodes did not come level in {LEVEL_WITHIN_S:.0f} s")
            return None
        try:
            ending = await _read(fleet)
        except SilentError as error:
            history.defects.append(f"at the end {error}")
            return None
        ending.digests = before
        if await _level(fleet) == before:
            return ending
    history.defects.append("the nodes went on changing when nobody asked them to")
    return None


async def _moving(fleet: Fleet) -> str:
    """What may still change things by itself after `QUIET_WITHIN_S`, or is wrong; empty when all is quiet."""
    left: list[str] = []

    async def look() -> bool:
        left.clear()
        for node_id in fleet.node_ids:
            status = await fleet.status(node_id)
            left.extend([f"{node_id} does not answer"] if status is None else unquiet(status))
        return not left

    await fleet.until(look, QUIET_WITHIN_S)
    return "; ".join(left)


def unquiet(status: dict[str, Any]) -> list[str]:
    """What of one node's status is not as it is when all is quiet."""
    counts, node_id = status["counts"], status["node_id"]
    held = sum(counts["tasks"][name] for name in HELD)
    agents = sum(counts["agents"].values())
    learners = [member["node_id"] for member in status["members"] if not member["voter"]]
    found = {
        f"{held} tasks are held": held,
        f"{agents} agents are there": agents,
        f"{learners} do not vote": learners,
        f"it raises {status['alarms']}": status["alarms"],
    }
    return [f"{node_id}: {text}" for text, there in found.items() if there]


async def _level(fleet: Fleet) -> dict[str, str] | None:
    """The digest of each node, once all have applied all that is committed, and the same."""
    found: dict[str, str] = {}

    async def look() -> bool:
        answers = [await fleet.status(node_id) for node_id in fleet.node_ids]
        seen = [one for one in answers if one is not None]
        places = {(one["applied_index"], one["commit_index"], one["revision"]) for one in seen}
        if len(seen) < len(answers) or len(places) != 1 or seen[0]["applied_index"] != seen[0]["commit_index"]:
            return False
        found.update({str(one["node_id"]): f"{one['applied_index']}:{one['digest']}" for one in seen})
        return True

    return found if await fleet.until(look, LEVEL_WITHIN_S) else None


async def _read(fleet: Fleet) -> Ending:
    first = fleet.node_ids[0]
    tasks = [item async for item in items(fleet, first, f"/api/tasks?group_id={GROUP}{STRONG}")]
    results = [item async for item in items(fleet, first, f"/api/sessions/{RESULTS}/events?order=asc{STRONG}")]
    ending = Ending(
        tasks=[
            (
                task["task_id"], task["payload"]["label"], task["status"], task["attempt"],
                (task["result"] or {}).get("token", ""),
            )
            for task in tasks
        ],
        results=[(one["data"]["task_id"], one["data"]["attempt"], one["data"]["token"]) for one in results],
    )  # fmt: skip
    for node_id in fleet.node_ids:
        ending.feeds[node_id] = await feed(fleet, node_id)
        shown = await contents(fleet, node_id)
        ending.contents[node_id] = {name: " ".join(one.digests) for name, one in shown.items()}
    return ending
