"""Why a task is with nobody, and where it could go: from the leader's memory and the task's record."""

from __future__ import annotations

from cluster.replica import View
from node.duties.dispatch import avoided
from node.duties.fleet import AgentMemory
from node.duties.lanes import PendingTask, Signature
from node.duties.leader_memory import LeaderMemory
from node.duties.messages import Candidate, ExplainReply, ExplainRequest
from node.duties.state_reads import found, project_number
from statemachine import agent_record, task_record

CANDIDATES_MAX = 20


def explain(memory: LeaderMemory, view: View, request: ExplainRequest, now_ms: int) -> ExplainReply:
    """Count all agents by what keeps this task from them, and name the best of the others.

    What keeps it: `project, offline, unresponsive, capability, draining, slots, budget, cooling, avoided`. An agent
    that does not listen may still claim it, and so may one whose provider cools down.
    """
    number = project_number(view, request.project)
    task = None if number is None else task_record.find(view, number, request.task_id)
    if task is None:
        return ExplainReply("not_found")
    wanted = found(task)
    signature = Signature(task.project, task.queue, wanted.requires)
    shown = PendingTask((task.project, task.task_id), signature, wanted, 0)
    filtered: dict[str, int] = {}
    fit: list[Candidate] = []
    fleet, now_s = memory.fleet, memory.clock.now_s()
    memory.learn()
    for agent in memory.fleet:
        why = _why_not(memory, agent, shown)
        if why is None and fleet.cooling.cools(agent.provider, now_s):
            why = "cooling"
        if why is None and avoided(fleet, memory.settings, shown, agent, now_ms, now_s):
            why = "avoided"
        if why is not None:
            filtered[why] = filtered.get(why, 0) + 1
            continue
        affinity, used = memory.affinity.degree(agent.agent_id, wanted.sites), fleet.slots_used(agent)
        part = fleet.parts(agent, wanted.requires, used, affinity)
        part["listening"] = float(fleet.listening(agent, now_s))
        score = fleet.score(agent, wanted.requires, used) + fleet.weights.affinity * affinity
        fit.append(Candidate(agent.agent_id, score, part))
    fit.sort(key=lambda candidate: (-candidate.parts["listening"], -candidate.score, candidate.agent_id))
    behind = memory.pending.locks.behind(shown.key)
    return ExplainReply(
        "", len(memory.fleet), filtered, tuple(fit[:CANDIDATES_MAX]), None if behind is None else behind[1]
    )


def _why_not(memory: LeaderMemory, agent: AgentMemory, task: PendingTask) -> str | None:
    """The first thing that keeps the task from the agent, most lasting first."""
    if not agent.serves(task.signature.project):
        return "project"
    if agent.liveness != agent_record.ONLINE:
        return agent.liveness
    if not agent.can(task.signature.requires):
        return "capability"
    if agent.draining:
        return "draining"
    if not memory.fleet.slots_free(agent):
        return "slots"
    if memory.budgets.exhausted(agent.agent_id):
        return "budget"
    return None
