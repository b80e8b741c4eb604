"""The one path of a request: from bytes on a connection, through parsing and its handler, to a reply."""

from __future__ import annotations

import asyncio
import itertools
import logging
import time
from time import monotonic
from typing import Any

from node.api import problem, reads
from node.api.context import Api
from node.api.in_service import check_in_service
from node.api.problem import REPLICA_ERRORS, Problem, from_replica, too_large
from node.api.query import ReadQuery, WriteQuery
from node.api.reply import Answer, Heads, Reply
from node.api.request import Request, choose_project, is_request_id
from node.api.route import Route, Router
from node.api.traffic import RouteTraffic
from node.api.wakeups import DisconnectedError
from node.http.connection import Connection
from node.http.message import BodyBrokenError, BodyTooLongError, HttpMessage
from node.http.reply import WireReply
from node.http.server import HttpServer

BODY_TIMEOUT_S = 30.0
"""How long a client may take to send its body."""

_WITHOUT_BODY = frozenset({"GET", "HEAD", "OPTIONS"})

log = logging.getLogger("hive.api")


class App:
    """Answers requests of all connections."""

    def __init__(self, api: Api, router: Router) -> None:
        self.api = api
        self.router = router
        api.routes = router.routes
        self.heads = Heads(api.replica)
        self._traffic: dict[Route, RouteTraffic] = {}
        self._unrouted = api.traffic.route("", "unknown")
        for route in router.routes:
            traffic = api.traffic.route(route.method, route.path, waits=route.waits)
            self._traffic[route] = traffic
        self._request_prefix = api.replica.run_id[:8]
        self._numbers = itertools.count(1)

    async def handle(self, connection: Connection, http: HttpMessage) -> WireReply | None:
        """Answer one request; None when a stream has answered it. Never raises for what a request can do."""
        started_s = time.perf_counter()
        target = http.target
        if not target.startswith("/"):
            target = _origin_form(target)
        path, _, query_string = target.partition("?")
        request_id = http.headers.get("hive-request-id")
        if request_id is None or not is_request_id(request_id):
            request_id = f"{self._request_prefix}-{next(self._numbers):x}"
        request: Request[Any, Any] = Request(
            self.api, connection, http, path, query_string, request_id
        )
        traffic = self._unrouted
        try:
            if not target.isascii():
                request.path = target.encode("ascii", "backslashreplace").decode()
                raise Problem("invalid_request", "the target of a request is ASCII; percent-encode the rest")
            if request.method == "OPTIONS":
                reply: Answer = Reply(b"", 200, (("Allow", self.router.allowed_at(path)),))
            else:
                route, request.parameters = self.router.find(request.method, path)
                traffic = self._traffic[route]
                request.route = route
                reply = await self._answer(request, route)
        except Problem as error:
            reply = self._refusal(request, error)
        except REPLICA_ERRORS as error:
            reply = self._refusal(request, from_replica(error))
        except DisconnectedError:
            raise ConnectionResetError("the client has gone") from None
        except ConnectionError:
            raise
        except RecursionError:
            reply = self._refusal(request, Problem("invalid_request", "the JSON is nested too deeply"))
        except Exception:  # the outermost edge: a defect becomes a 500 and a line in the log
            log.exception("request failed", extra={"request_id": request_id, "path": path})
            reply = self._refusal(request, Problem("internal", "the node met a defect while it answered"))
        traffic.observe(200 if reply is None else reply.status, time.perf_counter() - started_s)
        return None if reply is None else self._finish(request, reply)

    async def _answer(self, request: Request[Any, Any], route: Route) -> Answer:
        """Parse by the route's row, wait for the freshness that is asked, hand over to the handler."""
        query = request.query = route.query_parser.parse(request.query_string)
        if not route.plain:
            header = request.header("Hive-Project")
            if header is not None or query.project is not None:
                request.project = choose_project(header, query.project)
            if self.api.closing:
                raise Problem("shutting_down", "this node is stopping; ask another one")
            check_in_service(self.api.replica, route.path)
        if request.method in _WITHOUT_BODY:
            if isinstance(query, ReadQuery):
                await reads.prepare(request, query)
            return await route.handler(request)
        request.raw = await read_body(request.connection, request.http, route)
        request.body, request.warnings = route.body_parser.parse(request.raw)
        if isinstance(query, WriteQuery):
            request.deadline_s = monotonic() + query.timeout_ms / 1_000
        return await route.handler(request)

    def _refusal(self, request: Request[Any, Any], error: Problem) -> Reply:
        self.api.traffic.error(error.code)
        if error.revision is not None:
            request.revision = error.revision
        headers = error.headers
        if error.retry_after_ms is not None:
            headers = (*headers, ("Retry-After", str(-(-error.retry_after_ms // 1_000))))
        return Reply(problem.encode(error, request.path), error.kind.status, headers, problem.CONTENT_TYPE)

    def _finish(self, request: Request[Any, Any], reply: Reply) -> WireReply:
        revision = self.api.replica.revision if request.revision is None else request.revision
        head = self.heads.head(reply, request.request_id, revision, request.consistency)
        if self.api.closing:
            request.http.keep_alive = False
        return WireReply(reply.status, head, reply.body)

    def malformed(self, detail: str) -> WireReply:
        """The answer to bytes that are no request."""
        body = problem.encode(Problem("invalid_request", f"this is not HTTP: {detail}"), "/")
        request_id = f"{self._request_prefix}-{next(self._numbers):x}"
        head = self.heads.head(
            Reply(body, 400, (), problem.CONTENT_TYPE), request_id, self.api.replica.revision, "stale"
        )
        return WireReply(400, head, body)


def _origin_form(target: str) -> str:
    """`http://host/path` (a proxy's form) as `/path`."""
    _, _, rest = target.partition("://")
    slash = rest.find("/")
    return rest[slash:] if slash >= 0 else "/"


async def read_body(connection: Connection, http: HttpMessage, route: Route) -> bytes:
    """The body as sent, within the route's limit. Raises Problem."""
    headers = http.headers
    if "origin" in headers and (http.method == "POST" or http.has_body):
        _check_content_type(headers.get("content-type", ""))
    if not http.has_body:
        return b""
    if "content-encoding" in headers and headers["content-encoding"].lower() != "identity":
        raise Problem("unsupported_media_type", "compressed bodies are not read; send it as it is")
    if http.content_length > route.bytes_max:
        raise too_large(route.limit_name, route.bytes_max)
    if "expect" in headers:
        _continue(connection, http)
    try:
        if http.complete:
            return await http.read(route.bytes_max)
        async with asyncio.timeout(BODY_TIMEOUT_S):
            return await http.read(route.bytes_max)
    except BodyTooLongError:
        raise too_large(route.limit_name, route.bytes_max) from None
    except TimeoutError:
        raise Problem("invalid_request", f"the body did not arrive within {BODY_TIMEOUT_S} s") from None
    except BodyBrokenError as error:
        raise Problem("invalid_request", f"the body is broken: {error}") from None


def _continue(connection: Connection, http: HttpMessage) -> None:
    if http.headers["expect"].lower() != "100-continue":
        raise Problem("invalid_request", "Expect may only be 100-continue")
    if http.minor_version > 0 and connection.transport is not None:
        connection.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")


def _check_content_type(value: str) -> None:
    if value.partition(";")[0].strip().lower() != "application/json":
        raise Problem("unsupported_media_type", "a request with an Origin header needs Content-Type: application/json")


class Server(HttpServer):
    """The API on one listening socket."""

    def __init__(self, app: App) -> None:
        super().__init__(app.handle, app.malformed)
        self._api = app.api

    def stop_accepting(self) -> None:
        """Take no more connections, end long-polls; what is under way goes on."""
        self._api.close()
        super().stop_accepting()
