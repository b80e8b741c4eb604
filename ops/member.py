"""`hive member`: who is in the cluster, and changing it while it runs."""

from __future__ import annotations

from typing import Annotated

import typer
from hive_client.models import Member

from ops.connection import Hive, connected
from ops.edge import UsageError

app = typer.Typer(help="Look at the members of the cluster; add, promote, move or remove one.", no_args_is_help=True)

NodeId = Annotated[str, typer.Argument(metavar="NODE_ID")]
WaitOption = Annotated[
    float | None, typer.Option("--wait-s", min=0, help="Wait so long until it votes. Exit status 1 if it does not.")
]

COLUMNS = {
    "NODE": "node_id",
    "ROLE": "role",
    "VOTER": "voter",
    "CONNECTED": "connected",
    "PEER ADDRESS": "peer_address",
    "HTTP ADDRESS": "http_address",
    "MATCH INDEX": "match_index",
    "LAG": "lag_entries",
    "LAST CONTACT MS": "last_contact_ms",
    "VERSION": "version",
}
FIELDS = tuple(COLUMNS.values())


def add_to(parent: typer.Typer) -> None:
    """Register the commands."""
    parent.add_typer(app, name="member")


@app.command("list")
@connected
async def list_(hive: Hive) -> None:
    """List the members as the asked node sees them."""
    hive.show_all(await hive.client.cluster.members(), None, COLUMNS)


@app.command("add")
@connected
async def add(
    hive: Hive,
    node_id: NodeId,
    peer: Annotated[str, typer.Option("--peer", metavar="HOST:PORT", help="Where the other nodes reach it.")],
    http: Annotated[str, typer.Option("--http", metavar="HOST:PORT", help="Where clients reach it.")],
    wait_s: WaitOption = None,
) -> None:
    """Make a node known, as a learner that is promoted when it has caught up. `hive node --join` does this itself."""
    member = await hive.client.cluster.add_member(node_id, peer_address=peer, http_address=http)
    hive.show(await _voting(hive, member, wait_s), FIELDS)


async def _voting(hive: Hive, member: Member, wait_s: float | None) -> Member:
    if wait_s is None or member.voter:
        return member
    return await hive.client.cluster.wait_voter(member.node_id, timeout_s=wait_s)


@app.command("promote")
@connected
async def promote(hive: Hive, node_id: NodeId) -> None:
    """Let a learner vote now, before it is done by itself."""
    hive.show(await hive.client.cluster.promote_member(node_id), FIELDS)


@app.command("update")
@connected
async def update(
    hive: Hive,
    node_id: NodeId,
    peer: Annotated[str | None, typer.Option("--peer", metavar="HOST:PORT", help="[default: as it is]")] = None,
    http: Annotated[str | None, typer.Option("--http", metavar="HOST:PORT", help="[default: as it is]")] = None,
) -> None:
    """Tell the cluster that a member moved to other addresses."""
    if peer is None and http is None:
        raise UsageError("give --peer, --http, or both")
    hive.show(await hive.client.cluster.update_member(node_id, peer_address=peer, http_address=http), FIELDS)


@app.command("remove")
@connected
async def remove(hive: Hive, node_id: NodeId) -> None:
    """Remove a node for good; it stops by itself, and its id is never used again. Prints who remains."""
    hive.show_all(await hive.client.cluster.remove_member(node_id), None, COLUMNS)
