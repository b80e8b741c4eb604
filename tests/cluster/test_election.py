"""Nobody is elected against a living leader, and nobody who lacks something."""

from __future__ import annotations

import pytest

from tests.cluster.listening import listen
from tests.sim.member import Member
from tests.sim.script import Script


def _ask(play: Script, asker: Member, asked: Member, **fields: int) -> bool:
    replies = listen(play, "pre_vote_reply")
    core = asker.core
    request = {
        "round": 1,
        "term": core.engine.term + 1,
        "last_index": core.journal.last_index,
        "last_term": core.journal.last_term,
        "commit": core.engine.commit_index,
        "commit_term": core.journal.term_at(core.engine.commit_index),
    }
    asked.core.elections.on_pre_vote(asker.node_id, request | fields)
    ((_, to, reply),) = replies
    assert to == asker.node_id
    return bool(reply["granted"])


def _long_after_the_leader(member: Member) -> None:
    member.core.elections._leader_heard_s = -1e9


def test_nobody_is_elected_while_the_leader_is_heard(play: Script) -> None:
    asker, asked = play.others(play.leader)
    assert not _ask(play, asker, asked)


def test_the_leader_itself_says_no(play: Script) -> None:
    assert not _ask(play, play.others(play.leader)[0], play.leader)


def test_without_a_leader_whoever_has_everything_would_be_elected(play: Script) -> None:
    asker, asked = play.others(play.leader)
    _long_after_the_leader(asked)
    assert _ask(play, asker, asked)


@pytest.mark.parametrize("fields", [{"last_index": 1}, {"last_term": 0}, {"term": 1}])
def test_whoever_lacks_something_would_not(play: Script, fields: dict[str, int]) -> None:
    asker, asked = play.others(play.leader)
    _long_after_the_leader(asked)
    assert not _ask(play, asker, asked, **fields)


@pytest.mark.parametrize("transfer", [False, True])
def test_a_vote_against_a_living_leader_takes_its_own_word(play: Script, transfer: bool) -> None:
    asked = play.others(play.leader)[1]
    assert asked.core.elections.refuse_vote_request({"transfer": transfer}) is not transfer


def test_leadership_is_handed_over_at_once(play: Script) -> None:
    heir = play.others(play.leader)[1]
    began_s = play.sim.scheduler.now_s
    play.hand_over(heir)
    assert play.sim.scheduler.now_s - began_s < 0.2, "no election timeout was waited for"
    assert play.leader is heir
