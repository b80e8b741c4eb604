"""How the resource a change is about is shown to watchers: as it is now, with or without what the user put into it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from cluster.replica import View
from node.api.agent_views import agent_view
from node.api.budgets import find_view as budget_view_of
from node.api.queues import queue_view
from node.api.schedule_views import schedule_view
from node.api.session_views import event_view, session_view
from node.api.settings import shown
from node.api.task_views import task_view
from statemachine import agent_record, events, limits, projects, schedule_record, session_record, settings, task_record
from statemachine.changes import Change
from statemachine.events import EventFilter
from statemachine.records import Project

Show = Callable[[View, Project | None, Change, bool], Any]
"""(view, project, change, full) -> what is shown, or None when the resource is gone."""

EVENTS_SHOWN_BYTES_MAX = limits.REQUEST_BYTES_MAX
"""An append over this is told by its seqs alone: the events are read where they are."""


def _session(view: View, project: Project | None, change: Change, full: bool) -> Any:
    if project is None:
        return None
    session = session_record.find(view, project.number, change.resource_id)
    if session is None:
        return None
    if change.type != "event.appended" or change.data is None:
        return session_view(project.name, session, full=full)
    return _appended(view, project, session, change, full)


def _appended(view: View, project: Project, session: session_record.Session, change: Change, full: bool) -> Any:
    facts = change.data or {}
    rows = events.scan(
        view,
        project.number,
        session,
        EventFilter(),
        after_seq=facts["first_seq"] - 1,
        before_seq=facts["last_seq"] + 1,
    )
    shown: list[msgspec.Struct] = []
    size = 0
    for seq, event in rows:
        if event is None:
            continue
        size += len(event.event.data or b"") + len(event.event.artifacts or b"") if full else 0
        if size > EVENTS_SHOWN_BYTES_MAX:
            return {"session_id": session.session_id, "events": None}
        shown.append(event_view(session.session_id, seq, event, full=full))
    return {"session_id": session.session_id, "events": shown}


def _task(view: View, project: Project | None, change: Change, full: bool) -> Any:
    task = None if project is None else task_record.find(view, project.number, change.resource_id)
    return None if task is None else task_view(view, task, full=full)


def _agent(view: View, _: Project | None, change: Change, full: bool) -> Any:
    agent = agent_record.find(view, change.resource_id)
    return None if agent is None else agent_view(agent, agent_record.load_of(view, agent.number), full=full)


def _project(view: View, _: Project | None, change: Change, _full: bool) -> Any:
    project = projects.find(view, change.resource_id)
    return None if project is None else {"project": project.name, "revision": project.revision}


def _schedule(view: View, project: Project | None, change: Change, full: bool) -> Any:
    schedule = None if project is None else schedule_record.find(view, project.number, change.resource_id)
    if project is None or schedule is None:
        return None
    definition = schedule_record.definition_of(view, project.number, schedule)
    return schedule_view(project.name, schedule, definition, full=full)


def _queue(view: View, project: Project | None, change: Change, _full: bool) -> Any:
    return None if project is None else queue_view(view, project, change.resource_id, view.time_ms)


def _budget(view: View, project: Project | None, change: Change, _full: bool) -> Any:
    return budget_view_of(view, project, change.resource_id)


def _settings(view: View, _: Project | None, _change: Change, _full: bool) -> Any:
    now = settings.read(view)
    values = {name: shown(name, value) for name, value in sorted(now.values.items()) if name in settings.SETTINGS}
    return {"set": values, "revision": now.revision}


SHOWN: dict[str, Show] = {
    "session": _session,
    "task": _task,
    "agent": _agent,
    "project": _project,
    "queue": _queue,
    "schedule": _schedule,
    "settings": _settings,
    "budget": _budget,
}
"""By kind of resource. What is not here is told by the facts of its change alone."""
