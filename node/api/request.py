"""A request after parsing: what a handler is given."""

from __future__ import annotations

import re
from contextlib import AbstractContextManager
from time import monotonic
from typing import Any, Generic, TypeVar

from cluster.replica import View
from node.api.context import Api
from node.api.problem import Problem, invalid
from node.api.route import Route
from node.http.connection import Connection
from node.http.message import HttpMessage
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
        self, api: Api, connection: Connection, http: HttpMessage, path: str, query_string: str, request_id: str
    ) -> None:
        self.api = api
        self.http = http
        self.connection = connection
        self.method = http.method
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

    def view(self) -> AbstractContextManager[View]:
        """This node's applied state; the reply then reflects its revision. Leave it before the next await."""
        return _RequestView(self)

    def project_number(self, view: View) -> int:
        """The number of the request's project, as `require_project`; read from the state once in a node's life."""
        number = self.api.project_numbers.get(self.project)
        if number is None:
            number = self.require_project(view).number
            if number != NOWHERE:
                self.api.project_numbers[self.project] = number
        return number

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
        return max(self.deadline_s - monotonic(), 0.0)

    def header(self, name: str) -> str | None:
        """A header of the request."""
        return self.http.headers.get(name.lower())


class _RequestView:
    """The state while a request reads it."""

    __slots__ = ("_request", "_view")

    def __init__(self, request: Request[Any, Any]) -> None:
        self._request = request
        self._view = request.api.replica.view()

    def __enter__(self) -> View:
        view = self._view.__enter__()
        self._request.revision = view.revision
        return view

    def __exit__(self, *error: Any) -> None:
        self._view.__exit__(*error)


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
