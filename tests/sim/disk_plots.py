"""Scripts for disks that do not keep what they were given: an fsync that fails, bytes that change by themselves."""

from __future__ import annotations

from collections.abc import Callable

from cluster.journal.records import ENTRY_HEADER_BYTES
from cluster.journal.segments import segment_name
from tests.sim.member import Member
from tests.sim.script import Script, script


def unsynced(member: Member) -> bool:
    """Whether something is written to a file and not synced."""
    return any(file.pending for file in member.kept.disk._names.values())


def _elect_without(play: Script, leader: Member, follower: Member, third: Member) -> None:
    """The leader is gone; of the other two, one has what was acknowledged, or should have it."""
    leader.crash(power=False)
    play.sim.hub.heal({(follower.node_id, third.node_id), (third.node_id, follower.node_id)})
    follower.start()
    if not follower.up:
        return
    play.until(lambda: any(member.up and member.core.is_leader for member in (follower, third)))
    play.write(play.leader)
    leader.start()


def power_lost_with_an_entry() -> list[str]:
    """A follower whose disk stalls is sent an entry, and loses power; the leader is gone, and the third node never had
    it."""
    with script() as play:
        leader, (follower, third) = play.leader, play.others(play.leader)
        play.cut([third], [leader, follower])
        follower.speed.stalled_until_s = play.sim.scheduler.now_s + 5.0
        play.begin_write(leader, timeout_s=5.0)
        play.wait(0.2)
        follower.crash(power=True)
        follower.speed.stalled_until_s = 0.0
        _elect_without(play, leader, follower, third)
        return play.finish()


def restarted_after_a_failed_fsync() -> list[str]:
    """A follower's fsync fails, and it stops. Started again it finds the entry, in the memory of its machine, syncs it
    without an error, acknowledges it, and then loses power; the leader is gone, and the third node never had it."""
    with script() as play:
        leader, (follower, third) = play.leader, play.others(play.leader)
        play.cut([third], [leader, follower])
        follower.disk_trouble = follower.kept.disk.faults.sync_error = True
        results = play.begin_write(leader, timeout_s=5.0, size=6_000)
        play.until(lambda: not follower.up)
        follower.disk_trouble = follower.kept.disk.faults.sync_error = False
        follower.start()
        play.until(lambda: bool(results))
        follower.crash(power=True)
        _elect_without(play, leader, follower, third)
        return play.finish()


def power_lost_in_the_middle_of_entries() -> list[str]:
    """A follower loses power again and again while a long entry is written, of which some sectors are on its disk."""
    with script(disk_s=0.002) as play:
        follower = play.others(play.leader)[0]
        for _ in range(12):
            last = follower.core.journal.last_index
            play.begin_write(play.leader, size=6_000)
            play.until(lambda last=last: follower.core.journal.last_index > last and unsynced(follower))  # type: ignore[misc]  # bound now
            follower.crash(power=True)
            follower.start()
            if not follower.up:
                break
            play.until(play.sim.equal)
        return play.finish()


def _flip_a_byte_of(member: Member, index: int) -> None:
    """Somewhere in the command of an entry that was durable long ago."""
    log = member.core.journal._log
    offset = log.table.offset(index)
    segment, _ = log.segments.locate(offset)
    place = offset - segment.base + ENTRY_HEADER_BYTES + log.entry_command_bytes(index) - 20
    member.kept.disk.corrupt(segment_name(segment.number), place)


def damaged_while_it_was_down() -> list[str]:
    """A byte of an old entry changes on a follower's disk: it refuses to start, and is rebuilt from the others."""
    with script() as play:
        follower = play.others(play.leader)[0]
        play.write(play.leader)
        index = play.leader.core.journal.last_index
        for _ in range(3):
            play.write(play.leader)
        play.until(play.sim.equal)
        _flip_a_byte_of(follower, index)
        follower.crash(power=True)
        follower.damaged = True
        follower.start()
        if follower.up:
            play.wait(0.5)  # what is wrong with its log is in its state next
            return play.finish()
        follower.damaged = False
        follower.resync()
        follower.start()
        play.until(lambda: not follower.kept.rebuilding)
        return play.finish()


def damaged_while_it_leads() -> list[str]:
    """A byte of an old entry changes on the leader's disk, and the entry is read again for one that is behind: the
    leader stops before it sends it, and is rebuilt from the others."""
    with script(cache_bytes=0) as play:
        leader, (behind, third) = play.leader, play.others(play.leader)
        play.cut([behind], [leader, third])
        play.break_connections(behind)
        play.write(leader)
        index = leader.core.journal.last_index
        for _ in range(3):
            play.write(leader)
        _flip_a_byte_of(leader, index)
        leader.damaged = True
        play.heal()
        play.until(lambda: not leader.up or behind.core.engine.applied_index > index)
        leader.damaged = False
        if leader.up:
            return play.finish()
        leader.resync()
        leader.start()
        play.until(lambda: not leader.kept.rebuilding)
        return play.finish()


PLOTS: dict[str, Callable[[], list[str]]] = {
    plot.__name__: plot
    for plot in (
        power_lost_with_an_entry,
        restarted_after_a_failed_fsync,
        power_lost_in_the_middle_of_entries,
        damaged_while_it_was_down,
        damaged_while_it_leads,
    )
}
