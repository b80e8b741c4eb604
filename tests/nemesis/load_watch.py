"""Followers of all changes: one in pages, one as a stream, from the first revision, on whatever node answers."""

from __future__ import annotations

import json

import aiohttp

from tests.nemesis.client import Ask, Client, Document
from tests.nemesis.history import OK, Page

WAIT_MS = 800
REST_S = 0.05
PAGES_BEFORE_MOVING = 20
SILENT_S = 3.0
FEED = {"data": "none"}


def messages_of(items: list[Document]) -> list[tuple[int, list[str]]]:
    """Messages as they are compared: (revision, what changed)."""
    return [
        (item["revision"], [f"{one['id']} {one['type']} {one['resource_id']}" for one in item["changes"]])
        for item in items
    ]


async def follow_pages(client: Client) -> None:
    """`GET /api/changes` again and again."""
    next_revision = 1
    while not client.stopping:
        query = FEED | {"from_revision": str(next_revision), "wait_ms": str(WAIT_MS), "limit": "500"}
        begin_s = client.stage.history.now_s()
        answer = await client.attempt(Ask("GET", "/api/changes", query=query), None)
        if answer.outcome == OK:
            after = int(answer.document["next_revision"])
            page = Page(client.name, client.node, next_revision, after, messages_of(answer.document["items"]))
            page.begin_s, page.end_s = begin_s, client.stage.history.now_s()
            client.stage.history.pages.append(page)
            next_revision = after
        if answer.outcome != OK or client.rng.random() < 1 / PAGES_BEFORE_MOVING:
            client.go_elsewhere()
            await client.rest(REST_S)


class Stream:
    """`GET /api/watch`, resumed after the last id wherever the line breaks."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self._last_id = 0
        self._opened_s = 0.0

    async def run(self) -> None:
        """Follow until the run stops."""
        while not self.client.stopping:
            endpoint = self.client.go_elsewhere()
            self._opened_s = self.client.stage.history.now_s()
            try:
                await self._follow(endpoint)
            except (aiohttp.ClientError, TimeoutError, ValueError):
                await self.client.rest(REST_S)

    async def _follow(self, endpoint: str) -> None:
        async with self.client.stage.http.get(
            endpoint + "/api/watch",
            params=FEED,
            headers={"Last-Event-ID": str(self._last_id)},
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=1.0, sock_read=SILENT_S),
        ) as reply:
            fields: dict[str, str] = {}
            while not self.client.stopping and (line := (await reply.content.readline()).decode()):
                name, _, value = line.rstrip("\r\n").partition(": ")
                if name:
                    fields[name] = fields.get(name, "") + value
                else:
                    self._keep(fields)
                    fields = {}

    def _keep(self, fields: dict[str, str]) -> None:
        """Record one whole event. What comes with an id says that everything up to it was sent."""
        if "id" not in fields or "data" not in fields:
            return
        document = json.loads(fields["data"])
        messages = messages_of([document]) if "changes" in document else []
        identity, history = int(fields["id"]), self.client.stage.history
        page = Page(self.client.name, self.client.node, self._last_id + 1, identity + 1, messages)
        page.begin_s, page.end_s = self._opened_s, history.now_s()
        history.pages.append(page)
        self._last_id = identity
