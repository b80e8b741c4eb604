"""The route table: one row a route. It parses, permits, limits and documents; the router finds rows without regexes."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

import msgspec

from node.api.body import NoBody, Parser
from node.api.problem import Problem, invalid
from node.api.query import Query, QueryParser
from statemachine import limits, names

if TYPE_CHECKING:
    from node.api.reply import Answer
    from node.api.request import Request

Handler = Callable[["Request[Any, Any]"], Awaitable["Answer"]]


_VERBLESS = frozenset({"group_id", "queue"})
"""Parameters of paths whose place no verb shares."""


@dataclass(frozen=True, slots=True, eq=False)
class Route:
    """One route. `reply` is the type of the body of a 2xx (None: not JSON, `content_type` says what).

    `lenient` bodies ignore unknown fields and name them in `warnings`; `batch` ones may be larger; `waits` marks
    long-polls and streams; `statuses` are the 2xx ones it may answer.
    """

    method: str
    path: str
    handler: Handler
    summary: str
    permission: str
    query: type[Query] = Query
    body: type[msgspec.Struct] = NoBody
    reply: Any = None
    statuses: tuple[int, ...] = (200,)
    content_type: str = "application/json"
    lenient: bool = False
    batch: bool = False
    waits: bool = False
    plain: bool = False
    bytes_max: int = 0
    query_parser: QueryParser = field(init=False)
    body_parser: Parser = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "query_parser", QueryParser(self.query))
        object.__setattr__(self, "body_parser", Parser(self.body, lenient=self.lenient))
        bytes_max = limits.BATCH_REQUEST_BYTES_MAX if self.batch else limits.REQUEST_BYTES_MAX
        object.__setattr__(self, "bytes_max", self.bytes_max or bytes_max)

    @property
    def limit_name(self) -> str:
        """The name of its limit on request bodies."""
        return "batch_bytes_max" if self.batch else "request_bytes_max"


class _Branch:
    """A place in the tree of paths: what may follow, and the routes that end here."""

    __slots__ = ("literals", "parameter", "reserved", "routes", "subtree_reserved")

    def __init__(self) -> None:
        self.literals: dict[str, _Branch] = {}
        self.parameter: tuple[str, _Branch] | None = None
        self.routes: dict[str, Route] = {}
        self.reserved: dict[str, str] = {}
        self.subtree_reserved: str | None = None


class Router:
    """Finds routes. `/api/v1` is `/api`. A literal segment goes before a parameter."""

    def __init__(self, routes: Iterable[Route], reserved: Iterable[tuple[str, str, str]] = ()) -> None:
        """`reserved` rows are (method or "*", path, what it will be); a path that ends in `/**` takes all below it."""
        self._root = _Branch()
        self.routes = tuple(routes)
        for route in self.routes:
            branch = self._grow(route.path)
            if route.method in branch.routes:
                raise AssertionError(f"two routes for {route.method} {route.path}")
            branch.routes[route.method] = route
        for method, path, purpose in reserved:
            if path.endswith("/**"):
                self._grow(path.removesuffix("/**")).subtree_reserved = purpose
            else:
                self._grow(path).reserved[method] = purpose

    def _grow(self, path: str) -> _Branch:
        branch = self._root
        for segment in path.split("/")[1:]:
            if segment.startswith("{"):
                name = segment[1:-1]
                if branch.parameter is None:
                    branch.parameter = (name, _Branch())
                if branch.parameter[0] != name:
                    raise AssertionError(f"{path}: this place is called {branch.parameter[0]} elsewhere")
                branch = branch.parameter[1]
            else:
                branch = branch.literals.setdefault(segment, _Branch())
        return branch

    def find(self, method: str, path: str) -> tuple[Route, dict[str, str]]:
        """The route, and the ids in its path. Raises Problem: not_found, method_not_allowed, not_enabled, bad ids."""
        branch, parameters = self._walk(path)
        route = branch.routes.get(method)
        if route is None and method == "HEAD":
            route = branch.routes.get("GET")
        if route is not None:
            for name, value in parameters.items():
                check = names.check_name if name in _VERBLESS else names.check_id
                if wrong := check(value):
                    raise invalid(name, wrong)
            return route, parameters
        purpose = branch.reserved.get(method) or branch.reserved.get("*")
        if purpose is not None:
            raise Problem("not_enabled", f"{purpose} is not enabled in this version")
        if not branch.routes:
            raise Problem("not_found", f"there is nothing at {path}")
        allowed = self.allowed(branch)
        detail = f"{path} knows {allowed}"
        raise Problem("method_not_allowed", detail, headers=(("Allow", allowed),))

    def allowed_at(self, path: str) -> str:
        """The methods that a path knows. Raises Problem `not_found`."""
        branch, _ = self._walk(path)
        if not branch.routes:
            raise Problem("not_found", f"there is nothing at {path}")
        return self.allowed(branch)

    @staticmethod
    def allowed(branch: _Branch) -> str:
        """The value of `Allow`."""
        methods = set(branch.routes) | {"OPTIONS"}
        if "GET" in methods:
            methods.add("HEAD")
        return ", ".join(sorted(methods))

    def _walk(self, path: str) -> tuple[_Branch, dict[str, str]]:
        segments = path.split("/")
        if segments[1:3] == ["api", "v1"]:
            del segments[2]
        branch = self._root
        parameters: dict[str, str] = {}
        for segment in segments[1:]:
            following = branch.literals.get(segment)
            if following is None and branch.parameter is not None:
                name, following = branch.parameter
                parameters[name] = _decoded(segment)
            if following is None:
                if branch.subtree_reserved is not None:
                    raise Problem("not_enabled", f"{branch.subtree_reserved} is not enabled in this version")
                raise Problem("not_found", f"there is nothing at {path}")
            branch = following
        if branch.subtree_reserved is not None and not branch.routes:
            raise Problem("not_enabled", f"{branch.subtree_reserved} is not enabled in this version")
        return branch, parameters


def _decoded(segment: str) -> str:
    if "%" not in segment:
        return segment
    try:
        return unquote(segment, errors="strict")
    except UnicodeDecodeError:
        raise Problem("invalid_request", "the path is not percent-encoded UTF-8") from None
