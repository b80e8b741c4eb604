"""Routes that change who the members are: one server at a time, by commands in the log (ENGINE.md, rule 8)."""

from __future__ import annotations

from typing import Annotated

import msgspec

from cluster.replica import AddMember, MemberChange, MemberStatus, PromoteMember, RemoveMember, UpdateMember
from node.address import check_reachable
from node.api import ids
from node.api.body import Body, NoBody
from node.api.ids import Id
from node.api.members import Members, MemberView, member_view, member_views
from node.api.problem import Problem, invalid
from node.api.query import WriteQuery
from node.api.reply import Reply, json_reply
from node.api.request import AnyRequest, Request
from node.api.route import Route
from node.api.unlogged import check_headers

LOCATION = "/api/cluster/members/"

AddressText = Annotated[
    str, msgspec.Meta(min_length=1, max_length=300, description="host:port, as the other nodes and clients reach it")
]


class NewMember(Body):
    """A node that is to join. It is started with `hive node --join`, which sends this itself."""

    node_id: Id
    peer_address: AddressText
    http_address: AddressText


class NewAddresses(Body):
    """What is absent stays as it is."""

    peer_address: AddressText | None = None
    http_address: AddressText | None = None


async def add_member(request: Request[WriteQuery, NewMember]) -> Reply:
    """A learner, promoted when it has caught up; the same again changes nothing."""
    body = request.body
    node_id = ids.check("node_id", body.node_id)
    peer_address = _address("peer_address", body.peer_address)
    change = AddMember(node_id, peer_address, _address("http_address", body.http_address))
    member = _one(await _change(request, change), node_id)
    # 202 says that the promotion is still to come.
    return _shown(request, member, 200 if member.voter else 202, (("Location", LOCATION + node_id),))


async def promote_member(request: Request[WriteQuery, NoBody]) -> Reply:
    """Let a learner vote now."""
    node_id = request.parameters["node_id"]
    return _shown(request, _one(await _change(request, PromoteMember(node_id)), node_id))


async def update_member(request: Request[WriteQuery, NewAddresses]) -> Reply:
    """Change addresses of a member; the others connect to the new ones."""
    body = request.body
    if body.peer_address is None and body.http_address is None:
        raise invalid("peer_address", "give peer_address, http_address, or both")
    node_id = request.parameters["node_id"]
    change = UpdateMember(
        node_id,
        None if body.peer_address is None else _address("peer_address", body.peer_address),
        None if body.http_address is None else _address("http_address", body.http_address),
    )
    return _shown(request, _one(await _change(request, change), node_id))


async def remove_member(request: Request[WriteQuery, NoBody]) -> Reply:
    """Remove a node for good. The members that remain; also when it was gone before."""
    members = await _change(request, RemoveMember(request.parameters["node_id"]))
    return json_reply(Members(member_views(members, request.api.replica.node_id, request.api.version)))


async def _change(request: AnyRequest, change: MemberChange) -> tuple[MemberStatus, ...]:
    """The members after the change. Each is harmless to repeat, so no Idempotency-Key is written down."""
    await check_headers(request)
    members = await request.api.replica.change_members(change, request.seconds_left())
    request.consistency = "linearizable"
    return members


def _address(field: str, text: str) -> str:
    try:
        return str(check_reachable(text))
    except ValueError as error:
        raise invalid(field, str(error)) from None


def _one(members: tuple[MemberStatus, ...], node_id: str) -> MemberStatus:
    for member in members:
        if member.node_id == node_id:
            return member
    # Added by one request and removed by another before this one was answered.
    raise Problem("not_found", f"member {node_id!r} was removed meanwhile")


def _shown(
    request: AnyRequest, member: MemberStatus, status: int = 200, headers: tuple[tuple[str, str], ...] = ()
) -> Reply:
    replica = request.api.replica
    return json_reply(member_view(member, replica.node_id, request.api.version), status, headers)


ROUTES = (
    Route(
        "POST", "/api/cluster/members", add_member, "Add a node, as a learner", "cluster:operate",
        query=WriteQuery, body=NewMember, reply=MemberView, statuses=(200, 202),
    ),
    Route(
        "POST", "/api/cluster/members/{node_id}/promote", promote_member, "Let a learner vote", "cluster:operate",
        query=WriteQuery, reply=MemberView,
    ),
    Route(
        "PUT", "/api/cluster/members/{node_id}", update_member, "Change addresses of a member", "cluster:operate",
        query=WriteQuery, body=NewAddresses, reply=MemberView,
    ),
    Route(
        "DELETE", "/api/cluster/members/{node_id}", remove_member, "Remove a node for good", "cluster:operate",
        query=WriteQuery, reply=Members,
    ),
)  # fmt: skip
