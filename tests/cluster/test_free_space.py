"""When the cluster is read-only, and when no more."""

from __future__ import annotations

import pytest

from cluster.free_space import FreeSpace

_LIMIT = 1_000


def _space(*, leading: bool = True) -> FreeSpace:
    space = FreeSpace("n1", _LIMIT)
    space.leads(leading=leading)
    return space


def _is_read_only(space: FreeSpace) -> bool:
    return space.read_only


def test_own_disk_of_a_leader() -> None:
    space = _space()
    space.measured(_LIMIT)
    assert not _is_read_only(space)
    space.measured(_LIMIT - 1)
    assert _is_read_only(space)
    assert space.own_low


@pytest.mark.parametrize(("free_bytes", "read_only"), [(_LIMIT, True), (1_249, True), (1_250, False)])
def test_it_takes_a_quarter_more_to_come_back(free_bytes: int, read_only: bool) -> None:
    space = _space()
    space.heard("n2", 10)
    space.heard("n2", free_bytes)
    assert space.read_only is read_only


def test_one_of_two_that_are_short_comes_back() -> None:
    space = _space()
    space.heard("n2", 10)
    space.heard("n3", 10)
    space.heard("n2", 10 * _LIMIT)
    assert _is_read_only(space)
    space.heard("n3", 10 * _LIMIT)
    assert not _is_read_only(space)


def test_who_has_not_measured_yet_changes_nothing() -> None:
    space = _space()
    space.heard("n2", 10)
    space.heard("n2", None)
    assert _is_read_only(space)


def test_a_member_that_is_gone_does_not_hold_the_others_up() -> None:
    space = _space()
    space.heard("n2", 10)
    space.lost("n2")
    assert not _is_read_only(space)


def test_a_follower_does_as_it_is_told() -> None:
    space = _space(leading=False)
    space.measured(10)
    assert space.own_low
    assert not _is_read_only(space)
    space.told(read_only=True)
    assert _is_read_only(space)
    space.told(read_only=False)
    assert not _is_read_only(space)


def test_a_new_leader_knows_of_itself_only() -> None:
    space = _space()
    space.heard("n2", 10)
    space.leads(leading=False)
    space.leads(leading=True)
    assert not _is_read_only(space)
    space.measured(10)
    space.leads(leading=False)
    space.leads(leading=True)
    assert _is_read_only(space)


def test_a_limit_of_nothing_is_none() -> None:
    space = FreeSpace("n1", 0)
    space.leads(leading=True)
    space.measured(0)
    assert not _is_read_only(space)
