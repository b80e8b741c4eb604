"""`hive transfer-leadership`, `hive snapshot`: the cluster as a whole. Its members: `ops/member.py`."""

from __future__ import annotations

from typing import Annotated

import typer

from ops.connection import Hive, connected


def add_to(app: typer.Typer) -> None:
    """Register the commands."""
    app.command("transfer-leadership")(transfer_leadership)
    app.command("snapshot")(snapshot)


@connected
async def transfer_leadership(
    hive: Hive,
    to: Annotated[str | None, typer.Option("--to", help="[default: the best placed member]")] = None,
) -> None:
    """Hand leadership to another member."""
    reply = await hive.client.cluster.transfer_leadership(to)
    hive.show(reply, tuple(reply.raw))


@connected
async def snapshot(hive: Hive) -> None:
    """Take a snapshot now and compact the log behind it."""
    reply = await hive.client.cluster.snapshot()
    hive.show(reply, tuple(reply.raw))
