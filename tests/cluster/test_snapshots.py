"""Images travel in pieces, and count only whole."""

from __future__ import annotations

from tests.cluster.listening import listen
from tests.sim.script import script


def test_a_broken_transfer_goes_on_where_it_stopped() -> None:
    with script() as play:
        follower = play.others(play.leader)[0]
        for _ in range(20):
            play.write(play.leader)
        play.behind(follower)
        pulls = listen(play, "image_pull")
        play.heal()
        play.until(lambda: len(pulls) > 4)
        play.break_connections(follower)
        play.until(play.sim.equal)
        offsets = [message["offset"] for _, _, message in pulls]
        assert len(offsets) > 6
        assert offsets == sorted(offsets)
        assert play.finish() == []


def test_an_image_that_does_not_match_its_digest_is_never_installed() -> None:
    """Whoever gave it is told, and takes another one of the state that it has."""
    with script() as play:
        leader, follower = play.leader, play.others(play.leader)[0]
        play.behind(follower)
        image, damaged = leader.kept.snapshots.image, leader.core.snapshots.newest
        assert damaged is not None
        leader.kept.snapshots.image = image[:-1] + bytes([image[-1] ^ 1])
        told = listen(play, "image_damaged")
        play.heal()
        play.until(play.sim.equal)
        assert told[0][2]["index"] == damaged.position.index
        for member in (leader, follower):
            newest = member.core.snapshots.newest
            assert newest is not None
            assert newest.position.index > damaged.position.index
        assert play.finish() == []
