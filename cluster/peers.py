"""Who the other members are, and whether whoever calls itself one is let in.

A journal id is random and made with the journal. Peers remember it, so an emptied data directory that comes back
under a
known id is refused: it would have forgotten its votes and what it acknowledged (H15).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from cluster.messages import PROTOCOL_VERSION

JOURNAL_UNKNOWN = "journal_unknown"
REMOVED = "removed"
"""First words of refusals after which a node must not go on."""


def ends(reason: str, node_id: str) -> bool:
    """Whether a refusal with this reason says of that node that it must not go on."""
    return reason.startswith((f"{JOURNAL_UNKNOWN}: node {node_id} ", f"{REMOVED}: node {node_id} "))


def removed_reason(node_id: str) -> str:
    """Why a node that was removed must not go on."""
    return (
        f"{REMOVED}: node {node_id} was removed from the cluster; its data directory is of no use any more. To bring "
        "the machine back, add it under an id that was never used, with an empty data directory"
    )


_HELLO: dict[str, type] = {
    "protocol": int,
    "cluster_id": str,
    "node_id": str,
    "journal_id": bytes,
    "last_index": int,
    "last_term": int,
    "run": int,
    "http_address": str,
    "version": str,
}
_TEXT_MAX = 300
"""Characters or bytes of a field; what is told of a peer is kept, logged and shown."""


def _malformed(hello: dict[str, Any]) -> str | None:
    """What is wrong with the form of a hello, or None. Nodes of before do not say `rebuilding`: it is false then."""
    if type(hello.get("rebuilding", False)) is not bool:
        return f"hello: field rebuilding is {hello['rebuilding']!r:.60}"
    for name, kind in _HELLO.items():
        value = hello.get(name)
        # Another protocol may well say other things of itself: then that is the reason.
        if type(value) is not kind and hello.get("protocol") == PROTOCOL_VERSION:
            return f"hello: field {name} is {value!r:.60}"
        if isinstance(value, str | bytes) and len(value) > _TEXT_MAX:
            return f"hello: field {name} is too long"
    return None


@dataclass(frozen=True, slots=True)
class Peer:
    """What a member said of itself."""

    http_address: str
    version: str
    journal_id: bytes


class Peers:
    """The members of this node's cluster as this node knows them."""

    def __init__(
        self,
        *,
        node_id: str,
        cluster_id: str,
        journal_id: bytes,
        members: Mapping[str, str],
        http_address: str,
        version: str,
        fresh: bool,
        journal_ids: dict[str, bytes],
        remember: Callable[[dict[str, bytes], dict[str, int]], None],
        held_at_least: Mapping[str, int] | None = None,
        may_be_joined: bool = True,
        rebuilding: bool = False,
    ) -> None:
        """`fresh`: this node's journal is empty, and it may have had another. `remember` stores what is known of the
        others' journals durably; `journal_ids` and `held_at_least` are what it stored last. `rebuilding`: this node
        has lost its log and says so (rebuilding.py)."""
        self.node_id = node_id
        self.members = dict(members)
        self.removed: frozenset[str] = frozenset()
        self.may_be_joined = may_be_joined
        self.known: dict[str, Peer] = {}
        self._cluster_id = cluster_id
        self._journal_id = journal_id
        self._http_address = http_address
        self._version = version
        self._fresh = fresh
        self._rebuilding = rebuilding
        self._journal_ids = journal_ids
        self._pinned: dict[str, bytes] = {}
        self._remember = remember
        self._met: set[str] = set()
        self._held_at_least: dict[str, int] = dict(held_at_least or {})
        self._runs: dict[str, int] = {}
        self.run = 0
        """Random and new with every start of this node."""

    def set_members(self, members: Mapping[str, str], removed: frozenset[str], pinned: Mapping[str, bytes]) -> None:
        """The membership as it is now: peer addresses, ids that must not come back, journals that are replicated."""
        self.members, self.removed, self._pinned = dict(members), removed, dict(pinned)
        if pinned.get(self.node_id) == self._journal_id:
            self._fresh = False  # it has what the cluster had decided when it was met

    @property
    def journal_is_foreign(self) -> bool:
        """Whether the cluster knows this very node by another journal."""
        return self._pinned.get(self.node_id, self._journal_id) != self._journal_id

    def hello(self, last_index: int, last_term: int) -> dict[str, Any]:
        """What this node says of itself."""
        return {
            "protocol": PROTOCOL_VERSION,
            "cluster_id": self._cluster_id,
            "node_id": self.node_id,
            "journal_id": self._journal_id,
            "last_index": last_index,
            "last_term": last_term,
            "run": self.run,
            "http_address": self._http_address,
            "version": self._version,
            "rebuilding": self._rebuilding,
        }

    def refuse(self, peer_id: str, hello: dict[str, Any], own_log: tuple[int, int] | None = None) -> str | None:
        """Why this peer is refused, for its log and ours; None lets it in. `own_log`: (last term, last index)."""
        if (fault := _malformed(hello)) is not None:
            return fault
        if hello.get("protocol") != PROTOCOL_VERSION:
            return f"protocol {hello.get('protocol')} is not {PROTOCOL_VERSION}: upgrade the older node"
        if hello.get("cluster_id") != self._cluster_id:
            return f"cluster {hello.get('cluster_id')} is not {self._cluster_id}: it belongs to another cluster"
        if peer_id in self.removed:
            return removed_reason(peer_id)
        # It may have been added in entries that this node lacks. It knows the secret, and votes and entries are judged
        # by their terms and not by who sends them; so a node that is far behind is found by whoever leads now.
        newer = own_log is not None and (hello["last_term"], hello["last_index"]) > own_log
        stranger = peer_id not in self.members and not newer
        if peer_id == self.node_id or stranger or hello.get("node_id") != peer_id:
            return f"node id {peer_id!r} is not one of the other members"
        known = self._pinned.get(peer_id) or self._journal_ids.get(peer_id)
        if known is not None and hello.get("journal_id") != known:
            return (
                f"{JOURNAL_UNKNOWN}: node {peer_id} was known here with another journal; its data directory was "
                "emptied or replaced. Bring the old directory back, or add the node under an id that was never used"
            )
        # A hello may be older than what its sender acknowledged on another connection meanwhile; who was not restarted
        # has lost nothing.
        restarted = hello["run"] != self._runs.get(peer_id)
        behind = hello["last_index"] < self._held_at_least.get(peer_id, 0)
        if behind and restarted and not hello.get("rebuilding"):
            return (
                f"{JOURNAL_UNKNOWN}: node {peer_id} has lost log entries it once acknowledged; its data directory was "
                "set back. Bring the newer directory back, or add the node under an id that was never used"
            )
        return None

    def met(self, peer_id: str, hello: dict[str, Any]) -> None:
        """A peer was let in."""
        self._met.add(peer_id)
        self._runs[peer_id] = hello["run"]
        self.known[peer_id] = Peer(hello["http_address"], hello["version"], hello["journal_id"])
        if peer_id not in self._journal_ids:
            self._journal_ids[peer_id] = hello["journal_id"]
            self._remember(dict(self._journal_ids), dict(self._held_at_least))

    def met_as(self, node_id: str) -> Peer | None:
        """What a member said of itself when it was met last; this node too."""
        if node_id == self.node_id:
            return Peer(self._http_address, self._version, self._journal_id)
        return self.known.get(node_id)

    def holds_at_least(self, peer_id: str, index: int) -> None:
        """The peer acknowledged committed entries up to `index`. Learned when its connection ends, so rarely."""
        if index > self._held_at_least.get(peer_id, 0):
            self._held_at_least[peer_id] = index
            self._remember(dict(self._journal_ids), dict(self._held_at_least))

    def rebuilt(self) -> None:
        """This node holds again what it must: from here on it votes as any other."""
        self._rebuilding = self._fresh = False

    def may_vote(self) -> bool:
        """A node with an empty journal first hears a majority beside itself: had it ever helped to commit anything, one
        of them did too. So a new cluster of three forms when all three are there."""
        majority = len(self.members) // 2 + 1
        if self._rebuilding:
            return False
        return not self._fresh or len(self._met) >= min(majority, len(self.members) - 1)
