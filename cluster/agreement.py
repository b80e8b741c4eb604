"""Whether the states are equal: all nodes digest the same piece of their state at the same entry, the leader compares.

    leader ──state_check(entry, from key)──> all ──state_digest──> leader ──state_differs──> who is not with the most

The entry is the newest of the leader's log. Nobody can have applied more, and whoever hears of its commit has heard the
check before, on the same connection; so every node stops at that entry, exactly there, and looks. The pieces go round
through all keys: a byte that the disk or the memory changed is noticed though no command ever reads it. With each piece
goes the digest chain, which notices at once whoever computed something else.

A node that was started says with its answers that its state was not compared all round yet. The leader is quick then,
and waits for nobody's pace: a disk may have changed anything while the node was down.

THE MAJORITY IS RIGHT. Of two that differ nobody knows which is; that is an alarm, and no verdict.
"""

from __future__ import annotations

import hashlib
import logging
from collections import OrderedDict
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import Any, TypeVar

from cluster.first_round import FirstRound
from cluster.ports import Executor
from cluster.range_digest import FIRST_KEY, RangeDigest
from cluster.state import Position, State

Message = dict[str, Any]
V = TypeVar("V")

_CHECKS_KEPT_MAX = 8
"""Checks that are still waited for; of a node that lags further behind nothing is compared until it has caught up."""

log = logging.getLogger("hive.cluster.agreement")


@dataclass(slots=True)
class _Check:
    """One comparison. `asker` is None on the leader that made it."""

    number: int
    term: int
    index: int
    entry_term: int
    start: bytes
    asker: str | None


@dataclass(slots=True)
class _Answers:
    """What the nodes said to one check, and who was told already."""

    term: int
    index: int
    by_node: dict[str, bytes] = field(default_factory=dict)
    told: set[str] = field(default_factory=set)


class Agreement:
    """One node's side of it, as leader and as follower. `on_differs` hears, once, why this node is the odd one."""

    def __init__(
        self,
        node_id: str,
        state: State,
        executor: Executor,
        *,
        voters: Callable[[], Collection[str]],
        send: Callable[[str, Message], bool],
        broadcast: Callable[[Message], None],
        on_differs: Callable[[str], None],
        on_failure: Callable[[BaseException], None],
    ) -> None:
        """`voters`: all of them, this node too if it is one."""
        self._node_id = node_id
        self._state = state
        self._executor = executor
        self._voters = voters
        self._send = send
        self._broadcast = broadcast
        self._on_differs = on_differs
        self._on_failure = on_failure
        self._number = 0
        self._cursor = FIRST_KEY
        self._busy = False
        self._pending: OrderedDict[int, _Check] = OrderedDict()
        self._asked: OrderedDict[int, _Answers] = OrderedDict()
        self._said: OrderedDict[tuple[int, int], bytes] = OrderedDict()
        self._differs = False
        self._first_round = FirstRound()
        self._not_compared: set[str] = set()
        self.checks_done = 0
        self.unclear = False

    # --- leader -------------------------------------------------------------------------------------------------------

    @property
    def compared(self) -> bool:
        """Whether this node's whole state was compared with the others' since it started."""
        return self._first_round.done

    @property
    def quick(self) -> bool:
        """Whether the next piece should be asked for without delay: some node's first round is under way, and all of
        whom that is known have answered. One that lags behind holds up nobody."""
        answers = self._asked.get(self._number)
        if answers is None or self._node_id not in answers.by_node:
            return False
        waiting = bool(self._not_compared) or not self._first_round.done
        return waiting and self._not_compared <= answers.by_node.keys()

    def ask(self, term: int, last_index: int, last_term: int) -> None:
        """Have the next piece compared, at the newest entry of this leader's log."""
        if self._busy:
            return
        self._judge_last()
        if (last := self._asked.get(self._number)) is not None:
            self._not_compared &= last.by_node.keys()
        self._number += 1
        check = _Check(self._number, term, last_index, last_term, self._cursor, None)
        _keep(self._asked, check.number, _Answers(term, last_index))
        self._broadcast(
            {
                "type": "state_check",
                "n": check.number,
                "term": term,
                "index": last_index,
                "entry_term": last_term,
                "start": check.start,
            }
        )
        self._register(check)

    def on_answer(self, peer_id: str, message: Message) -> None:
        """What a member found."""
        answers = self._asked.get(message["n"])
        if answers is None or (message["term"], message["index"]) != (answers.term, answers.index):
            return
        # A node of before does not say it, and is compared at the common pace.
        if message.get("compared") is False:
            self._not_compared.add(peer_id)
        else:
            self._not_compared.discard(peer_id)
        self._answered(message["n"], peer_id, message["digest"])

    def _answered(self, number: int, node_id: str, digest: bytes) -> None:
        answers = self._asked.get(number)
        if answers is None:
            return
        answers.by_node[node_id] = digest
        voters = self._voters()
        votes = [digest for node_id, digest in answers.by_node.items() if node_id in voters]
        right = max(set(votes), key=votes.count, default=b"")
        if 2 * votes.count(right) <= len(voters):
            return
        self.unclear = False
        for odd in sorted(answers.by_node.keys() - answers.told):
            if answers.by_node[odd] == right:
                continue
            answers.told.add(odd)
            log.error("the state of %s at entry %d is not that of the majority", odd, answers.index)
            if odd == self._node_id:
                self._differ(answers.index)
            else:
                self._send(
                    odd,
                    {
                        "type": "state_differs",
                        "n": number,
                        "term": answers.term,
                        "index": answers.index,
                        "digest": right,
                    },
                )

    def _judge_last(self) -> None:
        """Whoever would answer to the last check has: two findings and no majority for one are an alarm."""
        answers = self._asked.get(self._number)
        if answers is None or self.unclear:
            return
        voters = self._voters()
        votes = [digest for node_id, digest in answers.by_node.items() if node_id in voters]
        if len(set(votes)) > 1 and 2 * max(map(votes.count, votes)) <= len(voters):
            self.unclear = True
            log.error(
                "the states of %s at entry %d differ, and no majority says which is right; bring the other nodes up",
                ", ".join(sorted(answers.by_node)),
                answers.index,
            )

    # --- all ----------------------------------------------------------------------------------------------------------

    def on_check(self, peer_id: str, message: Message) -> None:
        """The leader wants to know."""
        self._register(
            _Check(message["n"], message["term"], message["index"], message["entry_term"], message["start"], peer_id)
        )

    def on_verdict(self, message: Message) -> None:
        """The leader says what the majority found. It counts if this node did find something else."""
        said = self._said.get((message["term"], message["n"]))
        if said is not None and said != message["digest"]:
            self._differ(message["index"])

    def _differ(self, index: int) -> None:
        if not self._differs:
            self._differs = True
            self._on_differs(f"at entry {index} its state is not that of the majority")

    def _register(self, check: _Check) -> None:
        position = self._state.position
        if position.index == check.index:
            self._take(check, position)
        elif position.index < check.index:
            _keep(self._pending, check.index, check)

    def stop_at(self, first: int, last: int) -> int:
        """Where to stop applying entries, of first..last, so that a check sees the state as it is there."""
        return min((index for index in self._pending if first <= index <= last), default=last)

    def applied(self) -> None:
        """The state has moved on."""
        position = self._state.position
        if not self._pending:
            return
        for index in [index for index in self._pending if index <= position.index]:
            check = self._pending.pop(index)
            if index == position.index:
                self._take(check, position)

    def _take(self, check: _Check, position: Position) -> None:
        """Look at the state as it is now; its reading is left to the executor."""
        # Another entry at this place: its leader is deposed, and nobody waits for the answer.
        if self._busy or position.term != check.entry_term:
            return
        self._busy = True
        read = self._state.range_reader(check.start)
        found: list[RangeDigest] = []

        def done(error: BaseException | None) -> None:
            self._busy = False
            if error is not None:
                self._on_failure(error)
                return
            self._found(check, position, found[0])

        self._executor.submit([lambda: found.append(read())], done)

    def _found(self, check: _Check, position: Position, piece: RangeDigest) -> None:
        self.checks_done += 1
        # Also by followers: a new leader goes on where the old one was, or short leaderships would never get far.
        self._cursor = piece.next_key
        digest = hashlib.blake2b(position.chain + piece.digest + piece.next_key, digest_size=16).digest()
        self._first_round.looked_at(check.term, check.start, piece.next_key)
        if check.asker is None:
            self._answered(check.number, self._node_id, digest)
            return
        _keep(self._said, (check.term, check.number), digest)
        told = self._send(
            check.asker,
            {
                "type": "state_digest",
                "n": check.number,
                "term": check.term,
                "index": check.index,
                "digest": digest,
                "compared": self._first_round.done,
            },
        )
        if not told:
            self._first_round.broken()


K = TypeVar("K")


def _keep(kept: OrderedDict[K, V], key: K, value: V) -> None:
    kept[key] = value
    while len(kept) > _CHECKS_KEPT_MAX:
        kept.popitem(last=False)
