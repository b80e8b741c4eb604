"""Who is a member, as one node knows it: read from the replicated state, or, while that knows nothing, as the node was
started. It counts from the moment at which the entry that changed it is applied."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from statemachine import members as table
from statemachine.members import LEARNER, LEAVING, REMOVED, VOTER, Member
from statemachine.store import Reader


@dataclass(frozen=True, slots=True)
class Configuration:
    """A membership. `members` are voters, learners and who is leaving, by id; `removed` are ids that must never come
    back; `founded`: it stands in the replicated state."""

    members: Mapping[str, Member]
    removed: frozenset[str] = frozenset()
    founded: bool = False

    @property
    def voters(self) -> frozenset[str]:
        """Whose votes and acknowledgements count."""
        return frozenset(node_id for node_id, member in self.members.items() if member.role == VOTER)

    @property
    def learners(self) -> frozenset[str]:
        """Who is to become a voter."""
        return frozenset(node_id for node_id, member in self.members.items() if member.role == LEARNER)

    @property
    def leaving(self) -> frozenset[str]:
        """Who was a voter, and is removed next."""
        return frozenset(node_id for node_id, member in self.members.items() if member.role == LEAVING)

    @property
    def readers(self) -> frozenset[str]:
        """Who gets the log, and has no say."""
        return frozenset(self.members) - self.voters

    def is_voter(self, node_id: str) -> bool:
        """Whether that is one."""
        member = self.members.get(node_id)
        return member is not None and member.role == VOTER

    def others(self, node_id: str) -> tuple[str, ...]:
        """All members but this one, sorted."""
        return tuple(sorted(other for other in self.members if other != node_id))

    def addresses(self) -> dict[str, str]:
        """Peer addresses by id."""
        return {node_id: member.peer_address for node_id, member in self.members.items()}

    def journal_ids(self) -> dict[str, bytes]:
        """The journals that are pinned, by id."""
        return {node_id: member.journal_id for node_id, member in self.members.items() if member.journal_id}


def quorum_of(voters: int) -> int:
    """How many of so many voters decide."""
    return voters // 2 + 1


def as_started(members: Mapping[str, str], learner: str | None = None) -> Configuration:
    """The membership of a node whose state knows none: the peer addresses it was started with. A node that joins is
    the one `learner`."""
    return Configuration(
        {
            node_id: Member(node_id, address, "", LEARNER if node_id == learner else VOTER)
            for node_id, address in sorted(members.items())
        }
    )


def read_configuration(reader: Reader, started: Configuration) -> Configuration:
    """The membership as it is in the state; `started` while there is none."""
    known = list(table.scan(reader))
    if not known:
        return started
    return Configuration(
        {member.node_id: member for member in known if member.role != REMOVED},
        frozenset(member.node_id for member in known if member.role == REMOVED),
        founded=True,
    )
