"""Scripts for the rules of leases: a leader that stutters, one that is cut off, one that comes too late."""

from __future__ import annotations

from collections.abc import Callable

from statemachine.commands import ClaimTasks, FailTasks, Failure, NewTask, RegisterAgent, SubmitTasks
from tests.sim.coroutines import SimAsyncLoop
from tests.sim.member import Member
from tests.sim.script import Script, fleet_script
from tests.sim.workers import Habits, Worker

_TASK = "t"


def _hold(play: Script, lease_s: float, nodes: list[Member] | None = None) -> Worker:
    """A worker that never pauses and never ends holds one task, and calls these nodes."""
    sim = play.sim
    assert sim.fleet is not None
    sim.fleet.leases_s[_TASK] = lease_s
    worker = sim.workers[0]
    worker.habits = Habits(pauses=0.0, work_s=(1e6,), accepts=1.0)
    worker.nodes = nodes
    sim.leases.begin()
    sim.clients.run(lambda: _begin(sim.clients.loop, worker))
    play.write(play.leader, SubmitTasks((NewTask(_TASK, lease_ms=int(lease_s * 1000), max_attempts=50),)))
    play.until(lambda: _TASK in worker.held)
    return worker


def _begin(loop: SimAsyncLoop, worker: Worker) -> None:
    loop.create_task(worker.run(1e6))


def _pause(play: Script, members: list[Member], duration_s: float) -> None:
    lives = [member.life for member in members if member.life is not None]
    for life in lives:
        life.paused = True
    play.wait(duration_s)
    for life in lives:
        life.resume()


def leader_that_stutters() -> list[str]:
    """A leader's process stands still most of the time, never so long that it is deposed; nobody renews. Time in which
    it could not have heard a renewal is no part of the lease."""
    with fleet_script() as play:
        leader, lease_s = play.leader, 3.0
        worker = _hold(play, lease_s)
        worker.stopped = True
        play.wait(0.5)
        began_s, awake_s = play.sim.scheduler.now_s, 0.0
        while _TASK not in play.sim.leases.expired_at_s and play.sim.scheduler.now_s < began_s + 30:
            _pause(play, [leader], 0.28)
            play.wait(0.1)
            awake_s += 0.1
        if play.leader is not leader:
            raise AssertionError("the script lost its leader")
        if awake_s < lease_s / 3:
            play.sim.checks.violated(leader.node_id, f"ends a lease of {lease_s} s after {awake_s:.1f} s awake")
        return play.finish()


def leader_that_pauses() -> list[str]:
    """A leader pauses for very long and comes back to an old clock, with a lease that was renewed elsewhere."""
    with fleet_script() as play:
        leader = play.leader
        worker = _hold(play, 2.0, play.others(leader))
        attempt = worker.held[_TASK].attempt
        _pause(play, [leader], 30.0)
        play.wait(3.0)
        job = worker.held.get(_TASK)
        if job is None or job.attempt != attempt:
            play.sim.checks.violated(leader.node_id, "a worker lost its task to a leader that paused")
        return play.finish()


def decision_of_a_deposed_leader() -> list[str]:
    """A leader decides that a lease is over when nobody hears it any more; then there is another leader, under whom the
    lease begins anew."""
    with fleet_script() as play:
        leader, others = play.leader, play.others(play.leader)
        worker = _hold(play, 3.0)
        worker.stopped = True
        play.wait(1.0)
        last_s = play.sim.leases.renewed_s(_TASK)
        play.wait(last_s + 2.7 - play.sim.scheduler.now_s)
        play.cut([leader], others)
        play.until(lambda: any(member.core.is_leader for member in others))
        play.wait(0.3)
        play.heal()
        play.wait(6.0)
        return play.finish()


def renewed_by_a_leader_on_its_way_out() -> list[str]:
    """A worker reaches only the old leader, which goes on answering for as long as it may believe in its majority; the
    new one is elected meanwhile, and hears nothing of that."""
    with fleet_script() as play:
        leader, others = play.leader, play.others(play.leader)
        worker = _hold(play, 3.0, [leader])
        play.wait(1.0)
        play.cut([leader], others)
        play.until(lambda: any(member.core.is_leader for member in others))
        play.until(lambda: not leader.core.engine.leading)
        play.until(lambda: _TASK in play.sim.leases.expired_at_s)
        worker.stopped = True
        play.heal()
        return play.finish()


def expiry_that_comes_too_late() -> list[str]:
    """While a leader's disk stalls its log already holds that an attempt failed and the next one began; the leader has
    not applied that yet, and decides that the lease of the first one is over."""
    with fleet_script() as play:
        leader, lease_s = play.leader, 3.0
        registered = play.begin_write(leader, command=RegisterAgent("other", instance_id="i"))
        play.until(lambda: bool(registered))
        assert not isinstance(registered[0], Exception)
        epoch = registered[0][0].items[0].numbers[0]
        worker = _hold(play, lease_s)
        attempt = worker.held[_TASK].attempt
        worker.stopped = True
        play.wait(0.6)
        play.wait(play.sim.leases.renewed_s(_TASK) + lease_s - 0.3 - play.sim.scheduler.now_s)
        leader.speed.stalled_until_s = play.sim.scheduler.now_s + 1.2
        failure = Failure(_TASK, attempt, "error", "as planned", retryable=True, usage=None, random=0)
        play.begin_write(leader, command=FailTasks(worker.agent_id, (failure,)))
        play.wait(0.05)
        play.begin_write(leader, command=ClaimTasks("other", epoch, (_TASK,), named=True))
        play.wait(3.0)
        if play.leader is not leader:
            raise AssertionError("the script lost its leader")
        return play.finish()


PLOTS: dict[str, Callable[[], list[str]]] = {
    plot.__name__: plot
    for plot in (
        leader_that_stutters,
        leader_that_pauses,
        decision_of_a_deposed_leader,
        renewed_by_a_leader_on_its_way_out,
        expiry_that_comes_too_late,
    )
}
