"""Who may campaign, and who may be voted for: pre-vote (Raft thesis 9.6), leader stickiness (4.2.3), transfers (3.10).

The engine campaigns whenever its deadline passes. Here that moment only starts a round of pre-votes; the engine is let
go when a majority would vote for it. So a node that comes back from a pause or a partition never deposes a healthy
leader.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from cluster.engine import Engine
from cluster.journal import Journal
from cluster.ports import Clock
from cluster.settings import Timings

Message = dict[str, Any]


class Elections:
    """The election rules of one node. `may_campaign` and `may_vote` are asked each time; both must be cheap."""

    def __init__(
        self,
        engine: Engine,
        journal: Journal,
        clock: Clock,
        timings: Timings,
        voters: Iterable[str],
        *,
        node_id: str,
        broadcast: Callable[[Message], None],
        send: Callable[[str, Message], bool],
        may_campaign: Callable[[], bool],
        may_vote: Callable[[], bool],
        has_quorum_contact: Callable[[], bool],
        members_unapplied: Callable[[], bool],
    ) -> None:
        """`voters`: all of them, this node too if it is one. `members_unapplied`: whether that may be out of date."""
        self._engine = engine
        self._journal = journal
        self._clock = clock
        self._min_timeout_s = timings.election_timeout_min_ms / 1000
        self._node_id = node_id
        self._others: frozenset[str] = frozenset()
        self.is_voter = False
        self._members_unapplied = members_unapplied
        self._broadcast = broadcast
        self._send = send
        self._may_campaign = may_campaign
        self.may_vote = may_vote
        self._has_quorum_contact = has_quorum_contact
        self._leader_heard_s = -1e9
        self._round = 0
        self._granted: set[str] | None = None
        self.leader_missed = False
        self.set_voters(voters)

    def set_voters(self, voters: Iterable[str]) -> None:
        """These vote from now on. What others agreed to in advance was about another election."""
        everybody = frozenset(voters)
        self.is_voter = self._node_id in everybody
        self._others = everybody - {self._node_id}
        self._granted = None

    def leader_heard(self, _peer_id: str) -> None:
        """The current leader is alive."""
        self._leader_heard_s = self._clock.monotonic_s()
        self._granted = None
        self.leader_missed = False

    def leader_lost(self) -> None:
        """The connection to the leader broke: it may be dead, so ask around soon. Those who still hear it will say
        no."""
        self._leader_heard_s = -1e9
        self._engine.hasten_election()

    @property
    def leader_is_fresh(self) -> bool:
        """Whether a leader was heard of less than the shortest election timeout ago."""
        return self._clock.monotonic_s() - self._leader_heard_s < self._min_timeout_s

    def before_tick(self) -> bool:
        """Hold the engine's campaign until a majority agrees in advance. Returns whether it will campaign now on a
        leader's request, which its vote requests then say."""
        engine = self._engine
        if engine.leading or engine.election_deadline_s > self._clock.monotonic_s():
            return False
        # The engine forgets a leader only when it campaigns itself, which a node without a majority never does here.
        self.leader_missed = True
        # Before all else, a transfer too: who has no vote must not ask for others', and a majority of what was the
        # membership once may not be one any more.
        if not self.is_voter or self._members_unapplied():
            engine.end_transfer()
            engine.postpone_election()
            return False
        if engine.transferring:
            return True
        if not self._may_campaign():
            engine.postpone_election()
        elif self._majority(self._granted):
            self._granted = None
        else:
            engine.hasten_election()
            self._ask()
        return False

    def _ask(self) -> None:
        self._round += 1
        self._granted = set()
        self._broadcast(
            {
                "type": "pre_vote",
                "round": self._round,
                "term": self._engine.term + 1,
                "last_index": self._journal.last_index,
                "last_term": self._journal.last_term,
                **self._committed(),
            }
        )
        self._campaign_if_granted()

    def _committed(self) -> Message:
        """What this node knows to be committed."""
        index = min(self._engine.commit_index, self._journal.last_index)
        return {"commit": index, "commit_term": self._journal.term_at(index)}

    def _learn(self, message: Message) -> None:
        """Whoever has the same entry there has the same log up to it. Without a leader nobody else tells, and a node
        that does not know that somebody was removed would wait for that one's vote."""
        index, term = message["commit"], message["commit_term"]
        if term is not None and not self._engine.leading and self._journal.term_at(index) == term:
            self._engine.know_committed(index)

    def _majority(self, granted: set[str] | None) -> bool:
        return granted is not None and 2 * (len(granted) + 1) > len(self._others) + 1

    def _campaign_if_granted(self) -> None:
        if self._majority(self._granted):
            self._engine.campaign_now()

    def on_pre_vote(self, peer_id: str, message: Message) -> None:
        """Somebody asks whether it would be elected. No vote is given, whatever the answer."""
        self._learn(message)
        mine = (self._journal.last_term, self._journal.last_index)
        granted = (
            self.may_vote()
            and message["term"] > self._engine.term
            and (message["last_term"], message["last_index"]) >= mine
            and not self.leader_is_fresh
            and not (self._engine.leading and self._has_quorum_contact())
        )
        self._send(
            peer_id,
            {
                "type": "pre_vote_reply",
                "round": message["round"],
                "granted": granted,
                "term": self._engine.term,
                **self._committed(),
            },
        )

    def on_pre_vote_reply(self, peer_id: str, message: Message) -> None:
        """Count an answer of the current round."""
        self._learn(message)
        if message["round"] != self._round or self._granted is None or self._engine.leading:
            return
        if message["granted"] and peer_id in self._others:
            self._granted.add(peer_id)
            self._campaign_if_granted()

    def refuse_vote_request(self, message: Message) -> bool:
        """Stickiness: while a leader is fresh nobody else is voted for, unless that leader hands over."""
        if message.get("transfer"):
            return False
        return self.leader_is_fresh or (self._engine.leading and self._has_quorum_contact())
