"""Read-only while space is short: a full disk stops a node, so the cluster stops to grow before one is full.

Every node measures its own file system and tells the leader with each answer to a probe; the leader tells everybody
with each probe whether the cluster is read-only. Each node refuses what would grow (`statemachine.growth`) by itself:
what arrives in the moment before it hears of it finds the space that the limit keeps.
"""

from __future__ import annotations

import logging

log = logging.getLogger("hive.cluster.space")

_ENOUGH = 1.25
"""Times the limit: what a node must have again, or the cluster would go back and forth with each segment of the log."""


class FreeSpace:
    """One node's side of it. Sizes in bytes; a limit of 0 switches it off."""

    def __init__(self, node_id: str, min_free_bytes: int) -> None:
        self._node_id = node_id
        self._min_free_bytes = min_free_bytes
        self.own_bytes: int | None = None
        self._low: set[str] = set()
        self._leading = False
        self._told = False
        self._read_only = False

    @property
    def read_only(self) -> bool:
        """Whether the cluster refuses what would grow, as far as this node knows."""
        return self._read_only

    @property
    def own_low(self) -> bool:
        """Whether this node is one of those that are short of space."""
        return self._node_id in self._low

    def measured(self, free_bytes: int) -> None:
        """So much is free here."""
        was_low, self.own_bytes = self.own_low, free_bytes
        self._judge(self._node_id, free_bytes)
        if self.own_low and not was_low:
            log.error(
                "disk is low: %d bytes free, below min_free_bytes=%d; free some space", free_bytes, self._min_free_bytes
            )
        elif was_low and not self.own_low:
            log.info("disk has space again: %d bytes free", free_bytes)
        self._decide()

    def heard(self, peer_id: str, free_bytes: int | None) -> None:
        """A member says how much it has; one that does not know yet changes nothing."""
        if free_bytes is not None:
            self._judge(peer_id, free_bytes)
            self._decide()

    def lost(self, peer_id: str) -> None:
        """A member that is gone writes nothing: it does not hold the others up."""
        self._low.discard(peer_id)
        self._decide()

    def told(self, *, read_only: bool) -> None:
        """The leader says whether the cluster is read-only."""
        self._told = read_only
        self._decide()

    def leads(self, *, leading: bool) -> None:
        """Who leads decides, and knows of nobody else when it begins to."""
        if leading != self._leading:
            self._leading = leading
            self._low &= {self._node_id}
            self._decide()

    def _judge(self, node_id: str, free_bytes: int) -> None:
        if free_bytes < self._min_free_bytes:
            self._low.add(node_id)
        elif free_bytes >= self._min_free_bytes * _ENOUGH:
            self._low.discard(node_id)

    def _decide(self) -> None:
        now = bool(self._low) if self._leading else self._told
        if now == self._read_only:
            return
        self._read_only = now
        if now:
            short = f" nodes={','.join(sorted(self._low))}" if self._low else ""
            log.error("the cluster is read-only: space is short, only what frees or ends something goes on%s", short)
        else:
            log.info("the cluster takes all writes again")
