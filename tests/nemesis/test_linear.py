"""The checker of linearizability: what it must accept, what it must not, and that it agrees with trying everything."""

from __future__ import annotations

import random
from itertools import permutations

from tests.nemesis.linear import Call, check

Access = tuple[str, int]
"""("write", value) or ("read", value)."""


def step(state: int, access: Access) -> int | None:
    kind, value = access
    if kind == "write":
        return value
    return state if state == value else None


def write(value: int, invoke_s: float, return_s: float | None) -> Call[Access]:
    return Call(("write", value), invoke_s, return_s)


def read(value: int, invoke_s: float, return_s: float | None) -> Call[Access]:
    return Call(("read", value), invoke_s, return_s)


def linear(*calls: Call[Access]) -> bool | None:
    return check(calls, 0, step).linear


def test_one_after_the_other() -> None:
    assert linear() is True
    assert linear(write(1, 0, 1), read(1, 2, 3), write(2, 4, 5), read(2, 6, 7)) is True


def test_a_stale_read_is_none() -> None:
    assert linear(write(1, 0, 1), read(0, 2, 3)) is False
    assert linear(write(1, 0, 1), write(2, 2, 3), read(1, 4, 5)) is False


def test_what_nobody_wrote_is_not_read() -> None:
    assert linear(write(1, 0, 1), read(7, 2, 3)) is False


def test_what_overlaps_may_have_either_order() -> None:
    assert linear(write(1, 0, 10), read(0, 1, 2), read(1, 3, 4)) is True
    assert linear(write(1, 0, 10), write(2, 0, 10), read(1, 11, 12)) is True
    assert linear(write(1, 0, 10), write(2, 0, 10), read(2, 11, 12)) is True


def test_but_not_both_orders() -> None:
    assert linear(write(1, 0, 10), read(1, 1, 2), read(0, 3, 4)) is False
    assert linear(write(1, 0, 10), write(2, 0, 10), read(1, 11, 12), read(2, 13, 14)) is False


def test_touching_calls_overlap() -> None:
    assert linear(write(1, 0, 1), read(0, 1, 2)) is True


def test_an_unknown_write_may_happen_late_or_never() -> None:
    assert linear(write(1, 0, None), read(0, 5, 6)) is True
    assert linear(write(1, 0, None), read(0, 5, 6), read(1, 7, 8)) is True
    assert linear(write(1, 0, None), write(2, 1, 2), read(2, 3, 4), read(1, 5, 6)) is True


def test_but_not_twice_nor_before_it_was_asked_for() -> None:
    assert linear(write(1, 0, None), read(1, 1, 2), write(2, 3, 4), read(1, 5, 6)) is False
    assert linear(read(1, 0, 1), write(1, 2, None)) is False


def optional(value: int, invoke_s: float, return_s: float) -> Call[Access]:
    return Call(("write", value), invoke_s, return_s, optional=True)


def test_an_optional_write_happens_before_it_returned_or_never() -> None:
    assert linear(optional(1, 0, 4), read(0, 1, 2), read(1, 3, 5)) is True
    assert linear(optional(1, 0, 4), read(0, 5, 6)) is True
    assert linear(optional(1, 0, 4), read(1, 5, 6)) is True
    assert linear(optional(1, 0, 4), read(0, 5, 6), read(1, 7, 8)) is False
    assert linear(read(1, 0, 1), optional(1, 2, 3)) is False


def test_many_optional_writes_take_few_steps() -> None:
    """What is over is forgotten: otherwise each would double what there is to try."""
    calls = [optional(number, number, number + 1.5) for number in range(1, 60)]
    assert check([*calls, read(99, 70, 71)], 0, step, steps_max=20_000).linear is False


def test_the_longest_order_and_what_is_stuck_are_told() -> None:
    verdict = check([write(1, 0, 1), read(1, 2, 3), read(9, 4, 5), read(1, 6, 7)], 0, step)
    assert verdict.linear is False
    assert [call.what for call in verdict.order] == [("write", 1), ("read", 1)]
    assert [call.what for call in verdict.stuck] == [("read", 9)]


def test_a_long_history_takes_few_steps() -> None:
    """Ten clients at once, many unknown outcomes, and no search."""
    calls = []
    for number in range(1, 600):
        calls.append(write(number, number, None if number % 7 == 0 else number + 0.4))
        if number % 7:
            calls.append(read(number, number + 0.5, number + 0.9))
    assert check(calls, 0, step, steps_max=20 * len(calls)).linear is True


def test_a_search_that_is_too_long_is_given_up() -> None:
    calls = [write(number, 0, 100) for number in range(1, 12)] + [read(99, 0, 100)]
    assert check(calls, 0, step, steps_max=1_000).linear is None


def by_force(calls: list[Call[Access]]) -> bool:
    """Every subset of the unknown, in every order."""
    unknown = [call for call in calls if call.return_s is None or call.optional]
    answered = [call for call in calls if call not in unknown]
    for chosen in range(1 << len(unknown)):
        some = answered + [call for place, call in enumerate(unknown) if chosen >> place & 1]
        if any(_is_allowed(order) for order in permutations(some)):
            return True
    return False


def _is_allowed(order: tuple[Call[Access], ...]) -> bool:
    state = 0
    latest_s = 0.0
    for call in order:
        if call.return_s is not None and call.return_s < latest_s:
            return False
        latest_s = max(latest_s, call.invoke_s)
        after = step(state, call.what)
        if after is None:
            return False
        state = after
    return True


def test_it_agrees_with_trying_everything() -> None:
    rng = random.Random(1)
    verdicts = []
    for _ in range(600):
        calls = []
        for _ in range(rng.randint(1, 6)):
            invoke_s = rng.randint(0, 12)
            kind = rng.choice(("write", "read"))
            unknown, optional = kind == "write" and rng.random() < 0.3, kind == "write" and rng.random() < 0.3
            return_s = None if unknown else invoke_s + rng.choice((1, 2, 5))
            calls.append(Call((kind, rng.randint(0, 2)), invoke_s, return_s, optional))
        expected = by_force(calls)
        verdicts.append(expected)
        assert check(calls, 0, step).linear is expected, calls
    assert 100 < sum(verdicts) < 500
