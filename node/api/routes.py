"""All routes of the API, from the modules that own them. Server, OpenAPI document and metrics read this one table."""

from __future__ import annotations

from node.api import changes, cluster, events, health, projects, sessions, status, watch
from node.api.reserved import RESERVED
from node.api.route import Route, Router

ROUTES: tuple[Route, ...] = (
    *health.ROUTES,
    *status.ROUTES,
    *cluster.ROUTES,
    *projects.ROUTES,
    *sessions.ROUTES,
    *events.ROUTES,
    *changes.ROUTES,
    *watch.ROUTES,
)


def make_router() -> Router:
    """The router of everything that is served or reserved."""
    return Router(ROUTES, RESERVED)
