"""Topics: under which names a change is found by those who watch."""

from __future__ import annotations

from statemachine.changes import Change

_COLLECTIONS = {
    "task": "tasks",
    "session": "sessions",
    "agent": "agents",
    "group": "groups",
    "project": "projects",
    "queue": "queues",
    "schedule": "schedules",
    "budget": "budgets",
}


def topics_of(change: Change) -> tuple[str, ...]:
    """All topics of a change but `*`: its kind of resource, the resource itself, and what the change names beside."""
    if change.resource in _COLLECTIONS:
        own = (_COLLECTIONS[change.resource], f"{change.resource}.{change.resource_id}")
    elif change.resource == "cluster":
        own = ("cluster.status", "cluster")
    else:
        own = (change.resource, f"{change.resource}.{change.resource_id}")
    return own + change.topics
