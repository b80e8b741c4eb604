"""Agents that fight over one named task: claims, releases and completions under old and new attempts."""

from __future__ import annotations

from typing import Any

from tests.nemesis.client import STRONG, Ask, Client, Document
from tests.nemesis.history import OK, REFUSED, UNKNOWN
from tests.nemesis.keys import Keys

REST_S = 0.04
LEASE_MS = 1_200
SLOTS = 1_000
QUEUE = "duels"
SIGN_OF_LIFE_EVERY = 40
LEAVE_TRIES_MAX = 3


def create_duel(key: str) -> Ask:
    """A task that survives many lost leases."""
    body = {
        "task_id": key, "queue": QUEUE, "lease_ms": LEASE_MS, "max_attempts": 1_000,
        "backoff": {"initial_ms": 0, "max_ms": 0},
    }  # fmt: skip
    return Ask("POST", "/api/tasks", body, keyed=True)


async def register(client: Client, agent_id: str) -> int:
    """The agent's epoch, sooner or later; 0 when the run stopped before."""
    body = {"agent_id": agent_id, "instance_id": agent_id, "max_concurrent": SLOTS}
    while not client.stopping:
        op = await client.perform(
            "register", "", {}, Ask("POST", "/api/agents", body, keyed=True), lambda shown: {"epoch": shown["epoch"]}
        )
        if op.outcome == OK:
            return int(op.value["epoch"])
    return 0


async def sign_of_life(client: Client, agent_id: str, epoch: int) -> None:
    """A heartbeat. Without one for long, an agent is offline and may claim nothing."""
    await client.attempt(Ask("POST", f"/api/agents/{agent_id}/heartbeat", {"epoch": epoch}), None)


async def leave(client: Client, agent_id: str) -> None:
    """No such agent any more; what it holds is taken back at once, and nothing changes by itself later."""
    for _ in range(LEAVE_TRIES_MAX):
        op = await client.perform("leave", "", {}, Ask("DELETE", f"/api/agents/{agent_id}", keyed=True))
        if op.outcome in (OK, REFUSED):
            return


def _grant(document: Document) -> Document:
    return {"attempt": document["attempt"]} if "task_id" in document else _refusal(document)


def _refusal(document: Document) -> Document:
    """What a refusal says of the task, if it says anything of it."""
    current = document.get("current") or {}
    if "status" not in current or "attempt" not in current:
        return {}
    return {"status": current["status"], "attempt": current["attempt"], "agent": current.get("agent_id")}


def _task(document: Document) -> Document:
    result: Any = document.get("result") or {}
    shown = {"status": document["status"], "attempt": document["attempt"], "agent": document["agent_id"]}
    return shown | {"token": result.get("token", "")}


def _verb(document: Document) -> Document:
    return {} if "task_id" in document else _refusal(document)


class Duellist:
    """One agent. Remembers what it was granted, and sometimes acts as if it still held it."""

    def __init__(self, client: Client, keys: Keys) -> None:
        self.client = client
        self.keys = keys
        self.granted: dict[str, list[int]] = {}
        self._epoch = 0

    async def run(self) -> None:
        """Fight until the run stops."""
        client = self.client
        self._epoch = await register(client, client.name)
        count = 0
        while not client.stopping:
            count += 1
            if count % SIGN_OF_LIFE_EVERY == 0:
                await sign_of_life(client, client.name, self._epoch)
            key = self.keys.use()
            attempts = self.granted.setdefault(key, [])
            chance = client.rng.random()
            if chance < 0.25:
                await self._read(key)
            elif chance < 0.6 or not attempts:
                await self._claim(key, attempts)
            elif chance < 0.9:
                await self._release(key, attempts)
            else:
                await self._complete(key, attempts)
            await client.rest(REST_S)
        await leave(client, client.name)

    async def _read(self, key: str) -> None:
        op = await self.client.perform("read", key, {}, Ask("GET", f"/api/tasks/{key}", query=STRONG), _task)
        if op.value.get("status") == "completed":
            self.keys.finish(key)

    async def _claim(self, key: str, attempts: list[int]) -> None:
        body = {"agent_id": self.client.name, "epoch": self._epoch}
        ask = Ask("POST", f"/api/tasks/{key}/claim", body, keyed=self.client.rng.random() < 0.5)
        op = await self.client.perform("claim", key, {"agent": self.client.name}, ask, _grant)
        if op.outcome == OK:
            attempts.append(op.value["attempt"])
        elif op.code == "agent_unavailable":
            await sign_of_life(self.client, self.client.name, self._epoch)

    async def _release(self, key: str, attempts: list[int]) -> None:
        """Each attempt only once: a repeat of what was won is answered again, and would look like a second one."""
        attempt = attempts.pop(self.client.rng.randrange(len(attempts)))
        await self._speak("release", key, attempt, {})

    async def _complete(self, key: str, attempts: list[int]) -> None:
        attempt = self.client.rng.choice(attempts)
        token = self.client.unique()
        op = await self._speak("complete", key, attempt, {"token": token})
        if op.outcome in (OK, UNKNOWN):
            attempts.clear()  # a second try with another token would be answered with the first one's success
            self.keys.finish(key)

    async def _speak(self, verb: str, key: str, attempt: int, result: Document) -> Any:
        body: Document = {"agent_id": self.client.name, "attempt": attempt}
        if result:
            body["result"] = result
        ask = Ask("POST", f"/api/tasks/{key}/{verb}", body, keyed=self.client.rng.random() < 0.5)
        args = {"agent": self.client.name, "attempt": attempt} | result
        return await self.client.perform(verb, key, args, ask, _verb)
