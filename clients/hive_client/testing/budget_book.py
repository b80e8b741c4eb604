"""The fake's budgets: limits, what was spent, what is set aside, and whom they keep from tasks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from hive_client.testing.exchange import Answer, Asked, page
from hive_client.testing.problems import Problem, invalid
from hive_client.testing.queue import TaskQueue
from hive_client.testing.task_routes import Handler
from hive_client.testing.task_state import TaskState
from hive_client.testing.world import World

SCOPES = ("project", "session", "agent")
MICRO = 1_000_000
MAX = 10**15

Place = tuple[str, str, str]
"""(scope, project or nothing for agents, id)."""
Attempt = tuple[str, str]


@dataclass
class Account:
    """A budget; money in micro-dollars. ``held`` are the tasks that something is set aside for."""

    limits: dict[str, Any]
    created_at: str
    created_revision: int
    updated_at: str = ""
    since: str = ""
    revision: int = 0
    spent: dict[str, int] = field(default_factory=lambda: {"input_tokens": 0, "output_tokens": 0, "micro": 0})
    held: dict[Attempt, tuple[int, int]] = field(default_factory=dict)

    @property
    def tokens(self) -> int:
        return self.spent["input_tokens"] + self.spent["output_tokens"]

    def units(self) -> Iterator[tuple[str, int | None, int, int, int]]:
        """(field, maximum, spent, reserved, reserve)."""
        for place, name, spent in ((0, "tokens", self.tokens), (1, "cost_usd", self.spent["micro"])):
            reserved = sum(kept[place] for kept in self.held.values())
            yield name, self.limit(f"max_{name}"), spent, reserved, self.limit(f"reserve_{name}") or 0

    def limit(self, name: str) -> int | None:
        value = self.limits[name]
        if value is None:
            return None
        return round(value * MICRO) if name.endswith("_usd") else int(value)

    def short_of(self) -> str | None:
        """What there is no room of for another task."""
        for name, most, spent, reserved, reserve in self.units():
            if most is not None and spent + reserved + max(reserve, 1) > most:
                return name
        return None

    @property
    def exceeded(self) -> bool:
        return any(most is not None and spent + max(reserve, 1) > most for _, most, spent, _, reserve in self.units())


class BudgetBook:
    """All budgets."""

    def __init__(self, world: World, tasks: TaskQueue) -> None:
        self._world = world
        self._accounts: dict[Place, Account] = {}
        of_queues = tasks.hindrance
        tasks.hindrance = lambda task: self.hindrance(task) or of_queues(task)
        tasks.taken, tasks.freed, tasks.charged = self.taken, self.freed, self.charged
        tasks.agent_is_short = self.agent_is_short

    def table(self) -> list[tuple[str, str, Handler]]:
        one = "/api/budgets/{}/{}"
        return [
            ("GET", "/api/budgets", self._list),
            ("GET", one, lambda asked, *names: Answer(200, self._document(*self._require(asked, *names)))),
            ("PUT", one, self._put),
            ("DELETE", one, self._delete),
            ("POST", f"{one}/reset", self._reset),
        ]

    # What tasks do.

    def hindrance(self, task: TaskState) -> dict[str, Any] | None:
        """The reason of ``explain`` why the task's project or session gives it to nobody."""
        for scope, project, name in self._places(task, None):
            account = self._accounts[scope, project, name]
            if (short := account.short_of()) is not None:
                message = f"the budget of {scope} {name!r} has no room: raise max_{short} or reset the budget"
                return {"code": "budget", "message": message, "data": {"scope": scope, "id": name}}
        return None

    def agent_is_short(self, agent_id: str) -> bool:
        account = self._accounts.get(("agent", "", agent_id))
        return account is not None and account.short_of() is not None

    def taken(self, task: TaskState) -> None:
        for place in self._places(task, task.agent_id):
            account = self._accounts[place]
            kept = account.limit("reserve_tokens") or 0, account.limit("reserve_cost_usd") or 0
            account.held[task.project, task.task_id] = kept

    def freed(self, task: TaskState) -> None:
        for account in self._accounts.values():
            account.held.pop((task.project, task.task_id), None)

    def charged(self, task: TaskState, usage: Mapping[str, Any] | None) -> None:
        """An attempt reported what it used. Inside a write."""
        for place in self._places(task, task.agent_id) if usage else ():
            account, before = self._accounts[place], self._accounts[place].exceeded
            account.spent["input_tokens"] += (usage or {}).get("input_tokens", 0)
            account.spent["output_tokens"] += (usage or {}).get("output_tokens", 0)
            account.spent["micro"] += round((usage or {}).get("cost_usd", 0) * MICRO)
            self._tell(place, before)

    def _places(self, task: TaskState, agent_id: str | None) -> list[Place]:
        named = [("project", task.project, task.project)]
        if task.fields["session_id"] is not None:
            named.append(("session", task.project, task.fields["session_id"]))
        if agent_id is not None:
            named.append(("agent", "", agent_id))
        return [place for place in named if place in self._accounts]

    # What users do.

    def _require(self, asked: Asked, scope: str, name: str) -> tuple[Place, Account]:
        place = _place(asked, scope, name)
        if place not in self._accounts:
            raise Problem("not_found", f"{scope} {name!r} has no budget")
        return place, self._accounts[place]

    def _list(self, asked: Asked) -> Answer:
        scopes, wanted = asked.values("scope"), asked.values("exceeded")
        found = [place for place in self._accounts if place[1] in {"", asked.project}]
        if scopes is not None:
            found = [place for place in found if place[0] in scopes]
        found.sort(key=lambda place: (SCOPES.index(place[0]), place[2]))
        documents = [self._document(place, self._accounts[place]) for place in found]
        if wanted is not None:
            documents = [one for one in documents if one["exceeded"] is ("true" in wanted)]
        return Answer(200, page(asked, documents, newest_first=False))

    def _put(self, asked: Asked, scope: str, name: str) -> Answer:
        place, body = _place(asked, scope, name), dict(asked.document())
        wanted = body.pop("if_revision", None)
        limits = {"max_tokens": None, "max_cost_usd": None, "reserve_tokens": 0, "reserve_cost_usd": 0.0} | body
        _check(body, limits)
        known = self._accounts.get(place)
        if known is not None and known.limits == limits:
            return Answer(200, self._document(place, known))
        now = 0 if known is None else known.revision
        if wanted is not None and wanted != now:
            raise Problem("conflict", f"the budget is at revision {now}", current={"revision": now})
        with self._world.write():
            before = known is not None and known.exceeded
            at, text = self._world.next_revision, self._world.text_time()
            account = known or self._accounts.setdefault(place, Account(limits, text, at, since=text))
            account.limits, account.revision, account.updated_at = limits, at, text
            self._change("budget.updated" if known else "budget.created", place)
            self._tell(place, before)
        location = {"Location": f"/api/budgets/{scope}/{name}"}
        return Answer(200 if known else 201, self._document(place, account), location)

    def _reset(self, asked: Asked, scope: str, name: str) -> Answer:
        place, account = self._require(asked, scope, name)
        with self._world.write():
            before = account.exceeded
            account.spent = dict.fromkeys(account.spent, 0)
            account.since = account.updated_at = self._world.text_time()
            account.revision = self._world.next_revision
            self._change("budget.reset", place)
            self._tell(place, before)
        return Answer(200, self._document(place, account))

    def _delete(self, asked: Asked, scope: str, name: str) -> Answer:
        place, _ = self._require(asked, scope, name)
        with self._world.write():
            del self._accounts[place]
            self._change("budget.deleted", place)
        return Answer(200, {"scope": scope, "id": name, "revision": self._world.revision, "deleted": True})

    def _tell(self, place: Place, exceeded_before: bool) -> None:
        exceeded = self._accounts[place].exceeded
        if exceeded != exceeded_before:
            self._change("budget.exceeded" if exceeded else "budget.restored", place)

    def _change(self, kind: str, place: Place) -> None:
        scope, project, name = place
        self._world.change(kind, project, f"{scope}/{name}", {"scope": scope, "id": name})

    def _document(self, place: Place, account: Account) -> dict[str, Any]:
        left = {name: None if most is None else max(0, most - spent - reserved)
                for name, most, spent, reserved, _ in account.units()}  # fmt: skip
        cost_left = left["cost_usd"]
        (_, _, _, tokens, _), (_, _, _, micro, _) = account.units()
        spent = {name: account.spent[name] for name in ("input_tokens", "output_tokens")}
        return {
            "scope": place[0],
            "id": place[2],
            "project": place[1] or None,
            **account.limits,
            "spent": {**spent, "tokens": account.tokens, "cost_usd": account.spent["micro"] / MICRO},
            "reserved": {"tokens": tokens, "cost_usd": micro / MICRO, "tasks": len(account.held)},
            "left": {"tokens": left["tokens"], "cost_usd": None if cost_left is None else cost_left / MICRO},
            "exceeded": account.exceeded,
            "period_started_at": account.since,
            "created_at": account.created_at,
            "updated_at": account.updated_at,
            "revision": account.revision,
            "created_revision": account.created_revision,
        }


def _place(asked: Asked, scope: str, name: str) -> Place:
    if scope not in SCOPES:
        raise invalid("scope", f"must be one of {', '.join(SCOPES)}")
    if scope == "project" and name != asked.project:
        raise invalid("budget_id", "is another project than the request's")
    return scope, "" if scope == "agent" else asked.project, name


def _check(body: Mapping[str, Any], limits: Mapping[str, Any]) -> None:
    for name, value in body.items():
        if name not in {"max_tokens", "max_cost_usd", "reserve_tokens", "reserve_cost_usd"}:
            raise invalid(name, "unknown field")
        kind = int | float if name.endswith("_usd") else int
        fits = isinstance(value, kind) and not isinstance(value, bool) and 0 <= value <= MAX
        if not fits and (value is not None or name.startswith("reserve_")):
            raise invalid(name, "has another type or range")
    for name in ("tokens", "cost_usd"):
        most = limits[f"max_{name}"]
        if most is not None and limits[f"reserve_{name}"] > most:
            raise invalid(f"reserve_{name}", f"is more than max_{name}: no task could ever be granted")
