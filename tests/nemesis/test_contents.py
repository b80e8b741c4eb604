"""Two nodes compared while work goes on: what may be different, and what may not."""

from __future__ import annotations

import pytest

from tests.nemesis.contents import Contents, Shown, differing, missing

BEFORE: Contents = {
    "task t": Shown(3, 7, ("x",)),
    "session s": Shown(2, 9, ("y",)),
    "events of s": Shown(2, 9, ("a", "b")),
}


def test_what_has_gone_on_is_the_same() -> None:
    later: Contents = {
        "task t": Shown(3, 8, ("z",)),
        "session s": Shown(2, 9, ("y",)),
        "events of s": Shown(2, 9, ("a", "b", "c")),
        "task u": Shown(12, 12, ("n",)),
    }
    assert differing(BEFORE, BEFORE) == []
    assert differing(BEFORE, later) == []
    assert missing(BEFORE, later, 11) == []


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("task t", Shown(3, 7, ("other",))),
        ("task t", Shown(3, 6, ("x",))),
        ("task t", Shown(4, 8, ("x",))),
        ("events of s", Shown(2, 9, ("a",))),
        ("events of s", Shown(2, 9, ("a", "c", "b"))),
    ],
    ids=["another content", "older", "made at another time", "an event less", "another event"],
)
def test_what_cannot_be(name: str, shown: Shown) -> None:
    assert differing(BEFORE, BEFORE | {name: shown}) == [name]


def test_what_only_one_shows() -> None:
    assert differing(BEFORE, {name: BEFORE[name] for name in ("session s", "events of s")}) == ["task t"]
    assert missing(BEFORE, BEFORE | {"task u": Shown(5, 5, ("n",))}, 9) == ["task u"]
