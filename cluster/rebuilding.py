"""How a member whose log is damaged comes back under its own id without forgetting what it promised.

It has lost its votes and what it acknowledged, so at first it counts for nothing: it neither campaigns nor votes, and
its acknowledgements and answers to probes are no part of a majority (`uncounted`). It becomes a voter again when it
holds an entry that was APPENDED AFTER IT CAME BACK, AND COMMITTED WITHOUT IT:

* Such an entry stands on a majority of the others, at the leader's term L. So does everything that was ever committed:
  what this member had helped to commit is in the leader's log, and now in its own.
* Whoever has an old vote of this member for a term above L lacks that entry, and so does not get the votes of that
  majority, ever: a second vote in such a term elects no second leader. In a term up to L this member votes no more: who
  asks for votes in a term has no entry of that term yet, and the log of this member now ends with one of term L.
* A leader of a term above L would have been elected by that majority, which was still in term L afterwards: there is
  none, and what this node believes after it has come to term L is not older than what it knew before.

So it takes a majority of the members beside this one: both others of three, three of the other four.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cluster.core import Core

Message = dict[str, Any]

_ASK_EVERY_S = 0.1

log = logging.getLogger("hive.cluster.rebuilding")


@dataclass(frozen=True, slots=True)
class _Goal:
    """The entry to reach."""

    term: int
    index: int


class Rebuilding:
    """This node's own return, if it is under way."""

    def __init__(self, core: Core, broadcast: Callable[[Message], None], *, active: bool) -> None:
        self._core = core
        self._broadcast = broadcast
        self.active = active
        self._goal: _Goal | None = None
        self._finishing = False
        self._asked_s = -1e9
        self._number = core.options.run >> 1

    def tick(self) -> None:
        """Ask for the goal, or see whether it is reached."""
        if not self.active or self._finishing:
            return
        core, goal = self._core, self._goal
        if goal is not None and goal.term != core.engine.term:
            # Who led then may be deposed: what it said is not vouched for any more.
            goal = self._goal = None
        if goal is None:
            self._ask()
        elif min(core.engine.applied_index, core.journal.durable_index) >= goal.index:
            # BOTH: a snapshot is applied before its place in the log, and the term before it, are on the disk.
            self._finishing = True
            core.owner.rebuilt(self._rebuilt)

    def _ask(self) -> None:
        core, leader = self._core, self._core.engine.leader_id
        now = core.now_s()
        if leader is not None and now - self._asked_s >= _ASK_EVERY_S:
            self._asked_s = now
            core.send(leader, {"type": "rebuild_wanted", "n": self._number})

    def on_goal(self, peer_id: str, message: Message) -> None:
        """The leader names the entry; only the one that leads now, and for this run of this node."""
        engine = self._core.engine
        if peer_id == engine.leader_id and (message["n"], message["term"]) == (self._number, engine.term):
            self._goal = _Goal(message["term"], message["index"])

    def _rebuilt(self) -> None:
        """It is on disk that this node is whole."""
        core = self._core
        self.active = False
        core.peers.rebuilt()
        self._broadcast({"type": "rebuilt"})
        core.owner.role_changed()
        log.info("rebuilt from the others: this node is a voter again applied=%d", core.engine.applied_index)


@dataclass(slots=True)
class _Given:
    """What a leader told one member."""

    number: int
    goal: _Goal


class Goals:
    """The leader's side: which entry each member that comes back has to reach."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._given: dict[str, _Given] = {}

    def on_wanted(self, peer_id: str, message: Message) -> None:
        """A member asks. ITS GOAL IS APPENDED NOW, and named when a majority has it; it is none of them, for what it
        says does not count."""
        core = self._core
        term, given = core.engine.term, self._given.get(peer_id)
        if not core.is_leader or peer_id not in core.contact.uncounted:
            return
        if given is None or given.number != message["n"] or given.goal.term != term:
            index = core.engine.append_no_op()
            self._given[peer_id] = _Given(message["n"], _Goal(term, index))
        elif core.engine.commit_index >= given.goal.index:
            goal = given.goal
            core.send(peer_id, {"type": "rebuild_goal", "n": message["n"], "term": term, "index": goal.index})

    def on_rebuilt(self, peer_id: str) -> None:
        """A member counts again; what it says from here on, on this connection too."""
        self._given.pop(peer_id, None)
        self._core.contact.uncounted.discard(peer_id)
