"""Simulated nodes for tests of the rules that need some."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.sim.script import Script, script


@pytest.fixture
def play() -> Iterator[Script]:
    """Three nodes with a leader, and nothing going on."""
    with script() as made:
        yield made
