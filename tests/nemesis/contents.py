"""What a node shows: every task, session and event, and the changes, asked past the proxies."""

from __future__ import annotations

import hashlib
import json
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from tests.nemesis.fleet import Fleet
from tests.nemesis.load_watch import messages_of
from tests.nemesis.promises import Feed

ANSWERS_WITHIN_S = 30.0


class SilentError(Exception):
    """A node does not answer."""


@dataclass(frozen=True, slots=True)
class Shown:
    """One resource: its digest at its revision. The events of a session: one digest for each, in their order."""

    created_revision: int
    revision: int
    digests: tuple[str, ...]


Contents = dict[str, Shown]


async def contents(fleet: Fleet, node_id: str) -> Contents:
    """All tasks and sessions this node shows, and what is in the sessions. Raises SilentError."""
    found = {}
    async for task in items(fleet, node_id, "/api/tasks?"):
        found[f"task {task['task_id']}"] = _shown(task, [_digest(task)])
    sessions = [session async for session in items(fleet, node_id, "/api/sessions?")]
    for session in sessions:
        name = session["session_id"]
        found[f"session {name}"] = _shown(session, [_digest(session)])
        if session["last_seq"]:
            events = items(fleet, node_id, f"/api/sessions/{name}/events?order=asc")
            # Page by page: the proxies live on this loop, and the nodes notice when it stands still.
            found[f"events of {name}"] = _shown(session, [_digest(event) async for event in events])
    return found


def _shown(resource: dict[str, Any], digests: Sequence[str]) -> Shown:
    return Shown(resource["created_revision"], resource["revision"], tuple(digests))


def _digest(document: dict[str, Any]) -> str:
    return hashlib.blake2b(json.dumps(document, sort_keys=True).encode(), digest_size=12).hexdigest()


async def feed(fleet: Fleet, node_id: str) -> Feed:
    """All changes this node tells. Raises SilentError."""
    found: Feed = {}
    next_revision, end = 1, 0
    while end != next_revision:
        end = next_revision
        page = await _get(fleet, node_id, f"/api/changes?data=none&limit=1000&from_revision={next_revision}")
        found.update(messages_of(page["items"]))
        next_revision = page["next_revision"]
    return found


async def items(fleet: Fleet, node_id: str, target: str) -> AsyncIterator[dict[str, Any]]:
    """All pages of a list. Raises SilentError."""
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
        return bool(found) or not fleet.members[node_id].process.running

    await fleet.until(look, ANSWERS_WITHIN_S)
    if not found:
        raise SilentError(f"{node_id} does not answer {target}")
    return found[0]


def differing(before: Contents, after: Contents) -> list[str]:
    """Names of what two nodes show differently, while work goes on: `after` was asked later, and has at least what was
    applied where `before` was asked. What has one revision is one thing; events are never changed."""
    return [name for name, one in before.items() if name not in after or not _goes_on(name, one, after[name])]


def _goes_on(name: str, one: Shown, other: Shown) -> bool:
    if one.created_revision != other.created_revision:
        return False
    if name.startswith("events of "):
        return other.digests[: len(one.digests)] == one.digests
    return one.revision < other.revision or one == other


def missing(before: Contents, after: Contents, revision: int) -> list[str]:
    """Names of what was there at `revision`, which `before` reflects at least, and only `after` shows. Nothing is ever
    deleted."""
    return [name for name, other in after.items() if name not in before and other.revision <= revision]
