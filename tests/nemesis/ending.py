"""What the cluster holds when everything is quiet again, asked of every node past the proxies."""

from __future__ import annotations

import hashlib
import json
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import quote

from tests.nemesis.fleet import Fleet
from tests.nemesis.history import History
from tests.nemesis.load_watch import messages_of
from tests.nemesis.load_work import GROUP, RESULTS
from tests.nemesis.promises import Ending, Feed

LEVEL_WITHIN_S = 30.0
TRIES_MAX = 25
"""Agents that fell silent are still declared offline, and leases end, a minute after the load has."""
STRONG = "&consistency=linearizable"


class _SilentError(Exception):
    """A node does not answer."""


async def look_at_the_end(fleet: Fleet, history: History) -> Ending | None:
    """Wait until all nodes have applied the same, then read everything. None if that cannot be, which is a defect."""
    for _ in range(TRIES_MAX):
        before = await _level(fleet)
        if before is None:
            history.defects.append(f"the nodes did not come level in {LEVEL_WITHIN_S:.0f} s")
            return None
        try:
            ending = await _read(fleet)
        except _SilentError as error:
            history.defects.append(f"at the end {error}")
            return None
        ending.digests = before
        if await _level(fleet) == before:
            return ending
    history.defects.append("the nodes went on changing when nobody asked them to")
    return None


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
    tasks = [item async for item in _items(fleet, first, f"/api/tasks?group_id={GROUP}{STRONG}")]
    results = [item async for item in _items(fleet, first, f"/api/sessions/{RESULTS}/events?order=asc{STRONG}")]
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
        ending.feeds[node_id] = await _feed(fleet, node_id)
        ending.contents[node_id] = await _contents(fleet, node_id)
    return ending


async def _contents(fleet: Fleet, node_id: str) -> dict[str, str]:
    """A digest of each task and session this node shows, and of what is in the sessions."""
    found = {}
    async for task in _items(fleet, node_id, "/api/tasks?"):
        found[f"task {task['task_id']}"] = _digest(task)
    sessions = [session async for session in _items(fleet, node_id, "/api/sessions?")]
    for session in sessions:
        name = session["session_id"]
        found[f"session {name}"] = _digest(session)
        if session["last_seq"]:
            events = [event async for event in _items(fleet, node_id, f"/api/sessions/{name}/events?order=asc")]
            found[f"events of {name}"] = _digest(events)
    return found


def _digest(document: Any) -> str:
    return hashlib.blake2b(json.dumps(document, sort_keys=True).encode(), digest_size=12).hexdigest()


async def _feed(fleet: Fleet, node_id: str) -> Feed:
    feed: Feed = {}
    next_revision, end = 1, 0
    while end != next_revision:
        end = next_revision
        page = await _get(fleet, node_id, f"/api/changes?data=none&limit=1000&from_revision={next_revision}")
        feed.update(messages_of(page["items"]))
        next_revision = page["next_revision"]
    return feed


async def _items(fleet: Fleet, node_id: str, target: str) -> AsyncIterator[dict[str, Any]]:
    cursor = ""
    while True:
        page = await _get(fleet, node_id, f"{target}&limit=1000{cursor}")
        for item in page["items"]:
            yield item
        if page["next_cursor"] is None:
            return
        cursor = f"&cursor={quote(page['next_cursor'])}"


async def _get(fleet: Fleet, node_id: str, target: str) -> dict[str, Any]:
    found: list[dict[str, Any]] = []

    async def look() -> bool:
        found.extend(page for page in [await fleet.get(node_id, target)] if page is not None)
        return bool(found)

    if not await fleet.until(look, LEVEL_WITHIN_S):
        raise _SilentError(f"{node_id} does not answer {target}")
    return found[0]
