"""A random life of tasks: users and agents that err in every way, with old attempts, old epochs, and repeats.

One random generator decides everything, so a life is known by its seed. Most choices are likely ones (the holder
speaks, under its attempt), so that much happens; some are not. What queues, schedules and leaders do is in
`whole_life`.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random

from statemachine import (
    agent_record,
    commands,
    limits,
    machine,
    settings,
    task_queries,
    task_record,
    task_resumes,
    work,
)
from statemachine.commands import (
    Capability,
    Checkpoint,
    Command,
    Completion,
    Failure,
    Held,
    NewTask,
    Park,
    PathLock,
    Release,
    Requirement,
    Resumption,
    SubmitTasks,
    UpdateTask,
)
from statemachine.outcome import Item
from statemachine.task_record import Task
from statemachine.task_states import HELD, TaskState
from tests.statemachine.checked_harness import CheckedHarness
from tests.statemachine.lock_model import PATHS_OF

PROJECTS = ("default", "default", "other")
TASKS = tuple(f"t{number}" for number in range(30))
AGENTS = ("a1", "a2", "a3")
QUEUES = ("q", "r")
LARGE = b'"' + b"x" * 1_500 + b'"'
ENDERS = (commands.CompleteTasks, commands.FailTasks, commands.ReleaseTasks, commands.ParkTasks)


class Life:
    """What was done, and what must stay so."""

    def __init__(self, seed: int) -> None:
        self.random = Random(seed)
        self.h = CheckedHarness()
        self.won: dict[tuple[str, str, int], tuple[str, str]] = {}
        self.results: dict[tuple[str, str], bytes | None] = {}
        self.repeats: list[tuple[str, Command]] = []
        self.removed: list[str] = []
        self.trace: list[str] = []
        for project in ("default", "other"):
            self.h.item(commands.CreateProject(), project=project)
        self.h.register("a1", slots=2, capabilities=(Capability("py"),))
        self.h.register("a2", slots=1)

    def actions(self) -> dict[Callable[[], None], int]:
        """What may happen, by how often."""
        return {
            self.submit: 12,
            self.register: 3,
            self.drain_or_delete: 1,
            self.claim: 12,
            self.assign: 3,
            self.verb: 14,
            self.park: 5,
            self.resume: 5,
            self.retry: 3,
            self.retry_many: 4,
            self.cancel: 2,
            self.update: 3,
            self.repeat: 4,
            self.time: 6,
            self.work: 3,
            self.tune: 2,
        }

    def live(self, steps: int) -> None:
        """So many steps, each of them checked; and then everything must come to an end."""
        actions = self.actions()
        for _ in range(steps):
            (action,) = self.random.choices(list(actions), list(actions.values()))
            self.trace.append(action.__name__)
            action()
            self.check()
        self.end()

    def check(self) -> None:
        """Nothing is wrong, and results stay."""
        self.h.check()
        self.h.locks.check(list(self.h.tasks().values()))
        for (project, task_id), result in self.results.items():
            task = self.h.task(task_id, project)
            assert (task.status, task.result) == ("completed", result)

    def end(self) -> None:
        """Left alone, all work is done, and every held task can be taken back."""
        for _ in range(500):
            if not work.waiting(self.h.store):
                break
            self.h.do(commands.DoWork())
        assert not work.waiting(self.h.store)
        for agent in list(agent_record.scan(self.h.store)):
            self.h.do(commands.DeleteAgent(agent.agent_id))
        while work.waiting(self.h.store):
            self.h.do(commands.DoWork())
        self.h.check()
        assert list(task_queries.held(self.h.store)) == []

    # --- choosing ---------------------------------------------------------------------------------------------------

    def odds(self, one_in: int) -> bool:
        """Now and then."""
        return self.random.randrange(one_in) == 0

    def off(self) -> int:
        """How far somebody's knowledge is off: mostly not at all."""
        return self.random.choice((-1, 1)) if self.odds(10) else 0

    def json(self) -> bytes | None:
        return self.random.choice((None, b"1", LARGE))

    def usage(self) -> tuple[int, int, int] | None:
        return self.random.choice((None, (0, 1, 0), (2, 1, 1), (5, 5, 5)))

    def maybe_ms(self) -> int | None:
        return self.random.choice((*[None] * 10, 500, 3_000))

    def tasks(self, *states: TaskState) -> list[Task]:
        """All tasks, or those in these states; runs of schedules too."""
        found: list[Task] = []
        for project_no in (1, 2):
            listed = task_queries.list_tasks(self.h.store, project_no, task_queries.TaskFilter())
            found.extend(task for _, task in listed if task is not None and (not states or task.status in states))
        return found

    def one(self, *states: TaskState) -> tuple[str, str]:
        """(project, id) of a task, mostly one in such a state, sometimes of one that is not there."""
        found = self.tasks(*states) or self.tasks()
        if not found or self.odds(15):
            return self.random.choice(PROJECTS), self.random.choice(TASKS)
        task = self.random.choice(found)
        return task.project, task.task_id

    def epoch_of(self, agent_id: str) -> int:
        agent = agent_record.find(self.h.store, agent_id)
        return 0 if agent is None else agent.epoch

    def held(self) -> tuple[str, str, int, str]:
        """(project, id, attempt, agent) as a holder would say it, or somebody who takes himself for one."""
        project, task_id = self.one(*HELD) if self.random.randrange(8) else self.one()
        task = task_record.find(self.h.store, self.h.project_no(project), task_id)
        agent = self.random.choice(AGENTS)
        if task is None:
            return project, task_id, self.random.randrange(4), agent
        if task.agent_id is not None and not self.odds(10):
            agent = task.agent_id
        return project, task_id, task.attempt + self.off(), agent

    # --- doing ------------------------------------------------------------------------------------------------------

    def do(self, project: str, command: Command) -> tuple[Item, ...]:
        """Apply a command of a user or agent; it may come again, at once or much later."""
        revision = machine.read_meta(self.h.store).revision
        holders = {task.number: (task.agent_id, task.attempt) for _, task in task_queries.held(self.h.store)}
        outcome = self.h.do(command, project=project)
        self.repeats.append((project, command))
        if isinstance(command, ENDERS):
            for item in outcome.items:
                if item.refusal is None and item.revision > revision:
                    self.check_winner(project, command, item, holders)
        self.h.again(project, command, outcome)
        return outcome.items

    def check_winner(
        self, project: str, command: Command, item: Item, holders: dict[int, tuple[str | None, int]]
    ) -> None:
        """Who changed something by a holder's verb held the task before, and no one else won this attempt."""
        assert isinstance(command, ENDERS)
        (asked,) = command.items
        task = self.h.task(item.resource_id, project)
        assert holders[task.number] == (command.agent_id, asked.attempt)
        winner = type(command).__name__, command.agent_id
        assert self.won.setdefault((project, item.resource_id, asked.attempt), winner) == winner
        if isinstance(asked, Completion):
            assert (project, item.resource_id) not in self.results
            self.results[project, item.resource_id] = asked.result

    # --- users ------------------------------------------------------------------------------------------------------

    def new_task(self, known: list[str]) -> NewTask:
        """A task; what it depends on is mostly there."""
        choose = self.random.choice
        return NewTask(
            choose(self.removed) if self.removed and self.odds(3) else choose(TASKS),
            queue=choose(QUEUES),
            payload=self.json(),
            priority=self.random.randrange(10),
            requires=choose((*[()] * 6, (Requirement("py", 5_000),))),
            depends_on=tuple(choose(known) for _ in range(choose((0, 0, 0, 1, 2)))) if known else (),
            on_dependency_failure=choose(("block", "cancel", "run")),
            group_id=choose((None, "g", "h")),
            delay_ms=self.maybe_ms(),
            deadline_in_ms=self.maybe_ms(),
            expires_unstarted_ms=self.maybe_ms(),
            run_timeout_ms=self.maybe_ms(),
            max_attempts=self.random.randint(1, 3),
            unique_key=choose((None, None, "k")),
            concurrency_key=choose((None, None, None, None, "c", "d")),
            session_id=choose((None, None, "s")),
            locks=self.locks(),
        )

    def locks(self) -> tuple[PathLock, ...]:
        """Mostly none, or few of which many do not go together."""
        if not self.odds(3):
            return ()
        return tuple(
            PathLock(self.random.choice(list(PATHS_OF)), self.odds(2)) for _ in range(self.random.randint(1, 2))
        )

    def submit(self) -> None:
        project = self.random.choice(PROJECTS)
        known = [task.task_id for task in self.tasks() if task.project == project]
        items = [self.new_task(known) for _ in range(self.random.randint(1, 4))]
        if self.odds(3):
            items = [self.new_task([*known, *[item.task_id for item in items]]) for _ in items]
        self.do(project, SubmitTasks(tuple(items), self.odds(4)))

    def cancel(self) -> None:
        project, task_id = self.one()
        self.do(project, commands.CancelGroup("g") if self.odds(4) else commands.CancelTask(task_id))

    def retry(self) -> None:
        project, task_id = self.one(TaskState.FAILED)
        self.do(project, commands.RetryTask(task_id))

    def retry_many(self) -> None:
        queue, group = self.random.choice((None, "q")), self.random.choice((None, None, "g"))
        command = commands.RetryTasks(queue, None, group, self.random.randint(1, 4), rate_per_second=2)
        self.do(self.random.choice(PROJECTS), command)

    def update(self) -> None:
        project, task_id = self.one()
        later_ms = self.maybe_ms()
        fields = self.random.choice((("priority", "not_before", "metadata"), ("queue",), ("deadline",)))
        command = UpdateTask(
            task_id,
            fields,
            self.random.randrange(10),
            metadata=self.json(),
            deadline=self.h.time_ms + 3_000,
            not_before=None if later_ms is None else self.h.time_ms + later_ms,
            queue=self.random.choice(QUEUES),
        )
        self.do(project, command)

    def resume(self) -> None:
        project, task_id = self.one(TaskState.WAITING)
        name = self.random.choice((None, "plan", "deploy"))
        self.do(project, commands.ResumeTasks((Resumption(task_id, name, self.json()),)))

    # --- agents -----------------------------------------------------------------------------------------------------

    def register(self) -> None:
        agent, slots, instance = self.random.choice(AGENTS), self.random.randint(1, 3), self.random.choice((None, "i"))
        self.h.register(agent, slots, instance, capabilities=self.random.choice(((Capability("py"),), ())))

    def tune(self) -> None:
        """Somebody forgets what an agent learned, or changes a setting of the cluster."""
        if self.odds(2):
            names = None if self.odds(3) else self.random.choice((("py",), ("task", "py")))
            self.h.do(commands.ResetLearned(self.random.choice(AGENTS), names))
            return
        name = self.random.choice(list(settings.SETTINGS))
        known = settings.SETTINGS[name]
        value = self.random.choice((None, known.least, known.default, known.most, known.most + 1))
        revision = self.off() + settings.read(self.h.store).revision if self.odds(2) else None
        self.h.do(commands.UpdateSettings(((name, value),), revision))

    def drain_or_delete(self) -> None:
        agent = self.random.choice(AGENTS)
        self.h.do(commands.DeleteAgent(agent) if self.odds(2) else commands.DrainAgent(agent, self.odds(3)))

    def claim(self) -> None:
        project = self.random.choice(PROJECTS)
        there = [task.task_id for task in self.tasks(TaskState.PENDING) if task.project == project] or list(TASKS)
        if self.odds(4):
            there += [task.task_id for task in self.tasks(TaskState.SCHEDULED)]
        wanted = tuple(self.random.choice(there) for _ in range(self.random.randint(1, 4)))
        agent = self.random.choice(AGENTS)
        self.do(project, commands.ClaimTasks(agent, self.epoch_of(agent) + self.off(), wanted, self.odds(2)))

    def assign(self) -> None:
        project, task_id = self.one(TaskState.PENDING)
        self.do(project, commands.AssignTask(task_id, self.random.choice(AGENTS)))

    def verb(self) -> None:
        project, task_id, attempt, agent = self.held()
        follow_up = (NewTask(f"{task_id}-next"[:20], depends_on=(task_id,)),) if self.odds(6) else ()
        if self.odds(12):
            follow_up = (*follow_up, NewTask("bad", depends_on=("none",)))
        random, data = self.random.getrandbits(32), self.json()
        verbs: list[Command] = [
            commands.AcceptTasks(agent, (Held(task_id, attempt),)),
            commands.CheckpointTasks(agent, (Checkpoint(task_id, attempt, 1, None, data),)),
            commands.CompleteTasks(agent, (Completion(task_id, attempt, data, None, self.usage(), tasks=follow_up),)),
            commands.FailTasks(agent, (Failure(task_id, attempt, "error", "m", not self.odds(3), (1, 1, 1), random),)),
            commands.ReleaseTasks(agent, (Release(task_id, attempt, data),)),
        ]
        self.do(project, self.random.choice(verbs))

    def park(self) -> None:
        project, task_id, attempt, agent = self.held()
        choose = self.random.choice
        kind = choose(("approval", "event", "time"))
        timeout_ms = 500 if kind == "time" else choose((None, 500))
        wait = Park(
            task_id,
            attempt,
            kind,
            choose(("plan", "deploy")),
            checkpoint=self.json(),
            timeout_ms=timeout_ms,
            on_timeout=choose(("resume", "fail", "cancel")),
            usage=self.usage(),
        )
        kept = self.answers_kept(project, task_id, wait.name)
        revision = machine.read_meta(self.h.store).revision
        (item,) = self.do(project, commands.ParkTasks(agent, (wait,)))
        if item.refusal is None and item.revision > revision:
            status = self.h.task(task_id, project).status
            assert status == (TaskState.PENDING if kept else TaskState.WAITING)
            assert self.answers_kept(project, task_id, wait.name) == max(kept - 1, 0), "an answer ends one wait"

    def answers_kept(self, project: str, task_id: str, name: str) -> int:
        """How many answers are there for a wait of that name which has not come."""
        task = task_record.find(self.h.store, self.h.project_no(project), task_id)
        if task is None:
            return 0
        return sum(not resume.used and resume.name == name for resume in task_resumes.read(self.h.store, task))

    # --- whatever else ----------------------------------------------------------------------------------------------

    def time(self) -> None:
        self.h.advance(self.random.choice((1, 400, 1_000, 70_000)))
        self.h.do(commands.WakeTasks(3))

    def work(self) -> None:
        self.h.do(commands.DoWork())
        assert len(self.h.changes) <= 2 * limits.SIDE_EFFECTS_MAX

    def repeat(self) -> None:
        """A command comes once more, much later: delayed, or sent again by a client that got no answer."""
        if self.repeats:
            self.do(*self.repeats[-min(self.random.randint(1, 30), len(self.repeats))])
