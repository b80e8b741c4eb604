"""One seed from its first event to its last check."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from random import Random
from typing import Any

from statemachine.commands import CreateSession
from tests.sim.checks import Checks
from tests.sim.chores import Chores
from tests.sim.clockwork import Scheduler
from tests.sim.coroutines import ClientHost
from tests.sim.faults import Faults
from tests.sim.leases import Leases
from tests.sim.links import Delays, Hub
from tests.sim.load import Load, Result
from tests.sim.member import Member
from tests.sim.membership import Operator
from tests.sim.plan import TIMINGS, Plan, plan_of, settings_of
from tests.sim.silence import silence
from tests.sim.watchers import Watchers
from tests.sim.workers import Fleet, Worker

_SETTLE_S = 15.0
"""After the last fault everything must be well again within this (simulated) time."""

_CALM_S = 1.5


@dataclass(slots=True)
class Report:
    """What came out. `transcript`: time, node, event, line by line."""

    seed: int
    violations: list[str]
    transcript: list[str] = field(default_factory=list)
    figures: dict[str, int] = field(default_factory=dict)


class Simulation:
    """A cluster, its load and its troubles."""

    def __init__(self, seed: int, plan: Plan) -> None:
        self.seed = seed
        self.plan = plan
        self.scheduler = Scheduler()
        self.lines: list[tuple[float, str, str]] = []
        self.checks = Checks(self)
        delays = Delays(Random(f"delays {seed}"), plan.delay_s)
        self.hub = Hub(self.scheduler, Random(f"network {seed}"), delays, plan.in_flight_bytes_max)
        self.ids = tuple(f"n{number + 1}" for number in range(plan.nodes))
        self.to_remove: set[str] = set()
        self.gone: list[Member] = []
        self.changes_asked = 0
        self.members = [
            Member(self, node_id, Random(f"member {node_id} {seed}"), TIMINGS, plan.limits) for node_id in self.ids
        ]
        self.by_id = {member.node_id: member for member in self.members}
        self.hub.on_sent = self.checks.on_sent
        self.hub.on_opened = self._opened
        self.load = Load(self, Random(f"load {seed}"), plan.load_pause_s, plan.trouble_s)
        self.chores = Chores(self, Random(f"chores {seed}"), plan.trouble_s)
        self.poisoned = 0
        self.clients = ClientHost(self.scheduler, lambda defect: self.checks.violated("clients", defect))
        self.fleet = Fleet(self, self.clients, Random(f"fleet {seed}"), plan.trouble_s) if plan.fleet else None
        self.leases = Leases(self)
        self.watchers = Watchers(self, Random(f"watchers {seed}"))
        self.operator = Operator(self, Random(f"operator {seed}"), plan.trouble_s)
        self.faults = Faults(self, Random(f"faults {seed}"), plan.kinds, plan.fault_pause_s, plan.trouble_s)

    def add_machine(self, node_id: str) -> Member:
        """One more, which nobody has started yet."""
        member = Member(self, node_id, Random(f"member {node_id} {self.seed}"), TIMINGS, self.plan.limits)
        self.ids = (*self.ids, node_id)
        self.members.append(member)
        self.by_id[node_id] = member
        return member

    def drop_machine(self, member: Member) -> None:
        """It is none of the cluster's any more."""
        member.crash(power=False)
        if member in self.members:
            self.members.remove(member)
            self.gone.append(member)

    def note(self, where: str, text: str) -> None:
        """A line of the transcript."""
        self.lines.append((self.scheduler.now_s, where, text))

    def _opened(self, node_id: str, peer_id: str, hello: dict[str, Any]) -> None:
        self.checks.on_opened(self.by_id[node_id], peer_id, hello["journal_id"])

    @property
    def workers(self) -> list[Worker]:
        """The agents that work, where there are any."""
        return [] if self.fleet is None else self.fleet.workers

    def run(self) -> Report:
        """Trouble, repair, calm, and the last checks."""
        self.note("all", f"plan: {self.plan}")
        for member in list(self.members):
            member.start()
        self.load.begin()
        self.chores.begin()
        self.watchers.begin()
        if self.fleet is not None:
            self.leases.begin()
            self.fleet.begin()
        if self.plan.operator:
            self.operator.begin()
        self.faults.begin()
        self._until(self.plan.trouble_s)
        if not self.checks.failed:
            self.settle()
        if not self.checks.violations:
            self.stay_calm()
        if not self.checks.violations:
            self.checks.at_the_end(self.members)
        for member in (*self.members, *self.gone):
            member.crash(power=False)
        self.clients.loop.kill()
        return self._report()

    def _until(self, time_s: float) -> None:
        self.scheduler.run_until(time_s, lambda: self.checks.failed)

    def settle(self) -> None:
        """Everything is whole: within a bounded time every node serves writes and reads, and all are equal."""
        # An emptied directory is given back first.
        while self.faults.emptied is not None and not self.checks.failed:
            self._until(self.scheduler.now_s + 0.1)
        self.faults.repair()
        if self.plan.operator:
            self.operator.finish()
            self.scheduler.run_until(self.scheduler.now_s + _SETTLE_S, lambda: self.checks.failed or self.operator.done)
            if not self.operator.done:
                self.checks.violated("operator", f"stuck: {self.operator.open()} {_SETTLE_S} s after the last fault")
        end_s = self.scheduler.now_s + _SETTLE_S
        served: set[str] = set()
        for member in list(self.members):
            self._serve(member, 0, end_s, served)
        self.scheduler.run_until(end_s, lambda: self.checks.failed or len(served) == 2 * len(self.members))
        self.scheduler.run_until(end_s, lambda: self.checks.failed or self.equal())
        if len(served) < 2 * len(self.members):
            self.checks.violated("all", f"stuck: only {sorted(served)} were served in {_SETTLE_S} s without faults")
        elif not self.equal():
            stand = {member.node_id: member.core.state.position.index for member in self.members if member.up}
            what = f"stuck: nodes stand at {stand}, or disagree who leads, {_SETTLE_S} s after the last fault"
            self.checks.violated("all", what)

    def _serve(self, member: Member, tries: int, end_s: float, served: set[str]) -> None:
        def wrote(result: Result) -> None:
            if not isinstance(result, Exception):
                served.add(f"write {member.node_id}")
            elif self.scheduler.now_s < end_s:
                self.scheduler.after(0.05, lambda: self._serve(member, tries + 1, end_s, served))

        def was_read(done: bool) -> None:
            if done:
                served.add(f"read {member.node_id}")
            elif self.scheduler.now_s < end_s:
                self.load.read(member, 1.0, was_read)

        name = f"final-{member.node_id}.{tries}"
        if member.up:
            self.load.write(member, [(name, CreateSession(name), None)], 1.0, wrote)
            if tries == 0:
                self.load.read(member, 1.0, was_read)

    def equal(self) -> bool:
        """Whether all nodes are up, have applied the same, and agree on one leader."""
        cores = [member.core for member in self.members if member.up]
        return (
            len(cores) == len(self.members)
            and all(core.state.position == cores[0].state.position for core in cores)
            and all(core.engine.term == cores[0].engine.term for core in cores)
            and sum(core.is_leader for core in cores) == 1
        )

    def stay_calm(self) -> None:
        """A follower that was away comes back: the healthy leader stays, and its term."""
        leader = next(member for member in self.members if member.core.is_leader)
        if len(leader.core.membership.current.voters) < 3:
            return  # nobody may be away
        term = leader.core.engine.term
        away = Random(f"calm {self.seed}").choice([member for member in self.members if member is not leader])
        pairs = {(away.node_id, other) for other in self.ids} | {(other, away.node_id) for other in self.ids}
        self.hub.cut |= pairs
        self.note("network", f"cut {away.node_id} off, without other faults")
        self._until(self.scheduler.now_s + _CALM_S)
        for connection in list(self.hub.connections):
            if away.node_id in (connection.dialer.port.node_id, connection.acceptor.port.node_id):
                connection.break_now(0.0, 0.0)
        self.hub.heal(pairs)
        self.note("network", f"{away.node_id} is back")
        self._until(self.scheduler.now_s + _CALM_S)
        self.scheduler.run_until(self.scheduler.now_s + _SETTLE_S, lambda: self.checks.failed or self.equal())
        if not self.equal():
            self.checks.violated(away.node_id, f"stuck: has not caught up {_SETTLE_S} s after it came back")
        if leader.core.engine.term != term:
            self.checks.violated(away.node_id, f"deposed the healthy leader {leader.node_id} when it came back")

    def _report(self) -> Report:
        lines = [f"{time_s:9.4f}  {where:<8}{text}" for time_s, where, text in self.lines]
        figures: dict[str, Any] = {
            "events": self.scheduler.events,
            "messages": self.hub.messages,
            "entries": self.checks.history.last_index,
            "writes": self.load.writes,
            "acknowledged": self.load.acknowledged,
            "reads": self.load.reads_done,
            "lives": sum(member.lives for member in self.members),
            "installs": sum("installs the snapshot" in text for _, _, text in self.lines),
            "changes": self.watchers.changes,
            "leases": self.leases.expired,
            "member_changes": self.operator.changes,
            "rebuilds": self.faults.rebuilds,
            "terms": max(self.checks.terms, default=0),
            **self.checks.figures,
        }
        return Report(self.seed, self.checks.violations, lines, figures)


def simulate(seed: int, *, nodes: int = 3, trouble_s: float = 10.0, focus: str | None = None) -> Report:
    """Run one seed. `focus`: what kind of trouble, see `plan.FOCI`; by default the seed decides."""
    plan = plan_of(seed, nodes, trouble_s, focus)
    with silence(), settings_of(plan), _chance_of(seed):
        return Simulation(seed, plan).run()


@contextmanager
def _chance_of(seed: int) -> Iterator[None]:
    """What the duties of a leader leave to chance, such as the jitter of retries, is the seed's too."""
    before = random.getstate()
    random.seed(f"chance {seed}")
    try:
        yield
    finally:
        random.setstate(before)
