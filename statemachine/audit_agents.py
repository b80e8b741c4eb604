"""The invariants of agents and of what they hold."""

from __future__ import annotations

from collections import Counter

from statemachine import agent_record, counters, work
from statemachine.agent_record import LIVENESS, Agent
from statemachine.audit_settings import faults_of_learned
from statemachine.audit_tasks import Tasks
from statemachine.context import CLUSTER
from statemachine.keys import end_of, from_u64
from statemachine.store import Reader
from statemachine.task_record import Task


def check(reader: Reader, tasks: Tasks, faults: list[str]) -> None:
    """All checks of agents."""
    agents = {agent.number: agent for agent in agent_record.scan(reader)}
    ids = {key[1:-1].decode(): from_u64(value) for key, value in reader.scan(b"a", end_of(b"a"))}
    if ids != {agent.agent_id: agent.number for agent in agents.values()}:
        faults.append("ids of agents differ from their records")
    for agent in agents.values():
        if agent.liveness not in LIVENESS or not agent.number <= agent.epoch or agent.max_concurrent > agent.slots_high:
            faults.append(f"agent {agent.agent_id} has impossible values")
    held = {place: task.holder_no for place, task in tasks.items() if task.holder_no}
    rows = Counter((int.from_bytes(key[9:13], "big"), from_u64(key[13:])) for key, _ in reader.scan(b"H", end_of(b"H")))
    for place, count in rows.items():
        if count > 1 or place not in held:
            faults.append(f"{count} agents hold task {place}, its record names {held.get(place)}")
    _check_loads(reader, agents, Counter(held.values()), faults)
    taken_back = {row.payload["agent"] for _, row in work.scan(reader) if row.kind == "requeue_held"}
    for place, number in held.items():
        if number not in taken_back:
            faults.extend(_faults_of_hold(tasks[place], agents.get(number)))
    _check_counters(reader, agents, faults)


def _check_loads(reader: Reader, agents: dict[int, Agent], held: Counter[int], faults: list[str]) -> None:
    loads = dict(agent_record.scan_loads(reader))
    for number in held.keys() | loads.keys():
        load = loads.get(number)
        if load is None or load.held != held[number]:
            faults.append(f"agent number {number} holds {held[number]} tasks, its load says {load}")
        elif load.deleted != (number not in agents) or (load.deleted and not load.held):
            faults.append(f"agent number {number}: a load that should not be: {load}")
        elif number in agents and load.held > agents[number].slots_high:
            faults.append(f"agent {agents[number].agent_id} holds {load.held}, it never had so many slots")
    for number, load in loads.items():
        faults.extend(f"agent number {number}: {fault}" for fault in faults_of_learned(load))


def _faults_of_hold(task: Task, agent: Agent | None) -> list[str]:
    if agent is None:
        return [f"task {task.task_id} is held by an agent that is gone, and no work row takes it back"]
    if task.agent_id != agent.agent_id or task.agent_epoch != agent.epoch:
        return [
            f"task {task.task_id} is held under epoch {task.agent_epoch} of {task.agent_id}, which is at {agent.epoch}"
        ]
    return []


def _check_counters(reader: Reader, agents: dict[int, Agent], faults: list[str]) -> None:
    wanted = Counter(f"agents.{agent_record.counted_status(agent)}" for agent in agents.values())
    of_cluster = counters.read(reader, CLUSTER)
    found = {name: count for name, count in of_cluster.items() if count and name.startswith("agents.")}
    if wanted != found:
        faults.append(f"counters of agents: {found} where there are {dict(wanted)}")
