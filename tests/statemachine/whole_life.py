"""Queues with limits, schedules, clocks that stand still or go back, and two leaders who go by what they once saw.

The checks after each step are in `life` (the audit, one winner for each attempt, results that stay) and in
`checked_harness` (revisions, refusals, limits).
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from statemachine import agent_record, commands, machine, projects, schedule_record
from statemachine.commands import (
    AgentBelieved,
    Believed,
    Command,
    Definition,
    FireSchedule,
    NewTask,
    Offer,
    UpdateQueue,
)
from statemachine.queues import SETTINGS
from statemachine.schedule_record import OVERLAPS
from statemachine.task_record import Task
from statemachine.task_states import ENDED, TaskState
from tests.statemachine.life import AGENTS, PROJECTS, QUEUES, Life

SCHEDULES = ("s1", "s2")


class Memory:
    """What a leader saw when it last looked."""

    def __init__(self) -> None:
        self.tasks: list[Task] = []
        self.agents: list[agent_record.Agent] = []
        self.fires: list[tuple[str, FireSchedule]] = []


class WholeLife(Life):
    """All there is, at once."""

    def __init__(self, seed: int) -> None:
        super().__init__(seed)
        self.memories = [Memory(), Memory()]
        self.fired: set[tuple[str, int, int]] = set()

    def actions(self) -> dict[Callable[[], None], int]:
        """What may happen, by how often."""
        return {
            **super().actions(),
            self.limit: 2,
            self.unlimit: 4,
            self.clock_is_set: 2,
            self.schedule: 2,
            self.reschedule: 1,
            self.trigger: 2,
            self.unschedule: 1,
            self.look: 12,
            self.offer: 8,
            self.decide: 8,
            self.remove: 4,
            self.liveness: 1,
            self.fire: 4,
            self.budget: 6,
            self.reset_budget: 3,
            self.unbudget: 2,
        }

    @property
    def now_ms(self) -> int:
        """The time of the last entry, which no clock takes back."""
        return max(self.h.time_ms, machine.read_meta(self.h.store).time_ms)

    # --- queues and clocks ------------------------------------------------------------------------------------------

    def limit(self) -> None:
        choose, project, queue = self.random.choice, self.random.choice(PROJECTS), self.random.choice(QUEUES)
        fields = tuple(name for name in SETTINGS if self.odds(2))
        rate_milli = choose((None, 500, 1_000, 2_500))
        command = UpdateQueue(queue, fields, self.odds(6), choose((None, 0, 1, 2, 3)), rate_milli, choose((1, 2)))
        if "rate_milli" in fields:
            self.h.rate_was_set(self.h.project_no(project), queue)
        self.do(project, command)

    def unlimit(self) -> None:
        """Limits are lifted often enough that something runs."""
        command = UpdateQueue(self.random.choice(QUEUES), ("max_running", "paused"))
        self.do(self.random.choice(PROJECTS), command)

    def repeat(self) -> None:
        """Also a setting comes again; a rate that is set anew begins with a full bucket."""
        self.h.grants.clear()
        super().repeat()

    def clock_is_set(self) -> None:
        self.h.advance(self.random.choice((-5_000, -1, 0, 1, 600_000)))

    # --- budgets ----------------------------------------------------------------------------------------------------

    def budget_of(self) -> tuple[str, str, str]:
        """(project, scope, id), mostly of one that is there."""
        known = list(self.h.ledger.accounts)
        if known and self.random.randrange(3):
            project, scope, budget_id = self.random.choice(known)
            return project or "default", scope, budget_id
        project, choose = self.random.choice(PROJECTS), self.random.choice
        scope, budget_id = choose((("project", project), ("session", "s"), ("agent", choose(AGENTS))))
        return project, scope, budget_id

    def budget(self) -> None:
        """Sometimes what is no budget at all: more to reserve than there is."""
        project, scope, budget_id = self.budget_of()
        choose = self.random.choice
        most, reserve = choose((None, 0, 2, 6, 50)), choose((0, 0, 1, 3))
        cost, revision = choose((None, None, 6)), choose((None, None, None, 0))
        self.do(project, commands.PutBudget(scope, budget_id, most, cost, reserve, choose((0, 1)), revision))

    def reset_budget(self) -> None:
        project, scope, budget_id = self.budget_of()
        self.do(project, commands.ResetBudget(scope, budget_id))

    def unbudget(self) -> None:
        """Often enough that something runs."""
        project, scope, budget_id = self.budget_of()
        self.do(project, commands.DeleteBudget(scope, budget_id))

    # --- schedules --------------------------------------------------------------------------------------------------

    def definition(self) -> Definition:
        choose = self.random.choice
        task = NewTask(
            "",
            queue=choose(QUEUES),
            group_id=choose((None, "g")),
            max_attempts=choose((1, 2)),
            unique_key=choose((None, None, None, "k")),
            concurrency_key=choose((None, "c")),
        )
        return Definition(task, every_ms=1_000, overlap=choose(OVERLAPS), paused=self.odds(8))

    def schedule(self) -> None:
        command = commands.CreateSchedule(self.random.choice(SCHEDULES), self.definition(), self.now_ms + 500)
        self.do(self.random.choice(PROJECTS), command)

    def reschedule(self) -> None:
        project, schedule_id = self.random.choice(PROJECTS), self.random.choice(SCHEDULES)
        known = schedule_record.find(self.h.store, self.h.project_no(project), schedule_id)
        base = 0 if known is None else known.definition_revision - int(self.odds(4))
        seen = None if known is None else self.definition()
        self.do(project, commands.UpdateSchedule(schedule_id, seen, self.now_ms + 500, base))

    def trigger(self) -> None:
        overlap = self.random.choice((None, None, *OVERLAPS))
        self.do(self.random.choice(PROJECTS), commands.TriggerSchedule(self.random.choice(SCHEDULES), overlap))

    def unschedule(self) -> None:
        self.do(self.random.choice(PROJECTS), commands.DeleteSchedule(self.random.choice(SCHEDULES)))

    # --- two leaders ------------------------------------------------------------------------------------------------

    def propose(self, command: Command) -> None:
        """A leader's decision."""
        outcome = self.h.do(command)
        if isinstance(command, commands.RemoveEndedTasks):
            for item, removed in zip(command.items, outcome.items, strict=True):
                if removed.status:
                    # Its name may be used again; an attempt is won once all the same.
                    self.results.pop((item.project, item.task_id), None)
                    self.removed.append(item.task_id)

    def memory(self) -> Memory:
        """That of either leader."""
        return self.random.choice(self.memories)

    def look(self) -> None:
        """A leader sees the state as it is now."""
        store, memory = self.h.store, Memory()
        memory.tasks = self.tasks()
        self.random.shuffle(memory.tasks)
        memory.agents.extend(agent_record.scan(store))
        for due in schedule_record.due(store):
            schedule, project = (
                schedule_record.get(store, due.project_no, due.number),
                projects.get(store, due.project_no),
            )
            assert schedule is not None
            assert project is not None
            revision = schedule.definition_revision
            command = FireSchedule(schedule.schedule_id, revision, due.at, due.at, 0, due.at + 1_000)
            memory.fires.append((project.name, command))
        self.memories[self.random.randrange(2)] = memory

    def offer(self) -> None:
        memory, offers = self.memory(), []
        for task in memory.tasks:
            if task.status is TaskState.PENDING and memory.agents:
                agent = self.random.choice(memory.agents)
                offers.append(Offer(task.task_id, task.project, task.attempt, agent.agent_id, agent.epoch))
        self.propose(commands.OfferTasks(tuple(offers[:6])))

    def decide(self) -> None:
        """What time calls for, or what a leader takes for it."""
        some = self.memory().tasks[: self.random.randint(1, 6)]
        believed = tuple(Believed(task.task_id, task.project, task.attempt + self.off(), task.status) for task in some)
        randoms = tuple(self.random.getrandbits(32) for _ in believed)
        decisions: tuple[Command, ...] = (
            commands.WithdrawOffers(believed),
            commands.ExpireLeases(believed, randoms),
            commands.ExpireRuns(believed, randoms),
            commands.ExpireTasks(believed),
            commands.EndWaits(believed),
        )
        self.propose(self.random.choice(decisions))

    def remove(self) -> None:
        ended = [task for task in self.memory().tasks if task.status in ENDED]
        items = tuple(
            Believed(task.task_id, task.project, task.attempt + self.off(), task.status) for task in ended[:6]
        )
        self.propose(commands.RemoveEndedTasks(items))

    def liveness(self) -> None:
        to = self.random.choice((agent_record.ONLINE, *agent_record.LIVENESS))
        agents = self.memory().agents
        self.propose(
            commands.SetAgentLiveness(tuple(AgentBelieved(one.agent_id, one.epoch, one.liveness) for one in agents), to)
        )
        self.propose(commands.RequeueAgentWork(tuple(AgentBelieved(one.agent_id, one.epoch, to) for one in agents)))

    def fire(self) -> None:
        for project, due in self.memory().fires:
            run_ms = None if self.odds(4) else due.due_ms
            command = msgspec.structs.replace(due, run_ms=run_ms, missed=int(self.odds(3)))
            known = schedule_record.find(self.h.store, self.h.project_no(project), due.schedule_id)
            (item,) = self.h.do(command, project=project).items
            if item.status:
                assert known is not None
                place = project, known.number, due.due_ms
                assert place not in self.fired, "a due time comes to one end"
                self.fired.add(place)
