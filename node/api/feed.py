"""The change feed as messages: one per revision, filtered by topics, never split, never repeated."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any, Literal

import msgspec

from cluster.replica import View
from node.api.problem import Problem, invalid
from node.api.reply import encode
from node.api.resources import SHOWN
from node.api.times import outside, text
from node.api.topics import topics_of
from statemachine import changes, machine, projects
from statemachine.changes import Change
from statemachine.records import Project

Data = Literal["none", "summary", "full"]
REVISIONS_SCANNED_MAX = 5_000
"""Revisions one look at the feed may pass: a filter that matches little gives way to others."""

_TOPIC = re.compile(
    r"\*|agents|tasks|sessions|groups|queues|projects|schedules|budgets|settings|cluster\.status"
    r"|(agent|task|session|group|queue|schedule|execution)\.[A-Za-z0-9._:-]{1,128}|user\..{1,256}|alerts\.[a-z]{1,32}"
    r"|budget\.(project|session|agent)/[A-Za-z0-9._:-]{1,128}"
)


class ChangeView(msgspec.Struct):
    """One change. `data` has the resource as it is now under the facts of the change, which are as they were then."""

    id: str
    type: str
    project: str
    resource: str
    resource_id: str
    source: str
    correlation_id: str | None
    data: Any


class Message(msgspec.Struct):
    """All changes of one revision that are wanted."""

    revision: int
    timestamp: str
    changes: list[ChangeView]


class Filter:
    """Which changes a watcher wants: those of its project and of the cluster, under any of its topics."""

    def __init__(self, project: str, topics: Iterable[str], data: Data) -> None:
        """Raises Problem for a topic that nothing is ever found under."""
        self.project = project
        self.topics = tuple(dict.fromkeys(topics)) or ("*",)
        for topic in self.topics:
            if _TOPIC.fullmatch(topic) is None:
                raise invalid("topics", f"{topic!r} is no topic")
        self.everything = "*" in self.topics
        self._wanted = frozenset(self.topics)
        self.data = data

    def takes(self, change: Change) -> bool:
        """Whether the watcher wants this change."""
        if change.project not in ("", self.project):
            return False
        return self.everything or not self._wanted.isdisjoint(topics_of(change))


class Look(msgspec.Struct):
    """What one look at the feed found: messages, each with its JSON; where the next look begins."""

    messages: list[tuple[Message, bytes]]
    next_revision: int
    oldest_revision: int
    revision: int


def look(view: View, wanted: Filter, from_revision: int, limit: int, bytes_max: int) -> Look:
    """Messages from `from_revision` on: at most `limit`, and about `bytes_max` (one message at least).

    Raises Problem `compacted` when that revision is no longer kept.
    """
    meta = machine.read_meta(view)
    found = Look([], from_revision, meta.compacted_revision + 1, meta.revision)
    if from_revision <= meta.compacted_revision:
        raise compacted(from_revision, found.oldest_revision)
    project = projects.find(view, wanted.project)
    scan_end = from_revision + REVISIONS_SCANNED_MAX
    for last_revision, group in changes.read(view, from_revision):
        for revision, group_changes in _by_revision(group.changes, from_revision):
            if len(found.messages) >= limit or bytes_max <= 0:
                return found
            kept = [(n, change) for n, change in group_changes if wanted.takes(change)]
            if kept:
                shown = [_shown(view, project, wanted.data, n, change) for n, change in kept]
                message = Message(revision, text(group.time_ms), shown)
                found.messages.append((message, encode(message)))
                bytes_max -= len(found.messages[-1][1])
            found.next_revision = revision + 1
        found.next_revision = last_revision + 1
        if last_revision >= scan_end:
            return found
    found.next_revision = max(found.next_revision, meta.revision + 1, from_revision)
    return found


def compacted(from_revision: int, oldest_revision: int) -> Problem:
    """410 for a revision that is no longer kept."""
    return Problem(
        "compacted",
        f"revision {from_revision} is no longer kept; list again, then watch from the list's Hive-Revision + 1",
        oldest_revision=oldest_revision,
    )


def _by_revision(group: tuple[Change, ...], from_revision: int) -> Iterator[tuple[int, list[tuple[int, Change]]]]:
    """The changes of a group by revision, each with its place within the revision."""
    numbered: list[tuple[int, Change]] = []
    revision = 0
    for change in group:
        if change.revision != revision:
            if numbered and revision >= from_revision:
                yield revision, numbered
            revision, numbered = change.revision, []
        numbered.append((len(numbered), change))
    if numbered and revision >= from_revision:
        yield revision, numbered


def _shown(view: View, project: Project | None, data: Data, number: int, change: Change) -> ChangeView:
    facts = None if change.data is None else outside(change.data)
    shown: Any = None
    if data != "none":
        show = SHOWN.get(change.resource)
        resource = None if show is None else show(view, project, change, data == "full")
        shown = facts if resource is None else _overlaid(resource, facts)
    return ChangeView(
        id=f"{change.revision}.{number}",
        type=change.type,
        project=change.project,
        resource=change.resource,
        resource_id=change.resource_id,
        source=change.source,
        correlation_id=change.correlation_id,
        data=shown,
    )


def _overlaid(resource: Any, facts: dict[str, Any] | None) -> Any:
    members = resource if isinstance(resource, dict) else _members_of(resource)
    return members if facts is None else {**members, **facts}


def _members_of(resource: msgspec.Struct) -> dict[str, Any]:
    names = zip(resource.__struct_fields__, resource.__struct_encode_fields__, strict=True)
    values = {outside_name: getattr(resource, name) for name, outside_name in names}
    return {name: value for name, value in values.items() if value is not msgspec.UNSET}
