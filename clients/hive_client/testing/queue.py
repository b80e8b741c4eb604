"""The fake's task queue: states, attempts, leases, dependencies, retries. One thread, so every method is atomic."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from hive_client.idempotency import uuid7
from hive_client.testing import path_locks
from hive_client.testing.problems import Problem, invalid
from hive_client.testing.roster import AgentState, Roster
from hive_client.testing.task_state import TaskState, new_task, stale
from hive_client.testing.world import World

OFFER_MS = 10_000
AVOID_S = 1.0
HELD = frozenset({"assigned", "running"})
NO_VERDICT = frozenset({"rejected", "rate_limited"})


class TaskQueue:
    """All tasks of all projects."""

    def __init__(self, world: World, roster: Roster) -> None:
        self._world = world
        self._roster = roster
        self._tasks: dict[tuple[str, str], TaskState] = {}
        self._order = itertools.count()
        self.hindrance: Callable[[TaskState], dict[str, Any] | None] = lambda _: None
        self.granted: Callable[[TaskState], None] = lambda _: None
        self.taken: Callable[[TaskState], None] = lambda _: None
        self.freed: Callable[[TaskState], None] = lambda _: None
        self.charged: Callable[[TaskState, Mapping[str, Any] | None], None] = lambda _, __: None
        self.agent_is_short: Callable[[str], bool] = lambda _: False
        self.wait_over: Callable[[TaskState], None] = self._settle
        world.timers.append(self.tick)
        roster.requeue = self._requeue

    # Looking.

    def get(self, project: str, task_id: str) -> TaskState:
        task = self._tasks.get((project, task_id))
        if task is None:
            raise Problem("not_found", f"task {task_id} is unknown here at revision {self._world.revision}")
        return task

    def in_project(self, project: str) -> list[TaskState]:
        return [task for (owner, _), task in self._tasks.items() if owner == project]

    def held_by(self, agent_id: str) -> list[TaskState]:
        return [task for task in self._tasks.values() if task.holder and task.agent_id == agent_id]

    def grant(self, task: TaskState) -> dict[str, Any]:
        """The task as the agent gets it."""
        dependencies = [self._tasks[task.project, name] for name in task.fields["depends_on"]]
        resumes = [answer for answer in task.resumes if answer["kind"]]
        left_ms = max(0, int(((task.due_at or 0) - self._world.now) * 1000))
        shown = {
            **task.document(self._world),
            "lease_remaining_ms": left_ms if task.status == "running" else None,
            "dependencies": [
                {"task_id": d.task_id, "status": d.status, "result": d.result, "artifacts": d.artifacts}
                for d in dependencies
            ],
            "checkpoint": task.checkpoint,
            "resume": resumes[-1] if resumes else None,
            "resumes": resumes,
        }
        return {**shown, "offer_expires_in_ms": left_ms} if task.status == "assigned" else shown

    # Submitting.

    def submit(self, project: str, body: Mapping[str, Any], path: str = "") -> tuple[TaskState, bool]:
        """The task and whether it is new."""
        with self._world.write():
            known = self._known(project, body)
            if known is not None:
                return known, False
            task = self._checked(project, body, path)
            self._insert(task)
            return task, True

    def submit_batch(self, project: str, items: Sequence[Mapping[str, Any]], *, atomic: bool) -> list[dict[str, Any]]:
        """An answer for each item, in order; with ``atomic`` the first refusal refuses all."""
        answers: list[dict[str, Any] | None] = [None] * len(items)
        waiting = list(range(len(items)))
        before = dict(self._tasks)
        with self._world.write() if atomic else contextlib.nullcontext():
            while waiting:
                ready = [i for i in waiting if not self._waits_for_others(project, items, i, waiting)]
                for index in ready or waiting[:1]:
                    waiting.remove(index)
                    answers[index] = self._batch_item(project, items[index], index, atomic=atomic, before=before)
        return [answer for answer in answers if answer is not None]

    def _batch_item(
        self,
        project: str,
        body: Mapping[str, Any],
        index: int,
        *,
        atomic: bool,
        before: dict[tuple[str, str], TaskState],
    ) -> dict[str, Any]:
        try:
            task, created = self.submit(project, body, f"items[{index}].")
        except Problem as problem:
            if atomic:
                self._tasks = before
                raise
            return {"status": problem.status, "id": str(body.get("task_id", "")), "body": problem.document}
        return {"status": 201 if created else 200, "id": task.task_id}

    def _waits_for_others(
        self, project: str, items: Sequence[Mapping[str, Any]], index: int, waiting: Sequence[int]
    ) -> bool:
        coming = {items[i].get("task_id") for i in waiting if i != index}
        return any(name in coming for name in items[index].get("depends_on", ()) if (project, name) not in self._tasks)

    def _known(self, project: str, body: Mapping[str, Any]) -> TaskState | None:
        task_id, unique_key = body.get("task_id"), body.get("unique_key")
        task = self._tasks.get((project, str(task_id)))
        if task is not None:
            if task.content != dict(body):
                raise Problem("exists", f"task {task_id} has other content", current=task.document(self._world))
            return task
        if unique_key is None:
            return None
        return next((t for t in self.in_project(project) if t.fields["unique_key"] == unique_key and not t.ended), None)

    def _checked(self, project: str, body: Mapping[str, Any], path: str) -> TaskState:
        task = new_task(self._world, project, str(body.get("task_id") or uuid7()), body, path)
        task.fields["locks"] = path_locks.checked(task.fields["locks"], path)
        for position, name in enumerate(task.fields["depends_on"]):
            if (project, name) not in self._tasks:
                raise invalid(f"{path}depends_on[{position}]", f"unknown task {name}, or a cycle")
        return task

    def _insert(self, task: TaskState) -> None:
        task.order = next(self._order)
        self._tasks[task.project, task.task_id] = task
        self._world.change("task.created", task.project, task.task_id, {"status": task.status})
        self._settle(task)

    # Moving.

    def move(self, task: TaskState, status: str, change: str) -> None:
        before, task.status = task.status, status
        task.revision = self._world.next_revision
        task.updated_at = self._world.text_time()
        line = {"at": task.updated_at, "from": before, "to": status, "attempt": task.attempt}
        task.history.append(line | {"agent_id": task.agent_id, "reason": None})
        self._world.change(change, task.project, task.task_id, task.current() | {"type": task.fields["type"]})
        if task.ended:
            task.completed_at = task.updated_at
            for other in list(self.in_project(task.project)):
                if other.status == "blocked" and task.task_id in other.fields["depends_on"]:
                    self._settle(other)

    def _settle(self, task: TaskState) -> None:
        """Blocked, scheduled or pending: what the task waits for now."""
        states = [self._tasks[task.project, name].status for name in task.fields["depends_on"]]
        policy = task.fields["on_dependency_failure"]
        if policy == "cancel" and any(s in {"failed", "cancelled", "expired"} for s in states):
            task.failure = {"reason": "dependency_failed", "message": "", "attempt": 0, "at": self._world.text_time()}
            return self.move(task, "cancelled", "task.cancelled")
        met = {"completed"} if policy != "run" else {"completed", "failed", "cancelled", "expired"}
        if any(status not in met for status in states):
            return self.move(task, "blocked", "task.blocked")
        if task.not_before is not None and task.not_before > self._world.now:
            return self.move(task, "scheduled", "task.scheduled")
        return self.move(task, "pending", "task.pending")

    def give(self, task: TaskState, agent: AgentState, status: str) -> None:
        """An offer (``assigned``) or a claim (``running``): the attempt grows, older holders are fenced off."""
        self.granted(task)
        task.attempt += 1
        task.agent_id, task.epoch, task.holder = agent.agent_id, agent.epoch, True
        self.taken(task)
        task.granted_at = self._world.text_time()
        if status == "assigned":
            task.due_at = self._world.now + OFFER_MS / 1000
            self.move(task, "assigned", "task.assigned")
        else:
            self.start(task)

    def start(self, task: TaskState) -> None:
        task.tries += 1
        task.wait = None
        task.due_at = self._world.now + task.fields["lease_ms"] / 1000
        limit_ms = task.fields["run_timeout_ms"]
        task.run_until = None if limit_ms is None else self._world.now + limit_ms / 1000
        task.started_at = task.started_at or self._world.text_time()
        self.move(task, "running", "task.started")

    def free(self, task: TaskState) -> None:
        self.freed(task)
        task.holder = False
        task.due_at = task.run_until = None
        if not task.ended:
            task.agent_id = None

    def judge(self, task: TaskState, *, succeeded: bool) -> None:
        """What the attempt that ends says of its agent."""
        names = [need["name"] for need in task.fields["requires"]] or [task.fields["type"]]
        self._roster.taught(task.agent_id, names, succeeded=succeeded)

    def end_attempt(self, task: TaskState, reason: str, message: str, *, retryable: bool, judged: bool = True) -> None:
        """The attempt failed: scheduled again after its back-off, or failed for good."""
        if judged and reason not in NO_VERDICT:
            self.judge(task, succeeded=False)
        task.failure = {"reason": reason, "message": message, "attempt": task.attempt, "at": self._world.text_time()}
        self.free(task)
        if not retryable or task.tries >= task.fields["max_attempts"]:
            return self.move(task, "failed", "task.failed")
        backoff = task.fields["backoff"]
        delay_ms = backoff.get("initial_ms", 1000) * backoff.get("factor", 2) ** max(0, task.tries - 1)
        task.not_before = self._world.now + min(delay_ms, backoff.get("max_ms", 60_000)) / 1000
        return self._settle(task)

    def pending_again(self, task: TaskState) -> None:
        self.free(task)
        self._settle(task)

    def _requeue(self, agent_id: str) -> None:
        for task in self.held_by(agent_id):
            if task.status == "running":
                self.end_attempt(task, "lease_lost", "the agent was registered again", retryable=True, judged=False)
            elif task.status == "assigned":
                self.pending_again(task)
            else:
                self.free(task)

    # Time.

    def tick(self) -> float | None:
        """Run what is due and hand out work; returns the next due time."""
        for task in list(self._tasks.values()):
            if (due := _due(task)) is not None and due <= self._world.now:
                with self._world.write():
                    self._fall_due(task)
        self._hand_out()
        due_times = [due for task in self._tasks.values() if (due := _due(task)) is not None]
        avoided = [at for task in self._tasks.values() for at in task.avoid_until.values() if at > self._world.now]
        return min((*due_times, *avoided), default=None)

    def _fall_due(self, task: TaskState) -> None:
        now = self._world.now
        if task.holder and task.ended:
            self.free(task)
        elif task.run_until is not None and task.run_until <= now:
            self.end_attempt(task, "timeout", "run_timeout_ms is over", retryable=True)
        elif task.status == "running" and task.due_at is not None and task.due_at <= now:
            self.end_attempt(task, "lease_lost", "the lease was not renewed", retryable=True)
        elif task.status == "assigned":
            assert task.agent_id is not None
            task.avoid_until[task.agent_id] = now + AVOID_S
            self.pending_again(task)
        elif task.status == "waiting" and task.wait_until is not None and task.wait_until <= now:
            self.wait_over(task)
        elif task.deadline is not None and task.deadline <= now:
            self.move(task, "expired", "task.expired")
        else:
            self._settle(task)

    def _hand_out(self) -> None:
        for task in self.waiting_tasks():
            former = None if task.wait is None else task.wait["agent_id"]
            fitting = [agent for agent in self._roster.open_polls() if self.fits(task, agent)]
            preferred = [agent for agent in fitting if agent.agent_id == former]
            agent = next(iter(preferred or fitting), None)
            if agent is not None:
                with self._world.write():
                    self.give(task, agent, "assigned")

    def waiting_tasks(self) -> Iterator[TaskState]:
        """Pending ones, most urgent and then oldest first."""
        pending = [task for task in self._tasks.values() if task.status == "pending"]
        return iter(sorted(pending, key=lambda task: (-task.fields["priority"], task.order)))

    def fits(self, task: TaskState, agent: AgentState) -> bool:
        return self.hindrance(task) is None and self.why_not(task, agent) is None

    def why_not(self, task: TaskState, agent: AgentState) -> str | None:
        """The word of ``explain`` for what keeps this agent from this task."""
        if task.project not in agent.projects and "*" not in agent.projects:
            return "project"
        if agent.draining:
            return "draining"
        if not agent.can(task.fields["requires"]):
            return "capability"
        if agent.max_concurrent <= len(self.held_by(agent.agent_id)):
            return "slots"
        if self.agent_is_short(agent.agent_id):
            return "budget"
        return "avoided" if task.avoid_until.get(agent.agent_id, 0) > self._world.now else None


def _due(task: TaskState) -> float | None:
    if task.holder:
        return min((t for t in (task.due_at, task.run_until) if t is not None), default=None)
    if task.ended:
        return None
    times = [task.not_before] if task.status == "scheduled" else []
    times += [task.wait_until] if task.status == "waiting" else []
    return min((t for t in (*times, task.deadline) if t is not None), default=None)


def check_held(task: TaskState, agent_id: Any, attempt: Any) -> None:
    """The fencing rule."""
    if task.status not in HELD or task.agent_id != agent_id or task.attempt != attempt:
        raise stale(task)
