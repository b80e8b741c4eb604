"""A request after parsing: what a handler is given."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Generic, TypeVar, cast

from aiohttp import web

from cluster.replica import View
from node.api.connection import Connection
from node.api.context import Api
from node.api.problem import Problem, invalid
from node.api.route import Route
from statemachine import names, projects
from statemachine.records import Project

Q = TypeVar("Q")
B = TypeVar("B")

ANONYMOUS = "anonymous"
"""The principal of requests that nobody vouches for; authentication will put another one here."""

NOWHERE = 0xFFFF_FFFF
"""The number under which a project that has not been made yet is searched: nothing is found there."""

_REQUEST_ID = re.compile(r"[\x21-\x7e]{1,128}", re.ASCII)


class Request(Generic[Q, B]):
    """One request. `revision` and `consistency` become headers of the reply: what it reflects, what was given."""

    __slots__ = (
        "api",
        "body",
        "connection",
        "consistency",
        "deadline_s",
        "http",
        "method",
        "parameters",
        "path",
        "principal",
        "project",
        "query",
        "query_string",
        "raw",
        "request_id",
        "revision",
        "route",
        "warnings",
    )

    def __init__(
        self, api: Api, http: web.BaseRequest, method: str, path: str, query_string: str, request_id: str
    ) -> None:
        self.api = api
        self.http = http
        self.connection = cast(Connection, http.protocol)
        self.method = method
        self.path = path
        self.query_string = query_string
        self.request_id = request_id
        self.principal = ANONYMOUS
        self.project = projects.DEFAULT_PROJECT
        self.consistency = "stale"
        self.revision: int | None = None
        self.raw = b""
        self.warnings: list[str] = []
        self.deadline_s = 0.0
        self.route: Route
        self.parameters: dict[str, str]
        self.query: Q
        self.body: B

    @contextmanager
    def view(self) -> Iterator[View]:
        """This node's applied state; the reply then reflects its revision. Leave it before the next await."""
        with self.api.replica.view() as view:
            self.revision = view.revision
            yield view

    def require_project(self, view: View) -> Project:
        """The request's project as it is in this view; 404 `unknown_project`. `default` always exists."""
        project = projects.find(view, self.project)
        if project is None and self.project == projects.DEFAULT_PROJECT:
            return Project(NOWHERE, self.project, 0, 0, 0)
        if project is None:
            raise Problem("unknown_project", f"project {self.project!r} is unknown here at revision {view.revision}")
        return project

    def seconds_left(self) -> float:
        """What is left of the request's `timeout_ms`, seconds."""
        return max(self.deadline_s - asyncio.get_running_loop().time(), 0.0)

    def header(self, name: str) -> str | None:
        """A header of the request."""
        return self.http.headers.get(name)


def choose_project(header: str | None, parameter: str | None) -> str:
    """The project a request names by header or parameter. Raises Problem for two that differ, or a bad name."""
    if header is not None and parameter is not None and header != parameter:
        raise invalid("project", f"the header Hive-Project names {header!r}, the parameter {parameter!r}")
    project = header if header is not None else parameter
    if project is None:
        return projects.DEFAULT_PROJECT
    if wrong := names.check_id(project):
        raise invalid("project" if header is None else "Hive-Project", wrong)
    return project


def is_request_id(text: str) -> bool:
    """Whether a request id that came with a request may go into headers, logs and the log of commands."""
    return _REQUEST_ID.fullmatch(text) is not None


AnyRequest = Request[Any, Any]
