"""`hive agent`: the fleet."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from ops.connection import Hive, connected

app = typer.Typer(help="Look at the agents of the fleet; drain or remove one.", no_args_is_help=True)

AgentId = Annotated[str, typer.Argument(metavar="AGENT_ID")]
LearnedNames = Annotated[
    list[str] | None, typer.Argument(metavar="[NAME]...", help="Capabilities, or types of tasks; none: all of them.")
]

COLUMNS = {
    "AGENT ID": "agent_id",
    "STATUS": "status",
    "MODEL": "model",
    "CAPABILITIES": "capabilities",
    "SLOTS": "max_concurrent",
    "FREE": "free_slots",
    "EPOCH": "epoch",
    "LAST SEEN": "last_seen",
}
FIELDS = (
    "agent_id", "name", "status", "epoch", "endpoint", "model", "specialization", "capabilities", "hardware", "labels",
    "projects", "max_concurrent", "free_slots", "current_tasks", "last_seen", "performance", "completed", "failed",
    "learned_proficiency", "learned", "average_cost_usd", "revision",
)  # fmt: skip


@app.command("list")
@connected
async def list_(
    hive: Hive,
    status: Annotated[str | None, typer.Option("--status", help="One or several, comma-separated.")] = None,
    capability: Annotated[str | None, typer.Option("--capability")] = None,
    limit: Annotated[int, typer.Option("--limit", min=1, max=1000)] = 100,
    cursor: Annotated[str | None, typer.Option("--cursor")] = None,
    all_: Annotated[bool, typer.Option("--all", help="All pages.")] = False,
) -> None:
    """List agents, with what only the leader knows (last seen, free slots)."""
    wanted = {"status": status, "capability": capability, "live": True}
    filters: dict[str, Any] = {name: value for name, value in wanted.items() if value is not None}
    if all_:
        hive.show_all([agent async for agent in hive.client.agents.iterate(**filters)], None, COLUMNS)
    else:
        hive.show_page(await hive.client.agents.list(limit=limit, cursor=cursor, **filters), COLUMNS)


@app.command("get")
@connected
async def get(hive: Hive, agent_id: AgentId) -> None:
    """Show one agent."""
    hive.show(await hive.client.agents.get(agent_id, live=True), FIELDS)


@app.command("reset-learned")
@connected
async def reset_learned(
    hive: Hive,
    agent_id: AgentId,
    names: LearnedNames = None,
) -> None:
    """Forget what an agent's attempts taught about how well it does something."""
    hive.show(await hive.client.agents.reset_learned(agent_id, names or None), FIELDS)


@app.command("drain")
@connected
async def drain(
    hive: Hive,
    agent_id: AgentId,
    undo: Annotated[bool, typer.Option("--undo", help="Give it work again.")] = False,
) -> None:
    """Give an agent no new work; what runs may finish."""
    agents = hive.client.agents
    hive.show(await (agents.undrain(agent_id) if undo else agents.drain(agent_id)), FIELDS)


@app.command("delete")
@connected
async def delete(hive: Hive, agent_id: AgentId) -> None:
    """Remove an agent; what it held is requeued at once."""
    reply = await hive.client.agents.delete(agent_id)
    hive.show(reply, tuple(reply.raw))
