"""Work that goes through the queue: creators, and agents that claim, dawdle and complete. Every result counts once."""

from __future__ import annotations

from dataclasses import dataclass

from tests.nemesis.client import MADE, Ask, Client, Document
from tests.nemesis.history import OK, UNKNOWN
from tests.nemesis.load_duels import SIGN_OF_LIFE_EVERY, leave, register, sign_of_life

QUEUE = "work"
GROUP = "work"
RESULTS = "results"
"""A session: each completion leaves an event in it, in the same step."""
LEASE_MS = 2_000
CREATE_REST_S = 0.12
WORK_REST_S = 0.08
CLAIM_WAIT_MS = 400
DAWDLE_P = 0.1
DAWDLE_S = 3.5


async def create_tasks(client: Client) -> None:
    """A task now and then, each with a label of its own and a key, insisted on."""
    while not client.stopping:
        label = client.unique()
        body = {
            "queue": QUEUE, "group_id": GROUP, "payload": {"label": label}, "lease_ms": LEASE_MS,
            "max_attempts": 1_000, "backoff": {"initial_ms": 0, "max_ms": 0},
        }  # fmt: skip
        await client.perform(
            "submit", "", {"label": label}, Ask("POST", "/api/tasks", body, keyed=True),
            lambda document: {"task_id": document.get("task_id"), MADE: document.get("created_revision", 0)},
        )  # fmt: skip
        await client.rest(CREATE_REST_S)


@dataclass(frozen=True, slots=True)
class Grant:
    """A task this agent was given."""

    task_id: str
    attempt: int


def _grants(document: Document) -> Document:
    items = document.get("items", [])
    return {"grants": [[item["task_id"], item["attempt"]] for item in items]}


class WorkAgent:
    """Claims what there is and completes it; now and then only after its lease has ended."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self._epoch = 0

    async def run(self) -> None:
        """Work until the run stops."""
        client = self.client
        self._epoch = await register(client, client.name)
        count = 0
        while not client.stopping:
            count += 1
            if count % SIGN_OF_LIFE_EVERY == 0:
                await sign_of_life(client, client.name, self._epoch)
            for grant in await self._claim():
                await client.dawdle(DAWDLE_S if client.rng.random() < DAWDLE_P else WORK_REST_S)
                await self._complete(grant)
        await leave(client, client.name)

    async def _claim(self) -> list[Grant]:
        body = {
            "agent_id": self.client.name, "epoch": self._epoch, "limit": 2, "queues": [QUEUE],
            "wait_ms": CLAIM_WAIT_MS,
        }  # fmt: skip
        ask = Ask("POST", "/api/tasks/claim", body, keyed=self.client.rng.random() < 0.7)
        op = await self.client.perform("take", "", {"agent": self.client.name}, ask, _grants)
        if op.outcome != OK:
            await self.client.rest(WORK_REST_S)
            await sign_of_life(self.client, self.client.name, self._epoch)
            return []
        return [Grant(task_id, attempt) for task_id, attempt in op.value["grants"]]

    async def _complete(self, grant: Grant) -> None:
        token = self.client.unique()
        stamp = {"task_id": grant.task_id, "attempt": grant.attempt, "token": token}
        body: Document = {
            "agent_id": self.client.name, "attempt": grant.attempt, "result": stamp,
            "events": [{"type": "custom.result", "session_id": RESULTS, "data": stamp}],
        }  # fmt: skip
        ask = Ask("POST", f"/api/tasks/{grant.task_id}/complete", body, keyed=self.client.rng.random() < 0.5)
        args = stamp | {"agent": self.client.name}
        op = await self.client.perform("finish", "", args, ask)
        if op.outcome == UNKNOWN and self.client.rng.random() < 0.5:
            # The contract says that this is harmless; the result is the same, so it may win once.
            await self.client.perform("finish", "", args, ask)
