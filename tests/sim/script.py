"""A simulation led by the hand: for troubles that dice rarely throw in the right order."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace

from cluster.replica import AddMember, MemberChange, PromoteMember, RemoveMember
from cluster.settings import Limits
from statemachine.commands import AppendEvents, Command, CreateSession, NewEvent
from tests.sim.load import Result
from tests.sim.member import Member
from tests.sim.membership import Asking, join
from tests.sim.plan import Plan, settings_of
from tests.sim.silence import silence
from tests.sim.simulation import Simulation

_PATIENCE_S = 10.0
_FOREVER_S = 1e6


def _plan(nodes: int, disk_s: float, min_free_bytes: int, slice_s: float, cache_bytes: int = 1 << 20) -> Plan:
    return Plan(
        nodes=nodes,
        focus="script",
        trouble_s=0.0,
        fault_pause_s=1.0,
        load_pause_s=1.0,
        kinds=(),
        disk_s=disk_s,
        delay_s=0.001,
        in_flight_bytes_max=64 << 20,
        chunk_bytes=1_000,
        slice_s=slice_s,
        limits=Limits(
            segment_bytes=65_536,
            log_cache_bytes=cache_bytes,
            log_keep_bytes=0,
            snapshot_log_bytes=1 << 30,
            min_free_bytes=min_free_bytes,
            # Each write is an entry, also while others are under way.
            entry_enough_commands=1,
        ),
    )


class Script:
    """A calm cluster with one session, and the means to trouble it. Entries are applied one at a time."""

    def __init__(self, plan: Plan, *, begun: bool, seed: int = 0) -> None:
        """`begun`: all nodes run and know each other; otherwise the script starts them. `seed` decides the rest, such
        as when who campaigns."""
        self.sim = Simulation(seed, plan)
        self.sim.hub.delays.calm = True
        self._number = 0
        if not begun:
            return
        for member in self.sim.members:
            member.start()
        self.until(lambda: any(member.core.is_leader for member in self.sim.members))
        self.write(self.leader, command=CreateSession("s"))
        self.until(self._known)
        self.until(self.sim.equal)

    def _known(self) -> bool:
        """Whether everybody is known with its journal: a leader that has not met somebody writes that down later."""
        current = self.leader.core.membership.current
        return current.founded and len(current.journal_ids()) == len(current.members)

    @property
    def leader(self) -> Member:
        """The leader of the highest term."""
        leaders = [member for member in self.sim.members if member.up and member.core.engine.leading]
        return max(leaders, key=lambda member: member.core.engine.term)

    def others(self, *members: Member) -> list[Member]:
        """All but these."""
        return [member for member in self.sim.members if member not in members]

    def until(self, condition: Callable[[], bool]) -> None:
        """Let time go by until the condition holds."""
        if condition():
            return
        end_s = self.sim.scheduler.now_s + _PATIENCE_S
        if not self.sim.scheduler.run_until(end_s, lambda: self.sim.checks.failed or condition()):
            raise AssertionError("the script does not get where it wants to go")

    def wait(self, duration_s: float) -> None:
        """Let time go by."""
        self.sim.scheduler.run_until(self.sim.scheduler.now_s + duration_s)

    def begin_write(
        self, member: Member, timeout_s: float = 2.0, command: Command | None = None, size: int = 300
    ) -> list[Result]:
        """Write at a node; the result will be in the list."""
        self._number += 1
        name, results = f"s{self._number}", list[Result]()
        event = NewEvent(name, "sim.step", b'"%s"' % (b"x" * size))
        self.sim.load.write(member, [(name, command or AppendEvents("s", (event,)), None)], timeout_s, results.append)
        return results

    def write(self, member: Member, command: Command | None = None) -> None:
        """Write at a node, and wait for the answer."""
        results = self.begin_write(member, command=command)
        self.until(lambda: bool(results))

    def cut(self, here: list[Member], there: list[Member], *, both: bool = True) -> None:
        """Nothing passes from here to there, nor back."""
        pairs = {(a.node_id, b.node_id) for a in here for b in there}
        self.sim.hub.cut |= pairs | ({(b, a) for a, b in pairs} if both else set())

    def heal(self) -> None:
        """Everything passes."""
        self.sim.hub.heal(set(self.sim.hub.cut))

    def break_connections(self, member: Member) -> None:
        """All connections of a node break, and everybody knows."""
        for connection in list(self.sim.hub.connections):
            if member.node_id in (connection.dialer.port.node_id, connection.acceptor.port.node_id):
                connection.break_now(0.0, 0.0)

    def hand_over(self, to: Member) -> None:
        """Make another node the leader."""
        before = self.leader
        self.until(lambda: before.core.engine.match_index(to.node_id) == before.core.journal.last_index)
        before.core.hand_over(to.node_id)
        self.until(lambda: to.core.is_leader)

    def change(self, change: MemberChange) -> None:
        """Change the membership, and wait until that is done."""
        answers: list[bool] = []
        Asking(self.sim, change, answers.append).ask()
        self.until(lambda: bool(answers))
        if not answers[0]:
            raise AssertionError(f"{change} was refused")

    def add_learner(self, node_id: str) -> Member:
        """A new machine joins, and catches up."""
        member = join(self.sim, node_id, self.leader.core.membership.current)
        self.change(AddMember(node_id, "simulated", ""))
        member.start()
        self.until(lambda: self._learned(member))
        return member

    def _learned(self, member: Member) -> bool:
        core = self.leader.core
        known = core.membership.current.members[member.node_id]
        return bool(known.journal_id) and core.engine.match_index(member.node_id) == core.journal.last_index

    def add(self, node_id: str) -> Member:
        """A new machine joins, and votes."""
        member = self.add_learner(node_id)
        self.change(PromoteMember(node_id))
        return member

    def remove(self, member: Member) -> None:
        """A member is removed, and stops by itself."""
        self.change(RemoveMember(member.node_id))
        self.until(lambda: member.removed or not member.up)

    def begin_snapshot(self, member: Member) -> None:
        """Have a node take a snapshot with its next tick."""
        member.core.engine.forceLogCompaction()
        member.core.schedule_pump()

    def snapshot(self, member: Member) -> None:
        """Have a node take a snapshot of all that it has applied, and trim its log."""
        before = member.core.journal.first_index
        self.begin_snapshot(member)
        self.until(lambda: member.core.journal.first_index > before)

    def behind(self, member: Member) -> None:
        """Cut a follower off and leave it behind the log of all others, whose leader alone has a snapshot."""
        self.cut([member], self.others(member))
        self.break_connections(member)
        for _ in range(5):
            self.write(self.leader)
        self.snapshot(self.leader)

    def finish(self) -> list[str]:
        """Repair everything, check everything; what was wrong."""
        if not self.sim.checks.violations:
            self.sim.settle()
        if not self.sim.checks.violations:
            self.sim.checks.at_the_end(self.sim.members)
        for member in self.sim.members:
            member.crash(power=False)
        return self.sim.checks.violations


@contextmanager
def script(
    nodes: int = 3,
    disk_s: float = 0.0003,
    min_free_bytes: int = 0,
    slice_s: float = -1.0,
    batch_bytes: int = 0,
    cache_bytes: int = 1 << 20,
    *,
    begun: bool = True,
    seed: int = 0,
) -> Iterator[Script]:
    """A script to play."""
    plan = _plan(nodes, disk_s, min_free_bytes, slice_s, cache_bytes)
    if batch_bytes:
        # Below what a node may be started with: only so does a backlog take several messages that the disk is not
        # faster than.
        object.__setattr__(plan.limits, "engine_batch_bytes", batch_bytes)
    with silence(), settings_of(plan):
        yield Script(plan, begun=begun, seed=seed)


@contextmanager
def fleet_script() -> Iterator[Script]:
    """A script with one worker that holds a task; what it does is up to the script."""
    plan = replace(_plan(3, 0.0003, 0, -1.0), fleet=True, trouble_s=_FOREVER_S)
    with silence(), settings_of(plan):
        yield Script(plan, begun=True)
