"""Budgets: tokens and money of a project, a session, an agent; set aside with each grant, settled by reported usage.

Who has no budget left is given no task; what runs goes on, and nothing fails. Checked in `apply` before every grant. A
cluster without budgets pays one truth test for all of this (`Meta.budgets`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from statemachine import budget_record, limits, task_record
from statemachine.budget_record import AGENT, COST, PROJECT, SCOPES, SESSION, TOKENS, Budget, Unit
from statemachine.commands import Command, DeleteBudget, PutBudget, ResetBudget
from statemachine.context import CLUSTER, Context
from statemachine.outcome import Item, Made, Outcome, Refused, accepted
from statemachine.store import Reader
from statemachine.task_record import Reservation, Task

_MICRO = 1_000_000
_SUFFIX = {TOKENS: "tokens", COST: "micro_usd"}


class Shortage(NamedTuple):
    """A budget without room for another task: a sentence with the numbers and what to do, and the numbers (costs in
    micro-dollars)."""

    message: str
    data: dict[str, Any]


# --- what tasks do to budgets ----------------------------------------------------------------------------------------


def shortages(reader: Reader, task: Task) -> Iterator[Shortage]:
    """The budgets of the task's project and session that have no room for it, whoever would do it."""
    project = budget_record.get(reader, task.project_no, PROJECT, task.project)
    if project is not None and project.room == 0:
        yield _shortage(project)
    if task.session_id is not None:
        session = budget_record.get(reader, task.project_no, SESSION, task.session_id)
        if session is not None and session.room == 0:
            yield _shortage(session)


def shortage_of_agent(reader: Reader, agent_id: str) -> Shortage | None:
    """Whether the agent's own budget has no room for another task."""
    budget = budget_record.get(reader, CLUSTER, AGENT, agent_id)
    return _shortage(budget) if budget is not None and budget.room == 0 else None


def _shortage(budget: Budget) -> Shortage:
    unit = next(unit for unit in budget.units if unit.room == 0)
    suffix = _SUFFIX[unit.name]
    figures = {"max": unit.most, "spent": unit.spent, "reserved": unit.reserved, "reserve": unit.reserve}
    data: dict[str, Any] = {"scope": budget.scope, "id": budget.id}
    data.update((f"{name}_{suffix}", value) for name, value in figures.items())
    parts = [f"{_shown(unit, unit.spent)} spent"]
    if unit.reserved:
        parts.append(f"{_shown(unit, unit.reserved)} reserved for tasks that agents hold ({budget.tasks})")
    if unit.reserve:
        parts.append(f"the next task would reserve {_shown(unit, unit.reserve)}")
    wait = "" if unit.exceeded else "wait for a task to end, "
    message = (
        f"the budget of {budget.scope} {budget.id!r} has no room: {', '.join(parts)}, of {_shown(unit, unit.most or 0)}"
        f"; {wait}raise max_{'tokens' if unit.name == TOKENS else 'cost_usd'} or reset the budget"
    )
    return Shortage(message, data)


def _shown(unit: Unit, amount: int) -> str:
    if unit.name == TOKENS:
        return f"{amount} tokens"
    whole, part = divmod(amount, _MICRO)
    return f"{whole}.{part:06}".rstrip("0").rstrip(".") + " USD"


def reserve(ctx: Context, task: Task, agent_id: str) -> None:
    """The task is granted to the agent: every budget that applies sets something aside, and the task keeps what."""
    kept: list[Reservation] = []
    for budget in _applying(ctx.state, task, agent_id):
        budget.reserved_tokens += budget.reserve_tokens
        budget.reserved_cost += budget.reserve_cost
        budget.tasks += 1
        budget_record.put(ctx.state, budget)
        kept.append(
            Reservation(budget.scope, budget.id, budget.created_revision, budget.reserve_tokens, budget.reserve_cost)
        )
    task.reserved = tuple(kept)


def give_back(ctx: Context, task: Task) -> None:
    """Nobody holds the task any more. A budget that was removed meanwhile is passed over, also when there is another
    one of its name."""
    for kept in task.reserved:
        budget = budget_record.get(ctx.state, task.project_no, kept.scope, kept.id)
        if budget is None or budget.created_revision != kept.created_revision:
            continue
        budget.reserved_tokens -= kept.tokens
        budget.reserved_cost -= kept.cost
        budget.tasks -= 1
        if min(budget.reserved_tokens, budget.reserved_cost, budget.tasks) < 0:
            raise AssertionError(f"budget {budget.name} would have less than nothing reserved")
        budget_record.put(ctx.state, budget)
    task.reserved = ()


def charge(ctx: Context, task: Task, agent_id: str, usage: tuple[int, int, int], revision: int) -> None:
    """An attempt reported (input tokens, output tokens, micro-dollars): charged to the budgets that apply now."""
    for budget in _applying(ctx.state, task, agent_id):
        before = budget.exceeded
        # What was used up stays so, whatever else is reported: a sum over the largest number must not stop a node.
        budget.input_tokens = min(budget.input_tokens + usage[0], limits.BUDGET_SUM_MAX)
        budget.output_tokens = min(budget.output_tokens + usage[1], limits.BUDGET_SUM_MAX)
        budget.cost = min(budget.cost + usage[2], limits.BUDGET_SUM_MAX)
        _write(ctx, budget, revision, before)


def _applying(reader: Reader, task: Task, agent_id: str) -> Iterator[Budget]:
    names = ((PROJECT, task.project), (SESSION, task.session_id), (AGENT, agent_id))
    for scope, budget_id in names:
        budget = None if budget_id is None else budget_record.get(reader, task.project_no, scope, budget_id)
        if budget is not None:
            yield budget


# --- what users do ---------------------------------------------------------------------------------------------------


def _put(ctx: Context, command: PutBudget) -> Outcome:
    known = _find(ctx, command.scope, command.id)
    _check(command)
    if known is not None and all(getattr(known, name) == getattr(command, name) for name in _LIMITS):
        # Before the condition: a repeat of what was done is no conflict.
        return accepted(Made(200, known.name, known.revision, record=known))
    now = 0 if known is None else known.revision
    if command.if_revision is not None and command.if_revision != now:
        raise Refused("conflict", f"the budget is at revision {now}", {"revision": now})
    if known is None:
        return _create(ctx, command)
    before, revision = known.exceeded, ctx.take_revision()
    changed = sorted(_OUTSIDE[name] for name in _LIMITS if getattr(known, name) != getattr(command, name))
    for name in _LIMITS:
        setattr(known, name, getattr(command, name))
    known.updated_at, known.revision = ctx.time_ms, revision
    _report(ctx, known, "budget.updated", revision, {"fields": changed})
    _write(ctx, known, revision, before)
    return accepted(Made(200, known.name, revision, record=known))


def _create(ctx: Context, command: PutBudget) -> Outcome:
    if ctx.meta.budgets >= limits.BUDGETS_MAX:
        raise Refused("queue_full", f"there are {limits.BUDGETS_MAX} budgets, the most a cluster may have")
    project, revision, now = ctx.require_project(), ctx.take_revision(), ctx.time_ms
    place = (CLUSTER, "") if command.scope == AGENT else (project.number, project.name)
    values = {name: getattr(command, name) for name in _LIMITS}
    budget = Budget(*place, command.scope, command.id, now, revision, now, revision, now, **values)
    ctx.meta.budgets += 1
    ctx.count(f"budgets.{budget.scope}", 1, project_no=budget.project_no)
    _report(ctx, budget, "budget.created", revision)
    _write(ctx, budget, revision, exceeded_before=False)
    return accepted(Made(201, budget.name, revision, record=budget))


def _reset(ctx: Context, command: ResetBudget) -> Outcome:
    budget = _require(ctx, command.scope, command.id)
    before, revision = budget.exceeded, ctx.take_revision()
    budget.input_tokens = budget.output_tokens = budget.cost = 0
    budget.since = budget.updated_at = ctx.time_ms
    budget.revision = revision
    _report(ctx, budget, "budget.reset", revision)
    _write(ctx, budget, revision, before)
    return accepted(Made(200, budget.name, revision, record=budget))


def _delete(ctx: Context, command: DeleteBudget) -> Outcome:
    budget = _require(ctx, command.scope, command.id)
    revision = ctx.take_revision()
    budget_record.delete(ctx.state, budget)
    ctx.meta.budgets -= 1
    ctx.count(f"budgets.{budget.scope}", -1, project_no=budget.project_no)
    if budget.exceeded:
        ctx.count(f"budgets_exceeded.{budget.scope}", -1, project_no=budget.project_no)
    _report(ctx, budget, "budget.deleted", revision)
    return accepted(Item(200, budget.name, revision))


HANDLERS: dict[type[Command], Callable[[Context, Any], Outcome]] = {
    PutBudget: _put,
    ResetBudget: _reset,
    DeleteBudget: _delete,
}

_OUTSIDE = {
    "max_tokens": "max_tokens",
    "max_cost": "max_cost_usd",
    "reserve_tokens": "reserve_tokens",
    "reserve_cost": "reserve_cost_usd",
}
_LIMITS = tuple(_OUTSIDE)


def _find(ctx: Context, scope: str, budget_id: str) -> Budget | None:
    project = ctx.require_project()
    if scope not in SCOPES or not task_record.is_name(budget_id):
        raise Refused("invalid_request", f"a budget is of one of {', '.join(SCOPES)}, and has an id")
    if scope == PROJECT and budget_id != project.name:
        raise Refused("invalid_request", f"id: a budget of project {budget_id!r} is for requests of that project")
    return budget_record.get(ctx.state, project.number, scope, budget_id)


def _require(ctx: Context, scope: str, budget_id: str) -> Budget:
    budget = _find(ctx, scope, budget_id)
    if budget is None:
        raise Refused("not_found", f"{scope} {budget_id!r} has no budget")
    return budget


def _check(command: PutBudget) -> None:
    for unit, most, kept in (
        (TOKENS, command.max_tokens, command.reserve_tokens),
        (COST, command.max_cost, command.reserve_cost),
    ):
        if not 0 <= (most or 0) <= limits.BUDGET_MAX or not 0 <= kept <= limits.BUDGET_MAX:
            raise Refused("invalid_request", f"{unit} must be between 0 and {limits.BUDGET_MAX}")
        if most is not None and kept > most:
            raise Refused("invalid_request", f"reserve_{unit} is more than there is: no task could ever be granted")


def _write(ctx: Context, budget: Budget, revision: int, exceeded_before: bool) -> None:
    """Write what was changed, and tell once when it became used up, or is no longer."""
    budget_record.put(ctx.state, budget)
    exceeded = budget.exceeded
    if exceeded == exceeded_before:
        return
    ctx.count(f"budgets_exceeded.{budget.scope}", 1 if exceeded else -1, project_no=budget.project_no)
    data: dict[str, Any] = {}
    for unit in budget.units:
        if unit.most is not None:
            data |= {f"max_{_SUFFIX[unit.name]}": unit.most, f"spent_{_SUFFIX[unit.name]}": unit.spent}
    _report(ctx, budget, "budget.exceeded" if exceeded else "budget.restored", revision, data)


def _report(ctx: Context, budget: Budget, kind: str, revision: int, data: dict[str, Any] | None = None) -> None:
    """Watchers of the session or the agent hear of it too. Agents belong to no project: everybody does."""
    topics = () if budget.scope == PROJECT else (f"{budget.scope}.{budget.id}",)
    facts = {"scope": budget.scope, "id": budget.id, **(data or {})}
    ctx.change(revision, kind, "budget", budget.name, topics=topics, data=facts, project=budget.project)
