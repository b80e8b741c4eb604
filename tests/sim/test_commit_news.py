"""In a whole cluster: the followers of a quiet leader hear of a commit at once, not with the next heartbeat."""

from __future__ import annotations

from cluster.settings import Timings
from tests.sim.script import script


def test_a_quiet_leader_tells_its_followers_of_the_commit() -> None:
    with script(disk_s=0.001) as play:
        period_s = Timings().heartbeat_ms / 1000
        for _ in range(5):
            # Nothing follows, and no heartbeat is near.
            play.wait(10.25 * period_s)
            play.write(play.leader)
            answered_s = play.sim.scheduler.now_s
            play.until(play.sim.equal)
            assert play.sim.scheduler.now_s - answered_s < period_s / 5
        assert play.finish() == []
