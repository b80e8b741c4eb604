"""From an applied change of the membership to everybody in a core who counts on it."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from cluster.identity import StartError
from cluster.peers import removed_reason
from cluster.ports import Loop, Network

if TYPE_CHECKING:
    from cluster.core import Core

_GOODBYE_S = 0.5
"""How long a removed member's connection stays, so that it can read why."""


class Reconfiguring:
    """Makes the membership in the state the one that counts, all at once; connections follow."""

    def __init__(self, core: Core, network: Network, loop: Loop) -> None:
        self._core = core
        self._network = network
        self._loop = loop

    def take_up(self) -> None:
        """The membership in the state may be another one now. CALL WHERE IT WAS APPLIED, before anything else is done
        by the old one."""
        core = self._core
        before, current = core.membership.current, core.membership.reload()
        node_id = core.options.node_id
        core.others = current.others(node_id)
        core.peers.set_members(current.addresses(), current.removed, current.journal_ids())
        if node_id in current.removed:
            self.removed()
            return
        if core.peers.journal_is_foreign:
            raise StartError(
                f"the cluster knows node {node_id} by another journal; this data directory is not the one it had last. "
                "Bring that one back, or add the node under an id that was never used"
            )
        if core.engine.candidate and current.voters != before.voters:
            core.engine.step_down()  # it asked others than those who decide now
        if node_id not in current.voters:
            core.engine.step_down()  # it is leaving: the engine would count it
        core.engine.set_members(current.voters - {node_id}, current.readers - {node_id})
        core.contact.set_voters(current.voters)
        core.elections.set_voters(current.voters)
        # The network reports lost connections at once, and this may be in the middle of an entry.
        self._loop.call_soon(lambda: core.guarded(self._reconnect))

    def _reconnect(self) -> None:
        core = self._core
        current = core.membership.current
        self._network.set_members({peer: current.members[peer].peer_address for peer in core.others})
        for peer in sorted(current.removed & core.transport.connected):
            # It may never apply its own removal: the commit of that is news for members only.
            core.send(peer, {"type": "removed"})
            self._loop.call_later(_GOODBYE_S, partial(self._network.disconnect, peer, "removed"))
        core.schedule_pump()

    def removed(self) -> None:
        """This node is no member any more."""
        self._core.engine.step_down()
        self._core.fail(StartError(removed_reason(self._core.options.node_id)))
