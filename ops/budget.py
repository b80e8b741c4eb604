"""`hive budget`: what a project, a session or an agent may spend."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

import typer
from hive_client.models import Budget

from ops.connection import Hive, connected
from ops.edge import UsageError
from ops.output import print_fields, print_json, print_table

app = typer.Typer(help="Limit tokens and money of projects, sessions and agents.", no_args_is_help=True)

Scope = Literal["project", "session", "agent"]
ScopeArgument = Annotated[Scope, typer.Argument(metavar="project|session|agent")]
IdArgument = Annotated[
    str | None, typer.Argument(metavar="[ID]", help="A project's budget is that of --project, and needs no id.")
]

HEADINGS = ("SCOPE", "ID", "TOKENS", "OF", "USED", "USD", "OF", "USED", "HELD", "EXCEEDED")
FIELDS = (
    "scope", "id", "project", "max_tokens", "max_cost_usd", "reserve_tokens", "reserve_cost_usd", "exceeded",
    "period_started_at", "created_at", "updated_at", "revision",
)  # fmt: skip
BAR_CELLS = 10


def _id(hive: Hive, scope: str, budget_id: str | None) -> str:
    if budget_id is None and scope != "project":
        raise UsageError(f"which {scope}? give its id")
    return budget_id or hive.client.project


def _bar(used: float, of: float | None) -> str:
    """How much of a limit is used or set aside: `####...... 40 %`."""
    if of is None:
        return "-"
    part = used / of if of else 1.0
    cells = min(BAR_CELLS, int(part * BAR_CELLS))
    return f"{'#' * cells}{'.' * (BAR_CELLS - cells)} {int(part * 100)} %"


def _row(budget: Budget) -> tuple[Any, ...]:
    spent, reserved = budget.spent, budget.reserved
    return (
        budget.scope,
        budget.id,
        spent.tokens,
        budget.max_tokens,
        _bar(spent.tokens + reserved.tokens, budget.max_tokens),
        f"{spent.cost_usd:.2f}",
        None if budget.max_cost_usd is None else f"{budget.max_cost_usd:.2f}",
        _bar(spent.cost_usd + reserved.cost_usd, budget.max_cost_usd),
        reserved.tasks,
        budget.exceeded,
    )


def _show(hive: Hive, budget: Budget) -> None:
    if hive.as_json:
        print_json(budget.raw)
        return
    parts: Mapping[str, Any] = budget.raw
    shown = {name: parts.get(name) for name in FIELDS}
    for name in ("spent", "reserved", "left"):
        shown[name] = " ".join(f"{key}={value}" for key, value in parts.get(name, {}).items() if value is not None)
    spent, reserved = budget.spent, budget.reserved
    shown["tokens used"] = _bar(spent.tokens + reserved.tokens, budget.max_tokens)
    shown["USD used"] = _bar(spent.cost_usd + reserved.cost_usd, budget.max_cost_usd)
    print_fields(shown)


@app.command("set")
@connected
async def set_(
    hive: Hive,
    scope: ScopeArgument,
    budget_id: IdArgument = None,
    max_tokens: Annotated[int | None, typer.Option("--max-tokens", min=0, help="[default: no limit]")] = None,
    max_cost_usd: Annotated[float | None, typer.Option("--max-cost-usd", min=0, help="[default: no limit]")] = None,
    reserve_tokens: Annotated[int, typer.Option("--reserve-tokens", min=0, help="Set aside for each task.")] = 0,
    reserve_cost_usd: Annotated[float, typer.Option("--reserve-cost-usd", min=0, help="Set aside for each task.")] = 0,
    if_revision: Annotated[int | None, typer.Option("--if-revision", min=0, help="Only if not changed since.")] = None,
) -> None:
    """Give a budget, or change all of its limits; what is not named does not limit."""
    _show(
        hive,
        await hive.client.budgets.put(
            scope,
            _id(hive, scope, budget_id),
            max_tokens=max_tokens,
            max_cost_usd=max_cost_usd,
            reserve_tokens=reserve_tokens,
            reserve_cost_usd=reserve_cost_usd,
            if_revision=if_revision,
        ),
    )


@app.command("list")
@connected
async def list_(
    hive: Hive,
    scope: Annotated[Scope | None, typer.Option("--scope", help="[default: all]")] = None,
    exceeded: Annotated[bool, typer.Option("--exceeded", help="Only those that are used up.")] = False,
    limit: Annotated[int, typer.Option("--limit", min=1, max=1000)] = 100,
    cursor: Annotated[str | None, typer.Option("--cursor")] = None,
    all_: Annotated[bool, typer.Option("--all", help="All pages.")] = False,
) -> None:
    """List budgets of the project, its sessions, and agents: what is spent, and how much of it is used or set aside."""
    wanted, next_cursor = exceeded or None, None
    if all_:
        found = [budget async for budget in hive.client.budgets.iterate(scope=scope, exceeded=wanted)]
    else:
        page = await hive.client.budgets.list(scope=scope, exceeded=wanted, limit=limit, cursor=cursor)
        found, next_cursor = page.items, page.next_cursor
    if hive.as_json:
        print_json({"items": [budget.raw for budget in found], "next_cursor": next_cursor})
        return
    print_table(HEADINGS, (_row(budget) for budget in found))
    if next_cursor is not None:
        typer.echo(f"more: --cursor {next_cursor} (or --all)", err=True)


@app.command("show")
@connected
async def show(hive: Hive, scope: ScopeArgument, budget_id: IdArgument = None) -> None:
    """Show one budget."""
    _show(hive, await hive.client.budgets.get(scope, _id(hive, scope, budget_id)))


@app.command("reset")
@connected
async def reset(hive: Hive, scope: ScopeArgument, budget_id: IdArgument = None) -> None:
    """Begin a new period: nothing is spent."""
    _show(hive, await hive.client.budgets.reset(scope, _id(hive, scope, budget_id)))


@app.command("delete")
@connected
async def delete(hive: Hive, scope: ScopeArgument, budget_id: IdArgument = None) -> None:
    """Remove a budget: nothing limits any more."""
    gone = await hive.client.budgets.delete(scope, _id(hive, scope, budget_id))
    hive.show(gone, ("scope", "id", "revision", "deleted"))
