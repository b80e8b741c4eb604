"""Writers of every kind a cluster must keep its word to, working at the same time until they are told to stop."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
from hive_client import Client, NotHappened, OutcomeUnknown, uuid7

from tests.process.ledger import Receipt, Told
from tests.process.running import moment

ATTEMPT_TIMEOUT_S = 8.0
IMPATIENT_S = 0.4

Post = tuple[str, dict[str, Any]]
"""Path and body of a write."""


class HappenedNotError(Exception):
    """The node says, or the missing connection proves, that nothing happened."""


class UnclearError(Exception):
    """The write may have happened or not."""


class RawNodes:
    """Plain HTTP to one node after the other, without any of the client library's care."""

    def __init__(self, http: aiohttp.ClientSession, endpoints: Sequence[str]) -> None:
        self._http = http
        self._endpoints = itertools.cycle(endpoints)
        self._endpoint = next(self._endpoints)

    async def post(self, write: Post, key: str | None = None) -> dict[str, Any]:
        """The body of a 2xx reply. Raises HappenedNotError, UnclearError."""
        path, body = write
        headers = {} if key is None else {"Idempotency-Key": key}
        timeout = aiohttp.ClientTimeout(total=ATTEMPT_TIMEOUT_S, sock_connect=1.0)
        try:
            async with self._http.post(self._endpoint + path, json=body, headers=headers, timeout=timeout) as reply:
                document: dict[str, Any] = await reply.json(content_type=None)
                if reply.status < 300:
                    return document
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as error:
            self._endpoint = next(self._endpoints)
            raise HappenedNotError(str(error)) from error
        except (aiohttp.ClientError, TimeoutError) as error:
            self._endpoint = next(self._endpoints)
            raise UnclearError(str(error)) from error
        assert document["retry"] in ("safe", "same_key"), f"refused for good: {document}"
        raise (HappenedNotError if document["retry"] == "safe" else UnclearError)(document["code"])


class Writers:
    """`events` and `tasks` have what was told. Events go to the session, tasks to the group, of that id."""

    def __init__(self, target_id: str, endpoints: Sequence[str], http: aiohttp.ClientSession) -> None:
        self.events = Told()
        self.tasks = Told()
        self._target_id = target_id
        self._endpoints = list(endpoints)
        self._http = http
        self._stopping = asyncio.Event()

    async def run(self, client: Client, impatient: Client) -> None:
        """All kinds at once; returns when each has done its present write after `stop`."""
        async with asyncio.TaskGroup() as group:
            for number, start in enumerate((0, 1)):
                name = f"patient-{number}"
                group.create_task(self._write(name, lambda label: self._append_by(client, label)))
                turned = self._endpoints[start:] + self._endpoints[:start]
                group.create_task(self._write(f"keyed-{number}", self._keyed_event(RawNodes(self._http, turned))))
            group.create_task(self._write("impatient", lambda label: self._append_once(impatient, label)))
            raw = RawNodes(self._http, self._endpoints)
            group.create_task(self._write("bare", lambda label: self._bare_event(raw, label)))
            group.create_task(self._write("task", lambda label: self._create_by(client, label)))
            rotated = RawNodes(self._http, self._endpoints[::-1])
            group.create_task(self._write("keyed-task", self._keyed_task(rotated)))
            bare = RawNodes(self._http, self._endpoints[::-1])
            group.create_task(self._write("bare-task", lambda label: self._bare_task(bare, label)))

    def stop(self) -> None:
        self._stopping.set()

    async def _write(self, name: str, once: Callable[[str], Awaitable[None]]) -> None:
        for number in itertools.count():
            if self._stopping.is_set():
                return
            await once(f"{name}-{number}")

    # --- through the client library -----------------------------------------------------------------------------------

    async def _append_by(self, client: Client, label: str) -> None:
        """Whatever happens, the same key again until it is acknowledged."""

        async def append(key: str) -> Receipt:
            done = await client.sessions.append(
                self._target_id, type="custom.load", data={"label": label}, idempotency_key=key
            )
            return str(done.first_seq), done.revision

        self.events.acknowledge(label, await self._insist(append))

    async def _create_by(self, client: Client, label: str) -> None:
        async def create(key: str) -> Receipt:
            task = await client.tasks.create(
                group_id=self._target_id, payload={"label": label}, idempotency_key=key
            )
            return task.task_id, task.created_revision

        self.tasks.acknowledge(label, await self._insist(create))

    async def _append_once(self, impatient: Client, label: str) -> None:
        """One call with little time, and its word is taken for it."""
        try:
            done = await impatient.sessions.append(self._target_id, type="custom.load", data={"label": label})
        except OutcomeUnknown:
            self.events.unknown.add(label)
        except NotHappened:
            self.events.not_happened.add(label)
            await moment(self._stopping)
        else:
            self.events.acknowledge(label, (str(done.first_seq), done.revision))

    async def _insist(self, write: Callable[[str], Awaitable[Receipt]]) -> Receipt:
        key = uuid7()
        while True:
            try:
                return await write(key)
            except (OutcomeUnknown, NotHappened) as error:
                assert error.retry in ("safe", "same_key"), error

    # --- plain HTTP ---------------------------------------------------------------------------------------------------

    def _event(self, label: str) -> Post:
        return f"/api/sessions/{self._target_id}/events", {"type": "custom.load", "data": {"label": label}}

    def _task(self, label: str) -> Post:
        return "/api/tasks", {"group_id": self._target_id, "payload": {"label": label}}

    def _keyed_event(self, nodes: RawNodes) -> Callable[[str], Awaitable[None]]:
        async def write(label: str) -> None:
            done = await self._repeat(nodes, self._event(label))
            self.events.acknowledge(label, (str(done["first_seq"]), done["revision"]))

        return write

    def _keyed_task(self, nodes: RawNodes) -> Callable[[str], Awaitable[None]]:
        async def write(label: str) -> None:
            done = await self._repeat(nodes, self._task(label))
            self.tasks.acknowledge(label, (done["task_id"], done["created_revision"]))

        return write

    async def _repeat(self, nodes: RawNodes, write: Post) -> dict[str, Any]:
        key = uuid7()
        while True:
            try:
                return await nodes.post(write, key)
            except (HappenedNotError, UnclearError):
                await moment(asyncio.Event())

    async def _bare_event(self, nodes: RawNodes, label: str) -> None:
        if done := await self._bare(nodes, self._event(label), label, self.events):
            self.events.acknowledge(label, (str(done["first_seq"]), done["revision"]))

    async def _bare_task(self, nodes: RawNodes, label: str) -> None:
        if done := await self._bare(nodes, self._task(label), label, self.tasks):
            self.tasks.acknowledge(label, (done["task_id"], done["created_revision"]))

    async def _bare(self, nodes: RawNodes, write: Post, label: str, told: Told) -> dict[str, Any] | None:
        """Without a key, so only once."""
        try:
            return await nodes.post(write)
        except HappenedNotError:
            told.not_happened.add(label)
        except UnclearError:
            told.unknown.add(label)
        await moment(self._stopping)
        return None


@asynccontextmanager
async def writing(target_id: str, client: Client) -> AsyncIterator[Writers]:
    """Writers at work while the body runs; at its end they finish what they are at."""
    endpoints = client.cluster.endpoints
    async with (
        aiohttp.ClientSession() as http,
        Client(endpoints, timeout_s=IMPATIENT_S) as impatient,
        asyncio.TaskGroup() as group,
    ):
        writers = Writers(target_id, endpoints, http)
        group.create_task(writers.run(client, impatient))
        try:
            yield writers
        finally:
            writers.stop()
