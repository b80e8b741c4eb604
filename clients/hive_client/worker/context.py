"""What a handler sees of its task: input, progress, checkpoints, session, and the sign to stop."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine, Mapping, Sequence
from enum import StrEnum
from typing import Any, Literal, TypeVar

from hive_client.client import Client
from hive_client.errors import Fenced, OutcomeUnknown, StaleAttempt, Unavailable
from hive_client.models.sessions import Appended
from hive_client.models.tasks import Dependency, Grant, Resume
from hive_client.task_waits import OnTimeout
from hive_client.worker.parking import Wait, answered

T = TypeVar("T")

# A thread that waits for the event loop looks this often whether there still is one.
LOOP_CHECK_S = 1.0


class Stop(StrEnum):
    """Why a handler was stopped. After all but ``DRAINED`` nothing the attempt says counts any more."""

    CANCELLED = "cancelled"
    LOST = "lost"
    LEASE_RUN_OUT = "lease_run_out"
    DRAINED = "drained"


class TaskContext:
    """One attempt at one task, for an async handler.

    ``cancelled`` is set when the handler must stop; an async handler is cancelled as well. ``checkpoint`` is what an
    earlier attempt left. ``client`` is bound to the task's project.
    """

    def __init__(
        self, client: Client, grant: Grant, *, agent_id: str, epoch: int, on_fenced: Callable[[], None]
    ) -> None:
        self.client = client
        self.task = grant
        self.agent_id = agent_id
        self.epoch = epoch
        self.cancelled = asyncio.Event()
        self.stop_reason: Stop | None = None
        self.last_checkpoint: Any = grant.checkpoint
        self.last_progress: Mapping[str, Any] | None = None
        self._on_fenced = on_fenced

    @property
    def payload(self) -> Any:
        return self.task.payload

    @property
    def attempt(self) -> int:
        return self.task.attempt

    @property
    def checkpoint(self) -> Any:
        """What an earlier attempt saved last, or None."""
        return self.task.checkpoint

    @property
    def dependencies(self) -> dict[str, Dependency]:
        """The tasks this one waited for, by id, with their results (``omitted`` ones are to be read by ``client``)."""
        return {dependency.task_id: dependency for dependency in self.task.dependencies}

    @property
    def fence(self) -> str:
        """For ``fence=`` of any write: it happens only while this attempt holds the task."""
        return f"task/{self.task.task_id}/{self.task.attempt}"

    async def progress(
        self, fraction: float | None = None, message: str | None = None, *, checkpoint: Any = None
    ) -> None:
        """Report how far it is; a ``checkpoint`` is durable when this returns and is what the next attempt starts from.

        Without a checkpoint a node that cannot be reached is no error: the next heartbeat carries the figures.
        """
        self._still_held()
        if fraction is not None or message is not None:
            self.last_progress = {"fraction": fraction, "message": message}
        if checkpoint is not None:
            self.last_checkpoint = checkpoint
        try:
            await self.client.tasks.progress(
                self.task.task_id,
                agent_id=self.agent_id,
                attempt=self.task.attempt,
                epoch=self.epoch,
                fraction=fraction,
                message=message,
                checkpoint=checkpoint,
            )
        except Fenced:
            self._on_fenced()
            raise
        except (Unavailable, OutcomeUnknown):
            if checkpoint is not None:
                raise

    @property
    def answers(self) -> dict[str, Resume]:
        """The answers to earlier waits of the task, by name; ``task.resume`` is the newest."""
        return {answer.name: answer for answer in self.task.resumes}

    @property
    def note(self) -> str | None:
        """What whoever handed the task back said to whoever takes over."""
        return None if self.task.progress is None else self.task.progress.message

    @property
    def last_message(self) -> str | None:
        """What this attempt said last."""
        return None if self.last_progress is None else self.last_progress["message"]

    async def wait_for(
        self,
        kind: Literal["approval", "event", "time"],
        name: str | None = None,
        *,
        prompt: str | None = None,
        options: Sequence[Any] | None = None,
        assignee: str | None = None,
        checkpoint: Any = None,
        timeout_s: float | None = None,
        on_timeout: OnTimeout | None = None,
    ) -> Resume:
        """The answer to this wait, if the task was resumed with it; otherwise the attempt ENDS here, by ``Wait``.

        The next attempt runs the handler from its beginning, with ``checkpoint``, and gets the answer at this place.
        Give each wait of a handler a ``name`` of its own (default: the kind).
        """
        self._still_held()
        answer = answered(self.task, name or kind)
        if answer is not None:
            return answer
        raise Wait(
            kind,
            name,
            prompt=prompt,
            options=options,
            assignee=assignee,
            checkpoint=checkpoint,
            timeout_s=timeout_s,
            on_timeout=on_timeout,
        )

    async def wait_for_approval(self, name: str | None = None, **wait: Any) -> Resume:
        """``wait_for`` a person; ``prompt``, ``options``, ``assignee`` are for that person."""
        return await self.wait_for("approval", name, **wait)

    async def wait_for_event(self, name: str | None = None, **wait: Any) -> Resume:
        """``wait_for`` an event: whoever sees it calls ``client.tasks.resume``."""
        return await self.wait_for("event", name, **wait)

    async def wait_for_time(self, seconds: float, name: str | None = None, *, checkpoint: Any = None) -> Resume:
        """``wait_for`` a time without a slot; for short ones ``asyncio.sleep`` is cheaper."""
        return await self.wait_for("time", name, timeout_s=seconds, checkpoint=checkpoint)

    async def session_append(
        self,
        type: str,  # noqa: A002 - the API's name
        data: Any = None,
        *,
        session_id: str | None = None,
        **fields: Any,
    ) -> Appended:
        """Append an event to the task's session (or another), fenced by this attempt."""
        self._still_held()
        session = session_id or self.task.session_id
        if session is None:
            raise ValueError("the task has no session_id; give one")
        event = {"actor": self.agent_id, "correlation_id": self.task.task_id, **fields}
        if data is not None:
            event["data"] = data
        try:
            return await self.client.sessions.append(session, type=type, fence=self.fence, **event)
        except Fenced:
            self._on_fenced()
            raise

    def _still_held(self) -> None:
        if self.stop_reason not in {None, Stop.DRAINED}:
            raise StaleAttempt(f"the attempt was stopped: {self.stop_reason}")

    def stop(self, reason: Stop) -> None:
        """Called by the worker; the first reason stays."""
        self.stop_reason = self.stop_reason or reason
        self.cancelled.set()


class SyncTaskContext:
    """The same for a handler that runs in a thread. A thread cannot be stopped from outside: look at ``cancelled``."""

    def __init__(self, context: TaskContext, loop: asyncio.AbstractEventLoop, cancelled: threading.Event) -> None:
        self._context = context
        self._loop = loop
        self.cancelled = cancelled
        self.task = context.task
        self.agent_id = context.agent_id
        self.payload = context.payload
        self.attempt = context.attempt
        self.checkpoint = context.checkpoint
        self.dependencies = context.dependencies
        self.fence = context.fence
        self.answers = context.answers
        self.note = context.note

    @property
    def stop_reason(self) -> Stop | None:
        return self._context.stop_reason

    def progress(self, fraction: float | None = None, message: str | None = None, *, checkpoint: Any = None) -> None:
        """As ``TaskContext.progress``."""
        self._wait(self._context.progress(fraction, message, checkpoint=checkpoint))

    def wait_for(self, kind: Literal["approval", "event", "time"], name: str | None = None, **wait: Any) -> Resume:
        """As ``TaskContext.wait_for``."""
        return self._wait(self._context.wait_for(kind, name, **wait))

    def wait_for_approval(self, name: str | None = None, **wait: Any) -> Resume:
        """As ``TaskContext.wait_for_approval``."""
        return self._wait(self._context.wait_for_approval(name, **wait))

    def wait_for_event(self, name: str | None = None, **wait: Any) -> Resume:
        """As ``TaskContext.wait_for_event``."""
        return self._wait(self._context.wait_for_event(name, **wait))

    def wait_for_time(self, seconds: float, name: str | None = None, *, checkpoint: Any = None) -> Resume:
        """As ``TaskContext.wait_for_time``."""
        return self._wait(self._context.wait_for_time(seconds, name, checkpoint=checkpoint))

    def session_append(
        self,
        type: str,  # noqa: A002 - the API's name
        data: Any = None,
        *,
        session_id: str | None = None,
        **fields: Any,
    ) -> Appended:
        """As ``TaskContext.session_append``."""
        return self._wait(self._context.session_append(type, data, session_id=session_id, **fields))

    def _wait(self, call: Coroutine[Any, Any, T]) -> T:
        future = asyncio.run_coroutine_threadsafe(call, self._loop)
        while True:
            try:
                return future.result(timeout=LOOP_CHECK_S)
            except TimeoutError:
                if future.done():
                    raise
                if self._loop.is_closed():
                    raise StaleAttempt("the worker has ended") from None
