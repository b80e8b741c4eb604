"""An operator who adds, promotes, moves, replaces and removes nodes while everything else goes on."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import TYPE_CHECKING

from cluster.engine import MEMBERSHIP
from cluster.members import Configuration, quorum_of
from cluster.replica import (
    AddMember,
    MemberChange,
    MembershipRefusedError,
    NotCommittedError,
    PromoteMember,
    RemoveMember,
    UpdateMember,
)
from statemachine.outcome import Outcome
from tests.sim.member import Member

if TYPE_CHECKING:
    from tests.sim.simulation import Simulation

_RETRY_S = 0.1
_TRIES_MAX = 60
"""After so many the operator gives up: what would put the quorum at risk may do so for long."""

_MEMBERS_MAX = 6

_NOTICED_S = 1.2
"""So long after a member has died every leader knows, and refuses what would need it."""

Then = Callable[[bool], None]


def leader_of(sim: Simulation) -> Member | None:
    """Who leads in the highest term, as far as anybody knows."""
    leaders = [member for member in sim.members if member.awake and member.core.is_leader]
    return max(leaders, key=lambda member: member.core.engine.term, default=None)


def join(sim: Simulation, node_id: str, known: Configuration) -> Member:
    """A new machine, told of the members by one of them. It does not run yet."""
    member = sim.add_machine(node_id)
    member.joins = True
    member.started_with = {**known.addresses(), node_id: "simulated"}
    return member


def _knows(member: Member, known: Configuration) -> bool:
    """Whether a member has applied the same changes, and has no other one in its log."""
    core = member.core
    journal, first = core.journal, core.engine.applied_index + 1
    open_changes = (
        journal[index - journal.first_index][0][:1] == MEMBERSHIP for index in range(first, journal.last_index + 1)
    )
    return core.membership.current == known and not core.membership.busy and not any(open_changes)


class Asking:
    """One change, asked of whoever leads until it is answered. `then` hears whether it was made."""

    def __init__(self, sim: Simulation, change: MemberChange, then: Then, tries_max: int = _TRIES_MAX) -> None:
        self._sim = sim
        self._change = change
        self._told = then
        self._tries_left = tries_max
        self._waiting = False
        if isinstance(change, RemoveMember):
            sim.to_remove.add(change.node_id)
        sim.changes_asked += 1

    def _then(self, made: bool) -> None:
        self._sim.changes_asked -= 1
        self._told(made)

    def ask(self) -> None:
        """Try it now."""
        if self._tries_left == 0:
            self._then(False)
            return
        self._tries_left -= 1
        leader = leader_of(self._sim)
        if leader is None or leader.life is None:
            self._again()
            return
        leader.life.run(lambda: self.at(leader))

    def _again(self) -> None:
        self._sim.scheduler.after(_RETRY_S, self.ask)

    def at(self, leader: Member) -> None:
        """Try it at this node."""
        core = leader.core
        removes_leader = isinstance(self._change, RemoveMember) and self._change.node_id == leader.node_id
        if removes_leader and len(core.membership.current.voters) > 1:
            core.hand_over(None)
            self._again()
            return
        try:
            core.membership.propose(self._change, self._answered)
        except (MembershipRefusedError, NotCommittedError):
            self._again()
            return
        # It may be paused, or cut off: then nobody answers for long, and another leads.
        self._waiting = True
        self._sim.scheduler.after(1.0, self._not_answered)

    def _not_answered(self) -> None:
        if self._waiting:
            self._waiting = False
            self.ask()

    def _answered(self, result: Outcome | Exception) -> None:
        if not self._waiting:
            return
        self._waiting = False
        if isinstance(result, Exception):
            self._again()
            return
        self._sim.note("operator", f"{self._change}: {'done' if result.refusal is None else result.refusal.code}")
        if result.refusal is not None and result.refusal.code == "not_caught_up":
            self._again()
        else:
            self._then(result.refusal is None)


class Operator:
    """One thing after the other, until `stop_s`."""

    def __init__(self, sim: Simulation, rng: Random, stop_s: float) -> None:
        self._sim = sim
        self._rng = rng
        self._stop_s = stop_s
        self._number = len(sim.ids)
        self._quiet_until_s = 0.0
        self.busy = False
        self.changes = 0

    def begin(self) -> None:
        """The first change comes soon."""
        self._later()

    def _later(self) -> None:
        self.busy = False
        self._sim.scheduler.after(self._rng.expovariate(1 / 0.4), self._next)

    def _next(self) -> None:
        if self._sim.scheduler.now_s >= self._stop_s:
            return
        leader = leader_of(self._sim)
        quiet = self._sim.scheduler.now_s < self._quiet_until_s
        if quiet or leader is None or not leader.core.membership.current.founded:
            self._later()
            return
        self.busy = True
        known = leader.core.membership.current
        learners = sorted(known.learners)
        if learners and self._rng.random() < 0.7:
            self._help_learner(learners[0])
        elif len(known.members) < _MEMBERS_MAX and self._rng.random() < 0.3 + 0.3 * (len(known.voters) < 3):
            self._add(known)
        elif self._rng.random() < 0.15:
            self._ask(UpdateMember(self._rng.choice(sorted(known.members)), "simulated elsewhere"))
        else:
            self._ask(RemoveMember(self._whom(leader, known)))

    def _whom(self, leader: Member, known: Configuration) -> str:
        """The leader more often than others, and rather somebody who is down than not."""
        down = [member.node_id for member in self._sim.members if not member.up and member.node_id in known.members]
        if down and self._rng.random() < 0.5:
            return self._rng.choice(down)
        return leader.node_id if self._rng.random() < 0.3 else self._rng.choice(sorted(known.members))

    def _ask(self, change: MemberChange, then: Then = lambda _: None) -> None:
        self._sim.note("operator", f"wants {change}")

        def done(made: bool) -> None:
            self.changes += made
            then(made)
            self._later()

        Asking(self._sim, change, done).ask()

    def _add(self, known: Configuration) -> None:
        self._number += 1
        node_id = self._rng.choice((f"n{self._number}", f"m{self._number}"))
        member = join(self._sim, node_id, known)
        early = self._rng.random() < 0.3
        if early:
            member.start()

        def added(made: bool) -> None:
            if not made:
                # It may have been, and was not answered: then it can be taken back only by removing it.
                self._sim.to_remove.add(node_id)
                Asking(self._sim, RemoveMember(node_id), lambda _: None).ask()
            elif not member.up and not self._sim.faults.repaired:
                member.start()

        self._ask(AddMember(node_id, "simulated", ""), added)

    def spares_log_of(self, lost: Member) -> bool:
        """Whether the cluster can be without what a member holds, for a while: A MAJORITY OF THE VOTERS IS BESIDE IT,
        and no change under way takes that away. Nobody wants another before the leader knows that this one is gone;
        then the leader is the one to refuse it."""
        leader = leader_of(self._sim)
        if leader is None or self._sim.changes_asked or not lost.lives:
            return False
        known = leader.core.membership.current
        others = [member for member in self._sim.members if member is not lost]
        settled = all(member.awake and _knows(member, known) for member in others)
        enough = len(known.voters - {lost.node_id}) >= quorum_of(len(known.voters))
        if not (settled and enough and known.founded and lost.node_id in known.members and not known.leaving):
            return False
        self._quiet_until_s = self._sim.scheduler.now_s + _NOTICED_S
        return True

    def _help_learner(self, node_id: str) -> None:
        """Promote it by hand, give up on it, or let time do it."""
        dice = self._rng.random()
        if dice < 0.5:
            self._later()
        elif dice < 0.85:
            self._ask(PromoteMember(node_id))
        else:
            self._ask(RemoveMember(node_id))

    # --- the end ------------------------------------------------------------------------------------------------------

    def finish(self) -> None:
        """From now on only what is half done is brought to its end."""
        if self.done:
            return
        leader = leader_of(self._sim)
        if leader is not None and not self.busy:
            known = leader.core.membership.current
            for member in list(self._sim.members):
                if member.node_id in known.removed and self._knows_nobody(member):
                    self._sim.note("operator", f"switches {member.node_id} off: whom it knows are gone")
                    self._sim.drop_machine(member)
                elif member.node_id not in known.members and member.node_id not in known.removed:
                    self._take_back(member)
                    break
        self._sim.scheduler.after(_RETRY_S, self.finish)

    def _knows_nobody(self, member: Member) -> bool:
        """It was down while it was removed, and then all others were replaced: nobody is left who could tell it."""
        machines = {other.node_id for other in self._sim.members}
        return member.awake and not machines & set(member.core.membership.current.others(member.node_id))

    def _take_back(self, member: Member) -> None:
        """It was perhaps added, and perhaps not: after this it is not a member."""
        self.busy = True

        def answered(made: bool) -> None:
            self.busy = False
            if not made:
                self._sim.drop_machine(member)

        Asking(self._sim, RemoveMember(member.node_id), answered, tries_max=1_000).ask()

    @property
    def done(self) -> bool:
        """Whether every machine is a member that runs, and whoever was removed has stopped by itself."""
        leader = leader_of(self._sim)
        return (
            leader is not None
            and not self.busy
            and {member.node_id for member in self._sim.members} == set(leader.core.membership.current.members)
        )

    def open(self) -> str:
        """What is not done."""
        leader = leader_of(self._sim)
        members = sorted(leader.core.membership.current.members) if leader is not None else None
        machines = sorted(member.node_id for member in self._sim.members)
        return f"machines {machines}, members {members}, {'a change is under way' if self.busy else 'nothing is asked'}"
