"""Scripts of what goes wrong within one node: its state changes by itself, its log is lost, its disk is full."""

from __future__ import annotations

from collections.abc import Callable

from cluster.replica import NotCommittedError
from statemachine.commands import DeleteSession
from tests.sim.member import Kept, Member
from tests.sim.script import Script, script

_MIN_FREE_BYTES = 1_000_000


def _change_a_byte(member: Member, *, last: bool = False) -> None:
    """A value that no command reads or writes any more is another one now."""
    store = member.core.state.store  # type: ignore[attr-defined]  # a MemoryState
    found = [(key, value) for key, value in store.scan(b"\x01", b"\xff") if b"xxxx" in value]
    key, value = found[-1 if last else 0]
    at = value.index(b"xxxx")
    store.apply([(key, value[:at] + b"y" + value[at + 1 :])])


def _noticed(play: Script, odd: Member) -> None:
    """The odd one takes itself out of service, and nobody else."""
    until_s = play.sim.scheduler.now_s + 5.0
    play.sim.scheduler.run_until(until_s, lambda: bool(odd.kept.state_differs) and not odd.core.engine.leading)
    for member in play.sim.members:
        if bool(member.kept.state_differs) != (member is odd):
            play.sim.checks.violated(member.node_id, f"state_differs is {member.kept.state_differs!r}")
    if odd.core.engine.leading or odd.core.is_leader:
        play.sim.checks.violated(odd.node_id, "leads with a state that is not the others'")
    if not isinstance(play.begin_write(odd, timeout_s=0.3)[0], NotCommittedError):
        play.sim.checks.violated(odd.node_id, "takes writes with a state that is not the others'")


def state_changes_far_behind() -> list[str]:
    """The state is larger than what is compared at once, and its last part changes."""
    with script() as play:
        odd = play.others(play.leader)[0]
        for _ in range(30):
            play.begin_write(play.leader, size=60_000)
        play.write(play.leader)
        play.until(play.sim.equal)
        _change_a_byte(odd, last=True)
        _noticed(play, odd)
        _resync_state(odd)
        return play.finish()


def a_check_among_many_entries() -> list[str]:
    """A follower's disk stalls under load, and then much is applied at once: it still looks where the others looked."""
    with script(slice_s=1.0) as play:
        slow = play.others(play.leader)[0]
        play.wait(1.0)
        slow.speed.stalled_until_s = play.sim.scheduler.now_s + 1.4
        done = slow.core.integrity.agreement.checks_done
        for _ in range(25):
            play.begin_write(play.leader)
            play.wait(0.05)
        last = play.leader.core.journal.last_index
        play.until(lambda: slow.core.engine.applied_index >= last)
        play.wait(0.02)
        if slow.core.integrity.agreement.checks_done == done:
            play.sim.checks.violated(slow.node_id, "has passed the entry at which states are compared")
        return play.finish()


def _resync_state(member: Member) -> None:
    """As `hive resync` where the log is whole: the state is made again from it."""
    member.crash(power=False)
    kept = member.kept
    member.kept = Kept(kept.disk, journal_id=kept.journal_id, journal_ids=kept.journal_ids, same_boot=False)
    member.start()


def state_of_a_follower_changes_by_itself() -> list[str]:
    """A byte of a follower's state flips; it stays out of service over a restart, until its state is made anew."""
    with script() as play:
        odd = play.others(play.leader)[0]
        play.write(play.leader)
        play.until(play.sim.equal)
        _change_a_byte(odd)
        _noticed(play, odd)
        play.write(play.leader)
        odd.crash(power=False)
        odd.start()
        play.until(lambda: odd.core.engine.applied_index == play.leader.core.engine.applied_index)
        _noticed(play, odd)
        _resync_state(odd)
        return play.finish()


def state_of_the_leader_changes_by_itself() -> list[str]:
    """The leader is the odd one: it gives way, and the others go on without it."""
    with script() as play:
        odd = play.leader
        play.write(odd)
        play.until(play.sim.equal)
        _change_a_byte(odd)
        _noticed(play, odd)
        play.until(lambda: any(member.core.is_leader for member in play.others(odd)))
        play.write(play.leader)
        _resync_state(odd)
        return play.finish()


def states_of_two_differ() -> list[str]:
    """Of two nodes nobody knows which is right: neither is taken out of service until the third decides."""
    with script() as play:
        leader, (odd, third) = play.leader, play.others(play.leader)
        play.write(leader)
        play.until(play.sim.equal)
        third.crash(power=False)
        _change_a_byte(odd)
        play.until(lambda: leader.core.integrity.agreement.unclear)
        if odd.kept.state_differs or leader.kept.state_differs:
            play.sim.checks.violated("all", "a verdict without a majority")
        third.start()
        _noticed(play, odd)
        _resync_state(odd)
        return play.finish()


def _lose_log(member: Member) -> None:
    member.crash(power=False)
    member.resync()


def vote_of_a_rebuilt_member() -> list[str]:
    """A member has helped to commit, loses its log, and is asked for its vote by one that lacks what it forgot."""
    with script() as play:
        leader, (forgetful, behind) = play.leader, play.others(play.leader)
        play.cut([behind], [leader, forgetful])
        play.write(leader)
        _lose_log(forgetful)
        play.sim.hub.heal({(behind.node_id, forgetful.node_id), (forgetful.node_id, behind.node_id)})
        forgetful.start()
        met = forgetful.core.peers._met
        play.until(lambda: len(met) == 2)
        leader.crash(power=False)
        play.cut([leader], [behind, forgetful])
        results = play.begin_write(behind, timeout_s=3.0)
        play.until(lambda: bool(results))
        leader.start()
        return play.finish()


def acknowledgement_of_a_rebuilt_member() -> list[str]:
    """A member has voted for a new leader and acknowledged its entry; then it loses its log, and comes back to the old
    leader, which does not know yet that it is deposed."""
    with script() as play:
        old, two = play.leader, play.others(play.leader)
        play.cut([old], two)
        play.begin_write(old, timeout_s=3.0)
        play.break_connections(old)
        play.until(lambda: any(member.core.is_leader for member in two))
        new, forgetful = sorted(two, key=lambda member: not member.core.is_leader)
        play.write(new)
        _lose_log(forgetful)
        play.cut([new], [forgetful])
        back = {(old.node_id, forgetful.node_id), (forgetful.node_id, old.node_id)}
        play.sim.hub.heal(back)
        forgetful.start()
        if not old.core.engine.leading:
            raise AssertionError("the old leader knows already")
        play.until(lambda: old.node_id in forgetful.core.transport.connected)
        play.wait(3.0)
        return play.finish()


def read_at_a_deposed_leader() -> list[str]:
    """As before, and what is asked of the old leader is a read: it must not miss what the new one has committed."""
    with script() as play:
        old, two = play.leader, play.others(play.leader)
        play.cut([old], two)
        play.break_connections(old)
        play.until(lambda: any(member.core.is_leader for member in two))
        new, forgetful = sorted(two, key=lambda member: not member.core.is_leader)
        play.write(new)
        _lose_log(forgetful)
        play.cut([new], [forgetful])
        play.sim.hub.heal({(old.node_id, forgetful.node_id), (forgetful.node_id, old.node_id)})
        forgetful.start()
        play.until(lambda: old.node_id in forgetful.core.transport.connected)
        if not old.core.engine.leading:
            raise AssertionError("the old leader knows already")
        play.sim.load.read(old, 0.5)
        play.wait(3.0)
        return play.finish()


def log_of_a_member_is_lost_for_good() -> list[str]:
    """Its log is gone, and the others have trimmed theirs: it fetches a snapshot, and counts again."""
    with script() as play:
        forgetful = play.others(play.leader)[0]
        for _ in range(5):
            play.write(play.leader)
        play.snapshot(play.leader)
        _lose_log(forgetful)
        forgetful.start()
        play.until(lambda: not forgetful.kept.rebuilding and play.sim.equal())
        play.cut([play.leader], play.others(play.leader))
        play.until(lambda: any(member.core.is_leader for member in play.others(play.leader)))
        return play.finish()


def space_is_short_on_a_follower() -> list[str]:
    """The cluster takes nothing that grows while a follower has too little space; deletes go on."""
    with script(min_free_bytes=_MIN_FREE_BYTES) as play:
        leader, (low, third) = play.leader, play.others(play.leader)
        for member in play.sim.members:
            member.core.integrity.free_space.measured(10 * _MIN_FREE_BYTES)
        low.core.integrity.free_space.measured(_MIN_FREE_BYTES - 1)
        play.wait(0.5)
        for member in play.sim.members:
            results = play.begin_write(member)
            refused = results[0] if results else None
            if not (isinstance(refused, NotCommittedError) and refused.code == "read_only"):
                play.sim.checks.violated(member.node_id, f"a write that grows ended with {refused!r}")
        play.write(third, command=DeleteSession("nobody"))
        low.core.integrity.free_space.measured(int(1.2 * _MIN_FREE_BYTES))
        play.wait(0.5)
        if not leader.core.integrity.free_space.read_only:
            play.sim.checks.violated(leader.node_id, "takes all writes again too early")
        low.core.integrity.free_space.measured(2 * _MIN_FREE_BYTES)
        play.wait(0.5)
        return play.finish()


def disk_is_full_for_a_snapshot() -> list[str]:
    """A node can not store its snapshot, another not the image it is sent: they go on, and do it when there is room."""
    with script() as play:
        leader, follower = play.leader, play.others(play.leader)[0]
        play.write(leader)
        leader.kept.snapshots.disk_is_full = True
        play.begin_snapshot(leader)
        play.wait(1.0)
        play.write(leader)
        leader.kept.snapshots.disk_is_full = False
        play.wait(31.0)
        follower.kept.snapshots.disk_is_full = True
        play.behind(follower)
        play.heal()
        play.wait(1.0)
        follower.kept.snapshots.disk_is_full = False
        play.wait(31.0)
        return play.finish()


PLOTS: dict[str, Callable[[], list[str]]] = {
    plot.__name__: plot
    for plot in (
        state_of_a_follower_changes_by_itself,
        state_of_the_leader_changes_by_itself,
        state_changes_far_behind,
        a_check_among_many_entries,
        states_of_two_differ,
        vote_of_a_rebuilt_member,
        acknowledgement_of_a_rebuilt_member,
        read_at_a_deposed_leader,
        log_of_a_member_is_lost_for_good,
        space_is_short_on_a_follower,
        disk_is_full_for_a_snapshot,
    )
}
