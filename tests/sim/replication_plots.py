"""Scripts for how entries reach a follower: a backlog in many messages, a directory that was set back, a full disk."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import cluster.proposer
from tests.sim.abuse import NONSENSE
from tests.sim.disk_plots import unsynced
from tests.sim.member import Member
from tests.sim.script import script


def _pairs(a: Member, b: Member) -> set[tuple[str, str]]:
    return {(a.node_id, b.node_id), (b.node_id, a.node_id)}


@contextmanager
def _many_batches_in_flight() -> Iterator[None]:
    """Every write is an entry of its own, however many wait."""
    before = cluster.proposer._BATCHES_IN_FLIGHT_MAX
    cluster.proposer._BATCHES_IN_FLIGHT_MAX = 1_000
    try:
        yield
    finally:
        cluster.proposer._BATCHES_IN_FLIGHT_MAX = before


def backlog_in_many_messages() -> list[str]:
    """A follower gets a backlog in many messages. Should its log ever shrink, the leader dies when it has heard all
    that the follower vouched for, and the third node has none of it."""
    with script(batch_bytes=4_000) as play, _many_batches_in_flight():
        leader, (follower, third) = play.leader, play.others(play.leader)
        play.cut([third], [leader, follower])
        play.cut([follower], [leader])
        for _ in range(30):
            play.begin_write(leader, timeout_s=3.0, size=600)
            play.wait(0.01)
        # Slower than the network: between two acknowledgements there is time to send everything again.
        follower.speed.typical_s = 0.01
        play.sim.hub.heal(_pairs(leader, follower))
        highest = 0

        def shrinks() -> bool:
            nonlocal highest
            highest = max(highest, follower.core.journal.last_index)
            return follower.core.journal.last_index < highest

        for _ in range(100):
            play.begin_write(leader, timeout_s=3.0, size=600)
            if play.sim.scheduler.run_until(play.sim.scheduler.now_s + 0.0007, shrinks):
                # What was sent to fill the gap does not arrive; what the follower has said before does.
                play.cut([leader], [follower], both=False)
                play.wait(0.1)
                break
        if follower.core.journal.durable_index < leader.core.engine.commit_index:
            leader.crash(power=False)
            play.sim.hub.heal(_pairs(follower, third))
            play.until(lambda: any(member.core.is_leader for member in (follower, third)))
            play.write(play.leader)
            leader.start()
        return play.finish()


def directory_that_was_set_back() -> list[str]:
    """Somebody puts back an older copy of a follower's data directory; the leader knows better."""
    with script() as play:
        leader, follower = play.leader, play.others(play.leader)[0]
        follower.crash(power=False)
        older = copy.deepcopy(follower.kept)
        follower.start()
        for _ in range(3):
            play.write(leader)
        play.until(play.sim.equal)
        play.wait(0.3)
        follower.crash(power=False)
        newer, follower.kept = follower.kept, older
        follower.start()
        play.wait(3.0)
        if not follower.refused:
            play.sim.checks.violations.append(f"{follower.node_id} goes on with a log that was set back")
            return play.sim.checks.violations
        # What it said in between is of the older directory, and is not held against the newer one.
        follower.kept, follower.refused = newer, False
        follower.start()
        return play.finish()


def votes_on_a_full_disk() -> list[str]:
    """A follower's disk has no room at all, and the leader is gone: what it still has to write, its vote above all,
    finds a place, also when a segment is full."""
    with script() as play:
        leader, (full, other) = play.leader, play.others(play.leader)
        full.disk_trouble = True
        disk = full.kept.disk
        disk.faults.capacity_bytes = disk.used_bytes()
        before = full.core.journal.total_bytes
        for _ in range(500):
            if not full.up or full.core.journal.total_bytes > before + play.sim.plan.limits.segment_bytes:
                break
            play.write(leader)
        leader.crash(power=False)
        play.wait(3.0)
        if not full.up or not any(member.core.is_leader for member in (full, other) if member.up):
            play.sim.checks.violated(full.node_id, "a full disk keeps the others from having a leader")
        disk.faults.capacity_bytes, full.disk_trouble = None, False
        for member in (leader, full):
            if not member.up:
                member.start()
        return play.finish()


def divergent_follower_and_a_backlog() -> list[str]:
    """A deposed leader with entries of its own comes back to a leader whose backlog for it takes many messages, each of
    which it refuses."""
    with script(batch_bytes=4_000) as play, _many_batches_in_flight():
        old, others = play.leader, play.others(play.leader)
        play.cut([old], others)
        for _ in range(7):
            play.begin_write(old, timeout_s=0.3, size=600)
            play.wait(0.005)
        play.break_connections(old)
        play.until(lambda: any(member.core.is_leader for member in others))
        new, third = others if others[0].core.is_leader else reversed(others)
        for _ in range(20):
            play.write(new)
        # Elected with a longer log than the old leader has: it looks for the place where they agree from behind.
        play.until(lambda: new.core.engine.match_index(third.node_id) == new.core.journal.last_index)
        new.core.hand_over(third.node_id)
        play.until(lambda: third.core.is_leader)
        for _ in range(25):
            play.begin_write(third, timeout_s=3.0, size=600)
            play.wait(0.005)
        play.wait(1.0)
        play.heal()
        play.wait(0.6)
        if old.core.journal.last_index != third.core.journal.last_index:
            play.sim.checks.violated(old.node_id, "has met its leader again, and gets no further")
        return play.finish()


def killed_between_write_and_fsync() -> list[str]:
    """A follower is killed when an entry is written and not yet on its disk; it comes back, acknowledges the entry, and
    then loses power; the leader is gone, and the third node never had it."""
    with script(disk_s=0.002) as play:
        leader, (follower, third) = play.leader, play.others(play.leader)
        play.cut([third], [leader, follower])
        results = play.begin_write(leader, timeout_s=5.0, size=6_000)
        last = follower.core.journal.last_index
        play.until(lambda: follower.core.journal.last_index > last and unsynced(follower))
        follower.crash(power=False)
        # What it finds when it starts is on its disk, or is not; nothing that comes later makes it so.
        follower.speed.stalled_until_s = play.sim.scheduler.now_s + 4.0
        follower.start()
        play.until(lambda: bool(results))
        follower.crash(power=True)
        follower.speed.stalled_until_s = 0.0
        leader.crash(power=False)
        play.sim.hub.heal(_pairs(follower, third))
        follower.start()
        play.until(lambda: any(member.core.is_leader for member in (follower, third)))
        play.write(play.leader)
        leader.start()
        return play.finish()


def power_after_new_segments() -> list[str]:
    """The log has gone on to new files, and all machines lose power."""
    with script() as play:
        bytes_max = 3 * play.sim.plan.limits.segment_bytes
        while play.leader.core.journal.total_bytes < bytes_max:
            play.begin_write(play.leader, size=6_000)
            play.wait(0.01)
        play.until(play.sim.equal)
        for member in play.sim.members:
            member.crash(power=True)
        for member in play.sim.members:
            member.start()
        return play.finish()


def read_at_a_leader_cut_off_on_one_side() -> list[str]:
    """What followers answered before they had another leader reaches the old one late, after a read of its began."""
    with script() as play:
        for _ in range(6):
            old, others = play.leader, play.others(play.leader)
            play.cut(others, [old], both=False)
            play.wait(0.12)
            play.cut([old], others, both=False)
            play.until(lambda others=others, old=old: any(o.core.is_leader for o in others) or not old.core.is_leader)  # type: ignore[misc]  # bound now
            if old.core.engine.leading and any(member.core.is_leader for member in others):
                new = next(member for member in others if member.core.is_leader)
                play.write(new)
                if old.core.engine.leading:
                    play.sim.load.read(old, 0.5)
                    play.wait(0.03)
            play.heal()
            play.until(play.sim.equal)
        return play.finish()


def old_indexes_and_new_entries() -> list[str]:
    """A leader once had other entries on its disk under the indexes that it now gives to new ones; its disk stalls, one
    follower has the new ones, and the leader loses power before its own disk has them."""
    with script() as play:
        leader, (follower, lagging) = play.leader, play.others(play.leader)
        play.cut([leader], [follower, lagging])
        for _ in range(8):
            play.begin_write(leader, timeout_s=0.3)
            play.wait(0.02)
        play.until(lambda: any(member.core.is_leader for member in (follower, lagging)))
        play.heal()
        play.until(play.sim.equal)
        play.hand_over(leader)
        play.until(play.sim.equal)
        play.cut([lagging], [leader, follower])
        leader.speed.stalled_until_s = play.sim.scheduler.now_s + 5.0
        play.begin_write(follower)
        play.wait(0.5)
        leader.crash(power=True)
        play.cut([follower], [leader, lagging])
        play.sim.hub.heal(_pairs(leader, lagging))
        leader.speed.stalled_until_s = 0.0
        leader.start()
        play.until(lambda: leader.core.is_leader or lagging.core.is_leader)
        play.write(play.leader)
        return play.finish()


def every_kind_of_nonsense() -> list[str]:
    """A follower says each thing that no correct peer says: each time it costs the connection, and no more."""
    with script() as play:
        leader, talker = play.leader, play.others(play.leader)[0]
        for message in NONSENSE:
            play.until(lambda: not leader.up or talker.node_id in leader.core.transport.connected)
            if leader.life is None:
                break
            leader.life.run(lambda message=message: leader.receive(talker.node_id, message))  # type: ignore[misc]  # bound now
            if leader.up and talker.node_id in leader.core.transport.connected:
                play.sim.checks.violated(leader.node_id, f"goes on with a peer that said {message!r:.60}")
        return play.finish()


PLOTS: dict[str, Callable[[], list[str]]] = {
    plot.__name__: plot
    for plot in (
        backlog_in_many_messages,
        directory_that_was_set_back,
        votes_on_a_full_disk,
        divergent_follower_and_a_backlog,
        killed_between_write_and_fsync,
        power_after_new_segments,
        read_at_a_leader_cut_off_on_one_side,
        every_kind_of_nonsense,
        old_indexes_and_new_entries,
    )
}
