"""The ledger of the durability test notices every way of breaking a promise."""

from __future__ import annotations

import pytest

from tests.process.ledger import Receipt, Told


def told() -> Told:
    return Told(acknowledged={"a": ("1", 10), "b": ("2", 11)}, not_happened={"n"}, unknown={"u"})


KEPT: dict[str, list[Receipt]] = {"a": [("1", 10)], "b": [("2", 11)]}


@pytest.mark.parametrize("found", [KEPT, {**KEPT, "u": [("3", 12)]}])
def test_kept_promises(found: dict[str, list[Receipt]]) -> None:
    assert told().broken_promises(found) == []


@pytest.mark.parametrize(
    ("found", "complaint"),
    [
        ({"a": [("1", 10)]}, "b: acknowledged as ('2', 11), found nowhere"),
        ({**KEPT, "b": [("2", 11), ("3", 12)]}, "b: acknowledged as ('2', 11), found [('2', 11), ('3', 12)]"),
        ({**KEPT, "b": [("3", 11)]}, "b: acknowledged as ('2', 11), found [('3', 11)]"),
        ({**KEPT, "n": [("3", 12)]}, "n: called not happened, found [('3', 12)]"),
        ({**KEPT, "u": [("3", 12), ("4", 13)]}, "u: unknown, found [('3', 12), ('4', 13)]"),
        ({**KEPT, "x": [("3", 12)]}, "x: never asked for, found [('3', 12)]"),
    ],
)
def test_broken_promises(found: dict[str, list[Receipt]], complaint: str) -> None:
    assert told().broken_promises(found) == [complaint]
