"""The plan is what the seed says, and leaves nothing out."""

from __future__ import annotations

from itertools import islice

from tests.nemesis.blows import ACTIONS
from tests.nemesis.plan import BESIDE, KINDS, MEMBERSHIP, SINGLY, plan


def test_the_same_seed_is_the_same_plan() -> None:
    assert list(islice(plan(7), 100)) == list(islice(plan(7), 100))
    assert list(islice(plan(7), 100)) != list(islice(plan(8), 100))


def test_every_kind_comes_before_any_comes_again() -> None:
    blows = list(islice(plan(3), 2 * len(KINDS)))
    assert sorted(blow.kind for blow in blows[: len(KINDS)]) == sorted(KINDS)
    assert sorted(blow.kind for blow in blows[len(KINDS) :]) == sorted(KINDS)
    assert len({blow.number for blow in blows}) == len(blows)


def test_what_is_left_out_does_not_come() -> None:
    without = {"damaged state", "slow lines"}
    blows = list(islice(plan(3, without=without), 200))
    assert {blow.kind for blow in blows} == set(KINDS) - without
    assert "slow lines" not in {blow.beside for blow in blows}
    assert {blow.beside for blow in blows} > {"", "late lines"}
    assert all(not blow.beside for blow in blows if blow.kind in SINGLY)


def test_nothing_is_left_out_by_itself() -> None:
    assert {blow.kind for blow in islice(plan(5), len(KINDS))} == set(KINDS)
    assert set(KINDS) > MEMBERSHIP | {"damaged state"}


def test_every_kind_can_be_done() -> None:
    assert set(ACTIONS) == set(KINDS)
    assert set(KINDS) >= BESIDE | SINGLY
