"""All duties of one node: the leader's, while it leads; polls and calls to the leader, always."""

from __future__ import annotations

import logging

from cluster.replica import Notice, Replica
from node.duties.clock import Clock
from node.duties.hand_over import HandOver
from node.duties.leader_calls import LeaderCalls
from node.duties.leadership import Leadership
from node.duties.live_memory import LiveMemory
from node.duties.polls import Polls
from node.duties.services import Services
from node.duties.settings import DutySettings

_log = logging.getLogger("hive.duties")


class Duties:
    """Begins to work when made; `close` ends everything. Use it from the replica's thread."""

    def __init__(self, replica: Replica, clock: Clock, settings: DutySettings | None = None) -> None:
        self._replica = replica
        self.clock = clock
        self.settings = settings or DutySettings()
        self.leadership: Leadership | None = None
        self._term = 0
        self.hand_over = HandOver(replica)
        self._services = Services(replica, self.settings, lambda: self.leadership)
        self.calls = LeaderCalls(replica, timeout_ms=self.settings.leader_call_ms)
        self.polls = Polls(replica, self.calls, clock, self.settings)
        self.live = LiveMemory(self.calls)
        self._stop = [replica.subscribe(self._on_notice), replica.on_role_change(self._on_role_change)]
        self._follow_role()

    def _on_notice(self, notice: Notice) -> None:
        if self.leadership is not None:
            self.leadership.on_notice(notice)

    def _on_role_change(self) -> None:
        self._follow_role()
        self.polls.on_role_change()

    def _follow_role(self) -> None:
        leads = self._replica.is_leader
        if self.leadership is not None and (not leads or self._term != self._replica.term):
            self.leadership.close()
            self.leadership = None
            _log.info("duties of the leader ended", extra={"term": self._term})
        if leads and self.leadership is None:
            self._term = self._replica.term
            self.leadership = Leadership(self._replica, self.clock, self.settings)
            _log.info("duties of the leader begin", extra={"term": self._term})

    def interval_ms(self, agent_count: int) -> int:
        """How often an agent should call, in a fleet of this size."""
        return self.settings.interval_ms(agent_count)

    def close(self) -> None:
        """Stop everything; open polls end with `shutting_down`."""
        for stop in self._stop:
            stop()
        self._stop = []
        self.polls.close()
        self.calls.close()
        if self.leadership is not None:
            self.leadership.close()
            self.leadership = None
