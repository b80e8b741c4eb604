"""Members as one node sees them: what was decided of them, and what is known of how they are."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cluster.replica import MemberStatus
from statemachine.members import VOTER

if TYPE_CHECKING:
    from cluster.core import Core


def own_role(core: Core) -> str:
    """What the node of this core is: leader, follower, candidate or learner."""
    engine = core.engine
    if not core.membership.current.is_voter(core.options.node_id):
        return "learner"
    return "leader" if engine.leading else "candidate" if engine.candidate else "follower"


def member_status(core: Core, member: str, version: str) -> MemberStatus:
    """One member, seen from the node of this core, which runs `version`."""
    engine, node_id, leader_id = core.engine, core.options.node_id, core.leader_id
    known = core.membership.current.members[member]
    address, voter = known.peer_address, known.role == VOTER
    if member == node_id:
        http, last = known.http_address or core.peers.hello(0, 0)["http_address"], core.journal.last_index
        return MemberStatus(member, address, http, own_role(core), voter, True, last, 0, 0, version)
    peer = core.peers.known.get(member)
    # Followers do not talk to each other: of another follower only the leader knows when it was heard of last.
    talking = engine.leading or member == leader_id
    heard_s = core.contact.heard_s.get(member) if talking else None
    match = engine.match_index(member) if engine.leading else None
    return MemberStatus(
        node_id=member,
        peer_address=address,
        # What was decided of a member goes before what it says of itself.
        http_address=known.http_address or (None if peer is None else peer.http_address),
        role="leader" if leader_id == member else "follower" if voter else "learner",
        voter=voter,
        connected=member in core.transport.connected,
        match_index=match,
        lag_entries=None if match is None else max(0, core.journal.last_index - match),
        last_contact_ms=None if heard_s is None else int((core.now_s() - heard_s) * 1000),
        version=None if peer is None else peer.version,
    )
