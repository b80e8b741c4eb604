"""Parking and resuming in the fake, and what happens when nothing comes in time."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hive_client.testing.problems import Problem, invalid
from hive_client.testing.queue import TaskQueue, check_held
from hive_client.testing.task_state import TaskState
from hive_client.testing.world import World

Body = Mapping[str, Any]


class Waits:
    """`wait` and `resume`."""

    def __init__(self, world: World, queue: TaskQueue) -> None:
        self._world = world
        self._queue = queue
        queue.wait_over = self._over

    def wait(self, task: TaskState, body: Body) -> dict[str, Any]:
        if task.won == ("wait", body.get("attempt")):
            return task.document(self._world)
        check_held(task, body.get("agent_id"), body.get("attempt"))
        wanted = body.get("for")
        if not isinstance(wanted, Mapping) or wanted.get("kind") not in {"approval", "event", "time"}:
            raise invalid("for.kind", "must be approval, event or time")
        if wanted["kind"] == "time" and "timeout_ms" not in body:
            raise invalid("timeout_ms", "required for a wait of kind time")
        with self._world.write():
            if task.status == "running":
                task.tries -= 1
            task.started_at = task.started_at or self._world.text_time()
            task.checkpoint = body.get("checkpoint", task.checkpoint)
            task.usage = body.get("usage", task.usage)
            task.won = ("wait", task.attempt)
            self._park(task, wanted, body)
        return task.document(self._world)

    def _park(self, task: TaskState, wanted: Body, body: Body) -> None:
        name, timeout_ms = str(wanted.get("name") or wanted["kind"]), body.get("timeout_ms")
        task.wait_until = None if timeout_ms is None else self._world.now + timeout_ms / 1000
        task.wait = {
            "kind": wanted["kind"],
            "name": name,
            "prompt": wanted.get("prompt"),
            "options": wanted.get("options"),
            "assignee": wanted.get("assignee"),
            "since": self._world.text_time(),
            "timeout_at": None if task.wait_until is None else self._world.text_time(task.wait_until),
            "on_timeout": body.get("on_timeout", "resume"),
            "attempt": task.attempt,
            "agent_id": task.agent_id,
        }
        task.resumes = [answer for answer in task.resumes if not (answer["kind"] and answer["name"] == name)]
        self._queue.charged(task, body.get("usage"))
        self._queue.free(task)
        early = next((answer for answer in task.resumes if answer["name"] == name), None)
        self._queue.move(task, "waiting", "task.waiting")
        if early is not None:
            task.resumes.remove(early)
            self._go_on(task, {**early, "kind": wanted["kind"]})

    def resume(self, task: TaskState, body: Body) -> dict[str, Any]:
        wait = task.wait if task.status == "waiting" else None
        name = body.get("name") or (wait["name"] if wait else None)
        if task.ended or name is None:
            raise Problem("conflict", f"the task is {task.status} and waits for nothing", current=task.current())
        answer = {
            "kind": "",
            "name": name,
            "data": body.get("data"),
            "actor": body.get("actor"),
            "at": self._world.text_time(),
            "timed_out": False,
        }
        if wait is not None and wait["name"] == name:
            with self._world.write():
                self._go_on(task, {**answer, "kind": wait["kind"]})
        else:
            self._keep(task, answer)
        return task.document(self._world)

    def _keep(self, task: TaskState, answer: dict[str, Any]) -> None:
        for known in task.resumes:
            if known["name"] != answer["name"] or known["kind"] not in {"", "approval"}:
                continue
            if (known["data"], known["actor"]) == (answer["data"], answer["actor"]) and not known["timed_out"]:
                return
            if known["kind"]:
                raise Problem("conflict", f"{known['name']!r} was answered already", current=task.current())
        with self._world.write():
            task.resumes.append(answer)
            task.revision = self._world.next_revision
            self._world.change("task.updated", task.project, task.task_id, {"fields": ["resumes"]})

    def _go_on(self, task: TaskState, answer: dict[str, Any]) -> None:
        task.resumes = [old for old in task.resumes if not (old["kind"] and old["name"] == answer["name"])]
        task.resumes.append(answer)
        task.wait_until = None
        self._queue.move(task, "pending", "task.resumed")

    def _over(self, task: TaskState) -> None:
        wait = task.wait or {}
        then = wait["on_timeout"]
        if then == "resume":
            answer = {"kind": wait["kind"], "name": wait["name"], "data": None, "actor": None, "timed_out": True}
            return self._go_on(task, {**answer, "at": self._world.text_time()})
        message = f"{wait['kind']} {wait['name']!r} did not come"
        task.failure = {
            "reason": "timeout",
            "message": message,
            "attempt": task.attempt,
            "at": self._world.text_time(),
        }
        status = "failed" if then == "fail" else "cancelled"
        return self._queue.move(task, status, f"task.{status}")
