"""What goes wrong, and when. Each kind of fault is one method; a plan says which kinds a seed gets."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import TYPE_CHECKING

from tests.sim.abuse import ABUSES

if TYPE_CHECKING:
    from tests.sim.member import Member
    from tests.sim.simulation import Simulation


class Faults:
    """Injects faults until `stop_s`; `repair` ends all of them."""

    def __init__(self, sim: Simulation, rng: Random, kinds: tuple[str, ...], pause_s: float, stop_s: float) -> None:
        self._sim = sim
        self._rng = rng
        self._kinds = kinds
        self._pause_s = pause_s
        self._stop_s = stop_s
        self.repaired = False
        self.rebuilds = 0
        self._wrong_clock = rng.choice(sim.members)
        self.emptied: Member | None = None

    def begin(self) -> None:
        """The first fault comes soon."""
        self._sim.scheduler.after(0.5, self._next)

    def _next(self) -> None:
        if self._sim.scheduler.now_s < self._stop_s and self._kinds:
            KINDS[self._rng.choice(self._kinds)](self)
            self._sim.scheduler.after(self._rng.expovariate(1 / self._pause_s), self._next)

    def _later(self, delay_s: float, action: Callable[[], None]) -> None:
        """Do something later, unless everything was repaired before."""
        self._sim.scheduler.after(delay_s, lambda: None if self.repaired else action())

    def _duration_s(self) -> float:
        return self._rng.choice((0.05, 0.3, 1.0, 2.5)) * (0.5 + self._rng.random())

    def _someone(self) -> Member:
        """Any node; the leader more often than others."""
        leaders = [member for member in self._sim.members if member.up and member.core.engine.leading]
        if leaders and self._rng.random() < 0.4:
            return self._rng.choice(leaders)
        return self._rng.choice(self._sim.members)

    def _restart(self, member: Member) -> None:
        after_s = self._rng.choice((0.02, 0.1, 0.5, 1.5)) * (0.5 + self._rng.random())
        self._later(after_s, lambda: None if member.up or member is self.emptied else member.start())

    # --- processes and machines ---------------------------------------------------------------------------------------

    def kill(self) -> None:
        """A process dies; what it wrote stays."""
        member = self._someone()
        member.crash(power=False)
        self._restart(member)

    def power(self) -> None:
        """A machine loses power."""
        member = self._someone()
        if member.up:
            member.crash(power=True)
            self._restart(member)

    def power_all(self) -> None:
        """All machines lose power at once."""
        for member in list(self._sim.members):
            if member.up:
                member.crash(power=True)
            else:
                member.lose_power()
            self._restart(member)

    def kill_all(self) -> None:
        """All processes die at once."""
        for member in list(self._sim.members):
            member.crash(power=False)
            self._restart(member)

    def stop(self) -> None:
        """A clean stop, sometimes before the power goes too."""
        member = self._someone()
        if member.awake:
            member.stop()
            if self._rng.random() < 0.5:
                member.lose_power()
            self._restart(member)

    def pause(self) -> None:
        """A process stands still, and does everything late."""
        self._pause([self._someone()])

    def pause_all(self) -> None:
        """All processes stand still."""
        self._pause(list(self._sim.members))

    def _pause(self, members: list[Member]) -> None:
        duration_s = self._duration_s()
        for member in members:
            life = member.life
            if life is not None and not life.paused:
                life.paused = True
                member.note("pauses")
                self._later(duration_s, life.resume)

    def empty(self) -> None:
        """Somebody empties the data directory of a node, starts it so, and later brings the old one back."""
        member = self._someone()
        others = [other for other in self._sim.members if other is not member]
        if self.emptied is not None or not all(member.node_id in other.kept.journal_ids for other in others):
            return  # who has not met it yet would take the empty one for the true one
        self.emptied = member
        member.crash(power=False)
        before = member.empty()
        member.note("its data directory is emptied")
        member.start()

        def back() -> None:
            self.emptied = None
            member.refused = False
            member.crash(power=False)
            member.kept = before
            member.note("gets its data directory back")
            member.start()

        self._sim.scheduler.after(self._duration_s() + 0.5, back)

    def resync(self) -> None:
        """The log of a node is lost, and it is rebuilt from the others. One at a time: of two in three there would be
        nobody who knows."""
        member = self._someone()
        busy = self.emptied is not None or any(other.kept.rebuilding for other in self._sim.members)
        if not busy and (not self._sim.plan.operator or self._sim.operator.spares_log_of(member)):
            self.rebuilds += 1
            member.crash(power=False)
            member.resync()
            self._restart(member)

    # --- disks and clocks ---------------------------------------------------------------------------------------------

    def stall(self) -> None:
        """A disk takes long."""
        member = self._someone()
        member.speed.stalled_until_s = self._sim.scheduler.now_s + self._duration_s()
        member.note("its disk stalls")

    def clock(self) -> None:
        """The wall clock of one node jumps, and is set right later. Always the same node: of two that were wrong a
        short while ago nobody knows that they are right again."""
        member = self._wrong_clock
        if member.clock.offset_ms == 0:
            member.clock.offset_ms = self._rng.choice((-3_600_000, -900, 900, 3_600_000))
            member.note(f"its clock jumps by {member.clock.offset_ms} ms")

            def right() -> None:
                member.clock.offset_ms = 0

            self._later(self._duration_s() * 2, right)

    # --- the network --------------------------------------------------------------------------------------------------

    def isolate(self) -> None:
        """One node is cut off, in one direction or both."""
        node = self._someone().node_id
        others = [other for other in self._sim.ids if other != node]
        out, back = {(node, other) for other in others}, {(other, node) for other in others}
        self._cut(self._rng.choice((out, back, out | back)))

    def partition(self) -> None:
        """The nodes fall into two groups."""
        ids = list(self._sim.ids)
        self._rng.shuffle(ids)
        size = self._rng.randrange(1, len(ids))
        here, there = ids[:size], ids[size:]
        self._cut({(a, b) for a in here for b in there} | {(b, a) for a in here for b in there})

    def link(self) -> None:
        """One direction between two nodes is cut."""
        a, b = self._rng.sample(self._sim.ids, 2)
        self._cut({(a, b)})

    def _cut(self, pairs: set[tuple[str, str]]) -> None:
        hub = self._sim.hub
        hub.cut |= pairs
        self._sim.note("network", f"cut {', '.join(f'{a}>{b}' for a, b in sorted(pairs))}")
        if self._rng.random() < 0.5:
            self._later(self._rng.random(), lambda: self._break_cut(pairs))
        self._later(self._duration_s(), lambda: hub.heal(pairs))

    def _break_cut(self, pairs: set[tuple[str, str]]) -> None:
        for connection in list(self._sim.hub.connections):
            if (connection.dialer.port.node_id, connection.acceptor.port.node_id) in pairs:
                connection.break_now(self._rng.random(), self._rng.random())

    def reset(self) -> None:
        """Connections break, with what is under way on them."""
        for connection in list(self._sim.hub.connections):
            if self._rng.random() < 0.5:
                connection.break_now(self._rng.random() * 0.1, self._rng.random() * 0.1)
        self._sim.note("network", "connections break")

    # --- what operators do --------------------------------------------------------------------------------------------

    def snapshot(self) -> None:
        """A node is told to take a snapshot now."""
        member = self._someone()
        if member.life is not None:
            member.life.run(member.core.engine.forceLogCompaction)

    def transfer(self) -> None:
        """The leader is told to hand over; for a while it takes no writes."""
        for member in list(self._sim.members):  # one that hands over may hear that it was removed, and leave
            if member.life is not None and member.core.engine.leading:
                core = member.core

                def resume(core: object = core, member: Member = member) -> None:
                    if member.up and member.core is core:
                        member.core.intake.paused = False

                core.intake.paused = True
                member.life.run(lambda core=core: core.hand_over(None))  # type: ignore[misc]  # bound now
                self._sim.scheduler.after(self._rng.random() * 0.3, resume)

    def repair(self) -> None:
        """Everything that was broken is whole again."""
        self.repaired = True
        self._sim.note("all", "faults end")
        hub = self._sim.hub
        hub.delays.calm = True
        hub.heal(set(hub.cut))
        for member in list(self._sim.members):  # one that resumes may hear that it was removed, and leave
            member.clock.offset_ms = 0
            member.speed.stalled_until_s = 0.0
            member.kept.disk.faults.capacity_bytes, member.kept.disk.faults.sync_error = None, False
            if member.life is not None and member.life.paused:
                member.life.resume()
            if not member.up and not member.refused:
                member.start()


KINDS: dict[str, Callable[[Faults], None]] = {
    "kill": Faults.kill,
    "power": Faults.power,
    "power_all": Faults.power_all,
    "kill_all": Faults.kill_all,
    "stop": Faults.stop,
    "pause": Faults.pause,
    "pause_all": Faults.pause_all,
    "empty": Faults.empty,
    "resync": Faults.resync,
    "stall": Faults.stall,
    "clock": Faults.clock,
    "isolate": Faults.isolate,
    "partition": Faults.partition,
    "link": Faults.link,
    "reset": Faults.reset,
    "snapshot": Faults.snapshot,
    "transfer": Faults.transfer,
    **ABUSES,
}
