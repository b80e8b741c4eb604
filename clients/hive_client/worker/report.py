"""Tells the server how an attempt ended, until it has understood: one key per report, so it counts once."""

from __future__ import annotations

import logging

from hive_client.client import Client
from hive_client.errors import Fenced, HiveError, OutcomeUnknown, Refused, Unavailable
from hive_client.idempotency import uuid7
from hive_client.models.tasks import Grant
from hive_client.worker.handlers import Completion
from hive_client.worker.outcome import MESSAGE_CHARS_MAX, Failed
from hive_client.worker.parking import Wait

_log = logging.getLogger("hive_client.worker")

RETRY_PAUSE_S = 0.5


class Report:
    """The verbs that end one attempt. Runs for as long as it is let: the lease's watchdog cancels it."""

    def __init__(self, client: Client, grant: Grant, agent_id: str, epoch: int) -> None:
        self._client = client
        self._grant = grant
        self._agent_id = agent_id
        self._epoch = epoch

    async def ended(self, outcome: Completion | Failed | Wait) -> None:
        """Complete, fail or park. What is refused (too large, an unknown session) becomes a failure that says so."""
        try:
            await self._until_decided(outcome)
        except Fenced as error:
            _log.warning("task %s attempt %d: its end came too late: %s", *self._name, error)
        except Refused as error:
            if isinstance(outcome, Failed):
                _log.error("task %s attempt %d: the failure was refused: %s", *self._name, error)
                return
            _log.error("task %s attempt %d: the result was refused: %s", *self._name, error)
            text = f"the result was refused: {error}"[:MESSAGE_CHARS_MAX]
            await self.ended(Failed("error", text, retryable=False))

    async def _until_decided(self, outcome: Completion | Failed | Wait) -> None:
        key = uuid7()
        while True:
            try:
                return await self._send(outcome, key)
            except (Unavailable, OutcomeUnknown) as error:
                if error.retry == "no":
                    raise Refused(str(error), code=error.code, status=error.status) from error
                await self._client.clock.sleep(RETRY_PAUSE_S)

    async def _send(self, outcome: Completion | Failed | Wait, key: str) -> None:
        tasks, task_id, attempt = self._client.tasks, self._grant.task_id, self._grant.attempt
        if isinstance(outcome, Completion):
            await tasks.complete(
                task_id,
                agent_id=self._agent_id,
                attempt=attempt,
                epoch=self._epoch,
                result=outcome.result,
                artifacts=outcome.artifacts,
                usage=outcome.usage,
                tasks=outcome.tasks,
                events=outcome.events,
                idempotency_key=key,
            )
        elif isinstance(outcome, Wait):
            await tasks.park(
                task_id,
                agent_id=self._agent_id,
                attempt=attempt,
                epoch=self._epoch,
                wait_for=outcome.wait_for,
                checkpoint=outcome.checkpoint,
                timeout_ms=outcome.timeout_ms,
                on_timeout=outcome.on_timeout,
                usage=outcome.usage,
                idempotency_key=key,
            )
        else:
            await tasks.fail(
                task_id,
                agent_id=self._agent_id,
                attempt=attempt,
                epoch=self._epoch,
                reason=outcome.reason,
                message=outcome.message,
                retryable=outcome.retryable,
                idempotency_key=key,
            )

    async def handed_back(self, checkpoint: object = None, message: str | None = None) -> None:
        """Decline, hand back or confirm a cancel. Best effort: what is not handed back ends with its lease."""
        try:
            await self._client.tasks.release(
                self._grant.task_id,
                agent_id=self._agent_id,
                attempt=self._grant.attempt,
                epoch=self._epoch,
                checkpoint=checkpoint,
                message=message,
                timeout_s=10.0,
            )
        except HiveError as error:
            _log.info("task %s attempt %d: not handed back: %s", *self._name, error)

    @property
    def _name(self) -> tuple[str, int]:
        return self._grant.task_id, self._grant.attempt
