"""The rules of the stages must see every way in which a task or its explanation can be wrong."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import pytest
from hive_client import Client, Task
from hive_client.models import Explanation

from ops.demo.progress import Progress
from ops.demo.stages import (
    Look,
    Rule,
    StageMissedError,
    Stages,
    all_of,
    completed_by,
    half_done,
    handed_back,
    held_by,
    moved,
    refused,
    resting_after_loss,
    taken_over_by,
)

Change = Mapping[str, Any]
Shown = tuple[Change, Change, Change]
"""What is shown of a task, of its explanation, and of the agents in it."""

RESTING = {"code": "not_before", "message": "rests", "data": {"backoff": True}}
DRAINING = {"code": "all_draining", "message": "all drain", "data": {"agents": 1}}
ENDED = {"code": "ended", "message": "ended", "data": {}}


def line(before: str, after: str, attempt: int, agent_id: str = "old", reason: str | None = None) -> dict[str, Any]:
    return {"at": "", "from": before, "to": after, "attempt": attempt, "agent_id": agent_id, "reason": reason}


def look(task: Change, explanation: Change, agents: Change | None = None) -> Look:
    shown = {"total": 2, "filtered": {}, "candidates": []} | dict(agents or {})
    return Look(
        Task.from_json({"task_id": "t", "attempt": 1, "tries": 1, **task}),
        Explanation.from_json({"reasons": [], "agents": shown, **explanation}),
    )


HELD: Shown = {"status": "running", "agent_id": "old"}, {"status": "running"}, {}
LOST: Shown = (
    {"status": "scheduled", "failure": {"reason": "lease_lost"}},
    {"status": "scheduled", "reasons": [RESTING]},
    {"candidates": [{"agent_id": "new"}]},
)
BACK: Shown = (
    {
        "status": "pending",
        "tries": 0,
        "progress": {"checkpoint": {"files": 1}},
        "history": [line("assigned", "running", 1), line("running", "pending", 1)],
    },
    {"status": "pending", "reasons": [DRAINING]},
    {"filtered": {"draining": 1}},
)
TAKEN: Shown = {"status": "running", "agent_id": "new", "attempt": 2}, {"status": "running"}, {}
DONE: Shown = (
    {"status": "completed", "agent_id": "new", "attempt": 2, "result": {"lines": 3}},
    {"status": "completed", "reasons": [ENDED]},
    {},
)

RULES: list[tuple[Rule, Shown, list[Shown]]] = [
    (
        held_by("old", 1),
        HELD,
        [
            ({"agent_id": "new"}, {}, {}),
            ({"attempt": 2}, {}, {}),
            ({}, {"status": "pending"}, {}),
            ({}, {"reasons": [RESTING]}, {}),
        ],
    ),
    (
        resting_after_loss("old", 1),
        LOST,
        [
            ({"failure": {"reason": "error"}}, {}, {}),
            ({"failure": None}, {}, {}),
            ({"attempt": 2}, {}, {}),
            ({}, {"status": "running"}, {}),
            ({}, {"reasons": []}, {}),
            ({}, {"reasons": [RESTING | {"data": {"backoff": False}}]}, {}),
            ({}, {}, {"candidates": [{"agent_id": "new"}, {"agent_id": "old"}]}),
        ],
    ),
    (
        handed_back("old", 1, 1),
        BACK,
        [
            ({"tries": 1}, {}, {}),
            ({"attempt": 2}, {}, {}),
            ({"agent_id": "old"}, {}, {}),
            ({"progress": None}, {}, {}),
            ({"history": [line("running", "scheduled", 1)]}, {}, {}),
            ({"history": [line("running", "pending", 1, "new")]}, {}, {}),
            ({}, {"reasons": [ENDED]}, {}),
            ({}, {"status": "running"}, {}),
            ({}, {}, {"filtered": {"capability": 1}}),
            ({}, {}, {"candidates": [{"agent_id": "old"}]}),
        ],
    ),
    (
        taken_over_by("new", 1),
        TAKEN,
        [({"attempt": 1}, {}, {}), ({"agent_id": "old"}, {}, {}), ({}, {"status": "pending"}, {})],
    ),
    (
        taken_over_by("new", 1),
        DONE,
        [({"attempt": 1}, {}, {}), ({"agent_id": "old"}, {}, {}), ({}, {"reasons": []}, {})],
    ),
    (
        completed_by("new", 2, {"lines": 3}),
        DONE,
        [
            ({"agent_id": "old"}, {}, {}),
            ({"attempt": 3}, {}, {}),
            ({"result": {"lines": 4}}, {}, {}),
            ({}, {"status": "failed"}, {}),
            ({}, {"reasons": []}, {}),
        ],
    ),
]


@pytest.mark.parametrize(("rule", "good", "harms"), RULES)
def test_every_harm_is_seen(rule: Rule, good: Shown, harms: list[Shown]) -> None:
    assert rule(look(*good)) == ""
    for harm in harms:
        assert rule(look(*(dict(part) | dict(change) for part, change in zip(good, harm, strict=True)))) != "", harm


def test_the_history_is_looked_at_from_one_attempt_on() -> None:
    history = [line("assigned", "running", 1), line("pending", "assigned", 2), line("assigned", "running", 2)]
    seen = look({"history": history}, {})
    assert moved("assigned", "running", since_attempt=2)(seen) == ""
    assert moved("assigned", "running", "completed", since_attempt=2)(seen) != ""
    assert moved("running", "assigned", "running", since_attempt=2)(seen) != ""


def test_the_first_thing_that_is_wrong_is_said() -> None:
    seen = look(*HELD)
    assert half_done(seen) != ""
    assert all_of(held_by("old"), half_done)(seen) == half_done(seen)
    assert all_of(held_by("new"), half_done)(seen).startswith("agent is")


def test_a_call_that_is_not_refused_is_wrong() -> None:
    assert refused("stale_epoch", ("stale_epoch",)) == ""
    assert refused("not_found", ("stale_epoch",)) != ""
    assert refused(None, ("stale_epoch",)) != ""


class Told(Stages):
    """Looks that were made up."""

    def __init__(self, client: Client, *looks: Look) -> None:
        super().__init__(client, Progress(total=1))
        self._looks = list(looks)

    async def look(self, _task_id: str) -> Look:
        return self._looks.pop(0) if len(self._looks) > 1 else self._looks[0]


def test_a_stage_is_waited_for_and_kept() -> None:
    async def scenario() -> None:
        async with Client("http://127.0.0.1:9") as client:
            stages = Told(client, look(*HELD), look(*LOST))
            rule, until_then = resting_after_loss("old", 1), held_by("old", 1)
            await stages.reach("killed", "lease over", "t", rule, 60.0, until_then)
            (stage,) = stages.seen
            assert (stage.status, stage.reasons, stage.wrong) == ("scheduled", ("not_before",), "")
            assert stage.said == "scheduled; not_before; may go to new"

    asyncio.run(scenario())


def test_what_is_wrong_on_the_way_to_a_stage_is_not_overlooked() -> None:
    async def scenario() -> None:
        async with Client("http://127.0.0.1:9") as client:
            stages = Told(client, look(*HELD), look(*TAKEN), look(*LOST))
            with pytest.raises(StageMissedError):
                rule, until_then = resting_after_loss("old", 1), held_by("old", 1)
                await stages.reach("killed", "lease over", "t", rule, 60.0, until_then)
            assert "agent is 'new', not 'old'" in stages.seen[0].wrong

    asyncio.run(scenario())


def test_a_stage_that_does_not_come_is_kept_with_what_is_wrong() -> None:
    async def scenario() -> None:
        async with Client("http://127.0.0.1:9") as client:
            stages = Told(client, look(*HELD))
            with pytest.raises(StageMissedError):
                await stages.reach("killed", "lease over", "t", resting_after_loss("old", 1), 0.0)
            (stage,) = stages.seen
            assert stage.said == "running; with old, attempt 1"
            assert stage.wrong == "status is 'running', not 'scheduled'"

    asyncio.run(scenario())
