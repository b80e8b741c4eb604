"""What a core is given to live on, and whom it answers to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from cluster.ports import Clock, Executor, Loop, Network
from cluster.replica import Notice


@dataclass(frozen=True, slots=True)
class Host:
    """The machine. Two executors, since a snapshot takes long and an fsync must not wait for it."""

    network: Network
    clock: Clock
    loop: Loop
    journal_executor: Executor
    snapshot_executor: Executor


class Owner(Protocol):
    """Who runs the core; called on the core's thread, and never raises."""

    def on_notice(self, notice: Notice) -> None:
        """An entry became visible."""

    def role_changed(self) -> None:
        """Role, leader or term changed."""

    def installed(self) -> None:
        """The state was replaced by a snapshot; its generation counts once the log's reset is durable."""

    def on_message(self, peer_id: str, message: Mapping[str, Any]) -> None:
        """A `call`, or the `reply` to one."""

    def on_refused(self, peer_id: str, reason: str) -> None:
        """A handshake with a peer failed."""

    def on_fatal(self, error: BaseException) -> None:
        """The node must end, now: nothing more may be written or said."""
