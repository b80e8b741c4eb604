"""What must hold of leases: judged by what workers believe and by true time, never by what a leader remembers.

1. An attempt is taken away only after the worker that holds it has stopped to believe so (by its own clock, counted
   from when it sent): so at most one attempt of a task is live.
2. And only after somebody could have been reached for the whole of the lease: time in which its leader stood still, had
   no majority, or was not elected yet does not count.
3. Attempts grow; only the newest one ends a task.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from cluster.replica import Notice
from statemachine.changes import Change
from tests.sim.leadership import DUTIES, LATE_TICK_MS, TICK_MS
from tests.sim.workers import DRIFT

if TYPE_CHECKING:
    from tests.sim.member import Member
    from tests.sim.simulation import Simulation

_SAMPLE_S = 0.05
DEFAULT_LEASE_S = 60.0
_INTERRUPTION_S = (DUTIES.fallback_ms + LATE_TICK_MS + TICK_MS) / 1000 + 2 * _SAMPLE_S
"""Of each interruption the leader may count so much: it believes in its majority for the fallback time, and a tick that
is not late counts in full."""


@dataclass(slots=True)
class Grant:
    """The newest attempt of a task; `renewed_s`: no leader counts its lease from an earlier time."""

    attempt: int
    agent_id: str
    renewed_s: float
    over: bool = False


class Served:
    """How long a node was able to serve as a leader, and how often that was interrupted, sampled all the time."""

    def __init__(self, samples: int) -> None:
        """`samples`: how many were taken before the node was there."""
        self._seconds = [0.0] * (samples + 1)
        self._breaks = [0] * (samples + 1)
        self._now = False

    def sample(self, *, able: bool) -> None:
        """One more sample."""
        self._breaks.append(self._breaks[-1] + (self._now and not able))
        self._seconds.append(self._seconds[-1] + (_SAMPLE_S if able else 0.0))
        self._now = able

    def since(self, start_s: float) -> float:
        """The most a leader may have counted since then."""
        first = min(int(start_s / _SAMPLE_S), len(self._seconds) - 1)
        breaks = self._breaks[-1] - self._breaks[first]
        return self._seconds[-1] - self._seconds[first] + _SAMPLE_S + breaks * _INTERRUPTION_S


class Leases:
    """Follows every task's attempts through the log, and every node's ability to serve."""

    def __init__(self, sim: Simulation) -> None:
        self._sim = sim
        self._grants: dict[str, Grant] = {}
        self._samples = 0
        self._served = {node_id: Served(0) for node_id in sim.ids}
        self._led_since: dict[int, float] = {}
        self._index = 0
        self.expired = 0
        self.expired_at_s: dict[str, float] = {}

    def begin(self) -> None:
        """Sample from now on."""
        self._sim.scheduler.after(_SAMPLE_S, self._sample)

    def _sample(self) -> None:
        for member in self._sim.members:
            if member.node_id not in self._served:
                self._served[member.node_id] = Served(self._samples)
            self._served[member.node_id].sample(able=self._able(member))
        self._samples += 1
        self._sim.scheduler.after(_SAMPLE_S, self._sample)

    def _able(self, member: Member) -> bool:
        if not member.awake or not member.core.engine.leading:
            return False
        reachable = self._sim.hub.reachable
        heard = [
            other
            for other in self._sim.members
            if other is member or (other.awake and reachable(member.node_id, other.node_id))
        ]
        return len(heard) > len(self._sim.members) // 2

    def leads(self, member: Member) -> None:
        """A node is elected."""
        self._led_since.setdefault(member.core.engine.term, self._sim.scheduler.now_s)

    def renewed(self, task_id: str, attempt: int, sent_s: float) -> None:
        """A worker was told that what it sent then has renewed this lease."""
        grant = self._grants.get(task_id)
        if grant is not None and grant.attempt == attempt:
            grant.renewed_s = max(grant.renewed_s, sent_s)

    def follow(self, member: Member, notice: Notice) -> None:
        """An entry was applied; the first node to do so tells."""
        if notice.index <= self._index or notice.gap:
            return
        self._index = notice.index
        for change in notice.changes:
            if change.resource == "task" and change.data is not None and "attempt" in change.data:
                self._change(member, notice, change)

    def _change(self, member: Member, notice: Notice, change: Change) -> None:
        data = change.data
        assert data is not None
        task_id, attempt, to = change.resource_id, data["attempt"], data.get("to")
        grant = self._grants.get(task_id)
        if grant is not None and attempt < grant.attempt:
            self._violated(member, f"attempt {attempt} of {task_id} changes it after attempt {grant.attempt} was given")
        if to == "running" and data.get("from") != "running":
            self._granted(member, task_id, attempt, data.get("agent_id") or "")
        elif data.get("from") == "running" and to != "running" and grant is not None:
            if grant.over:
                self._violated(member, f"attempt {attempt} of {task_id} ends twice")
            grant.over = True
            if data.get("reason") == "lease_lost":
                self._lost(member, notice, task_id, grant)

    def _granted(self, member: Member, task_id: str, attempt: int, agent_id: str) -> None:
        now_s = self._sim.scheduler.now_s
        for worker in self._sim.workers:
            job = worker.held.get(task_id)
            if job is not None and job.attempt < attempt and job.until_s > now_s:
                self._violated(
                    member, f"{task_id} is given to {agent_id}, and {worker.agent_id} holds it until {job.until_s:.3f}"
                )
        # No leader counts before an entry is applied somewhere.
        self._grants[task_id] = Grant(attempt, agent_id, now_s)

    def _lost(self, member: Member, notice: Notice, task_id: str, grant: Grant) -> None:
        fleet = self._sim.fleet
        if fleet is None:
            return  # no lease runs: the load's own agent has registered once more, and so let go of what it had claimed
        self.expired += 1
        self.expired_at_s[task_id] = self._sim.scheduler.now_s
        now_s, lease_s = self._sim.scheduler.now_s, fleet.leases_s.get(task_id, DEFAULT_LEASE_S)
        for worker in self._sim.workers:
            until_s = worker.believes(task_id, grant.attempt)
            if until_s > now_s:
                self._violated(member, f"the lease of {task_id} expires {until_s - now_s:.3f} s early")
        leader = self._sim.checks.leader_of(notice.term)
        if leader is None or notice.term not in self._led_since:
            return
        start_s = max(grant.renewed_s, self._led_since[notice.term])
        served_s = self._served[leader].since(start_s)
        if served_s < lease_s * (1 - DRIFT):
            self._violated(
                member, f"the lease of {task_id}, {lease_s} s, expires after {served_s:.3f} s in which {leader} served"
            )

    def _violated(self, member: Member, what: str) -> None:
        self._sim.checks.violated(member.node_id, what)

    def renewed_s(self, task_id: str) -> float:
        """When the last renewal was sent that a worker knows to be good; or when the attempt began."""
        return self._grants[task_id].renewed_s
