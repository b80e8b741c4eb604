"""Projects: there from the start, made on first use, and only by what was accepted."""

from __future__ import annotations

import pytest

from statemachine import limits, projects
from statemachine.commands import (
    AppendEvents,
    CreateProject,
    CreateSession,
    DeleteSession,
    DoWork,
    NewEvent,
    NewTask,
    SubmitTasks,
)
from tests.statemachine.driver import START_MS, Driver, frame, key


def test_the_default_project_is_there_from_the_first_entry() -> None:
    driver = Driver()
    default = projects.find(driver.store, "default")
    assert default is not None
    assert (default.number, default.created_at, default.revision) == (1, START_MS, 0)
    assert driver.do(CreateProject()).status == 200


def test_creating_a_project_twice() -> None:
    driver = Driver()
    applied = driver.entry(frame(CreateProject(), project="p"), frame(CreateProject(), project="p"))
    first, second = (outcome.items[0] for outcome in applied.outcomes[0])
    assert (first.status, first.revision, second.status, second.revision) == (201, 1, 200, 1)
    assert applied.revision == 1
    assert [(change.type, change.resource_id, change.revision) for change in applied.changes] == [
        ("project.created", "p", 1)
    ]


def test_a_write_makes_its_project_under_its_own_revision() -> None:
    driver = Driver()
    driver.do(CreateSession("s"))
    applied = driver.entry(frame(CreateSession("s"), project="new"))
    assert [(change.revision, change.type, change.project) for change in applied.changes] == [
        (2, "project.created", "new"),
        (2, "session.created", "new"),
    ]
    project = projects.find(driver.store, "new")
    assert project is not None
    assert (project.created_revision, project.revision) == (2, 2)
    assert [project.name for project in projects.scan(driver.store)] == ["default", "new"]
    assert projects.get(driver.store, 2) == project
    assert projects.get(driver.store, 3) is None


@pytest.mark.parametrize(
    ("command", "flags"),
    [(CreateSession("s"), 0), (DeleteSession("s"), 1)],
    ids=["creation on first use is off", "not a command that creates"],
)
def test_other_commands_in_an_unknown_project_are_refused(command: CreateSession | DeleteSession, flags: int) -> None:
    driver = Driver()
    refusal = driver.outcome(frame(command, project="nowhere", flags=flags, idempotency=key("k"))).refusal
    assert refusal is not None
    assert refusal.code == "unknown_project"
    assert projects.find(driver.store, "nowhere") is None


def test_creating_by_name_needs_no_flag() -> None:
    driver = Driver()
    assert driver.outcome(frame(CreateProject(), project="p", flags=0)).items[0].status == 201


def test_a_refused_write_makes_no_project() -> None:
    driver = Driver()
    refusal = driver.refused(AppendEvents("s", (NewEvent("e", "custom.a"),)), project="new")
    assert refusal.code == "not_found"
    assert projects.find(driver.store, "new") is None
    assert driver.outcome(frame(CreateProject(), project="other")).items[0].status == 201
    other = projects.find(driver.store, "other")
    assert other is not None
    assert other.number == 2


def test_a_batch_of_which_nothing_was_accepted_makes_no_project() -> None:
    driver = Driver()
    hopeless = SubmitTasks((NewTask("t", depends_on=("nobody",)),))
    one = frame(hopeless, project="new", idempotency=key("k"))
    for _ in range(2):
        outcome = driver.outcome(one)
        assert outcome.refusal is None
        assert [item.refusal is None for item in outcome.items] == [False]
        assert not outcome.replayed, "there is no project that could remember it, and nothing to remember"
    assert projects.find(driver.store, "new") is None
    assert driver.revision == 0


def test_what_lives_in_no_project_needs_none_and_what_does_is_refused_without() -> None:
    driver = Driver()
    drained, session = driver.entry(frame(DoWork(), project=""), frame(CreateSession("s"), project="")).outcomes[0]
    assert drained.refusal is None
    assert session.refusal is not None
    assert session.refusal.code == "unknown_project"


@pytest.mark.parametrize("name", ["a b", "..", "x" * 129, "batch", "nul\0"])
def test_a_project_needs_a_good_name(name: str) -> None:
    assert Driver().refused(CreateProject(), project=name).code == "invalid_request"


def test_there_is_an_end_to_projects(monkeypatch: pytest.MonkeyPatch) -> None:
    driver = Driver()
    monkeypatch.setattr(limits, "PROJECTS_MAX", 2)
    assert driver.do(CreateProject(), project="b").status == 201
    assert driver.refused(CreateProject(), project="c").code == "queue_full"


def test_projects_share_nothing() -> None:
    driver = Driver()
    driver.do(CreateSession("s", title="one"), project="a")
    assert driver.do(CreateSession("s", title="two"), project="b").status == 201
    assert driver.refused(DeleteSession("s"), project="default").code == "not_found"
