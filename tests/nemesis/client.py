"""One client of the workload: plain HTTP through a proxy, one call at a time, everything recorded."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import aiohttp
from hive_client import uuid7

from tests.nemesis.history import FAILED, OK, REFUSED, UNKNOWN, History, Misspoken, Op, Seen
from tests.nemesis.pauses import pause

ATTEMPT_TIMEOUT_S = 2.5
RETRY_FOR_S = 8.0
RETRY_PAUSE_S = 0.1
MOVE_ON_P = 0.03
KEY_KEPT_MS = 60_000
"""How long an Idempotency-Key is remembered: much longer than it is repeated, and not for the rest of the run."""
STRONG = {"consistency": "linearizable"}
MADE = "made"
NEVER = ("internal", "invalid_request", "idempotency_key_reused", "method_not_allowed")
"""Codes that no request of this workload deserves."""

Document = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Ask:
    """A request. `keyed`: it carries an Idempotency-Key, and is repeated until its outcome is known."""

    method: str
    path: str
    body: Document | None = None
    query: Mapping[str, str] = field(default_factory=dict)
    keyed: bool = False


@dataclass(frozen=True, slots=True)
class Answer:
    """What came of one attempt. `document` and `revision` only if the node has answered."""

    outcome: str
    code: str = ""
    document: Document = field(default_factory=dict)
    revision: int = 0


@dataclass(frozen=True, slots=True)
class Stage:
    """What all clients of a run share. `endpoints` changes as nodes come and go; clients rest `slowness` times as long
    as they say."""

    history: History
    http: aiohttp.ClientSession
    endpoints: Mapping[str, str]
    stopping: asyncio.Event
    seed: int
    slowness: float = 1.0


def _nothing(_: Document) -> Document:
    return {}


class Client:
    """`name` is unique in the run. Asks one node until that fails, or now and then moves on to another."""

    def __init__(self, name: str, stage: Stage) -> None:
        self.name = name
        self.stage = stage
        self.rng = random.Random(f"{stage.seed}/{name}")
        self.node = self.rng.choice(list(stage.endpoints))
        self._count = 0

    @property
    def stopping(self) -> bool:
        return self.stage.stopping.is_set()

    def unique(self) -> str:
        """A value that nobody else writes."""
        self._count += 1
        return f"{self.name}.{self._count}"

    async def rest(self, seconds: float) -> None:
        """Wait about that long, between two operations."""
        await self.dawdle(seconds * self.stage.slowness)

    async def dawdle(self, seconds: float) -> None:
        """Wait about that long, in the middle of something."""
        await pause(seconds * self.rng.uniform(0.5, 1.5), self.stage.stopping)

    async def perform(
        self, kind: str, key: str, args: Document, ask: Ask, shown: Callable[[Document], Document] = _nothing
    ) -> Op:
        """Ask, again if that is safe and useful, and record. `shown` takes from an answer, good or refused, what the
        checker needs; under `MADE` the revision that this very write made."""
        history = self.stage.history
        if self.rng.random() < MOVE_ON_P:
            self._move_on()
        invoke_s, nodes = history.now_s(), list[str]()
        answer, unclear = await self._insist(ask, nodes)
        op = Op(
            client=self.name, kind=kind, key=key, args=args, invoke_s=invoke_s, return_s=history.now_s(),
            outcome=UNKNOWN if answer.outcome == FAILED and unclear else answer.outcome,
            nodes=nodes, code=answer.code,
        )  # fmt: skip
        if op.outcome in (OK, REFUSED):
            op.value = shown(answer.document)
            op.revision = op.value.pop(MADE, 0) if ask.method != "GET" else answer.revision
        # A claim that found nothing has written nothing.
        history.add(op, is_write=ask.method != "GET" and op.value.get("grants") != [])
        return op

    async def _insist(self, ask: Ask, nodes: list[str]) -> tuple[Answer, bool]:
        """The last answer, and whether an attempt before it may have taken effect. `nodes`: who was asked, is added."""
        key = uuid7() if ask.keyed else None
        give_up_s = self.stage.history.now_s() + RETRY_FOR_S
        unclear = False
        while True:
            nodes.append(self.node)
            answer = await self.attempt(ask, key)
            if answer.outcome in (OK, REFUSED):
                return answer, unclear
            unclear = unclear or answer.outcome == UNKNOWN
            self._move_on()
            if key is None or self.stage.history.now_s() > give_up_s:
                return answer, unclear
            await pause(RETRY_PAUSE_S * self.rng.uniform(0.5, 1.5), asyncio.Event())

    def _move_on(self) -> None:
        self.node = self.rng.choice(list(self.stage.endpoints))

    def go_elsewhere(self) -> str:
        """Take some node, whichever is there now; where it is."""
        self._move_on()
        return self.stage.endpoints[self.node]

    async def attempt(self, ask: Ask, key: str | None) -> Answer:
        """One request to the present node."""
        history, node = self.stage.history, self.node
        if node not in self.stage.endpoints:
            return Answer(FAILED, "no such node any more")
        strong = ask.query.get("consistency") == "linearizable"
        invoke_s = history.now_s()
        try:
            async with self.stage.http.request(
                ask.method,
                self.stage.endpoints[node] + ask.path,
                json=ask.body,
                params=dict(ask.query),
                headers={"Idempotency-Key": key, "Idempotency-Ttl-Ms": str(KEY_KEPT_MS)} if key else {},
                timeout=aiohttp.ClientTimeout(total=ATTEMPT_TIMEOUT_S),
            ) as reply:
                document: Document = json.loads(await reply.read())
                status, headers = reply.status, reply.headers
        except aiohttp.ClientConnectorError:
            return Answer(FAILED, "no connection")
        except (aiohttp.ClientError, TimeoutError, ValueError) as error:
            return Answer(UNKNOWN, type(error).__name__)
        revision = int(headers.get("Hive-Revision", "0"))
        good = status < 300
        if good and strong and headers.get("Hive-Consistency") != "linearizable":
            self._misspoken(node, invoke_s, f"{ask.method} {ask.path}: asked linearizable, got {dict(headers)}")
        if headers.get("Hive-Node") != node:
            self._misspoken(node, invoke_s, f"asked {node}, answered {headers.get('Hive-Node')}")
        seen = Seen(node, headers.get("Hive-Run", ""), revision, invoke_s, history.now_s(), good and strong)
        seen.replayed = "Idempotency-Replayed" in headers
        seen.ask, seen.status = f"{ask.method} {ask.path} {status}", status
        history.seen.append(seen)
        if good:
            return Answer(OK, "", document, revision)
        code = str(document.get("code"))
        if code in NEVER:
            self._misspoken(node, invoke_s, f"{ask.method} {ask.path} {ask.body}: {status} {document}")
        outcome = {"safe": FAILED, "same_key": UNKNOWN}.get(str(document.get("retry")), REFUSED)
        return Answer(outcome, code, document, revision)

    def _misspoken(self, node: str, begin_s: float, text: str) -> None:
        history = self.stage.history
        history.misspoken.append(Misspoken(node, f"{node}: {text}", begin_s, history.now_s()))
