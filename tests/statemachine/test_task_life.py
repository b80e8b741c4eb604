"""Random lives of tasks and agents: after every step the audit finds nothing, and no attempt is won twice."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from statemachine import agent_record, commands, limits, machine, task_queries, task_record, work
from statemachine.commands import (
    AgentBelieved,
    Believed,
    Capability,
    Checkpoint,
    Command,
    Completion,
    Failure,
    Held,
    NewTask,
    Offer,
    Park,
    Release,
    Requirement,
    Resumption,
    SubmitTasks,
    UpdateTask,
)
from statemachine.outcome import Item
from statemachine.task_states import ENDED, HELD
from tests.statemachine.harness import Harness

TASKS = st.sampled_from([f"t{i}" for i in range(8)])
AGENTS = st.sampled_from(["a1", "a2", "a3"])
PROJECTS = st.sampled_from(["default", "other"])
RANDOM = st.integers(0, (1 << 32) - 1)
OFF = st.sampled_from([0, 0, 0, 0, -1, 1])
MAYBE_MS = st.sampled_from([None, None, None, 500, 3_000])
JSON = st.sampled_from([None, b"1", b'"' + b"x" * 1_500 + b'"'])
TIMERS = ["expire", "lose", "time_out", "withdraw", "end_waits", "remove"]
NAMES = st.sampled_from(["plan", "deploy"])
NEW_TASKS = st.builds(
    NewTask,
    TASKS,
    queue=st.sampled_from(["q", "r"]),
    payload=JSON,
    priority=st.integers(0, 9),
    requires=st.sampled_from([(), (), (Requirement("py", 5_000),)]),
    depends_on=st.lists(TASKS, max_size=3).map(tuple),
    on_dependency_failure=st.sampled_from(["block", "cancel", "run"]),
    group_id=st.sampled_from([None, "g", "h"]),
    delay_ms=MAYBE_MS,
    deadline_in_ms=MAYBE_MS,
    expires_unstarted_ms=MAYBE_MS,
    run_timeout_ms=MAYBE_MS,
    max_attempts=st.integers(1, 3),
    unique_key=st.sampled_from([None, None, "k"]),
)


class Life(RuleBasedStateMachine):
    """Users, agents and a leader that err in every way: old attempts, old epochs, old beliefs, repeats."""

    def __init__(self) -> None:
        super().__init__()
        self.h = Harness()
        self.won: dict[tuple[str, str, int], tuple[str, str]] = {}
        self.results: dict[tuple[str, str], bytes | None] = {}
        self.repeats: list[tuple[str, Command]] = []

    @initialize()
    def begin(self) -> None:
        self.h.item(commands.CreateProject(), project="default")
        self.h.item(commands.CreateProject(), project="other")
        self.h.register("a1", slots=2, capabilities=(Capability("py"),))

    def do(self, project: str, command: Command) -> tuple[Item, ...]:
        """Apply a command of a user or agent; it may come again later."""
        revision = machine.read_meta(self.h.store).revision
        holders = {task.number: (task.agent_id, task.attempt) for _, task in task_queries.held(self.h.store)}
        outcome = self.h.do(command, project=project)
        self.repeats.append((project, command))
        for item in outcome.items:
            if item.refusal is None and item.revision > revision:
                self.check_winner(project, command, item, holders)
        return outcome.items

    def check_winner(
        self, project: str, command: Command, item: Item, holders: dict[int, tuple[str | None, int]]
    ) -> None:
        """Who changed something by a holder's verb held the task before, and no one else won this attempt."""
        enders = (commands.CompleteTasks, commands.FailTasks, commands.ReleaseTasks, commands.ParkTasks)
        if not isinstance(command, enders):
            return
        (asked,) = command.items
        task = self.h.task(item.resource_id, project)
        assert holders[task.number] == (command.agent_id, asked.attempt)
        place = (project, item.resource_id, asked.attempt)
        assert self.won.setdefault(place, (type(command).__name__, command.agent_id)) == (
            type(command).__name__,
            command.agent_id,
        )
        if isinstance(asked, Completion):
            assert (project, item.resource_id) not in self.results
            self.results[project, item.resource_id] = asked.result

    def attempt_of(self, project: str, task_id: str) -> int:
        task = task_record.find(self.h.store, self.h.project_no(project), task_id)
        return 0 if task is None else task.attempt

    def epoch_of(self, agent_id: str) -> int:
        agent = agent_record.find(self.h.store, agent_id)
        return 0 if agent is None else agent.epoch

    def holder_of(self, project: str, task_id: str, otherwise: str) -> str:
        """Mostly the one who holds it, so that something happens."""
        task = task_record.find(self.h.store, self.h.project_no(project), task_id)
        return otherwise if task is None or task.agent_id is None else task.agent_id

    @rule(project=PROJECTS, items=st.lists(NEW_TASKS, min_size=1, max_size=5), atomic=st.booleans())
    def submit(self, project: str, items: list[NewTask], atomic: bool) -> None:
        self.do(project, SubmitTasks(tuple(items), atomic))

    @rule(agent=AGENTS, slots=st.integers(1, 3), instance=st.sampled_from([None, "i"]), able=st.booleans())
    def register(self, agent: str, slots: int, instance: str | None, able: bool) -> None:
        capabilities = (Capability("py"),) if able else ()
        self.h.register(agent, slots, instance, capabilities=capabilities)

    @rule(agent=AGENTS, draining=st.sampled_from([None, True, False]))
    def drain_or_delete(self, agent: str, draining: bool | None) -> None:
        command = commands.DeleteAgent(agent) if draining is None else commands.DrainAgent(agent, draining)
        self.h.do(command)

    @rule(agent=AGENTS, was=st.sampled_from(agent_record.LIVENESS), to=st.sampled_from(agent_record.LIVENESS))
    def liveness(self, agent: str, was: str, to: str) -> None:
        self.h.do(commands.SetAgentLiveness((AgentBelieved(agent, self.epoch_of(agent), was),), to))
        self.h.do(commands.RequeueAgentWork((AgentBelieved(agent, self.epoch_of(agent), to),)))

    @rule(project=PROJECTS, agent=AGENTS, tasks=st.lists(TASKS, max_size=4), named=st.booleans(), off=OFF)
    def claim(self, project: str, agent: str, tasks: list[str], named: bool, off: int) -> None:
        self.do(project, commands.ClaimTasks(agent, self.epoch_of(agent) + off, tuple(tasks), named))

    @rule(project=PROJECTS, agent=AGENTS, off=OFF, task=TASKS)
    def offer(self, project: str, agent: str, off: int, task: str) -> None:
        believed = self.attempt_of(project, task) + off
        self.h.do(commands.OfferTasks((Offer(task, project, believed, agent, self.epoch_of(agent)),)))

    @rule(project=PROJECTS, agent=AGENTS, task=TASKS)
    def assign(self, project: str, agent: str, task: str) -> None:
        self.do(project, commands.AssignTask(task, agent))

    @rule(project=PROJECTS, agent=AGENTS, task=TASKS, off=OFF, verb=st.integers(0, 4), random=RANDOM, data=JSON)
    def verb(self, project: str, agent: str, task: str, off: int, verb: int, random: int, data: Any) -> None:
        attempt = self.attempt_of(project, task) + off
        who = self.holder_of(project, task, agent) if random % 4 else agent
        follow_up = (NewTask(f"{task}-next", depends_on=(task,)),) if random % 8 == 1 else ()
        retryable = random % 16 != 2
        all_verbs: list[Command] = [
            commands.AcceptTasks(who, (Held(task, attempt),)),
            commands.CheckpointTasks(who, (Checkpoint(task, attempt, 1, None, data),)),
            commands.CompleteTasks(who, (Completion(task, attempt, data, tasks=follow_up),)),
            commands.FailTasks(who, (Failure(task, attempt, "error", "m", retryable, (1, 1, 1), random),)),
            commands.ReleaseTasks(who, (Release(task, attempt, data),)),
        ]
        self.do(project, all_verbs[verb])

    @rule(kind=st.sampled_from(TIMERS), off=OFF, random=RANDOM)
    def leader(self, kind: str, off: int, random: int) -> None:
        items: list[Believed] = []
        for position in range(16):
            project, task_id = ("default", "other")[position // 8], f"t{position % 8}"
            task = task_record.find(self.h.store, self.h.project_no(project), task_id)
            if task is not None and random >> position & 1:
                items.append(Believed(task_id, project, task.attempt + off, task.status))
        believed, randoms = tuple(items), (random,) * len(items)
        timers: dict[str, Command] = {
            "withdraw": commands.WithdrawOffers(believed),
            "lose": commands.ExpireLeases(believed, randoms),
            "time_out": commands.ExpireRuns(believed, randoms),
            "expire": commands.ExpireTasks(believed),
            "end_waits": commands.EndWaits(believed),
            "remove": commands.RemoveEndedTasks(believed),
        }
        outcome = self.h.do(timers[kind])
        if kind == "remove":
            done = zip(items, outcome.items, strict=True)
            self.forget({(item.project, item.task_id) for item, removed in done if removed.status})

    def forget(self, removed: set[tuple[str, str]]) -> None:
        """Retention took these: their ids may be used again, and then everything about them is new."""
        for place in removed:
            self.results.pop(place, None)
        self.won = {place: won for place, won in self.won.items() if place[:2] not in removed}

    @rule(project=PROJECTS, agent=AGENTS, task=TASKS, off=OFF, name=NAMES, kind=st.integers(0, 2), data=JSON)
    def park(self, project: str, agent: str, task: str, off: int, name: str, kind: int, data: Any) -> None:
        attempt = self.attempt_of(project, task) + off
        wait = Park(
            task,
            attempt,
            ("approval", "event", "time")[kind],
            name,
            checkpoint=data,
            timeout_ms=None if kind == 0 else 500,
            on_timeout=("resume", "fail", "cancel")[attempt % 3],
        )
        self.do(project, commands.ParkTasks(self.holder_of(project, task, agent), (wait,)))

    @rule(project=PROJECTS, task=TASKS, name=st.none() | NAMES, data=JSON)
    def resume(self, project: str, task: str, name: str | None, data: Any) -> None:
        self.do(project, commands.ResumeTasks((Resumption(task, name, data),)))

    @rule(project=PROJECTS, queue=st.sampled_from([None, "q"]), group=st.sampled_from([None, "g"]), limit=RANDOM)
    def retry_many(self, project: str, queue: str | None, group: str | None, limit: int) -> None:
        self.do(project, commands.RetryTasks(queue, None, group, limit % 4 + 1, rate_per_second=2))

    @rule(by_ms=st.sampled_from([1, 400, 1_000, 70_000]))
    def time(self, by_ms: int) -> None:
        self.h.advance(by_ms)
        self.h.do(commands.WakeTasks(3))

    @rule()
    def work(self) -> None:
        self.h.do(commands.DoWork())
        assert len(self.h.changes) <= 2 * limits.SIDE_EFFECTS_MAX

    @rule(project=PROJECTS, task=TASKS, group=st.sampled_from([None, None, None, "g"]))
    def cancel(self, project: str, task: str, group: str | None) -> None:
        self.do(project, commands.CancelTask(task) if group is None else commands.CancelGroup(group))

    @rule(project=PROJECTS, task=TASKS)
    def retry(self, project: str, task: str) -> None:
        self.do(project, commands.RetryTask(task))

    @rule(project=PROJECTS, task=TASKS, priority=st.integers(0, 9), later_ms=MAYBE_MS, metadata=JSON)
    def update(self, project: str, task: str, priority: int, later_ms: int | None, metadata: Any) -> None:
        not_before = None if later_ms is None else self.h.time_ms + later_ms
        fields = ("priority", "not_before", "metadata")
        command = UpdateTask(task, fields, priority, metadata=metadata, not_before=not_before)
        self.do(project, command)

    @rule(back=st.integers(1, 30))
    def repeat(self, back: int) -> None:
        """A command comes once more, much later: delayed, or sent again by a client that got no answer."""
        if self.repeats:
            self.do(*self.repeats[-min(back, len(self.repeats))])

    @invariant()
    def nothing_is_wrong(self) -> None:
        self.h.check()

    @invariant()
    def results_stay(self) -> None:
        for (project, task_id), result in self.results.items():
            task = self.h.task(task_id, project)
            assert (task.status, task.result) == ("completed", result)

    def teardown(self) -> None:
        """Left alone, all work is done, and every held task can be taken back."""
        for _ in range(500):
            if not work.waiting(self.h.store):
                break
            self.h.do(commands.DoWork())
        assert not work.waiting(self.h.store)
        for agent in list(agent_record.scan(self.h.store)):
            self.h.do(commands.DeleteAgent(agent.agent_id))
        for _ in range(100):
            self.h.do(commands.DoWork())
        self.h.check()
        assert list(task_queries.held(self.h.store)) == []
        for project_no in (1, 2):
            for _, task in task_queries.list_tasks(self.h.store, project_no, task_queries.TaskFilter()):
                assert task is not None
                assert task.status not in HELD or task.status in ENDED


@pytest.mark.parametrize("effects_max", [2, limits.SIDE_EFFECTS_MAX])
def test_random_lives(monkeypatch: pytest.MonkeyPatch, effects_max: int) -> None:
    """With a tiny bound nearly everything that follows from a command goes through work rows."""
    monkeypatch.setattr(limits, "SIDE_EFFECTS_MAX", effects_max)
    chosen = settings(
        max_examples=60,
        stateful_step_count=40,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    )
    run_state_machine_as_test(Life, settings=chosen)
