"""The rule for ids."""

from __future__ import annotations

import pytest

from statemachine import names


@pytest.mark.parametrize("good", ["a", "A-1", "x" * 128, "a.b:c_d-e", "...", "0191-abc", "batches", "-"])
def test_good_ids(good: str) -> None:
    assert names.check_id(good) is None


@pytest.mark.parametrize(
    ("bad", "because"),
    [
        ("", "empty"),
        ("x" * 129, "128"),
        (".", "not be"),
        ("..", "not be"),
        ("a b", "only letters"),
        ("a/b", "only letters"),
        ("\u00e4", "only letters"),
        ("\u0661", "only letters"),
        ("a\n", "only letters"),
        ("a\0", "only letters"),
        ("batch", "verb"),
        ("claim", "verb"),
    ],
)
def test_bad_ids_are_told_why(bad: str, because: str) -> None:
    assert because in str(names.check_id(bad))


def test_names_of_places_without_verbs_may_be_verbs() -> None:
    assert names.check_name("search") is None
    for bad in ("", ".", "..", "a b", "x" * 129):
        assert names.check_name(bad) == names.check_id(bad) is not None
