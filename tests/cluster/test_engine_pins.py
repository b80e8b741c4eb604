"""The engine is the one whose every line was read, or the node does not start."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from cluster import engine_pins
from cluster.engine_pins import SHA256, WrongEngineError, check_engine


def test_the_installed_engine_is_the_pinned_one() -> None:
    check_engine()


@pytest.mark.parametrize("name", sorted(SHA256))
def test_any_other_engine_is_refused(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(SHA256, name, "0" * 64)
    with pytest.raises(WrongEngineError, match=name):
        check_engine()


def test_every_private_name_in_use_is_listed() -> None:
    """What is used of the engine's inside stands in the table, so that nothing is forgotten with the next version."""
    used = set()
    for path in Path(engine_pins.__file__).parent.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            name = node.attr if isinstance(node, ast.Attribute) else getattr(node, "name", None)
            if isinstance(name, str) and name.startswith("_SyncObj__"):
                used.add(name.removeprefix("_SyncObj"))
    assert used
    assert {name for name in used if f"`{name}`" not in (engine_pins.__doc__ or "")} == set()
