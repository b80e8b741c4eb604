"""What users and an agent do with queues beside the plain load: tasks under limits, keys, locks and budgets, parked and
resumed, failed and redriven, schedules and budgets made, changed and removed under the same names. `queue_rules` and
`resource_rules` judge what came of it.

They throw dice of their own: the plain load of a seed is what it was without them.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import TYPE_CHECKING

from statemachine.commands import (
    ClaimTasks,
    Command,
    CompleteTasks,
    Completion,
    CreateSchedule,
    Definition,
    DeleteBudget,
    DeleteSchedule,
    FailTasks,
    Failure,
    NewTask,
    Park,
    ParkTasks,
    PathLock,
    PutBudget,
    RegisterAgent,
    Release,
    ReleaseTasks,
    ResetBudget,
    ResumeTasks,
    Resumption,
    RetryTasks,
    SubmitTasks,
    TriggerSchedule,
    UpdateQueue,
    UpdateSchedule,
    UpdateTask,
)
from statemachine.outcome import Item, Outcome
from tests.sim.resource_rules import MATCHED, Usage

if TYPE_CHECKING:
    from tests.sim.member import Member
    from tests.sim.simulation import Simulation

AGENT = "chores"
QUEUES = ("narrow", "wide")
KEYS = (None, None, "k0", "k1")
SCHEDULES = ("hourly", "daily")
SESSIONS = (None, None, "s0")
PATHS = tuple(MATCHED)
BUDGETS = (("session", "s0", 30), ("agent", AGENT, 60), ("project", "default", 150))
"""(scope, id, a limit that is met now and then)."""
PAUSE_S = 0.05
_AT_HAND = 12

Attempt = tuple[str, int]


class Chores:
    """One agent that claims by name, and its users; from `begin` until `stop_s`."""

    def __init__(self, sim: Simulation, rng: Random, stop_s: float) -> None:
        self._sim = sim
        self._rng = rng
        self._stop_s = stop_s
        self._number = 0
        self._epoch = 0
        self._tasks: list[str] = []
        self._held: list[Attempt] = []
        self._questions: list[tuple[str, str]] = []
        self._defined: dict[str, int] = {}

    def begin(self) -> None:
        """Register, and go on from there."""
        self._register()
        self._later(self._act)

    def _later(self, action: Callable[[], None]) -> None:
        if self._sim.scheduler.now_s < self._stop_s:
            self._sim.scheduler.after(self._rng.expovariate(1 / PAUSE_S), action)

    def _act(self) -> None:
        self._later(self._act)
        if self._epoch:
            # To claim and to end attempts comes more often: without them nothing else happens.
            self._rng.choice(
                (
                    self._submit, self._claim, self._claim, self._end, self._end, self._park, self._resume,
                    self._limit, self._redrive, self._schedule, self._change_queue, self._budget, self._budget,
                )
            )()  # fmt: skip

    def _register(self) -> None:
        def then(items: tuple[Item, ...] | None) -> None:
            if items is None:
                self._later(self._register)
            else:
                self._epoch = items[0].numbers[0]

        self._say(RegisterAgent(AGENT, max_concurrent=100, projects=("*",), instance_id="i"), then)

    # --- tasks --------------------------------------------------------------------------------------------------------

    def _new(self, number: int) -> NewTask:
        rng = self._rng
        return NewTask(
            f"chore{self._number}-{number}",
            queue=rng.choice(QUEUES),
            concurrency_key=rng.choice(KEYS),
            max_attempts=rng.choice((1, 1, 3)),
            session_id=rng.choice(SESSIONS),
            locks=tuple(PathLock(path, rng.random() < 0.5) for path in rng.sample(PATHS, rng.choice((0, 0, 1, 1, 2)))),
        )

    def _usage(self) -> Usage | None:
        rng = self._rng
        return None if rng.random() < 0.3 else (rng.randrange(10), rng.randrange(10), rng.randrange(20))

    def _submit(self) -> None:
        self._number += 1
        new = tuple(self._new(number) for number in range(self._rng.randrange(2, 6)))
        self._tasks = (self._tasks + [task.task_id for task in new])[-_AT_HAND:]
        self._say(SubmitTasks(new))

    def _claim(self) -> None:
        if not self._tasks:
            return
        wanted = tuple(self._rng.sample(self._tasks, min(4, len(self._tasks))))

        def then(items: tuple[Item, ...] | None) -> None:
            for item in items or ():
                if item.refusal is None and item.numbers:
                    self._held.append((item.resource_id, item.numbers[0]))

        self._say(ClaimTasks(AGENT, self._epoch, wanted, named=True), then)

    def _take(self) -> Attempt | None:
        return self._held.pop(self._rng.randrange(len(self._held))) if self._held else None

    def _end(self) -> None:
        held = self._take()
        if held is None:
            return
        task_id, attempt = held
        kind = self._rng.choice(("complete", "complete", "fail", "fail", "release"))
        if kind == "complete":
            self._number += 1
            follow_ups = (self._new(0),) if self._rng.random() < 0.3 else ()
            self._tasks += [task.task_id for task in follow_ups]
            self._say(
                CompleteTasks(AGENT, (Completion(task_id, attempt, b"1", usage=self._usage(), tasks=follow_ups),))
            )
        elif kind == "fail":
            retryable = self._rng.random() < 0.5
            failure = Failure(
                task_id, attempt, "error", "as planned", retryable=retryable, usage=self._usage(), random=0
            )
            self._say(FailTasks(AGENT, (failure,)))
        else:
            self._say(ReleaseTasks(AGENT, (Release(task_id, attempt),)))

    def _change_queue(self) -> None:
        """A held task that is moved may leave more there than the limit says; nothing more is granted until it fits."""
        if self._tasks:
            self._say(UpdateTask(self._rng.choice(self._tasks), ("queue",), queue=self._rng.choice(QUEUES)))

    # --- waits --------------------------------------------------------------------------------------------------------

    def _park(self) -> None:
        """Each wait has a name of its own, so that it can be told how often it was answered."""
        held = self._take()
        if held is None:
            return
        task_id, attempt = held
        name = f"q{attempt}"
        self._questions = [*self._questions, (task_id, name)][-_AT_HAND:]
        if self._rng.random() < 0.3:
            self._answer(task_id, name)
        timeout_ms, then = self._rng.choice((None, None, 1_000)), self._rng.choice(("resume", "fail"))
        park = Park(task_id, attempt, "event", name, timeout_ms=timeout_ms, on_timeout=then, usage=self._usage())
        self._say(ParkTasks(AGENT, (park,)))

    def _resume(self) -> None:
        """Mostly two answers at once, through whichever nodes: one of them is taken."""
        if self._questions:
            task_id, name = self._rng.choice(self._questions)
            for _ in range(self._rng.choice((1, 2, 2))):
                self._answer(task_id, name)

    def _answer(self, task_id: str, name: str) -> None:
        self._number += 1
        self._say(ResumeTasks((Resumption(task_id, name, str(self._number).encode(), "ann"),)))

    # --- queues and schedules -----------------------------------------------------------------------------------------

    def _limit(self) -> None:
        queue = self._rng.choice(QUEUES)
        field = self._rng.choice(("max_running", "max_running", "max_running_per_key", "paused"))
        self._say(
            UpdateQueue(
                queue,
                (field,),
                paused=self._rng.random() < 0.3,
                max_running=self._rng.choice((0, 1, 2, 2, 3, 3, None)),
                max_running_per_key=self._rng.choice((1, 1, 2)),
            )
        )

    def _budget(self) -> None:
        """Mostly with room for some more tasks, or the chores would come to rest."""
        rng, (scope, name, most) = self._rng, self._rng.choice(BUDGETS)
        kind = rng.choice(("put", "put", "put", "reset", "reset", "delete"))
        if kind == "put":
            tokens, cost = rng.choice((None, 0, most, most, 2 * most)), rng.choice((None, None, most))
            reserve_tokens = min(rng.choice((0, 0, 5, 20)), most if tokens is None else tokens)
            self._say(PutBudget(scope, name, tokens, cost, reserve_tokens, rng.choice((0, 0, 10))))
        else:
            self._say(ResetBudget(scope, name) if kind == "reset" else DeleteBudget(scope, name))

    def _redrive(self) -> None:
        queue, rate = self._rng.choice((*QUEUES, None)), self._rng.choice((1, 1_000))
        self._say(RetryTasks(queue=queue, limit=self._rng.choice((1, 3, 100)), rate_per_second=rate))

    def _schedule(self) -> None:
        """A name may be free, taken by the same or another definition, or used before; what is changed may be old."""
        schedule_id, member = self._rng.choice(SCHEDULES), self._somebody()
        kind = self._rng.choice(("create", "create", "change", "trigger", "delete"))
        if member is not None and kind in ("create", "change"):
            run = NewTask("", queue="runs", max_attempts=1)
            definition = Definition(run, every_ms=self._rng.choice((1_000, 3_600_000)), overlap="queue")
            next_run_at = member.core.entry_time.now_ms() + 1_000
            made: Command = CreateSchedule(schedule_id, definition, next_run_at)
            if kind == "change":
                made = UpdateSchedule(schedule_id, definition, next_run_at, self._defined.get(schedule_id, 1))
            self._say(made, lambda items: self._defined.update({schedule_id: items[0].revision} if items else {}))
        elif kind == "trigger":
            self._say(TriggerSchedule(schedule_id))
        elif kind == "delete":
            self._say(DeleteSchedule(schedule_id))

    # --- calls --------------------------------------------------------------------------------------------------------

    def _say(self, command: Command, then: Callable[[tuple[Item, ...] | None], None] = lambda _: None) -> None:
        """Propose at any node, without a key; `then` hears the items, or None: refused, or nobody knows."""
        member = self._somebody()
        if member is None:
            then(None)
            return
        self._number += 1

        def heard(result: list[Outcome] | Exception) -> None:
            done = None if isinstance(result, Exception) or result[0].refusal is not None else result[0].items
            then(done)

        self._sim.load.write(member, [(f"{AGENT}-{self._number}", command, None)], 1.0, heard)

    def _somebody(self) -> Member | None:
        awake = [member for member in self._sim.members if member.awake]
        return self._rng.choice(awake) if awake else None
