"""Scripts for guards that dice test too rarely: each goes through the moment at which the guard matters.

With all guards in place each plot ends well; without its guard the simulator notices (`mutations.py`).
"""

from __future__ import annotations

from collections.abc import Callable

from tests.sim import disk_plots, election_plots, integrity_plots, lease_plots, replication_plots
from tests.sim.script import script


def tail_behind_a_snapshot() -> list[str]:
    """A deposed leader gets a snapshot that its log agrees with, and has entries of its own behind it."""
    with script() as play:
        old, (new, third) = play.leader, play.others(play.leader)
        play.cut([new, third], [old], both=False)
        for _ in range(2):
            play.begin_write(old)
            play.wait(0.02)
        play.until(lambda: new.core.journal.durable_index == old.core.journal.last_index)
        shared = old.core.journal.last_index
        play.cut([old], [new, third])
        for _ in range(2):
            play.begin_write(old)
            play.wait(0.02)
        play.cut([third], [old])
        play.until(lambda: new.core.engine.leading or third.core.engine.leading)
        new, third = play.leader, play.others(old, play.leader)[0]
        play.until(lambda: new.core.engine.applied_index == shared - 1)
        play.begin_snapshot(new)
        play.until(lambda: new.core.journal.first_index >= shared - 1)
        play.cut([third], [new, old])
        play.break_connections(old)
        results = []
        for _ in range(5):
            results.append(play.begin_write(new))
            play.wait(0.02)
        play.sim.hub.heal({(new.node_id, old.node_id), (old.node_id, new.node_id)})
        play.until(lambda: any(results))
        new.crash(power=True)
        play.heal()
        play.until(lambda: old.core.is_leader or third.core.is_leader)
        play.write(play.leader)
        return play.finish()


def own_tail_when_a_snapshot_is_offered() -> list[str]:
    """A deposed leader has entries nobody else has; its successor no longer has the log back to where they part."""
    with script(disk_s=0.02) as play:
        old = play.leader
        play.cut([old], play.others(old))
        for _ in range(3):
            play.begin_write(old)
            play.wait(0.05)
        play.break_connections(old)
        play.until(lambda: any(member.core.is_leader for member in play.others(old)))
        new = next(member for member in play.others(old) if member.core.is_leader)
        for _ in range(8):
            play.write(new)
        play.snapshot(new)
        play.heal()
        play.until(lambda: old.node_id in new.core.transport.installing)
        play.wait(0.2)
        return play.finish()


def answer_to_a_snapshot_is_lost() -> list[str]:
    """The connection breaks when a snapshot was installed, and its acknowledgement still waits for the disk."""
    with script(disk_s=0.02) as play:
        follower = play.others(play.leader)[0]
        play.behind(follower)
        index = play.leader.core.snapshots.newest
        assert index is not None
        play.heal()
        play.until(lambda: follower.core.engine.applied_index >= index.position.index)
        play.break_connections(follower)
        return play.finish()


def offer_of_an_earlier_leadership() -> list[str]:
    """A leader offers a snapshot, is deposed before that arrives, and leads again; its follower has dropped it."""
    with script() as play:
        leader, (follower, third) = play.leader, play.others(play.leader)
        play.behind(follower)
        play.cut([leader], [third])
        play.sim.hub.heal({(leader.node_id, follower.node_id), (follower.node_id, leader.node_id)})
        play.until(lambda: follower.node_id in leader.core.transport.installing)
        play.cut([leader], [follower])
        play.sim.hub.heal({(follower.node_id, third.node_id), (third.node_id, follower.node_id)})
        play.until(lambda: third.core.is_leader)
        play.until(lambda: follower.core.engine.applied_index == third.core.engine.applied_index)
        play.heal()
        play.until(play.sim.equal)
        play.hand_over(leader)
        return play.finish()


def own_snapshot_while_one_is_fetched() -> list[str]:
    """A node takes a snapshot of its old state when a newer one waits to be installed, and then loses power."""
    with script() as play:
        follower = play.others(play.leader)[0]
        play.behind(follower)
        play.heal()
        play.until(lambda: follower.core.snapshots.ready is not None)
        play.begin_snapshot(follower)
        play.until(play.sim.equal)
        play.wait(0.2)
        follower.crash(power=True)
        follower.start()
        return play.finish()


def snapshot_overtaken_by_the_log() -> list[str]:
    """Leadership changes while a snapshot is fetched, and the new leader's log is there first."""
    with script() as play:
        leader, (follower, third) = play.leader, play.others(play.leader)
        play.behind(follower)
        third.core.journal.hold(1)
        play.sim.hub.heal({(leader.node_id, follower.node_id), (follower.node_id, leader.node_id)})
        play.until(lambda: follower.core.snapshots._fetch is not None)
        play.cut([follower], [leader], both=False)
        play.hand_over(third)
        play.sim.hub.heal({(third.node_id, follower.node_id), (follower.node_id, third.node_id)})
        for _ in range(3):
            play.write(third)
        play.until(lambda: follower.core.engine.applied_index == third.core.engine.applied_index)
        play.heal()
        play.wait(3.0)
        return play.finish()


def killed_between_image_and_log() -> list[str]:
    """A process dies when the image of a snapshot is on its disk, and the log does not know of it yet."""
    with script() as play:
        follower = play.others(play.leader)[0]
        play.behind(follower)
        play.heal()
        play.until(lambda: follower.core.snapshots.ready is not None)
        follower.crash(power=False)
        follower.start()
        return play.finish()


def leader_with_a_stalled_disk() -> list[str]:
    """A leader's disk stalls, a follower has its entry, and the leader loses power before its own disk has it."""
    with script() as play:
        leader, (follower, lagging) = play.leader, play.others(play.leader)
        play.cut([lagging], [leader, follower])
        leader.speed.stalled_until_s = play.sim.scheduler.now_s + 5.0
        play.begin_write(follower)
        play.wait(0.5)
        leader.crash(power=True)
        play.cut([follower], [leader, lagging])
        play.sim.hub.heal({(leader.node_id, lagging.node_id), (lagging.node_id, leader.node_id)})
        leader.speed.stalled_until_s = 0.0
        leader.start()
        play.until(lambda: leader.core.is_leader or lagging.core.is_leader)
        play.write(play.leader)
        return play.finish()


def stalled_leader_gives_way() -> list[str]:
    """A leader's disk stalls for long while writes wait for it: the others must not wait as long."""
    with script() as play:
        leader, (follower, _) = play.leader, play.others(play.leader)
        leader.speed.stalled_until_s = play.sim.scheduler.now_s + 9.0
        play.begin_write(leader, timeout_s=0.5)
        play.begin_write(follower, timeout_s=0.5)
        play.wait(4.0)
        results = play.begin_write(follower, timeout_s=0.5)
        play.wait(1.0)
        if isinstance(results[0], Exception):
            play.sim.checks.violated(leader.node_id, "nobody can write while the leader's disk stalls")
        return play.finish()


def acknowledgement_of_an_earlier_leadership() -> list[str]:
    """What a follower said to a leader arrives when that leader leads again, in another term, with other entries."""
    with script(nodes=5) as play:
        first, (witness, second, fourth, fifth) = play.leader, play.others(play.leader)
        play.cut([witness], [first], both=False)
        play.cut([first, witness], [second, fourth, fifth])
        for _ in range(6):
            play.begin_write(first, timeout_s=0.3)
            play.wait(0.02)
        play.until(lambda: witness.core.journal.durable_index == first.core.journal.last_index)
        play.cut([first], [witness], both=False)
        play.until(lambda: any(member.core.is_leader for member in (second, fourth, fifth)))
        apart = {(a.node_id, b.node_id) for a in (first,) for b in (second, fourth, fifth)}
        play.sim.hub.heal(apart | {(b, a) for a, b in apart})
        caught_up = play.leader
        play.until(lambda: first.core.engine.applied_index == caught_up.core.engine.applied_index)
        play.hand_over(first)
        play.cut([first, fourth], [second, fifth, witness])
        play.sim.hub.heal({(witness.node_id, first.node_id)})
        for _ in range(3):
            play.begin_write(first, timeout_s=0.5)
            play.wait(0.05)
        play.wait(0.3)
        play.cut([first, fourth], [second, fifth, witness])
        play.sim.hub.heal({(a.node_id, b.node_id) for a in (second, fifth) for b in (witness,)})
        play.sim.hub.heal({(b.node_id, a.node_id) for a in (second, fifth) for b in (witness,)})
        play.until(lambda: any(member.core.is_leader for member in (second, fifth, witness)))
        play.write(next(member for member in (second, fifth, witness) if member.core.is_leader))
        return play.finish()


def longer_log_in_an_older_term() -> list[str]:
    """Of three one is down; one has the longer log, the other campaigned in a newer term: only the first can lead."""
    with script() as play:
        old, two = play.leader, play.others(play.leader)
        play.cut([old], two)
        play.begin_write(old)
        play.until(lambda: any(member.core.engine.candidate for member in two))
        candidate, other = sorted(two, key=lambda member: not member.core.engine.candidate)
        other.crash(power=False)
        play.break_connections(old)
        play.until(lambda: not old.core.engine.leading)
        play.heal()
        play.until(lambda: old.core.is_leader or candidate.core.is_leader)
        return play.finish()


PLOTS: dict[str, Callable[[], list[str]]] = (
    {
        plot.__name__: plot
        for plot in (
            tail_behind_a_snapshot,
            own_tail_when_a_snapshot_is_offered,
            answer_to_a_snapshot_is_lost,
            offer_of_an_earlier_leadership,
            own_snapshot_while_one_is_fetched,
            snapshot_overtaken_by_the_log,
            killed_between_image_and_log,
            leader_with_a_stalled_disk,
            stalled_leader_gives_way,
            acknowledgement_of_an_earlier_leadership,
            longer_log_in_an_older_term,
        )
    }
    | disk_plots.PLOTS
    | election_plots.PLOTS
    | integrity_plots.PLOTS
    | lease_plots.PLOTS
    | replication_plots.PLOTS
)
