"""What the leader answers to the nodes, from its memory (see `messages`). Who does not lead answers `no_leader`."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from cluster.replica import Replica
from node.duties import explain, messages
from node.duties.bidders import Demand
from node.duties.fleet import AgentMemory, Poll
from node.duties.holdings import Holding
from node.duties.leader_memory import LeaderMemory
from node.duties.leadership import Leadership
from node.duties.messages import (
    Beat,
    BeatAnswer,
    BeatReply,
    BeatRequest,
    ClaimReply,
    ClaimRequest,
    ExplainReply,
    ExplainRequest,
    LeaseLeft,
    LiveAgent,
    LiveReply,
    LiveRequest,
    LiveTask,
    PollsReply,
    PollsRequest,
    Running,
)
from node.duties.settings import DutySettings
from statemachine import agent_record
from statemachine.task_states import TaskState

NO_LEADER = "no_leader"

_encode = msgspec.msgpack.Encoder().encode
_beats = msgspec.msgpack.Decoder(BeatRequest)
_polls = msgspec.msgpack.Decoder(PollsRequest)
_claims = msgspec.msgpack.Decoder(ClaimRequest)
_lives = msgspec.msgpack.Decoder(LiveRequest)
_explains = msgspec.msgpack.Decoder(ExplainRequest)


class Services:
    """The services of one node; `leading` gives the term of leadership under way, or None."""

    def __init__(self, replica: Replica, settings: DutySettings, leading: Callable[[], Leadership | None]) -> None:
        self._replica = replica
        self._settings = settings
        self._leading = leading
        replica.serve(messages.BEAT, self._on_beats)
        replica.serve(messages.POLLS, self._on_polls)
        replica.serve(messages.CLAIM, self._on_claim)
        replica.serve(messages.LIVE, self._on_live)
        replica.serve(messages.EXPLAIN, self._on_explain)

    async def _sure(self) -> Leadership | None:
        leadership = self._leading()
        if leadership is None:
            return None
        await leadership.built()
        return leadership if leadership is self._leading() and leadership.believable else None

    async def _on_beats(self, _: str, data: bytes) -> bytes:
        request, leadership = _beats.decode(data), await self._sure()
        if leadership is None:
            return _encode(BeatReply(NO_LEADER))
        now_ms = self._replica.now_ms()
        answers = tuple(self._beat(leadership, request.node_run, beat, now_ms) for beat in request.beats)
        leadership.work_changed()
        return _encode(BeatReply("", answers))

    def _beat(self, leadership: Leadership, node_run: str, beat: Beat, now_ms: int) -> BeatAnswer:
        memory = leadership.memory
        agent = memory.fleet.get(beat.agent_id)
        if agent is None:
            return BeatAnswer("not_found")
        if beat.epoch is not None and beat.epoch != agent.epoch:
            return BeatAnswer("stale_epoch", agent.epoch)
        _hear(leadership, agent)
        if beat.metrics is not None:
            agent.metrics, agent.metrics_ms = beat.metrics, now_ms
        if beat.closed is not None:
            memory.fleet.hang_up(agent, node_run, beat.closed)
        if beat.poll is not None:
            number, wait_ms = beat.poll
            until_s = memory.clock.now_s() + (wait_ms + self._settings.poll_grace_ms) / 1000
            ended = memory.fleet.listen(agent, Poll(node_run, number, until_s))
            if ended is not None and ended.node_run != node_run:
                leadership.poll_ends.tell(ended)
        for running in beat.running:
            _renew(memory, agent, running)
        return BeatAnswer("", agent.epoch, memory.pace.ask_ms(agent), _leases(memory, agent))

    async def _on_polls(self, _: str, data: bytes) -> bytes:
        request, leadership = _polls.decode(data), await self._sure()
        if leadership is None:
            return _encode(PollsReply(NO_LEADER))
        superseded = await leadership.poll_ends.wait(request.node_run, request.wait_ms / 1000)
        return _encode(PollsReply("", superseded))

    async def _on_claim(self, _: str, data: bytes) -> bytes:
        request, leadership = _claims.decode(data), await self._sure()
        if leadership is None:
            return _encode(ClaimReply(NO_LEADER))
        agent = leadership.memory.fleet.get(request.agent_id)
        if agent is None:
            return _encode(ClaimReply("not_found"))
        if request.epoch != agent.epoch:
            return _encode(ClaimReply("stale_epoch", agent.epoch))
        if leadership.claims_waiting >= self._settings.claims_waiting_max:
            return _encode(ClaimReply("overloaded"))
        _hear(leadership, agent)
        queues = None if request.queues is None else frozenset(request.queues)
        demand = Demand(agent, request.limit, request.project, queues, claims=True)
        if agent.draining:
            return _encode(ClaimReply("", agent.epoch))
        task_ids = await leadership.claim(demand, request.wait_ms / 1000)
        return _encode(ClaimReply("", agent.epoch, task_ids))

    async def _on_live(self, _: str, data: bytes) -> bytes:
        request, leadership = _lives.decode(data), await self._sure()
        if leadership is None:
            return _encode(LiveReply(NO_LEADER))
        memory, now_ms = leadership.memory, self._replica.now_ms()
        tasks = [_live_task(memory, holding) for key in request.tasks if (holding := memory.holdings.get(key))]
        agents = list(memory.fleet) if request.everything else [memory.fleet.get(name) for name in request.agents]
        seen = [_live_agent(memory, agent, now_ms) for agent in agents if agent is not None]
        return _encode(LiveReply("", now_ms, tuple(tasks), tuple(seen)))

    async def _on_explain(self, _: str, data: bytes) -> bytes:
        request, leadership = _explains.decode(data), await self._sure()
        if leadership is None:
            return _encode(ExplainReply(NO_LEADER))
        with self._replica.view() as view:
            return _encode(explain.explain(leadership.memory, view, request, self._replica.now_ms()))


def _hear(leadership: Leadership, agent: AgentMemory) -> None:
    """A sign of life."""
    agent.seen_s, agent.heard = max(agent.seen_s, leadership.memory.clock.now_s()), True
    if agent.liveness == agent_record.OFFLINE:
        leadership.want(agent, agent_record.ONLINE)


def _renew(memory: LeaderMemory, agent: AgentMemory, running: Running) -> None:
    for holding in _named(memory, agent, running):
        if holding.status == TaskState.RUNNING and holding.attempt == running.attempt and not holding.ending:
            holding.deadline_s = max(holding.deadline_s, memory.clock.now_s() + holding.term_s)
            if running.fraction is not None:
                holding.fraction = running.fraction
            if running.message is not None:
                holding.message = running.message


def _named(memory: LeaderMemory, agent: AgentMemory, running: Running) -> list[Holding]:
    if running.project is None:
        return [item for item in memory.holdings.of_agent(agent.agent_id) if item.key[1] == running.task_id]
    holding = memory.holdings.get((running.project, running.task_id))
    return [holding] if holding is not None and holding.agent_id == agent.agent_id else []


def _leases(memory: LeaderMemory, agent: AgentMemory) -> tuple[LeaseLeft, ...]:
    return tuple(
        LeaseLeft(*item.key, item.attempt, _remaining_ms(memory, item), item.status)
        for item in memory.holdings.of_agent(agent.agent_id)
    )


def _remaining_ms(memory: LeaderMemory, holding: Holding) -> int:
    return max(0, round((holding.deadline_s - memory.clock.now_s()) * 1000))


def _live_task(memory: LeaderMemory, holding: Holding) -> LiveTask:
    return LiveTask(
        *holding.key,
        holding.attempt,
        holding.agent_id,
        holding.status,
        _remaining_ms(memory, holding),
        holding.fraction,
        holding.message,
    )


def _live_agent(memory: LeaderMemory, agent: AgentMemory, now_ms: int) -> LiveAgent:
    now_s = memory.clock.now_s()
    return LiveAgent(
        agent.agent_id,
        agent.epoch,
        now_ms - max(0, round((now_s - agent.seen_s) * 1000)),
        memory.fleet.listening(agent, now_s),
        memory.fleet.slots_used(agent),
        memory.fleet.slots_free(agent),
        *memory.tracks.sums(agent.agent_id, now_s),
        agent.metrics,
        agent.metrics_ms,
    )
