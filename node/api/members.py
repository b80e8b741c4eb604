"""Routes that show the members of the cluster. They are changed in `member_changes.py`."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any, Literal

import msgspec

from cluster.replica import MemberStatus, ReplicaStatus
from node.api.problem import Problem
from node.api.query import ReadQuery, WaitMs
from node.api.reply import Reply, json_reply
from node.api.request import Request
from node.api.route import Route

MEMBER_LOOK_S = 0.1
"""How often a wait for a member looks again."""


class GetMember(ReadQuery, kw_only=True):
    """`until=voter` with `wait_ms` waits until the member votes."""

    until: Literal["voter"] | None = None
    wait_ms: WaitMs = 0


class MemberView(msgspec.Struct):
    """A member as this node sees it."""

    node_id: str
    peer_address: str
    http_address: str | None
    role: str
    voter: bool
    connected: bool
    match_index: int | None
    lag_entries: int | None
    last_contact_ms: int | None
    version: str | None


class Members(msgspec.Struct):
    """All members."""

    items: list[MemberView]
    next_cursor: None = None


def members_of(status: ReplicaStatus, version: str) -> list[MemberView]:
    """All members as shown."""
    return member_views(status.members, status.node_id, version)


def member_views(members: Iterable[MemberStatus], node_id: str, version: str) -> list[MemberView]:
    """These members as node `node_id` of that version shows them."""
    return [member_view(member, node_id, version) for member in members]


def member_view(member: MemberStatus, node_id: str, version: str) -> MemberView:
    """One of them."""
    return MemberView(
        node_id=member.node_id,
        peer_address=member.peer_address,
        http_address=member.http_address,
        role=member.role,
        voter=member.voter,
        connected=member.connected,
        match_index=member.match_index,
        lag_entries=member.lag_entries,
        last_contact_ms=member.last_contact_ms,
        version=version if member.node_id == node_id else member.version,
    )


async def list_members(request: Request[ReadQuery, Any]) -> Reply:
    """The members as this node sees them."""
    return json_reply(Members(members_of(request.api.replica.status(), request.api.version)))


async def get_member(request: Request[GetMember, Any]) -> Reply:
    """One member; `until=voter` with `wait_ms` waits for its promotion."""
    query, loop = request.query, asyncio.get_running_loop()
    give_up_s = loop.time() + query.wait_ms / 1_000
    while True:
        member = _one_member(request)
        wait_s = min(give_up_s - loop.time(), MEMBER_LOOK_S)
        if query.until is None or member.voter or wait_s <= 0:
            return json_reply(member)
        # Membership makes no revision that could wake this, so it looks again; the project's name is of no account.
        await request.api.wakeups.wait(request.project, (f"member {member.node_id}",), wait_s, request.connection)


def _one_member(request: Request[GetMember, Any]) -> MemberView:
    node_id = request.parameters["node_id"]
    for member in members_of(request.api.replica.status(), request.api.version):
        if member.node_id == node_id:
            return member
    raise Problem("not_found", f"there is no member {node_id!r}")


ROUTES = (
    Route(
        "GET", "/api/cluster/members", list_members, "The members", "cluster:read",
        query=ReadQuery, reply=Members,
    ),
    Route(
        "GET", "/api/cluster/members/{node_id}", get_member, "One member; `until` waits", "cluster:read",
        query=GetMember, reply=MemberView, waits=True,
    ),
)  # fmt: skip
