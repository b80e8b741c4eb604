"""The fake's routes for tasks and groups."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from hive_client.models.tasks import ENDED, STARTED
from hive_client.testing.exchange import Answer, Asked, page
from hive_client.testing.problems import Problem, invalid
from hive_client.testing.queue import TaskQueue
from hive_client.testing.roster import Roster
from hive_client.testing.task_state import TaskState
from hive_client.testing.verbs import Verbs
from hive_client.testing.world import World

Handler = Callable[..., Answer | Awaitable[Answer]]
_TASK_FILTERS = ("status", "queue", "type", "agent_id", "session_id", "group_id", "unique_key")


class TaskRoutes:
    """The routes of tasks."""

    def __init__(self, world: World, queue: TaskQueue, roster: Roster, verbs: Verbs) -> None:
        self.world = world
        self.queue = queue
        self.roster = roster
        self.verbs = verbs

    def table(self) -> list[tuple[str, str, Handler]]:
        return [
            ("POST", "/api/tasks", self._create_task),
            ("POST", "/api/tasks/batch", self._create_tasks),
            ("GET", "/api/tasks", self._list_tasks),
            ("GET", "/api/tasks/{}", self._get_task),
            ("PATCH", "/api/tasks/{}", self._patch_task),
            ("DELETE", "/api/tasks/{}", lambda a, t: Answer(200, self.verbs.cancel(self.queue.get(a.project, t)))),
            ("POST", "/api/tasks/claim", self._claim),
            (
                "POST",
                "/api/tasks/{}/claim",
                lambda a, t: Answer(200, self.verbs.claim_one(a.project, t, a.document())),
            ),
            ("PUT", "/api/tasks/{}/assign", lambda a, t: Answer(200, self.verbs.assign(a.project, t, a.document()))),
            ("POST", "/api/tasks/{}/retry", lambda a, t: Answer(200, self.verbs.retry(self.queue.get(a.project, t)))),
            ("POST", "/api/tasks/retry", lambda a: Answer(200, self.verbs.retry_many(a.project, a.document()))),
            ("GET", "/api/tasks/{}/explain", self._explain),
            *(("POST", f"/api/tasks/{{}}/{verb}", self._verb) for verb in self.verbs.by_name),
            *(("POST", f"/api/tasks/{verb}", self._verb_batch) for verb in self.verbs.by_name),
            ("GET", "/api/groups/{}", self._group),
            ("DELETE", "/api/groups/{}", self._cancel_group),
        ]

    def _create_task(self, asked: Asked) -> Answer:
        task, created = self.queue.submit(asked.project, asked.document())
        shown = task.document(self.world)
        return Answer(201 if created else 200, shown, {"Location": f"/api/tasks/{task.task_id}"})

    def _create_tasks(self, asked: Asked) -> Answer:
        body = asked.document()
        items = body.get("items")
        if not isinstance(items, list) or len(items) > 1000:
            raise invalid("items", "must be a list of at most 1000")
        answers = self.queue.submit_batch(asked.project, items, atomic=bool(body.get("atomic")))
        if asked.query.get("return") == "full":
            for answer in answers:
                if answer["status"] < 300:
                    answer["body"] = self.queue.get(asked.project, answer["id"]).document(self.world)
        return Answer(200, {"revision": self.world.revision, "items": answers})

    def _list_tasks(self, asked: Asked) -> Answer:
        documents = [task.document(self.world) for task in self.queue.in_project(asked.project)]
        for name in _TASK_FILTERS:
            if (wanted := asked.values(name)) is not None:
                documents = [d for d in documents if d[name] in wanted]
        if (kinds := asked.values("waiting_for")) is not None:
            documents = [
                d for d in documents if d["waiting"] and {d["waiting"]["kind"], d["waiting"]["name"]} & set(kinds)
            ]
        if (ids := asked.values("ids")) is not None:
            documents = [d for d in documents if d["task_id"] in ids]
        for label in asked.labels:
            name, _, value = label.partition("=")
            documents = [d for d in documents if str(d["labels"].get(name)) == value]
        return Answer(200, page(asked, documents, newest_first=True))

    async def _get_task(self, asked: Asked, task_id: str) -> Answer:
        wanted = {"started": STARTED, "ended": ENDED}.get(asked.query.get("until", ""))
        task = self.queue.get(asked.project, task_id)
        if wanted is not None:
            wait_s = (asked.number("wait_ms") or 0) / 1000
            await self.world.wait_until(lambda: True if task.status in wanted else None, wait_s)
        return Answer(200, task.document(self.world))

    def _patch_task(self, asked: Asked, task_id: str) -> Answer:
        task, body = self.queue.get(asked.project, task_id), asked.document()
        if body.get("if_revision", task.revision) != task.revision:
            raise Problem("conflict", "the task has changed", current={"revision": task.revision})
        changes = {name: value for name, value in body.items() if name != "if_revision"}
        for name in changes:
            if name not in {"priority", "labels", "metadata", "queue"}:
                raise invalid(name, "cannot be changed here")
        with self.world.write():
            task.fields |= changes
            task.revision = self.world.next_revision
            self.world.change("task.updated", task.project, task_id, changes)
        return Answer(200, task.document(self.world))

    async def _claim(self, asked: Asked) -> Answer:
        body = asked.document()
        wait_s = body.get("wait_ms", 0) / 1000
        return Answer(200, {"items": await self.world.wait_until(lambda: self.verbs.claim(body), wait_s) or []})

    def _verb(self, asked: Asked, task_id: str) -> Answer:
        return Answer(200, self.verbs.run(asked.path[-1], asked.project, task_id, asked.document()))

    def _verb_batch(self, asked: Asked) -> Answer:
        answers = self.verbs.run_batch(asked.path[-1], asked.project, asked.document())
        return Answer(200, {"revision": self.world.revision, "items": answers})

    def _explain(self, asked: Asked, task_id: str) -> Answer:
        task = self.queue.get(asked.project, task_id)
        words = [self.queue.why_not(task, agent) for agent in self.roster.everyone()]
        filtered = {word: words.count(word) for word in sorted({word for word in words if word is not None})}
        reasons = [] if task.status in {"pending", "assigned", "running"} else [_reason(task)]
        if task.status == "pending" and (hindrance := self.queue.hindrance(task)) is not None:
            reasons.append(hindrance)
        if task.status == "pending" and None not in words:
            codes = [code for word, code in (("slots", "no_free_slot"), ("budget", "budget")) if word in filtered]
            reasons.append({"code": codes[0] if codes else "no_agent_capability", "message": ""})
        agents = {"total": len(words), "filtered": filtered, "candidates": []}
        return Answer(200, {"status": task.status, "reasons": reasons, "agents": agents})

    async def _group(self, asked: Asked, group_id: str) -> Answer:
        until = asked.query.get("until")

        def answer() -> Answer | None:
            tasks = [t for t in self.queue.in_project(asked.project) if t.fields["group_id"] == group_id]
            if not tasks:
                raise Problem("not_found", f"no task has the group {group_id}")
            failed = [t.task_id for t in tasks if t.status == "failed"]
            over = all(t.ended for t in tasks) or (until == "any_failed" and bool(failed))
            statuses = [t.status for t in tasks]
            counts = {status: statuses.count(status) for status in sorted(set(statuses))}
            document = {
                "group_id": group_id,
                "counts": counts,
                "failed": failed,
                "revision": max(t.revision for t in tasks),
            }
            return Answer(200, document) if over or until is None or self.world.now >= deadline else None

        deadline = self.world.now + (asked.number("wait_ms") or 0) / 1000
        found = await self.world.wait_until(answer, deadline - self.world.now)
        assert found is not None, "at the deadline there is an answer, whatever the state"
        return found

    def _cancel_group(self, asked: Asked, group_id: str) -> Answer:
        tasks = [t for t in self.queue.in_project(asked.project) if t.fields["group_id"] == group_id and not t.ended]
        with self.world.write():
            for task in tasks:
                self.verbs.cancel(task)
        document = {"group_id": group_id, "cancelled": len(tasks), "revision": self.world.revision}
        return Answer(200, document)


def _reason(task: TaskState) -> dict[str, Any]:
    codes = {"blocked": "dependency", "scheduled": "not_before", "waiting": "waiting"}
    code = codes.get(task.status, "ended")
    return {"code": code, "message": f"the task is {task.status}", "data": None}
