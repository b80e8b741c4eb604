"""What is waited for before the last look."""

from __future__ import annotations

from typing import Any

import pytest

from tests.nemesis.ending import unquiet


def status(**changes: Any) -> dict[str, Any]:
    quiet = {
        "node_id": "n1",
        "counts": {
            "tasks": {"pending": 4, "assigned": 0, "running": 0},
            "agents": {"online": 0, "draining": 0, "unresponsive": 0, "offline": 0},
        },
        "members": [{"node_id": "n1", "voter": True}],
        "alarms": [],
    }
    return quiet | changes


def test_a_quiet_node() -> None:
    assert unquiet(status()) == []


@pytest.mark.parametrize(
    "changes",
    [
        {"counts": status()["counts"] | {"tasks": {"pending": 0, "assigned": 0, "running": 1}}},
        {"counts": status()["counts"] | {"tasks": {"pending": 0, "assigned": 1, "running": 0}}},
        {"counts": status()["counts"] | {"agents": {"online": 0, "draining": 0, "unresponsive": 0, "offline": 1}}},
        {"members": [{"node_id": "n1", "voter": True}, {"node_id": "n4", "voter": False}]},
        {"alarms": ["state_differs"]},
    ],
    ids=["a lease may end", "an offer may end", "an agent may be heard of", "a learner may be promoted", "an alarm"],
)
def test_what_is_not_quiet_yet(changes: dict[str, Any]) -> None:
    (told,) = unquiet(status(**changes))
    assert told.startswith("n1: ")
