"""What agents say of tasks, in the fake: claim, accept, renew, progress, complete, fail, release; and heartbeats."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from hive_client.testing.problems import Problem
from hive_client.testing.queue import AVOID_S, HELD, TaskQueue, check_held
from hive_client.testing.roster import HEARTBEAT_INTERVAL_MS, AgentState, Roster
from hive_client.testing.sessions import SessionLog
from hive_client.testing.task_state import TaskState, stale
from hive_client.testing.waits import Waits
from hive_client.testing.world import World

Body = Mapping[str, Any]


class Verbs:
    """What agents do with tasks."""

    def __init__(self, world: World, queue: TaskQueue, roster: Roster, sessions: SessionLog) -> None:
        self._world = world
        self._queue = queue
        self._roster = roster
        self._sessions = sessions
        waits = Waits(world, queue)
        self.by_name: dict[str, Callable[[TaskState, Body], dict[str, Any]]] = {
            "accept": self.accept,
            "renew": self.renew,
            "progress": self.progress,
            "complete": self.complete,
            "fail": self.fail,
            "release": self.release,
            "wait": waits.wait,
            "resume": waits.resume,
        }

    def run(self, verb: str, project: str, task_id: str, body: Body) -> dict[str, Any]:
        """One verb on one task under the fencing rule."""
        task = self._queue.get(project, task_id)
        if "epoch" in body:
            self._roster.checked(str(body.get("agent_id")), body["epoch"])
        return self.by_name[verb](task, body)

    def run_batch(self, verb: str, project: str, body: Body) -> list[dict[str, Any]]:
        answers = []
        for item in body["items"]:
            try:
                task_id = str(item.get("task_id"))
                shown = self.run(verb, project, task_id, {"agent_id": body.get("agent_id"), **item})
                answers.append({"status": 200, "id": task_id, "body": shown})
            except Problem as problem:
                answers.append({"status": problem.status, "id": str(item.get("task_id")), "body": problem.document})
        return answers

    def claim(self, body: Body) -> list[dict[str, Any]] | None:
        """Grants at once up to the free slots; None if there is nothing."""
        agent = self._roster.checked(str(body.get("agent_id")), body.get("epoch"))
        queues = body.get("queues")
        grants: list[dict[str, Any]] = []
        for task in self._queue.waiting_tasks():
            wanted = queues is None or task.fields["queue"] in queues
            if wanted and len(grants) < body.get("limit", 1) and self._queue.fits(task, agent):
                with self._world.write():
                    self._queue.give(task, agent, "running")
                grants.append(self._queue.grant(task))
        return grants or None

    def claim_one(self, project: str, task_id: str, body: Body) -> dict[str, Any]:
        agent = self._roster.checked(str(body.get("agent_id")), body.get("epoch"))
        task = self._queue.get(project, task_id)
        if task.status not in {"pending", "scheduled"}:
            raise Problem("conflict", f"the task is {task.status}", current=task.current())
        check_hindrance(self._queue, task)
        if (why := self._queue.why_not(task, agent)) is not None:
            raise Problem("agent_unavailable", f"the agent cannot take it: {why}")
        with self._world.write():
            self._queue.give(task, agent, "running")
        return self._queue.grant(task)

    def assign(self, project: str, task_id: str, body: Body) -> dict[str, Any]:
        task = self._queue.get(project, task_id)
        agent = self._roster.get(str(body.get("agent_id")))
        if task.status != "pending":
            raise Problem("conflict", f"the task is {task.status}", current=task.current())
        check_hindrance(self._queue, task)
        why = self._queue.why_not(task, agent)
        if why is not None or not agent.poll_open:
            raise Problem("agent_unavailable", why or "no open poll", current={"agent_id": agent.agent_id})
        with self._world.write():
            self._queue.give(task, agent, "assigned")
        return task.document(self._world)

    def accept(self, task: TaskState, body: Body) -> dict[str, Any]:
        check_held(task, body.get("agent_id"), body.get("attempt"))
        if task.status == "assigned":
            with self._world.write():
                self._queue.start(task)
        return self._queue.grant(task)

    def renew(self, task: TaskState, body: Body) -> dict[str, Any]:
        check_held(task, body.get("agent_id"), body.get("attempt"))
        self._extend(task)
        return self._lease(task)

    def progress(self, task: TaskState, body: Body) -> dict[str, Any]:
        check_held(task, body.get("agent_id"), body.get("attempt"))
        self._extend(task)
        said = {name: body[name] for name in ("fraction", "message") if name in body}
        task.progress = {**(task.progress or {}), **said} or None
        if "checkpoint" not in body:
            return self._lease(task)
        with self._world.write():
            task.checkpoint = body["checkpoint"]
            task.revision = self._world.next_revision
            self._world.change("task.progress", task.project, task.task_id, said)
        return {**self._lease(task), "durable": True}

    def complete(self, task: TaskState, body: Body) -> dict[str, Any]:
        if self._won(task, "complete", body):
            return task.document(self._world)
        check_held(task, body.get("agent_id"), body.get("attempt"))
        with self._world.write():
            task.result = body.get("result")
            task.artifacts = list(body.get("artifacts") or ())
            task.usage = body.get("usage")
            self._queue.charged(task, body.get("usage"))
            task.won = ("complete", task.attempt)
            self._queue.judge(task, succeeded=True)
            for follow_up in body.get("tasks") or ():
                self._queue.submit(task.project, follow_up)
            if body.get("events") and task.fields["session_id"]:
                self._sessions.append(task.project, task.fields["session_id"], {"items": body["events"]})
            task.holder = False
            self._queue.freed(task)
            self._queue.move(task, "completed", "task.completed")
        return task.document(self._world)

    def fail(self, task: TaskState, body: Body) -> dict[str, Any]:
        if self._won(task, "fail", body):
            return task.document(self._world)
        check_held(task, body.get("agent_id"), body.get("attempt"))
        with self._world.write():
            task.won = ("fail", task.attempt)
            self._queue.charged(task, body.get("usage"))
            reason, message = str(body.get("reason", "error")), str(body.get("message", ""))
            if reason == "rejected":
                task.avoid_until[str(task.agent_id)] = self._world.now + AVOID_S
            self._queue.end_attempt(task, reason, message, retryable=bool(body.get("retryable", True)))
        return task.document(self._world)

    def release(self, task: TaskState, body: Body) -> dict[str, Any]:
        if self._won(task, "release", body):
            return task.document(self._world)
        agent_id = body.get("agent_id")
        ours = task.holder and task.agent_id == agent_id and task.attempt == body.get("attempt")
        if task.status == "cancelled" and ours:
            self._queue.free(task)
            self._world.wake()
            return task.document(self._world)
        check_held(task, agent_id, body.get("attempt"))
        with self._world.write():
            task.won = ("release", task.attempt)
            if "checkpoint" in body:
                task.checkpoint = body["checkpoint"]
            if "message" in body:
                task.progress = {**(task.progress or {}), "message": body["message"]}
            if task.status == "assigned":
                task.avoid_until[str(agent_id)] = self._world.now + AVOID_S
            self._queue.pending_again(task)
        return task.document(self._world)

    def cancel(self, task: TaskState) -> dict[str, Any]:
        if task.status == "cancelled":
            return task.document(self._world)
        if task.ended:
            raise Problem("conflict", f"the task is {task.status}", current=task.current())
        with self._world.write():
            # The holder keeps its slot until it confirms or its lease ends.
            self._queue.move(task, "cancelled", "task.cancelled")
        return task.document(self._world)

    def retry(self, task: TaskState) -> dict[str, Any]:
        if task.status != "failed":
            raise Problem("conflict", f"the task is {task.status}", current=task.current())
        with self._world.write():
            task.tries, task.failure, task.not_before, task.completed_at = 0, None, None, None
            task.wait = None
            task.resumes = [answer for answer in task.resumes if not answer["kind"]]
            self._queue.pending_again(task)
        return task.document(self._world)

    def retry_many(self, project: str, body: Body) -> dict[str, Any]:
        """Failed tasks that fit, oldest first."""
        fields = {name: body[name] for name in ("queue", "group_id") if body.get(name) is not None}
        failed = [task for task in self._queue.in_project(project) if task.status == "failed"]
        fitting = [
            task
            for task in failed
            if all(task.fields[name] == value for name, value in fields.items())
            and body.get("reason") in {None, (task.failure or {}).get("reason")}
        ]
        chosen = sorted(fitting, key=lambda task: task.order)[: body.get("limit", 1_000)]
        with self._world.write():
            for task in chosen:
                self.retry(task)
        return {"retried": len(chosen), "more": False, "revision": self._world.revision}

    def _won(self, task: TaskState, verb: str, body: Body) -> bool:
        """Whether this attempt said so before: then the answer is the same and nothing happens."""
        return task.won == (verb, body.get("attempt"))

    def _extend(self, task: TaskState) -> None:
        if task.status == "running":
            task.due_at = self._world.now + task.fields["lease_ms"] / 1000

    def _lease(self, task: TaskState) -> dict[str, Any]:
        left_ms = int(((task.due_at or self._world.now) - self._world.now) * 1000)
        return {"task_id": task.task_id, "attempt": task.attempt, "lease_remaining_ms": left_ms, "durable": False}

    # Heartbeats.

    async def heartbeat(self, agent_id: str, body: Body) -> dict[str, Any]:
        agent = self._roster.checked(agent_id, body.get("epoch"))
        agent.metrics = body.get("metrics") or agent.metrics
        agent.poll += 1
        number, wait_s = agent.poll, body.get("wait_ms", 0) / 1000
        running: Sequence[Body] = body.get("running") or ()
        self._world.wake()
        self._renew_listed(agent_id, running)
        agent.poll_open = wait_s > 0
        try:
            answer = await self._world.wait_until(lambda: self._answer(agent, number, running), wait_s)
        finally:
            if agent.poll == number:
                agent.poll_open = False
                agent.last_seen = self._world.now
        if agent.poll != number:
            return self._empty()
        self._renew_listed(agent_id, running)
        return answer or self._reply(agent, running)

    def _answer(self, agent: AgentState, number: int, running: Sequence[Body]) -> dict[str, Any] | None:
        """The reply if there is a reason to answer now, None to go on waiting."""
        if agent.poll != number:
            return self._empty()
        self._roster.checked(agent.agent_id, agent.epoch)
        reply = self._reply(agent, running)
        return reply if reply["offers"] or reply["cancel"] or reply["lost"] or reply["drain"] else None

    def _reply(self, agent: AgentState, running: Sequence[Body]) -> dict[str, Any]:
        held = self._queue.held_by(agent.agent_id)
        cancelled = [t for t in held if t.status == "cancelled"]
        lost = [item for item in running if not any(_is(task, item) for task in held)]
        return {
            **self._empty(),
            "offers": [self._queue.grant(t) for t in held if t.status == "assigned"],
            "held": [{**self._lease(t), "status": t.status, "project": t.project} for t in held if t.status in HELD],
            "cancel": [{**t.named(), "reason": "cancelled"} for t in cancelled],
            "lost": [{"task_id": i.get("task_id"), "attempt": i.get("attempt"), "current": None} for i in lost],
            "drain": agent.draining,
        }

    def _empty(self) -> dict[str, Any]:
        return {
            "offers": [], "held": [], "cancel": [], "lost": [], "drain": False, "inbox": {"unread": 0, "high": 0},
            "heartbeat_interval_ms": HEARTBEAT_INTERVAL_MS, "durable": False,
        }  # fmt: skip

    def _renew_listed(self, agent_id: str, running: Sequence[Body]) -> None:
        for task in self._queue.held_by(agent_id):
            for item in running:
                if _is(task, item):
                    self._extend(task)
                    task.progress = item.get("progress") or task.progress


def _is(task: TaskState, item: Body) -> bool:
    """Whether an item of ``running`` names this attempt."""
    return all(item.get(name, value) == value for name, value in task.named().items())


def check_fence(queue: TaskQueue, roster: Roster, project: str, fence: str) -> None:
    """``Hive-Fence``: nothing happens under what is no longer current."""
    kind, _, rest = fence.partition("/")
    name, _, number = rest.rpartition("/")
    if kind == "task":
        task = queue.get(project, name)
        if task.status not in HELD or str(task.attempt) != number:
            raise stale(task)
    elif kind == "agent":
        if str(roster.get(name).epoch) != number:
            raise Problem("stale_epoch", "the fence is no longer current", current={"epoch": roster.get(name).epoch})
    else:
        raise Problem("invalid_request", "Hive-Fence: task/<id>/<attempt> or agent/<id>/<epoch>")


def check_hindrance(queue: TaskQueue, task: TaskState) -> None:
    """Refuse a grant that the task's queue, concurrency key or locks do not allow."""
    reason = queue.hindrance(task)
    if reason is not None and reason["code"] == "lock_held":
        holders = reason["data"].pop("held_by")
        current = {"why": "lock_held", **reason["data"], "holders": holders, **task.current()}
        raise Problem("lock_held", reason["message"], current=current, holders=holders)
    if reason is not None:
        code = "rate_limited" if reason["code"] == "rate_limit" else "conflict"
        raise Problem(code, reason["message"], current={"why": reason["code"], **reason["data"], **task.current()})
