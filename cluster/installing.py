"""From a fetched snapshot to the engine that takes it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cluster.replica import Notice
from cluster.snapshots import decode_manifest

if TYPE_CHECKING:
    from cluster.core import Core


class Installing:
    """Holds a fetched, checked snapshot until a leader is known, then injects it as coming from that one: what it holds
    is committed, whoever gave it."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._manifest: bytes | None = None
        self._giver_id = ""

    def fetched(self, peer_id: str, manifest: bytes) -> None:
        """The image is here, and a generation of it is built."""
        self._manifest, self._giver_id = manifest, peer_id

    def go_on(self) -> None:
        """Install, if there is something to install and somebody to say so to."""
        core = self._core
        leader = core.engine.leader_id
        if self._manifest is None or leader is None or core.engine.leading:
            return
        manifest_bytes, self._manifest = self._manifest, None
        index = decode_manifest(manifest_bytes).position.index
        if index > core.engine.applied_index:
            core.transport.install(leader, core.engine.term, manifest_bytes, index)
            core.proposer.gap()
            core.membership.gap()
            core.reconfiguring.take_up()
            position = core.state.position
            core.owner.on_notice(
                Notice(position.index, position.term, 0, position.revision, position.time_ms, gap=True)
            )
            core.owner.installed()
        # To whoever offered it: that may be a newer leader than the one this node knows of, and it waits.
        core.send(self._giver_id, {"type": "installed", "index": core.engine.applied_index})
        core.schedule_pump()
