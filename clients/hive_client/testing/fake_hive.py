"""``FakeHive``: a cluster of one in the test's own process, in memory, with a clock that the test moves."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

from hive_client.client import Client
from hive_client.clock import Clock, SystemClock
from hive_client.models.tasks import Task
from hive_client.testing.exchange import BODY_BYTES_MAX, Answer, Asked, take_apart
from hive_client.testing.faults import FaultKind, Faults
from hive_client.testing.feed import FeedStream
from hive_client.testing.problems import Problem
from hive_client.testing.routes import Routes
from hive_client.testing.verbs import check_fence
from hive_client.testing.world import World
from hive_client.wire import Cut, NotSent, Reply, Request, Stream

_UNREMEMBERED = frozenset({400, 401, 403, 413, 429, 503, 504})


@dataclass(frozen=True)
class Seen:
    """One request that arrived."""

    method: str
    path: str
    key: str | None
    status: int


class FakeHive:
    """States, attempts, fencing, leases, offers, dependencies, retries, idempotency and changes as API.md has them.

    Use ``fake.client()`` (no sockets), or ``async with FakeHive() as fake`` and ``Client(fake.url)`` for real HTTP on a
    loopback port. With a ``ManualClock`` no time passes but what the test gives. ``faults`` breaks requests;
    ``requests`` lists those that arrived. It is one node: there is no leader to lose and nothing survives it.
    """

    def __init__(self, clock: Clock | None = None) -> None:
        self.clock = clock or SystemClock()
        self.world = World(self.clock)
        self._routes = Routes(self.world)
        self._remembered: dict[tuple[str, str], tuple[tuple[str, str, bytes], asyncio.Future[Answer]]] = {}
        self.faults = Faults()
        self.requests: list[Seen] = []
        self.url = "http://fake.invalid"
        self._server: Any = None
        self._streams: set[FakeStream] = set()

    def client(self, **options: Any) -> Client:
        """A client that calls this fake directly."""
        options.setdefault("clock", self.clock)
        return Client([self.url], wire=FakeWire([self]), **options)

    def task(self, task_id: str, project: str = "default") -> Task:
        """What the fake holds now, without a request."""
        self.world.tick()
        return Task.from_json(self._routes.queue.get(project, task_id).document(self.world))

    def tasks(self, project: str = "default") -> list[Task]:
        self.world.tick()
        return [Task.from_json(t.document(self.world)) for t in self._routes.queue.in_project(project)]

    def forget_agent(self, agent_id: str) -> None:
        """As if an operator had deleted it."""
        self._routes.roster.remove("default", agent_id)

    def compact(self, before: int) -> None:
        """Forget the changes below ``before``."""
        self._routes.feed.compact(before)

    def break_streams(self) -> None:
        """Cut every open watch."""
        for stream in list(self._streams):
            stream.cut()

    async def exchange(self, method: str, target: str, headers: Mapping[str, str], body: bytes | None) -> Reply:
        """One request, one reply. Raises ``NotSent`` or ``Cut`` where a fault says so."""
        path = urlsplit(target).path
        if self.faults.down:
            raise NotSent("the fake is down")
        fault = self.faults.next(path)
        if fault is not None and fault.kind is FaultKind.LOSE_REQUEST:
            raise Cut("the request was lost")
        asked = take_apart(method, target, headers, body)
        if fault is not None and fault.kind is FaultKind.REFUSE:
            problem = Problem(fault.code, "refused on demand", **(fault.extra or {}))
            answer = Answer(problem.status, problem.document)
        else:
            answer = await self._answer(asked)
        self.requests.append(Seen(method, path, asked.key, answer.status))
        if fault is not None and fault.kind is FaultKind.LOSE_REPLY:
            raise Cut("the reply was lost")
        return Reply(answer.status, {**self._headers(asked), **answer.headers}, answer.body(), self.url)

    async def _answer(self, asked: Asked) -> Answer:
        self.world.tick()
        if asked.key is None or asked.method == "GET":
            return await self._fresh(asked)
        digest = (asked.method, asked.target, asked.body)
        place = (asked.project, asked.key)
        if place in self._remembered:
            first, pending = self._remembered[place]
            if first != digest:
                problem = Problem("idempotency_key_reused", "the key belongs to another request")
                return Answer(problem.status, problem.document)
            answer = await asyncio.shield(pending)
            return Answer(answer.status, answer.document, {**answer.headers, "Idempotency-Replayed": "true"})
        future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._remembered[place] = (digest, future)
        try:
            answer = await self._fresh(asked)
        except BaseException:
            del self._remembered[place]
            future.cancel()
            raise
        future.set_result(answer)
        if answer.status in _UNREMEMBERED:
            del self._remembered[place]
        return answer

    async def _fresh(self, asked: Asked) -> Answer:
        try:
            if len(asked.body) > BODY_BYTES_MAX:
                raise Problem("too_large", "the body", limit_name="request_bytes_max", limit_bytes=BODY_BYTES_MAX)
            if (fence := asked.headers.get("hive-fence")) is not None:
                check_fence(self._routes.queue, self._routes.roster, asked.project, fence)
            if (asked.number("min_revision") or 0) > self.world.revision:
                raise Problem("too_stale", f"this node is at revision {self.world.revision}")
            return await self._routes.answer(asked)
        except Problem as problem:
            return Answer(problem.status, problem.document, {"Content-Type": "application/problem+json"})

    def _headers(self, asked: Asked) -> dict[str, str]:
        return {
            "Content-Type": "application/json",
            "Hive-Revision": str(self.world.revision),
            "Hive-Cluster": self.world.cluster_id,
            "Hive-Group": "0",
            "Hive-Node": "fake",
            "Hive-Run": "1",
            "Hive-Leader": "fake",
            "Hive-Lag-Ms": "0",
            "Hive-Consistency": asked.query.get("consistency", "stale"),
            "Hive-Request-Id": asked.headers.get("hive-request-id", ""),
        }

    def open_watch(self, target: str, headers: Mapping[str, str]) -> FakeStream:
        """A change stream; one that is refused has the problem as its only line."""
        if self.faults.down:
            raise NotSent("the fake is down")
        asked = take_apart("GET", target, headers, None)
        try:
            feed = self._routes.feed.stream(asked)
        except Problem as problem:
            return FakeStream(self, problem.status, self._headers(asked), None, Answer(0, problem.document).body())
        stream = FakeStream(self, 200, self._headers(asked), feed)
        self._streams.add(stream)
        return stream

    def closed(self, stream: FakeStream) -> None:
        self._streams.discard(stream)

    async def __aenter__(self) -> Self:
        from hive_client.testing.http_server import LoopbackServer

        self._server = LoopbackServer(self)
        self.url = await self._server.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.break_streams()
        await self._server.stop()


class FakeStream:
    """``Stream`` over the fake's feed."""

    def __init__(
        self,
        fake: FakeHive,
        status: int,
        headers: Mapping[str, str],
        feed: FeedStream | None,
        only: bytes | None = None,
    ) -> None:
        self._fake = fake
        self._feed = feed
        self._only = only
        self.status = status
        self.headers = headers
        self.endpoint = fake.url

    async def line(self) -> bytes | None:
        if self._feed is not None:
            return await self._feed.line()
        line, self._only = self._only, None
        return line

    def cut(self) -> None:
        if self._feed is not None:
            self._feed.cut()

    def close(self) -> None:
        self._fake.closed(self)


class FakeWire:
    """A ``Wire`` to fakes in the same process: no sockets, no bytes on any network."""

    def __init__(self, fakes: list[FakeHive]) -> None:
        self._fakes = {fake.url: fake for fake in fakes}

    async def send(self, endpoint: str, request: Request, timeout_s: float) -> Reply:
        fake = self._fakes[endpoint]
        reply = await fake.exchange(request.method, request.target, request.headers, request.body)
        return Reply(reply.status, reply.headers, reply.body, endpoint)

    async def open_stream(self, endpoint: str, request: Request, silence_s: float) -> Stream:
        return self._fakes[endpoint].open_watch(request.target, request.headers)

    async def close(self) -> None:
        """Nothing is open."""
