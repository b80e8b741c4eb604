"""The fake's routes: from method and path to what the parts do."""

from __future__ import annotations

import inspect
from typing import Any

from hive_client.testing.budget_book import BudgetBook
from hive_client.testing.exchange import Answer, Asked, page
from hive_client.testing.feed import Feed
from hive_client.testing.members import Members
from hive_client.testing.problems import Problem, invalid
from hive_client.testing.queue import TaskQueue
from hive_client.testing.queue_book import QueueBook
from hive_client.testing.roster import HEARTBEAT_INTERVAL_MS, AgentState, Roster
from hive_client.testing.schedules import ScheduleBook
from hive_client.testing.sessions import SessionLog
from hive_client.testing.settings_book import SettingsBook
from hive_client.testing.task_routes import Handler, TaskRoutes
from hive_client.testing.verbs import Verbs
from hive_client.testing.world import World


class Routes:
    """``{}`` in a pattern stands for one segment, handed to the handler in order."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.roster = Roster(world)
        self.queue = TaskQueue(world, self.roster)
        self.queues = QueueBook(world, self.queue)
        self.budgets = BudgetBook(world, self.queue)
        self.sessions = SessionLog(world)
        self.feed = Feed(world)
        self.members = Members(world)
        self.settings = SettingsBook(world)
        self.verbs = Verbs(world, self.queue, self.roster, self.sessions)
        self.schedules = ScheduleBook(world, self.queue, self.verbs)
        tasks = TaskRoutes(world, self.queue, self.roster, self.verbs)
        self._table: dict[tuple[str, tuple[str, ...]], Handler] = {
            (method, tuple(pattern.strip("/").split("/"))): handler
            for method, pattern, handler in (*tasks.table(), *self._other_routes())
        }

    async def answer(self, asked: Asked) -> Answer:
        found = self._find(asked)
        if found is None:
            known = any(_fit(pattern, asked.path) is not None for _, pattern in self._table)
            raise Problem("method_not_allowed" if known else "not_found", f"no route {asked.method} {asked.target}")
        handler, names = found
        creates = asked.method != "GET" and asked.path[-1] != "claim" and asked.path[1] != "agents"
        if asked.project not in self.world.projects:
            if not creates:
                raise Problem("unknown_project", f"project {asked.project} does not exist")
            self.world.projects[asked.project] = self.world.next_revision
        result = handler(asked, *names)
        return await result if inspect.isawaitable(result) else result

    def _find(self, asked: Asked) -> tuple[Handler, list[str]] | None:
        best: tuple[Handler, list[str]] | None = None
        for (method, pattern), handler in self._table.items():
            names = _fit(pattern, asked.path) if method == asked.method else None
            # A literal route wins over an id that reads the same.
            if names is not None and (best is None or len(names) < len(best[1])):
                best = handler, names
        return best

    def _other_routes(self) -> list[tuple[str, str, Handler]]:
        return [
            ("POST", "/api/sessions", self._create_session),
            ("GET", "/api/sessions", self._list_sessions),
            ("GET", "/api/sessions/{}", lambda a, s: Answer(200, self._session(a, s))),
            ("PATCH", "/api/sessions/{}", self._patch_session),
            ("DELETE", "/api/sessions/{}", self._delete_session),
            (
                "POST",
                "/api/sessions/{}/events",
                lambda a, s: Answer(201, self.sessions.append(a.project, s, a.document())),
            ),
            ("GET", "/api/sessions/{}/events", self._events),
            ("POST", "/api/agents", self._register),
            ("GET", "/api/agents", self._list_agents),
            ("GET", "/api/agents/{}", lambda a, n: Answer(200, self._agent(self.roster.get(n)))),
            ("DELETE", "/api/agents/{}", self._delete_agent),
            ("POST", "/api/agents/{}/heartbeat", self._heartbeat),
            ("POST", "/api/agents/{}/learned/reset", self._reset_learned),
            ("POST", "/api/agents/{}/drain", lambda a, n: self._drain(a, n, draining=True)),
            ("DELETE", "/api/agents/{}/drain", lambda a, n: self._drain(a, n, draining=False)),
            ("GET", "/api/changes", self._changes),
            ("GET", "/api/projects", lambda a: Answer(200, page(a, self._projects(), newest_first=True))),
            ("POST", "/api/projects", self._create_project),
            ("GET", "/api", lambda a: Answer(200, {"name": "hive", "version": "fake", "api": 1, "features": []})),
            ("GET", "/livez", lambda a: Answer(200, {"status": "ok"})),
            ("GET", "/readyz", lambda a: Answer(200, {"status": "ok", "checks": {}})),
            ("GET", "/health", lambda a: Answer(200, {"status": "ok", "checks": {}})),
            ("GET", "/api/status/cluster", lambda a: Answer(200, self._status())),
            *self.members.table(),
            *self.queues.table(),
            *self.budgets.table(),
            *self.schedules.table(),
            *self.settings.table(),
        ]

    # Sessions.

    def _create_session(self, asked: Asked) -> Answer:
        session, created = self.sessions.create(asked.project, asked.document())
        location = {"Location": f"/api/sessions/{session.session_id}"}
        return Answer(201 if created else 200, self.sessions.document(session), location)

    def _session(self, asked: Asked, session_id: str) -> dict[str, Any]:
        return self.sessions.document(self.sessions.get(asked.project, session_id))

    def _list_sessions(self, asked: Asked) -> Answer:
        documents = [self.sessions.document(session) for session in self.sessions.in_project(asked.project)]
        for name in ("status", "agent_id", "user"):
            if (wanted := asked.values(name)) is not None:
                documents = [d for d in documents if d[name] in wanted]
        return Answer(200, page(asked, documents, newest_first=True))

    def _patch_session(self, asked: Asked, session_id: str) -> Answer:
        return Answer(200, self.sessions.document(self.sessions.update(asked.project, session_id, asked.document())))

    def _delete_session(self, asked: Asked, session_id: str) -> Answer:
        self.sessions.delete(asked.project, session_id)
        return Answer(200, {"session_id": session_id})

    async def _events(self, asked: Asked, session_id: str) -> Answer:
        session = self.sessions.get(asked.project, session_id)
        after, before = asked.number("after_seq", 0) or 0, asked.number("before_seq")
        filters = [(name, asked.values(parameter)) for parameter, name in _EVENT_FILTERS]

        def matching() -> list[dict[str, Any]]:
            return [
                event
                for event in session.events
                if event["seq"] > after
                and (before is None or event["seq"] < before)
                and all(wanted is None or event[name] in wanted for name, wanted in filters)
            ]

        await self.world.wait_until(lambda: matching() or None, (asked.number("wait_ms") or 0) / 1000)
        return Answer(200, page(asked, matching(), newest_first=False))

    # Agents.

    def _register(self, asked: Asked) -> Answer:
        agent, created = self.roster.register(asked.project, asked.document())
        document = {
            "agent": self._agent(agent),
            "epoch": agent.epoch,
            "heartbeat_interval_ms": HEARTBEAT_INTERVAL_MS,
        }
        return Answer(201 if created else 200, document)

    def _agent(self, agent: AgentState) -> dict[str, Any]:
        held = self.queue.held_by(agent.agent_id)
        shown = [{"task_id": t.task_id, "attempt": t.attempt, "status": t.status} for t in held]
        return self.roster.document(agent, shown)

    def _list_agents(self, asked: Asked) -> Answer:
        capabilities = asked.values("capability")
        everyone = self.roster.everyone()
        fitting = [one for one in everyone if capabilities is None or capabilities & one.abilities().keys()]
        documents = [self._agent(agent) for agent in fitting]
        if (statuses := asked.values("status")) is not None:
            documents = [d for d in documents if d["status"] in statuses]
        return Answer(200, page(asked, documents, newest_first=True))

    def _delete_agent(self, asked: Asked, agent_id: str) -> Answer:
        self.roster.remove(asked.project, agent_id)
        return Answer(200, {"agent_id": agent_id})

    async def _heartbeat(self, asked: Asked, agent_id: str) -> Answer:
        return Answer(200, await self.verbs.heartbeat(agent_id, asked.document()))

    def _reset_learned(self, asked: Asked, agent_id: str) -> Answer:
        names = asked.document().get("names")
        if names is not None and (not isinstance(names, list) or not names):
            raise invalid("names", "must be a list of names")
        return Answer(200, self._agent(self.roster.reset_learned(asked.project, agent_id, names)))

    def _drain(self, asked: Asked, agent_id: str, *, draining: bool) -> Answer:
        return Answer(200, self._agent(self.roster.set_draining(asked.project, agent_id, draining)))

    # The rest.

    async def _changes(self, asked: Asked) -> Answer:
        wait_s = (asked.number("wait_ms") or 0) / 1000
        fixed = dict(asked.query)
        fixed.setdefault("from_revision", str(self.world.revision + 1))
        asked = Asked(**{**asked.__dict__, "query": fixed})
        await self.world.wait_until(lambda: self.feed.page(asked)["items"] or None, wait_s)
        return Answer(200, self.feed.page(asked))

    def _projects(self) -> list[dict[str, Any]]:
        return [{"project": name, "created_revision": at, "revision": at} for name, at in self.world.projects.items()]

    def _create_project(self, asked: Asked) -> Answer:
        name = asked.document().get("project")
        if not isinstance(name, str) or not name:
            raise invalid("project", "must be a non-empty string")
        known = name in self.world.projects
        at = self.world.projects.setdefault(name, self.world.revision)
        return Answer(200 if known else 201, {"project": name, "created_revision": at, "revision": at})

    def _status(self) -> dict[str, Any]:
        return {
            "cluster_id": self.world.cluster_id, "node_id": "fake", "role": "leader", "leader_id": "fake", "term": 1,
            "group": 0, "revision": self.world.revision, "commit_index": self.world.revision,
            "applied_index": self.world.revision, "members": self.members.documents(), "has_quorum": True,
            "version": "fake", "cluster_version": "fake", "alarms": [],
            "changes": {"oldest_revision": self.world.oldest_revision},
        }  # fmt: skip


_EVENT_FILTERS = (("types", "type"), ("actor", "actor"), ("correlation_id", "correlation_id"))


def _fit(pattern: tuple[str, ...], path: tuple[str, ...]) -> list[str] | None:
    """The segments at the ``{}`` of the pattern, or None if the path is another."""
    if len(pattern) != len(path) or any(p not in {"{}", s} for p, s in zip(pattern, path, strict=True)):
        return None
    return [s for p, s in zip(pattern, path, strict=True) if p == "{}"]
