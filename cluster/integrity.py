"""What keeps a node from doing harm with what is wrong with it: another state than the others', a log that was lost, a
disk that is nearly full. One place, so that the core has one thing to call."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from cluster.agreement import Agreement
from cluster.free_space import FreeSpace
from cluster.ports import Executor
from cluster.rebuilding import Goals, Rebuilding
from cluster.replica import NotCommittedError
from statemachine.growth import grows

if TYPE_CHECKING:
    from cluster.core import Core

Message = dict[str, Any]
Handler = Callable[["Core", str, Message], None]

_QUICK_S = 0.025
"""Between two pieces while a node's first round is under way: most of the time is left for everything else."""

log = logging.getLogger("hive.cluster.integrity")


class Integrity:
    """Of one core."""

    def __init__(self, core: Core, executor: Executor, broadcast: Callable[[Message], None]) -> None:
        options = core.options
        self._core = core
        self._asked_s = -1e9
        self.state_differs = options.state_differs
        self.free_space = FreeSpace(options.node_id, options.limits.min_free_bytes)
        self.rebuilding = Rebuilding(core, broadcast, active=options.rebuilding)
        self.goals = Goals(core)
        self.agreement = Agreement(
            options.node_id,
            core.state,
            executor,
            voters=lambda: core.membership.current.voters,
            send=core.send,
            broadcast=broadcast,
            on_differs=self._differs,
            on_failure=core.fail,
        )
        if self.state_differs:
            log.error("%s", self.out_of_service)

    @property
    def out_of_service(self) -> str:
        """Why this node serves nothing and does not lead, with the way out; empty while it is in service."""
        if self.state_differs:
            return (
                f"this node is out of service: {self.state_differs}; stop it, run hive resync on its data directory, "
                "start it again"
            )
        if self.rebuilding.active:
            return "this node is being rebuilt from the others; it serves when it has caught up"
        return ""

    def alarms(self) -> list[str]:
        """What an operator should look at."""
        space = self.free_space
        raised = {
            "state_differs": bool(self.state_differs),
            "states_disagree": self.agreement.unclear and self._core.engine.leading,
            "rebuilding": self.rebuilding.active,
            "read_only": space.read_only,
            "disk_low": space.own_low,
        }
        return [name for name, on in raised.items() if on]

    def _differs(self, text: str) -> None:
        """The log is right, as everybody's; only what was made of it here is not. So this node goes on to acknowledge
        and to vote, or the cluster would have one member less; it does not lead, and says nothing to anybody else."""
        core = self._core
        self.state_differs = text
        log.error("%s", self.out_of_service)
        core.owner.state_differs(text)
        core.proposer.gap()
        core.engine.transferLeadership()
        core.owner.role_changed()

    def tick(self) -> None:
        """What is due."""
        core = self._core
        leading = core.engine.leading
        self.free_space.leads(leading=leading)
        core.contact.read_only = self.free_space.read_only
        self.rebuilding.tick()
        if not core.is_leader or not core.others:
            return
        now, every_s = core.now_s(), core.options.timings.state_check_ms / 1000
        if self.agreement.quick:
            every_s = min(_QUICK_S, every_s)
        if now - self._asked_s >= every_s:
            self._asked_s = now
            self.agreement.ask(core.engine.term, core.journal.last_index, core.journal.last_term)

    def check_writable(self, frames: Sequence[bytes]) -> None:
        """Raise NotCommittedError for what may not be written here now."""
        if self.out_of_service:
            raise NotCommittedError("too_stale", self.out_of_service)
        if self.free_space.read_only and any(map(grows, frames)):
            raise NotCommittedError(
                "read_only",
                "a node of the cluster is short of disk space: only what frees or ends something is taken until there "
                "is more",
            )

    def peer_connected(self, peer_id: str, hello: Message) -> None:
        """A fresh connection: whether the peer counts is in its first word."""
        uncounted = self._core.contact.uncounted
        if hello.get("rebuilding"):
            uncounted.add(peer_id)
            # What it acknowledged before it lost its log is no copy any more.
            self._core.engine.forget_match(peer_id)
        else:
            uncounted.discard(peer_id)

    def peer_lost(self, peer_id: str) -> None:
        """The connection is gone. Whether the peer counts is not asked while it says nothing."""
        self.free_space.lost(peer_id)


def _state_check(core: Core, peer_id: str, message: Message) -> None:
    if peer_id == core.engine.leader_id and message["term"] == core.engine.term:
        core.integrity.agreement.on_check(peer_id, message)


def _state_digest(core: Core, peer_id: str, message: Message) -> None:
    if core.engine.leading and message["term"] == core.engine.term:
        core.integrity.agreement.on_answer(peer_id, message)


def _state_differs(core: Core, peer_id: str, message: Message) -> None:
    if peer_id == core.engine.leader_id:
        core.integrity.agreement.on_verdict(message)


def _rebuild_wanted(core: Core, peer_id: str, message: Message) -> None:
    core.integrity.goals.on_wanted(peer_id, message)


def _rebuild_goal(core: Core, peer_id: str, message: Message) -> None:
    core.integrity.rebuilding.on_goal(peer_id, message)


def _rebuilt(core: Core, peer_id: str, _message: Message) -> None:
    core.integrity.goals.on_rebuilt(peer_id)


HANDLERS: dict[str, Handler] = {
    "state_check": _state_check,
    "state_digest": _state_digest,
    "state_differs": _state_differs,
    "rebuild_wanted": _rebuild_wanted,
    "rebuild_goal": _rebuild_goal,
    "rebuilt": _rebuilt,
}
"""By type of message, as `inbound.HANDLERS`."""
