"""Everything the leader remembers beside the replicated state, and how it follows that state.

It is built from the state when this node becomes leader, with a full fresh term for every lease and agent, and follows
the notices of applied entries from then on. What a notice does not say is read from the state; since the state may
already be ahead of the notice, records are taken as they are found: memory converges, whatever order it hears of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager

from cluster.replica import Notice, View
from node.duties import state_reads
from node.duties.fleet import AgentMemory, Fleet
from node.duties.holdings import Holding, Holdings, TaskKey
from node.duties.lanes import Chunk, Found
from node.duties.lease_clock import LeaseClock
from node.duties.pending import PendingTasks
from node.duties.queue_gate import QueueGate
from node.duties.settings import DutySettings
from node.duties.tracks import Tracks
from statemachine import agent_record, projects, queues, task_queries, task_record
from statemachine.agent_record import Agent
from statemachine.changes import Change
from statemachine.queues import Queue
from statemachine.task_record import Task
from statemachine.task_states import TaskState

OpenView = Callable[[], AbstractContextManager[View]]


class LeaderMemory:
    """Agents, holdings and pending tasks of one term of leadership."""

    def __init__(self, open_view: OpenView, clock: LeaseClock, settings: DutySettings) -> None:
        self._open_view = open_view
        self._settings = settings
        self._project_numbers: dict[str, int] = {}
        self.clock = clock
        self.holdings = Holdings()
        self.fleet = Fleet(self.holdings)
        self.tracks = Tracks()
        self.gate = QueueGate(self._read_queue)
        self.pending = PendingTasks(
            self._scan,
            self._read_key,
            self.gate,
            lane_tasks_max=settings.lane_tasks_max,
            scan_tasks_max=settings.scan_tasks_max,
            ageing_ms=settings.ageing_ms,
        )
        self.revived: dict[str, AgentMemory] = {}
        self.schedules_changed = False
        self.rebuild()

    # --- built from the state ---------------------------------------------------------------------------------------

    def rebuild(self) -> None:
        """Read agents, held tasks and the names of queues. Every term begins anew, one fallback time longer."""
        grace_s = self._settings.fallback_ms / 1000
        with self._open_view() as view:
            for agent in agent_record.scan(view):
                self._see_agent(agent, grace_s)
            for _, task in task_queries.held(view):
                self._see_task(task, grace_s)
            self._read_queues(view)
            for project, queue in state_reads.pending_queues(view):
                self.pending.news(project, queue)
            for project, queue, session in state_reads.pending_sessions(view):
                self.pending.news(project, queue, session)

    def patience_s(self) -> float:
        """How long an agent may be silent."""
        return self.interval_ms() * self._settings.heartbeats_missed_max / 1000

    def interval_ms(self) -> int:
        """How often agents are asked to call."""
        return self._settings.interval_ms(len(self.fleet))

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
                if not self._follow_quickly(change):
                    changed[change.project, change.resource_id] = None
            elif change.resource == "agent":
                agents[change.resource_id] = None
            elif change.resource == "queue":
                self._see_queue(change)
            elif change.resource == "schedule":
                self.schedules_changed = True
        if changed or agents:
            self.refresh(changed, agents)

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
        if data.get("from") == TaskState.RUNNING and agent_id is not None:
            self._track(agent_id, to)
        if to in (TaskState.COMPLETED, TaskState.SCHEDULED, TaskState.FAILED, TaskState.BLOCKED):
            self.pending.drop(key)
            self._let_go(key)
            return True
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
        else:
            self._see_task(task, 0.0)

    def _see_task(self, task: Task, grace_s: float) -> None:
        key = (task.project, task.task_id)
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
            self.pending.fairness.started(key, task.project, task.session_id, self.clock.now_s())
        known = self.holdings.get(key)
        same = known is not None and (known.agent_id, known.attempt) == (task.agent_id, task.attempt)
        if known is not None and same and (known.status == task.status or task.status is not TaskState.RUNNING):
            # Progress with a checkpoint, or stopped by decree: the lease goes on as it was.
            known.status = task.status
            known.fraction = known.message = None
            return
        term_s = task.grant_ms / 1000
        deadline_s = self.clock.now_s() + term_s + grace_s
        holding = Holding(key, task.agent_id, task.attempt, task.status, term_s=term_s, deadline_s=deadline_s)
        self.holdings.put(holding)

    def _read_agent(self, view: View, agent_id: str) -> None:
        agent = agent_record.find(view, agent_id)
        if agent is None:
            self.fleet.drop(agent_id)
            self.tracks.drop(agent_id)
        else:
            self._see_agent(agent, 0.0)

    def _see_agent(self, agent: Agent, grace_s: float) -> None:
        known = self.fleet.get(agent.agent_id)
        fresh = AgentMemory(
            agent.agent_id,
            agent.epoch,
            agent.liveness,
            agent.draining,
            agent.max_concurrent,
            {capability.name: capability.proficiency for capability in agent.capabilities},
            frozenset(agent.projects),
            seen_s=self.clock.now_s() + grace_s,
        )
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
        with self._open_view() as view:
            number = self._project_number(view, project)
            return () if number is None else list(state_reads.pending_with_key(view, number, concurrency_key, most))

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


def _session_of(change: Change) -> str | None:
    """The session of a new task, from the topics of its change."""
    for topic in change.topics[1:]:
        if topic.startswith("session."):
            return topic[8:]
    return None
