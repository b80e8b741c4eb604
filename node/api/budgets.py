"""Routes of budgets: what a project, a session or an agent may spend, in tokens and in money."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, Literal

import msgspec

from cluster.replica import View
from node.api.body import Body
from node.api.pages import Page, PageBuilder, encode_cursor, fill, name_of
from node.api.problem import Problem, invalid
from node.api.query import ListQuery, ReadQuery, WriteQuery
from node.api.reply import Reply, json_reply
from node.api.request import Request
from node.api.route import Route
from node.api.times import text
from node.api.usage import MICRO, dollars
from node.api.writes import decide, replay_headers, write
from statemachine import budget_record, limits, names
from statemachine.budget_record import PROJECT, SCOPES, Budget, Unit
from statemachine.commands import DeleteBudget, PutBudget, ResetBudget
from statemachine.outcome import Item, record_of
from statemachine.records import Project

_KIND = "budgets"

Tokens = Annotated[int, msgspec.Meta(ge=0, le=limits.BUDGET_MAX)]
Dollars = Annotated[float, msgspec.Meta(ge=0, le=limits.BUDGET_MAX / MICRO)]
Scope = Literal["project", "session", "agent"]


class ListBudgets(ListQuery, kw_only=True):
    """By scope and id: the project's own, its sessions', and those of agents, which belong to no project."""

    order: Literal["asc", "desc"] = "asc"
    scope: tuple[Scope, ...] = ()
    exceeded: bool | None = None


class BudgetBody(Body):
    """`PUT /api/budgets/{scope}/{id}`: all of its limits; what is absent or null does not limit.

    `reserve_*` is set aside with each grant until the task comes back, so that tasks that run at the same time do not
    spend the same twice. With 0 nothing is, and grants go on until what is spent reaches the maximum.
    """

    max_tokens: Tokens | None = None
    max_cost_usd: Dollars | None = None
    reserve_tokens: Tokens = 0
    reserve_cost_usd: Dollars = 0
    if_revision: Annotated[int, msgspec.Meta(ge=0)] | None = None


class Spent(msgspec.Struct):
    """What ended and parked attempts reported as `usage`; tokens are input and output together."""

    input_tokens: int
    output_tokens: int
    tokens: int
    cost_usd: float


class Reserved(msgspec.Struct):
    """What is set aside for tasks that agents hold, and how many they are."""

    tokens: int
    cost_usd: float
    tasks: int


class Left(msgspec.Struct):
    """What is neither spent nor reserved; null without a limit."""

    tokens: int | None
    cost_usd: float | None


class BudgetView(msgspec.Struct):
    """A budget. `project` is null for an agent's. `exceeded`: no task could be granted even if none was held.
    `revision` and `updated_at` are those of the limits and resets, not of what is spent."""

    scope: str
    id: str
    project: str | None
    max_tokens: int | None
    max_cost_usd: float | None
    reserve_tokens: int
    reserve_cost_usd: float
    spent: Spent
    reserved: Reserved
    left: Left
    exceeded: bool
    period_started_at: str
    created_at: str
    updated_at: str
    revision: int
    created_revision: int


class DeletedBudget(msgspec.Struct):
    """What is left to say of a budget that was removed."""

    scope: str
    id: str
    revision: int
    deleted: bool = True


def budget_view(budget: Budget) -> BudgetView:
    """The budget as shown."""
    tokens, cost = budget.units
    cost_left = _left(cost)
    return BudgetView(
        scope=budget.scope,
        id=budget.id,
        project=budget.project or None,
        max_tokens=budget.max_tokens,
        max_cost_usd=None if budget.max_cost is None else dollars(budget.max_cost),
        reserve_tokens=budget.reserve_tokens,
        reserve_cost_usd=dollars(budget.reserve_cost),
        spent=Spent(budget.input_tokens, budget.output_tokens, budget.tokens, dollars(budget.cost)),
        reserved=Reserved(budget.reserved_tokens, dollars(budget.reserved_cost), budget.tasks),
        left=Left(_left(tokens), None if cost_left is None else dollars(cost_left)),
        exceeded=budget.exceeded,
        period_started_at=text(budget.since),
        created_at=text(budget.created_at),
        updated_at=text(budget.updated_at),
        revision=budget.revision,
        created_revision=budget.created_revision,
    )


def _left(unit: Unit) -> int | None:
    return None if unit.most is None else max(0, unit.most - unit.spent - unit.reserved)


def find_view(view: View, project: Project | None, resource_id: str) -> BudgetView | None:
    """The budget of this `scope/id` as shown; None when there is none."""
    scope, _, budget_id = resource_id.partition("/")
    budget = budget_record.get(view, 0 if project is None else project.number, scope, budget_id)
    return None if budget is None else budget_view(budget)


def _place(request: Request[Any, Any]) -> tuple[str, str]:
    """(scope, id) of the path, or 400 naming what is wrong with it."""
    scope, budget_id = request.parameters["scope"], request.parameters["budget_id"]
    if scope not in SCOPES:
        raise invalid("scope", f"must be one of {', '.join(SCOPES)}")
    if wrong := names.check_name(budget_id):
        raise invalid("budget_id", wrong)
    if scope == PROJECT and budget_id != request.project:
        detail = f"is another project than the request's, {request.project!r}: send Hive-Project: {budget_id}"
        raise invalid("budget_id", detail)
    return scope, budget_id


async def list_budgets(request: Request[ListBudgets, Any]) -> Reply:
    """The budgets of a project and its sessions, and those of all agents."""
    builder = PageBuilder(request, BudgetView)
    after = name_of(request, _KIND)
    with request.view() as view:
        rows = _rows(request, view, after)
        shown: list[str] = []
        ended = fill(builder, _numbered(rows, shown), budget_view)
    if ended or builder.position is None:
        return builder.reply(None)
    return builder.reply(encode_cursor(request, _KIND, builder.position, shown[builder.position]))


def _numbered(rows: Iterator[tuple[str, Budget | None]], shown: list[str]) -> Iterator[tuple[int, Budget | None]]:
    """Rows by place; their names, where a cursor goes on, are kept in `shown`."""
    for name, budget in rows:
        shown.append(name)
        yield len(shown) - 1, budget


def _rows(request: Request[ListBudgets, Any], view: View, after: str | None) -> Iterator[tuple[str, Budget | None]]:
    """(name, the budget or None when it is not wanted) behind a name."""
    project, query = request.require_project(view), request.query
    descending = query.order == "desc"
    scopes = [scope for scope in SCOPES if not query.scope or scope in query.scope]
    scope_after, _, id_after = ("", "", "") if after is None else after.partition("/")
    if descending:
        scopes.reverse()
    if scope_after in scopes:
        scopes = scopes[scopes.index(scope_after) :]
    for scope in scopes:
        behind = id_after if scope == scope_after else None
        for budget in budget_record.scan(view, project.number, scope, after=behind, reverse=descending):
            wanted = query.exceeded is None or query.exceeded == budget.exceeded
            yield budget.name, budget if wanted else None


async def get_budget(request: Request[ReadQuery, Any]) -> Reply:
    """One budget."""
    scope, budget_id = _place(request)
    with request.view() as view:
        budget = budget_record.get(view, request.project_number(view), scope, budget_id)
    if budget is None:
        raise Problem("not_found", f"{scope} {budget_id!r} has no budget here at revision {request.revision}")
    return json_reply(budget_view(budget))


async def put_budget(request: Request[WriteQuery, BudgetBody]) -> Reply:
    """Give a budget; what it is of need not be there yet."""
    scope, budget_id = _place(request)
    body = request.body
    max_cost = None if body.max_cost_usd is None else round(body.max_cost_usd * MICRO)
    reserve_cost = round(body.reserve_cost_usd * MICRO)
    if body.max_tokens is not None and body.reserve_tokens > body.max_tokens:
        raise invalid("reserve_tokens", "is more than max_tokens: no task could ever be granted")
    if max_cost is not None and reserve_cost > max_cost:
        raise invalid("reserve_cost_usd", "is more than max_cost_usd: no task could ever be granted")
    command = PutBudget(
        scope, budget_id, body.max_tokens, max_cost, body.reserve_tokens, reserve_cost, body.if_revision
    )
    return await write(request, command, _render(request), "/api/budgets/")


async def reset_budget(request: Request[WriteQuery, Any]) -> Reply:
    """A new period: nothing is spent, what is reserved stays."""
    return await write(request, ResetBudget(*_place(request)), _render(request))


def _render(request: Request[Any, Any]) -> Any:
    def render(view: View, item: Item) -> BudgetView | None:
        made = record_of(item)
        return find_view(view, request.require_project(view), item.resource_id) if made is None else budget_view(made)

    return render


async def delete_budget(request: Request[WriteQuery, Any]) -> Reply:
    """Remove a budget."""
    scope, budget_id = _place(request)
    outcome = await decide(request, DeleteBudget(scope, budget_id))
    gone = DeletedBudget(scope, budget_id, outcome.items[0].revision)
    return json_reply(gone, 200, replay_headers(outcome))


_ONE = "/api/budgets/{scope}/{budget_id}"

ROUTES = (
    Route(
        "GET", "/api/budgets", list_budgets, "Budgets of the project, its sessions, and agents", "budgets:read",
        query=ListBudgets, reply=Page[BudgetView],
    ),
    Route("GET", _ONE, get_budget, "One budget", "budgets:read", query=ReadQuery, reply=BudgetView),
    Route(
        "PUT", _ONE, put_budget, "Limit what a project, a session or an agent spends", "budgets:write",
        query=WriteQuery, body=BudgetBody, reply=BudgetView, statuses=(201, 200),
    ),
    Route(
        "DELETE", _ONE, delete_budget, "Remove a budget", "budgets:write", query=WriteQuery, reply=DeletedBudget,
    ),
    Route(
        "POST", _ONE + "/reset", reset_budget, "Begin a new period: nothing is spent", "budgets:write",
        query=WriteQuery, reply=BudgetView,
    ),
)  # fmt: skip
