"""Group counts follow every transition."""

from __future__ import annotations

import pytest

from statemachine import commands, groups, limits
from statemachine.commands import NewTask, SubmitTasks
from statemachine.groups import Group
from tests.statemachine.harness import Harness


@pytest.fixture
def h() -> Harness:
    h = Harness()
    h.register("a1", slots=300)
    return h


def group(h: Harness) -> Group:
    found = groups.get(h.store, h.project_no(), "g")
    assert found is not None
    return found


def test_counts_and_failed_ids(h: Harness) -> None:
    for name in ("a", "b", "c"):
        item = h.submit(name, group_id="g", max_attempts=1)
    assert (group(h).counts, group(h).revision, group(h).ended) == ({"pending": 3}, item.revision, False)
    h.run("a")
    h.fail("b", "a1", h.claim("b"))
    h.item(commands.CancelTask("c"))
    assert group(h).counts == {"completed": 1, "failed": 1, "cancelled": 1}
    assert (group(h).failed, group(h).ended, group(h).total) == (["b"], True, 3)
    h.item(commands.RetryTask("b"))
    assert (group(h).failed, group(h).ended) == ([], False)
    assert "group.g" in h.changes[0].topics
    h.check()


def test_failed_ids_are_bounded(h: Harness) -> None:
    count = limits.GROUP_FAILED_IDS_MAX + 5
    names = tuple(f"t{i}" for i in range(count))
    h.do(SubmitTasks(tuple(NewTask(name, group_id="g", max_attempts=1) for name in names)))
    h.do(commands.ClaimTasks("a1", h.agent("a1").epoch, names))
    failures = tuple(commands.Failure(name, 1, "error", "m", True, None, 0) for name in names)
    h.do(commands.FailTasks("a1", failures))
    assert group(h).counts == {"failed": count}
    assert group(h).failed == list(names[: limits.GROUP_FAILED_IDS_MAX])
    h.item(commands.RetryTask("t104"))
    h.item(commands.RetryTask("t0"))
    assert group(h).failed[0] == "t1"
    h.check()


def test_members_in_order_and_between(h: Harness) -> None:
    for name in ("a", "b", "c"):
        h.submit(name, group_id="g")
    h.submit("other", group_id="g2")
    numbers = [h.task(name).number for name in ("a", "b", "c")]
    project_no = h.project_no()
    assert list(groups.members(h.store, project_no, "g")) == numbers
    assert list(groups.members(h.store, project_no, "g", reverse=True)) == numbers[::-1]
    assert list(groups.members(h.store, project_no, "g", after=numbers[0], before=numbers[2])) == numbers[1:2]
    assert groups.get(h.store, project_no, "none") is None
