"""Routes that operate the cluster: hand over leadership, take a snapshot."""

from __future__ import annotations

import msgspec

from node.api.body import Body
from node.api.ids import Id
from node.api.problem import invalid
from node.api.query import WriteQuery
from node.api.reply import Reply, json_reply
from node.api.request import Request
from node.api.route import Route
from node.api.unlogged import check_headers
from node.duties.duties import Duties


class Transfer(Body):
    """`to` null: whoever is most caught up."""

    to: Id | None = None


class Transferred(msgspec.Struct):
    """Who leads now."""

    leader_id: str
    term: int


class SnapshotTaken(msgspec.Struct):
    """The log index the snapshot stands for."""

    index: int


async def transfer_leadership(request: Request[WriteQuery, Transfer]) -> Reply:
    """Hand leadership over."""
    await check_headers(request)
    hand_over = request.api.part(Duties).hand_over
    try:
        leader_id, term = await hand_over.hand_over(request.body.to, request.seconds_left())
    except ValueError as error:
        raise invalid("to", str(error)) from None
    return json_reply(Transferred(leader_id, term))


async def take_snapshot(request: Request[WriteQuery, Body]) -> Reply:
    """Take a snapshot on this node now, and compact its log."""
    await check_headers(request)
    return json_reply(SnapshotTaken(await request.api.replica.snapshot()))


ROUTES = (
    Route(
        "POST", "/api/cluster/transfer-leadership", transfer_leadership, "Hand over leadership", "cluster:operate",
        query=WriteQuery, body=Transfer, reply=Transferred,
    ),
    Route(
        "POST", "/api/cluster/snapshot", take_snapshot, "Take a snapshot and compact the log", "cluster:operate",
        query=WriteQuery, reply=SnapshotTaken,
    ),
)  # fmt: skip
