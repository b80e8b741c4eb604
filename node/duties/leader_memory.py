"""Everything the leader remembers beside the replicated state, and how it follows that state.

It is built from the state when this node becomes leader, with a full fresh term for every lease and agent, and follows
the notices of applied entries from then on. What a notice does not say is read from the state; since the state may
already be ahead of the notice, records are taken as they are found: memory converges, whatever order it hears of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager

from cluster.replica import Notice, View
from node.duties import leader_build, state_reads
from node.duties.affinity import Affinity, sites_of
from node.duties.budget_gate import BudgetGate, Place
from node.duties.fleet import AgentMemory, Fleet
from node.duties.holdings import Holding, Holdings, TaskKey
from node.duties.lanes import Chunk, Found
from node.duties.lease_clock import LeaseClock
from node.duties.lessons import Lessons
from node.duties.pace import Pace
from node.duties.pending import PendingTasks
from node.duties.queue_gate import QueueGate
from node.duties.scoring import Weights
from node.duties.settings import DutySettings, tuned
from node.duties.signs_of_life import is_by_holder
from node.duties.tracks import Tracks
from statemachine import agent_record, budget_record, path_locks, projects, queues, settings, task_record
from statemachine.agent_record import Agent
from statemachine.budget_record import AGENT, SESSION, Budget
from statemachine.changes import Change
from statemachine.context import CLUSTER
from statemachine.queues import Queue
from statemachine.settings import SETTINGS
from statemachine.task_record import Task
from statemachine.task_states import TaskState

OpenView = Callable[[], AbstractContextManager[View]]


class LeaderMemory:
    """Agents, holdings and pending tasks of one term of leadership."""

    def __init__(self, open_view: OpenView, clock: LeaseClock, settings: DutySettings, *, at_once: bool = True) -> None:
        """`at_once`: read the state now; otherwise `build` has to be run before the memory is believed."""
        self._open_view = open_view
        self._started = settings
        self._settings = settings
        self._project_numbers: dict[str, int] = {}
        self.clock = clock
        self.holdings = Holdings()
        self.fleet = Fleet(self.holdings)
        self.pace = Pace(self.fleet, lambda: self._settings)
        self.tracks = Tracks()
        self.affinity = Affinity()
        self._lessons = Lessons(self.fleet)
        self.gate = QueueGate(self._read_queue)
        self.budgets = BudgetGate(self._read_budget)
        self.pending = PendingTasks(
            self._scan,
            self._read_key,
            self.gate,
            lane_tasks_max=settings.lane_tasks_max,
            scan_tasks_max=settings.scan_tasks_max,
            ageing_ms=settings.ageing_ms,
            budgets=self.budgets,
        )
        self.revived: dict[str, AgentMemory] = {}
        self.schedules_changed = False
        self.settings_changed = False
        self._grace_s = 0.0
        if at_once:
            self.rebuild()

    # --- built from the state ---------------------------------------------------------------------------------------

    def rebuild(self) -> None:
        """Read agents, held tasks and the names of queues. Every term begins anew, one fallback time longer."""
        for _ in self.build():
            pass

    def build(self) -> Iterator[None]:
        """As `rebuild`, piece by piece. Notices may be followed in between (`leader_build`)."""
        self._grace_s = self._started.fallback_ms / 1000
        self._build_plans()
        for _ in leader_build.rows(self, self._open_view):
            yield
        self._grace_s = 0.0

    def _build_plans(self) -> None:
        with self._open_view() as view:
            self._see_settings(view)
            for task in state_reads.lock_holders(view):
                self._see_locks((task.project, task.task_id), task)
            self._read_queues(view)
            for _, budget in budget_record.everything(view):
                self.budgets.see((budget.scope, budget.project, budget.id), there=True)
            for project, queue in state_reads.pending_queues(view):
                self.pending.news(project, queue)

    # --- following the state ----------------------------------------------------------------------------------------

    def follow(self, notice: Notice) -> None:
        """Take in what an entry changed."""
        if notice.gap:
            self._start_over()
            return
        changed: dict[TaskKey, None] = {}
        agents: dict[str, None] = {}
        for change in notice.changes:
            if change.resource == "task":
                if self.budgets:
                    self._look_at_budgets(change)
                if not self._follow_quickly(change):
                    changed[change.project, change.resource_id] = None
            elif change.resource == "agent":
                agents[change.resource_id] = None
            elif change.resource == "queue":
                self._see_queue(change)
            elif change.resource == "budget":
                self._see_budget(change)
            elif change.resource == "schedule":
                self.schedules_changed = True
            elif change.resource == "settings":
                with self._open_view() as view:
                    self._see_settings(view)
        if changed or agents:
            self.refresh(changed, agents)

    @property
    def settings(self) -> DutySettings:
        """What this node was started with, under the replicated settings."""
        return self._settings

    def _see_settings(self, view: View) -> None:
        values = settings.read(view).values
        self._settings = tuned(self._started, values)
        self.fleet.weights = Weights.of({name: values.get(name, known.default) for name, known in SETTINGS.items()})
        self.fleet.cooling.first_ms = self._settings.provider_cooling_ms
        if not self._settings.provider_cooling_ms:
            self.fleet.cooling.end_all()
        self.settings_changed = True

    def learn(self) -> None:
        """Take over what attempts taught. BEFORE a decision by scores."""
        self._lessons.learn(self._open_view)

    def refresh(self, tasks: Iterable[TaskKey], agent_ids: Iterable[str]) -> None:
        """Take these as the state shows them now."""
        with self._open_view() as view:
            for agent_id in agent_ids:
                self._read_agent(view, agent_id)
            for key in tasks:
                self._read_task(view, key)

    def _start_over(self) -> None:
        """The state jumped: only what the agents said themselves is still true."""
        for holding in self.holdings:
            self._let_go(holding.key)
        self.pending.clear()
        before = self.fleet.clear()
        self.rebuild()
        for agent in self.fleet:
            known = before.get(agent.agent_id)
            if known is not None and known.epoch == agent.epoch:
                agent.carry_over(known)
                self.fleet.put(agent)

    def _follow_quickly(self, change: Change) -> bool:
        """Whether the change says everything there is to know; new tasks above all must cost nearly nothing."""
        data = change.data
        if data is None:
            return False
        to, key = data.get("to"), (change.project, change.resource_id)
        if change.type == "task.created":
            if to == TaskState.PENDING:
                session = _session_of(change) if len(change.topics) > 1 else None
                self.pending.news(change.project, change.topics[0].removeprefix("queue."), session)
            return True
        agent_id = data.get("agent_id")
        if agent_id is not None and is_by_holder(change.type, data):
            self._hear(agent_id)
        if data.get("from") == TaskState.RUNNING and agent_id is not None:
            self._track(agent_id, to)
        if to in (TaskState.COMPLETED, TaskState.SCHEDULED, TaskState.FAILED, TaskState.BLOCKED):
            if agent_id is not None:
                self._lessons.ended(agent_id, to, data.get("reason"), self.clock.now_s())
            self.pending.drop(key)
            self._let_go(key)
            # One that is only put off after a wait keeps its locks: its record says so.
            return not self.pending.locks.let_go(key) or to != TaskState.SCHEDULED
        if to == TaskState.RUNNING and agent_id is not None and data.get("from") != TaskState.RUNNING:
            self._took_work(agent_id)
        return False

    def _let_go(self, key: TaskKey) -> None:
        """The task is held by nobody any more."""
        self.holdings.drop(key)
        self.pending.keys.let_go(key)
        self.pending.settle(key, self.clock.now_s())

    def _track(self, agent_id: str, to: object) -> None:
        if to == TaskState.COMPLETED:
            self.tracks.add(agent_id, self.clock.now_s(), completed=1)
        elif to == TaskState.FAILED:
            self.tracks.add(agent_id, self.clock.now_s(), failed=1)
        elif to == TaskState.SCHEDULED:
            self.tracks.add(agent_id, self.clock.now_s(), failed=1, retried=1)

    def _hear(self, agent_id: str) -> None:
        agent = self.fleet.get(agent_id)
        if agent is not None:
            agent.seen_s, agent.heard = max(agent.seen_s, self.clock.now_s()), True

    def _took_work(self, agent_id: str) -> None:
        agent = self.fleet.get(agent_id)
        if agent is None:
            return
        agent.offers_missed = agent.probations = 0
        if agent.liveness != agent_record.ONLINE:
            self.revived[agent_id] = agent

    def _read_task(self, view: View, key: TaskKey) -> None:
        number = self._project_number(view, key[0])
        task = None if number is None else task_record.find(view, number, key[1])
        if task is None:
            self.pending.drop(key)
            self._let_go(key)
            self.pending.locks.let_go(key)
        else:
            self.see_task(task)

    def see_task(self, task: Task) -> None:
        """A task as the state shows it now."""
        key = (task.project, task.task_id)
        if task.locks:
            self._see_locks(key, task)
        if task.status is TaskState.PENDING:
            self._let_go(key)
            self.pending.put(task.project, task.queue, state_reads.found(task))
            return
        self.pending.drop(key)
        if not task.holder_no or task.agent_id is None:
            self._let_go(key)
            return
        if task.concurrency_key is not None:
            self.pending.keys.hold(key, task.concurrency_key)
        if task.status is TaskState.RUNNING:
            self.affinity.began(task.agent_id, sites_of(task.project, task.session_id, task.labels))
            self.pending.fairness.started(key, task.project, task.session_id, self.clock.now_s())
        known = self.holdings.get(key)
        same = known is not None and (known.agent_id, known.attempt) == (task.agent_id, task.attempt)
        if known is not None and same and (known.status == task.status or task.status is not TaskState.RUNNING):
            # Progress with a checkpoint, or stopped by decree: the lease goes on as it was.
            known.status = task.status
            known.fraction = known.message = None
            return
        term_s = task.grant_ms / 1000
        deadline_s = self.clock.now_s() + term_s + self._grace_s
        holding = Holding(key, task.agent_id, task.attempt, task.status, term_s=term_s, deadline_s=deadline_s)
        self.holdings.put(holding)

    def _see_locks(self, key: TaskKey, task: Task) -> None:
        """BEFORE the task is no longer pending: whoever stands behind it must find that it holds them now."""
        if path_locks.holds(task):
            self.pending.locks.hold(key, task.number, task.locks)
        else:
            self.pending.locks.let_go(key)

    def _read_agent(self, view: View, agent_id: str) -> None:
        agent = agent_record.find(view, agent_id)
        if agent is None:
            self.fleet.drop(agent_id)
            self.tracks.drop(agent_id)
            self.affinity.drop(agent_id)
        else:
            self.see_agent(view, agent)

    def see_agent(self, view: View, agent: Agent) -> None:
        """An agent as the state shows it now."""
        known = self.fleet.get(agent.agent_id)
        fresh = AgentMemory(
            agent.agent_id,
            agent.epoch,
            agent.liveness,
            agent.draining,
            agent.max_concurrent,
            dict(agent.proficiencies()),
            frozenset(agent.projects),
            seen_s=self.clock.now_s() + self._grace_s,
            number=agent.number,
            provider=agent.provider,
        )
        fresh.learn(agent_record.load_of(view, agent.number))
        if known is not None and known.epoch == agent.epoch:
            fresh.carry_over(known)
        self.fleet.put(fresh)

    # --- reading the state ------------------------------------------------------------------------------------------

    def _project_number(self, view: View, project: str) -> int | None:
        number = self._project_numbers.get(project)
        if number is None:
            number = state_reads.project_number(view, project)
            if number is not None:
                self._project_numbers[project] = number
        return number

    def _scan(
        self, project: str, queue: str, session: str | None, least: Mapping[int, int], count_max: int
    ) -> dict[int, Chunk]:
        with self._open_view() as view:
            number = self._project_number(view, project)
            if number is None:
                return dict.fromkeys(least, ((), None))
            run = number, queue, session
            return {
                priority: state_reads.pending_chunk(view, run, priority, order, count_max)
                for priority, order in least.items()
            }

    def _read_key(
        self, project: str, concurrency_key: str, most: Callable[[str], int]
    ) -> Sequence[tuple[str, list[Found]]]:
        def closed(session: str) -> bool:
            return self.pending.sessions.keeps(project, session, concurrency_key)

        with self._open_view() as view:
            number = self._project_number(view, project)
            if number is None:
                return ()
            return list(state_reads.pending_with_key(view, number, concurrency_key, most, closed))

    def _read_queue(self, project: str, queue: str) -> Queue | None:
        with self._open_view() as view:
            number = self._project_number(view, project)
            return None if number is None else queues.get(view, number, queue)

    def _read_queues(self, view: View) -> None:
        for queue in queues.scan(view):
            project = projects.get(view, queue.project_no)
            if project is not None and queue.configured:
                self.gate.see(project.name, queue)

    def _see_queue(self, change: Change) -> None:
        queue = self._read_queue(change.project, change.resource_id)
        if queue is not None:
            self.gate.see(change.project, queue)
            self.pending.keys.settings_changed()
            self.pending.locks.stir(change.project, queue.queue)

    def _read_budget(self, place: Place) -> Budget | None:
        scope, project, budget_id = place
        with self._open_view() as view:
            number = CLUSTER if scope == AGENT else self._project_number(view, project)
            return None if number is None else budget_record.get(view, number, scope, budget_id)

    def _see_budget(self, change: Change) -> None:
        scope, _, budget_id = change.resource_id.partition("/")
        place = scope, change.project, budget_id
        self.budgets.see(place, there=self._read_budget(place) is not None)
        if scope == SESSION:
            self.pending.sessions.reopen(change.project, budget_id)
        elif scope == AGENT:
            self.fleet.touch((budget_id,))

    def _look_at_budgets(self, change: Change) -> None:
        """Somebody was given a task, or let go of it: that changes what budgets have room for. By the change itself:
        memory may never have seen that the task was held."""
        agent_id = None if change.data is None else change.data.get("agent_id")
        if agent_id is None:
            return
        if (AGENT, "", agent_id) in self.budgets:
            self.fleet.touch((agent_id,))
        session = _session_of(change)
        if session is not None and (SESSION, change.project, session) in self.budgets:
            self.pending.sessions.reopen(change.project, session)


def _session_of(change: Change) -> str | None:
    """The session of a new task, from the topics of its change."""
    for topic in change.topics[1:]:
        if topic.startswith("session."):
            return topic[8:]
    return None
