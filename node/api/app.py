"""The one path of a request: from bytes on a connection, through parsing and its handler, to a reply."""

from __future__ import annotations

import asyncio
import itertools
import logging
import socket
import time
from time import monotonic
from typing import Any, cast

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

from node.api import problem, reads
from node.api.connection import Connection, WireReply
from node.api.context import Api
from node.api.problem import REPLICA_ERRORS, Problem, from_replica, too_large
from node.api.query import ReadQuery, WriteQuery
from node.api.reply import Answer, Heads, Reply
from node.api.request import Request, choose_project, is_request_id
from node.api.route import Route, Router
from node.api.traffic import RouteTraffic
from node.api.wakeups import DisconnectedError

BODY_TIMEOUT_S = 30.0
"""How long a client may take to send its body."""

KEEPALIVE_S = 75.0
BACKLOG = 1_024
READ_BUFFER_BYTES = 64 << 10
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

    async def handle(self, http: web.BaseRequest) -> web.StreamResponse:
        """Answer one request. Never raises for what a request can do."""
        started_s = time.perf_counter()
        target = http.raw_path
        if not target.startswith("/"):
            target = _origin_form(target)
        path, _, query_string = target.partition("?")
        request_id = http.headers.get("Hive-Request-Id")
        if request_id is None or not is_request_id(request_id):
            request_id = f"{self._request_prefix}-{next(self._numbers):x}"
        request: Request[Any, Any] = Request(self.api, http, http.method, path, query_string, request_id)
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
        traffic.observe(reply.status, time.perf_counter() - started_s)
        if isinstance(reply, web.StreamResponse):
            return reply
        return self._finish(request, reply).as_response()

    async def _answer(self, request: Request[Any, Any], route: Route) -> Answer:
        """Parse by the route's row, wait for the freshness that is asked, hand over to the handler."""
        query = request.query = route.query_parser.parse(request.query_string)
        if not route.plain:
            header = request.header("Hive-Project")
            if header is not None or query.project is not None:
                request.project = choose_project(header, query.project)
            if self.api.closing:
                raise Problem("shutting_down", "this node is stopping; ask another one")
        if request.method in _WITHOUT_BODY:
            if isinstance(query, ReadQuery):
                await reads.prepare(request, query)
            return await route.handler(request)
        request.raw = await read_body(request.http, route)
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
        wire = WireReply(reply.status, head, reply.body)
        if self.api.closing:
            wire.keep_alive = False
        return wire

    def malformed(self, detail: str) -> WireReply:
        """The answer to bytes that are no request."""
        body = problem.encode(Problem("invalid_request", f"this is not HTTP: {detail.partition(':')[0]}"), "/")
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


async def read_body(http: web.BaseRequest, route: Route) -> bytes:
    """The body as sent, within the route's limit. Raises Problem."""
    headers = http.headers
    if "Origin" in headers and (http.method == "POST" or http.can_read_body):
        _check_content_type(headers.get("Content-Type", ""))
    if not http.can_read_body:
        return b""
    if headers.get("Content-Encoding", "identity").lower() != "identity":
        raise Problem("unsupported_media_type", "compressed bodies are not read; send it as it is")
    if (http.content_length or 0) > route.bytes_max:
        raise too_large(route.limit_name, route.bytes_max)
    if "Expect" in headers:
        _continue(http)
    content = http.content
    if content.is_eof():
        body = content.read_nowait()
    else:
        try:
            async with asyncio.timeout(BODY_TIMEOUT_S):
                body = await _read_all(content, route)
        except TimeoutError:
            raise Problem("invalid_request", f"the body did not arrive within {BODY_TIMEOUT_S} s") from None
        except (HttpProcessingError, web.RequestPayloadError) as error:
            raise Problem("invalid_request", f"the body is broken: {error}") from None
    if len(body) > route.bytes_max:
        raise too_large(route.limit_name, route.bytes_max)
    return body


async def _read_all(content: Any, route: Route) -> bytes:
    parts: list[bytes] = []
    length = 0
    while part := await content.readany():
        parts.append(part)
        length += len(part)
        if length > route.bytes_max:
            raise too_large(route.limit_name, route.bytes_max)
    return b"".join(parts)


def _continue(http: web.BaseRequest) -> None:
    if http.headers["Expect"].lower() != "100-continue":
        raise Problem("invalid_request", "Expect may only be 100-continue")
    if http.version.minor > 0 and http.transport is not None:
        http.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")


def _check_content_type(value: str) -> None:
    if value.partition(";")[0].strip().lower() != "application/json":
        raise Problem("unsupported_media_type", "a request with an Origin header needs Content-Type: application/json")


class _ConnectionServer(web.Server):
    """aiohttp's server with connections of ours."""

    def __init__(self, app: App) -> None:
        super().__init__(app.handle, access_log=None)  # no log of requests
        self._app = app

    def __call__(self) -> Connection:
        return Connection(
            self,
            loop=asyncio.get_running_loop(),
            malformed=self._app.malformed,
            access_log=None,
            keepalive_timeout=KEEPALIVE_S,
            auto_decompress=False,
            read_bufsize=READ_BUFFER_BYTES,
            max_line_size=16_384,
        )


def bind(host: str, port: int) -> socket.socket:
    """A socket bound to the first address of `host`. Raises OSError when the port is taken."""
    family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    bound = socket.socket(family, kind, protocol)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind(address)
    except OSError:
        bound.close()
        raise
    bound.setblocking(False)
    return bound


class Server:
    """The listening socket and its connections."""

    def __init__(self, app: App) -> None:
        self._app = app
        self._connections = _ConnectionServer(app)
        self._listener: asyncio.Server | None = None

    async def start(self, listener: socket.socket) -> int:
        """Serve on a bound socket; returns its port. Raises OSError when another process was quicker."""
        loop = asyncio.get_running_loop()
        factory = cast(Any, self._connections)
        self._listener = await loop.create_server(factory, sock=listener, backlog=BACKLOG)
        return int(listener.getsockname()[1])

    def stop_accepting(self) -> None:
        """Take no more connections, end long-polls; what is under way goes on."""
        if self._listener is not None:
            self._listener.close()
        self._app.api.close()
        self._connections.pre_shutdown()

    async def stop(self, timeout_s: float) -> None:
        """Wait for requests under way, then close every connection."""
        self.stop_accepting()
        await self._connections.shutdown(timeout_s)
        if self._listener is not None:
            await self._listener.wait_closed()
