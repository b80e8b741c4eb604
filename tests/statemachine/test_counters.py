"""Counters: added command by command, written once, never below zero."""

from __future__ import annotations

import pytest

from statemachine import counters
from statemachine.store import MemoryStore, Overlay


def _written(store: MemoryStore, *commands: dict[int, dict[str, int]]) -> MemoryStore:
    state = Overlay(store)
    tally = counters.Tally(state)
    for deltas in commands:
        tally.add(deltas)
    tally.write(state)
    store.apply(state.writes())
    return store


def test_counts_add_up_over_commands_and_entries() -> None:
    store = _written(MemoryStore(), {1: {"a": 2}, 2: {"a": 5}}, {1: {"a": -1, "b": 1}})
    _written(store, {1: {"a": 3}})
    assert counters.read(store, 1) == {"a": 4, "b": 1}
    assert list(counters.scan(store)) == [(1, {"a": 4, "b": 1}), (2, {"a": 5})]
    assert counters.total(store) == {"a": 9, "b": 1}
    assert counters.read(store, 3) == {}


def test_zeros_are_not_kept() -> None:
    store = _written(MemoryStore(), {1: {"a": 1, "b": 1}})
    assert counters.read(_written(store, {1: {"a": -1}}), 1) == {"b": 1}


def test_a_count_below_zero_is_a_defect_and_adds_nothing_of_its_command() -> None:
    state = Overlay(_written(MemoryStore(), {1: {"a": 1}, 2: {"a": 3}}))
    tally = counters.Tally(state)
    with pytest.raises(AssertionError, match="below zero"):
        tally.add({2: {"a": -1}, 1: {"b": 7, "a": -2, "c": 1}, 3: {"a": 1}})
    tally.write(state)
    assert state.writes() == [], "what did not change is not written"
    tally.add({1: {"a": -1, "c": 1}})
    tally.write(state)
    assert list(counters.scan(state)) == [(1, {"c": 1}), (2, {"a": 3})]


def test_the_order_of_counting_does_not_show_in_the_bytes() -> None:
    forth = _written(MemoryStore(), {1: {"a": 1, "b": 2}})
    back = _written(MemoryStore(), {1: {"b": 2}}, {1: {"a": 1}})
    assert list(forth.scan(b"n", b"o")) == list(back.scan(b"n", b"o"))
