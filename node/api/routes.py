"""All routes of the API, from the modules that own them. Server, OpenAPI document and metrics read this one table."""

from __future__ import annotations

from node.api import (
    agents,
    budgets,
    changes,
    claims,
    cluster,
    events,
    groups,
    health,
    heartbeat,
    member_changes,
    members,
    projects,
    queues,
    schedules,
    sessions,
    settings,
    status,
    task_reads,
    task_redrive,
    task_signals,
    task_verbs,
    task_waits,
    tasks,
    watch,
)
from node.api.reserved import RESERVED
from node.api.route import Route, Router

ROUTES: tuple[Route, ...] = (
    *health.ROUTES,
    *status.ROUTES,
    *members.ROUTES,
    *member_changes.ROUTES,
    *cluster.ROUTES,
    *projects.ROUTES,
    *sessions.ROUTES,
    *events.ROUTES,
    *tasks.ROUTES,
    *task_reads.ROUTES,
    *claims.ROUTES,
    *task_verbs.ROUTES,
    *task_signals.ROUTES,
    *task_waits.ROUTES,
    *task_redrive.ROUTES,
    *groups.ROUTES,
    *queues.ROUTES,
    *schedules.ROUTES,
    *budgets.ROUTES,
    *agents.ROUTES,
    *heartbeat.ROUTES,
    *settings.ROUTES,
    *changes.ROUTES,
    *watch.ROUTES,
)


def make_router() -> Router:
    """The router of everything that is served or reserved."""
    return Router(ROUTES, RESERVED)
