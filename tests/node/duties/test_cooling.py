from __future__ import annotations

from node.duties import cooling as module
from node.duties.cooling import LONGEST_MS, Cooling


def cooling(first_ms: int = 1_000) -> Cooling:
    made = Cooling()
    made.first_ms = first_ms
    return made


def test_a_pause_begins_with_a_limit_and_ends_with_time() -> None:
    pauses = cooling()
    pauses.limited("p", 10.0)
    assert [pauses.cools("p", 10.9), pauses.cools("q", 10.9), pauses.cools(None, 10.9)] == [True, False, False]
    assert pauses.ended(10.9) == []
    assert not pauses.cools("p", 11.0)
    assert [pauses.ended(11.0), pauses.ended(11.0)] == [["p"], []]


def test_repeats_double_up_to_the_longest_until_a_success() -> None:
    pauses, now_s, lengths = cooling(200_000), 0.0, []
    for _ in range(4):
        pauses.limited("p", now_s)
        pauses.limited("p", now_s + 1)  # The same moment.
        began_s = now_s
        while not pauses.ended(now_s):
            now_s += 50.0
        lengths.append(now_s - began_s)
    assert lengths == [200.0, 400.0, LONGEST_MS / 1000, LONGEST_MS / 1000]
    pauses.succeeded("p")
    pauses.limited("p", now_s)
    pauses.succeeded("p")
    assert pauses.cools("p", now_s + 199), "begun before the pause"
    assert pauses.ended(now_s + 200) == ["p"]
    pauses.limited("p", now_s + 200)
    assert pauses.cools("p", now_s + 599), "nothing was completed since"


def test_nobody_cools_when_it_is_off_and_all_end_at_once() -> None:
    pauses = cooling(0)
    pauses.limited("p", 0.0)
    assert not pauses.cools("p", 0.0)
    pauses.first_ms = 1_000
    pauses.limited("p", 0.0)
    pauses.end_all()
    assert not pauses.cools("p", 0.0)
    assert pauses.ended(0.0) == ["p"]


def test_old_pauses_are_forgotten_when_there_are_many() -> None:
    pauses = cooling()
    for number in range(module.PROVIDERS_MAX + 50):
        pauses.limited(f"p{number}", float(number))
        pauses.ended(float(number))
    assert len(pauses._pauses) <= module.PROVIDERS_MAX
    assert pauses.cools(f"p{module.PROVIDERS_MAX + 49}", module.PROVIDERS_MAX + 49.5)
