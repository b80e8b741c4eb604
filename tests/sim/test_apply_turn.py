"""In a whole cluster: a follower applies an entry when it has acknowledged the one that told it of the commit."""

from __future__ import annotations

import pytest

from tests.sim.member import Member
from tests.sim.script import script


def _durable_when_applied(member: Member, monkeypatch: pytest.MonkeyPatch) -> dict[int, int]:
    """Entry -> how far the log was durable when the node began to apply it."""
    applier, journal = member.core.applier, member.core.journal
    apply, found = applier.apply, dict[int, int]()

    def recorded(first: int, last: int) -> int:
        found.update(dict.fromkeys(range(first, last + 1), journal.durable_index))
        return apply(first, last)

    monkeypatch.setattr(applier, "apply", recorded)
    return found


def test_a_follower_acknowledges_before_it_applies(monkeypatch: pytest.MonkeyPatch) -> None:
    with script(disk_s=0.001) as play:
        followers = play.others(play.leader)
        seen = [_durable_when_applied(member, monkeypatch) for member in followers]
        begin = play.leader.core.journal.last_index + 1
        for _ in range(5):
            play.write(play.leader)
        play.until(play.sim.equal)
        for durable in seen:
            # The entry behind it brought the news that it is committed, and was on the disk first. Of the last one a
            # heartbeat told.
            assert all(durable[index] > index for index in range(begin, begin + 4)), durable
        assert play.finish() == []
