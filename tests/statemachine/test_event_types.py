"""The catalogue of event types."""

from __future__ import annotations

import pytest

from statemachine import event_types


def test_the_catalogue_of_types() -> None:
    assert len(event_types.CATALOGUE) > 40
    for kind, meaning in event_types.CATALOGUE.items():
        assert event_types.check_type(kind) is None
        assert meaning
    changes_of_the_api = {
        "agent.registered",
        "agent.status_changed",
        "task.created",
        "task.assigned",
        "task.started",
        "task.completed",
        "task.failed",
        "event.appended",
        "workflow.execution_started",
        "workflow.node_completed",
        "workflow.execution_completed",
        "system.alert",
        "system.maintenance",
    }
    assert changes_of_the_api <= set(event_types.CATALOGUE)


@pytest.mark.parametrize("kind", ["custom.a", "custom.a.b-c_d:e", "custom.A1"])
def test_custom_types_are_free(kind: str) -> None:
    assert event_types.check_type(kind) is None


@pytest.mark.parametrize(
    "kind", ["", "word", "task.invented", "custom.", "custom..a", ".a", "custom.a b", "custom." + "x" * 122]
)
def test_other_types_are_refused_with_a_reason(kind: str) -> None:
    assert event_types.check_type(kind) is not None
