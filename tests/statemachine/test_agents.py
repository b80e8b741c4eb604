"""Agents: epochs, what becomes of the work of one that is gone, status."""

from __future__ import annotations

import pytest

from statemachine import agent_record, commands, counters, limits, machine, task_queries, work
from statemachine.commands import AgentBelieved, Capability, NewTask, RegisterAgent, SubmitTasks
from statemachine.context import CLUSTER
from tests.statemachine.harness import Harness


@pytest.fixture
def h() -> Harness:
    return Harness()


def counts(h: Harness) -> dict[str, int]:
    return {name: count for name, count in counters.read(h.store, CLUSTER).items() if count}


def status(h: Harness, agent_id: str = "a1") -> str:
    agent = h.agent(agent_id)
    return agent_record.status_of(agent, agent_record.load_of(h.store, agent.number))


def set_liveness(h: Harness, liveness: str, agent_id: str = "a1") -> int:
    agent = h.agent(agent_id)
    believed = AgentBelieved(agent_id, agent.epoch, agent.liveness)
    return h.item(commands.SetAgentLiveness((believed,), liveness)).status


def test_first_registration(h: Harness) -> None:
    h.submit("makes the project")
    item = h.item(
        RegisterAgent("a1", "A", model="m", capabilities=(Capability("py", 9_000),), hardware=b"{}"),
        project="default",
    )
    agent = h.agent("a1")
    assert (item.status, item.numbers) == (201, (agent.epoch,))
    assert (agent.name, agent.model, agent.capabilities) == ("A", "m", (Capability("py", 9_000),))
    assert (agent.projects, agent.liveness, agent.created_at) == (("default",), "online", h.time_ms)
    assert h.changes[0].type == "agent.registered"
    assert counts(h) == {"agents.online": 1}
    h.check()


def test_same_instance_keeps_epoch_and_work(h: Harness) -> None:
    epoch = h.register("a1", instance="i")
    h.submit()
    h.claim()
    revision = machine.read_meta(h.store).revision
    item = h.item(RegisterAgent("a1", projects=("*",), instance_id="i"))
    assert (item.status, item.numbers, machine.read_meta(h.store).revision) == (200, (epoch,), revision)
    item = h.item(RegisterAgent("a1", name="new", projects=("*",), instance_id="i"))
    assert (item.status, item.numbers, item.revision) == (200, (epoch,), revision + 1)
    assert (h.agent("a1").name, h.task("t1").status) == ("new", "running")
    h.check()


@pytest.mark.parametrize("instance", [None, "other"])
def test_another_instance_takes_a_new_epoch_and_work_is_requeued(h: Harness, instance: str | None) -> None:
    old = h.register("a1", slots=3, instance="i")
    for name in ("offered", "running", "cancelled"):
        h.submit(name)
    h.offer("offered")
    h.claim("running")
    h.claim("cancelled")
    h.item(commands.CancelTask("cancelled"))
    new = h.register("a1", slots=3, instance=instance)
    assert new > old
    states = {name: h.task(name).status for name in ("offered", "running", "cancelled")}
    assert states == {"offered": "pending", "running": "pending", "cancelled": "cancelled"}
    assert (h.task("offered").tries, h.task("running").tries) == (0, 1)
    assert agent_record.load_of(h.store, h.agent("a1").number).held == 0
    assert h.complete("running", "a1", 1).items[0].refusal is not None
    assert {change.revision for change in h.changes} <= {machine.read_meta(h.store).revision}
    h.check()


def test_a_try_lost_with_the_agent_counts(h: Harness) -> None:
    h.register("a1")
    h.submit(max_attempts=1)
    h.submit("then", depends_on=("t1",), on_dependency_failure="run")
    h.claim()
    h.register("a1")
    task = h.task("t1")
    assert task.failure is not None
    assert (task.status, task.failure.reason) == ("failed", "lease_lost")
    assert h.task("then").status == "pending"
    h.check()


def test_a_deleted_agent_leaves_nothing_and_comes_back_newer(h: Harness) -> None:
    old = h.register("a1")
    h.submit()
    h.claim()
    h.item(commands.DeleteAgent("a1"))
    assert agent_record.find(h.store, "a1") is None
    assert h.task("t1").status == "pending"
    assert counts(h) == {}
    h.check()
    assert h.refusal(commands.DeleteAgent("a1")).code == "not_found"
    assert h.register("a1") > old


def test_much_work_is_taken_back_in_bounded_steps(h: Harness) -> None:
    h.register("a1", slots=600)
    names = tuple(f"t{i}" for i in range(600))
    h.do(SubmitTasks(tuple(NewTask(name) for name in names)))
    h.do(commands.ClaimTasks("a1", h.agent("a1").epoch, names))
    h.register("a1", slots=1)
    h.check()
    assert len(list(task_queries.held(h.store))) == 600 - limits.SIDE_EFFECTS_MAX
    assert status(h) == "busy"
    for _ in range(2):
        assert work.waiting(h.store)
        h.do(commands.DoWork())
        h.check()
    assert not work.waiting(h.store)
    assert list(task_queries.held(h.store)) == []
    assert status(h) == "online"


def test_work_taken_back_later_spares_what_the_new_epoch_was_granted(
    h: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "SIDE_EFFECTS_MAX", 1)
    h.register("a1", slots=3)
    for name in ("x", "y", "z"):
        h.submit(name)
        if name != "z":
            h.claim(name)
    h.register("a1", slots=3)
    h.claim("z")
    for _ in range(3):
        h.do(commands.DoWork())
        h.check()
    assert [h.task(name).status for name in ("x", "y", "z")] == ["pending", "pending", "running"]


def test_deletion_with_work_left(h: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "SIDE_EFFECTS_MAX", 1)
    h.register("a1", slots=2)
    for name in ("x", "y"):
        h.submit(name)
        h.claim(name)
    h.item(commands.DeleteAgent("a1"))
    h.check()
    h.register("a1", slots=2)
    h.check()
    h.do(commands.DoWork())
    h.check()
    assert [h.task(name).status for name in ("x", "y")] == ["pending", "pending"]


def test_drain(h: Harness) -> None:
    h.register("a1")
    assert h.item(commands.DrainAgent("a1", True)).status == 200
    assert (status(h), counts(h), h.changes[0].type) == ("draining", {"agents.draining": 1}, "agent.status_changed")
    revision = machine.read_meta(h.store).revision
    h.item(commands.DrainAgent("a1", True))
    assert machine.read_meta(h.store).revision == revision
    h.item(commands.DrainAgent("a1", False))
    assert status(h) == "online"
    assert h.refusal(commands.DrainAgent("nobody", True)).code == "not_found"
    h.item(commands.DrainAgent("a1", True))
    h.register("a1")
    assert status(h) == "online"
    h.check()


def test_liveness(h: Harness) -> None:
    h.register("a1")
    assert set_liveness(h, "unresponsive") == 200
    assert h.changes[0].data == {"from": "online", "to": "unresponsive", "epoch": h.agent("a1").epoch}
    assert set_liveness(h, "offline") == 200
    assert (status(h), counts(h)) == ("offline", {"agents.offline": 1})
    assert set_liveness(h, "offline") == 0
    stale = AgentBelieved("a1", h.agent("a1").epoch + 1, "offline")
    assert h.item(commands.SetAgentLiveness((stale,), "online")).status == 0
    wrong = AgentBelieved("a1", h.agent("a1").epoch, "online")
    assert h.item(commands.SetAgentLiveness((wrong,), "unresponsive")).status == 0
    assert h.refusal(commands.SetAgentLiveness((), "sleepy")).code == "invalid_request"
    h.register("a1")
    assert counts(h) == {"agents.online": 1}
    h.check()


def test_offers_of_the_gone_go_back_running_attempts_wait(h: Harness) -> None:
    h.register("a1", slots=2)
    h.submit("offered")
    h.submit("running")
    h.offer("offered")
    h.claim("running")
    believed = AgentBelieved("a1", h.agent("a1").epoch, "offline")
    assert h.item(commands.RequeueAgentWork((believed,))).status == 0
    online = AgentBelieved("a1", h.agent("a1").epoch, "online")
    assert h.item(commands.RequeueAgentWork((online,))).status == 0
    set_liveness(h, "offline")
    item = h.item(commands.RequeueAgentWork((believed,)))
    assert (item.status, item.numbers) == (200, (1,))
    assert (h.task("offered").status, h.task("running").status) == ("pending", "running")
    h.check()


def test_busy_is_shown_and_free_slots_after_shrinking(h: Harness) -> None:
    h.register("a1", slots=2, instance="i")
    for name in ("x", "y"):
        h.submit(name)
        h.claim(name)
    assert status(h) == "busy"
    h.register("a1", slots=1, instance="i")
    agent = h.agent("a1")
    load = agent_record.load_of(h.store, agent.number)
    assert (load.held, agent_record.free_slots(agent, load)) == (2, 0)
    h.check()


@pytest.mark.parametrize("projects", [("nowhere",), ("default", "nowhere")])
def test_registration_for_an_unknown_project(h: Harness, projects: tuple[str, ...]) -> None:
    assert h.refusal(RegisterAgent("a1", projects=projects)).code == "unknown_project"
    assert h.refusal(RegisterAgent("a1"), project="nowhere").code == "unknown_project"


def test_bad_values_are_refused(h: Harness) -> None:
    assert h.refusal(RegisterAgent("x" * 129)).code == "invalid_request"
    assert h.refusal(RegisterAgent("a1", max_concurrent=0)).code == "invalid_request"
    assert agent_record.find(h.store, "x" * 600) is None


def test_list_order(h: Harness) -> None:
    for name in ("b", "a", "c"):
        h.register(name)
    h.register("b")
    assert [agent.agent_id for agent in agent_record.scan(h.store)] == ["b", "a", "c"]
    newest = [agent.agent_id for agent in agent_record.scan(h.store, reverse=True)]
    assert newest == ["c", "a", "b"]
    middle = h.agent("a").number
    assert [agent.agent_id for agent in agent_record.scan(h.store, before=middle, reverse=True)] == ["b"]
    assert [agent.agent_id for agent in agent_record.scan(h.store, after=middle)] == ["c"]
