"""The record of an agent, and beside it the small one that changes with every grant: its load."""

from __future__ import annotations

import struct
from collections.abc import Iterator

import msgspec

from statemachine import limits, proficiency
from statemachine.commands import Capability, Json
from statemachine.keys import end_of, from_u64, name, u64
from statemachine.proficiency import Ended
from statemachine.store import Overlay, Reader

ONLINE, UNRESPONSIVE, OFFLINE = "online", "unresponsive", "offline"
LIVENESS = (ONLINE, UNRESPONSIVE, OFFLINE)
ANY_PROJECT = "*"
_PROVIDER = "provider="


class Agent(msgspec.Struct, array_like=True, gc=False):
    """An agent. `number` and `epoch` come from one counter of registrations in the whole cluster.

    So an epoch is never used twice, not even by an agent of the same id that was deleted and came back.
    `liveness` is the last transition the leader had replicated. `slots_high` is the largest
    `max_concurrent` it ever had: it may hold more than it has slots only because it shrank.
    `label_names` are its labels as `name=value`: each is a capability too, at full proficiency unless
    `capabilities` has it.
    """

    number: int
    agent_id: str
    epoch: int
    instance_id: str | None
    name: str | None
    endpoint: str | None
    model: str | None
    specialization: str | None
    capabilities: tuple[Capability, ...]
    hardware: Json | None
    performance_targets: Json | None
    labels: Json | None
    metadata: Json | None
    projects: tuple[str, ...]
    max_concurrent: int
    liveness: str
    draining: bool
    registered_at: int
    updated_at: int
    created_at: int
    created_revision: int
    revision: int
    slots_high: int
    label_names: tuple[str, ...] = ()

    def proficiency(self, name: str) -> int:
        """How well it says it does something, in ten-thousandths; -1 when it says nothing of it."""
        for capability in self.capabilities:
            if capability.name == name:
                return capability.proficiency
        return 10_000 if name in self.label_names else -1

    def proficiencies(self) -> Iterator[tuple[str, int]]:
        """Everything it can do, and how well, labels first: what comes later under the same name counts."""
        for label in self.label_names:
            yield label, 10_000
        for capability in self.capabilities:
            yield capability.name, capability.proficiency

    @property
    def provider(self) -> str | None:
        """Who serves its model, by its label `provider`."""
        for label in self.label_names:
            if label.startswith(_PROVIDER):
                return label[len(_PROVIDER) :]
        return None


class Load(msgspec.Struct, array_like=True, gc=False):
    """What an agent holds (offers, running attempts, stopped ones it did not confirm) and how its
    attempts ended.

    `deleted`: the agent is gone, the row goes with the last task it held. `success`, `attempts`,
    `cost_micro` (None: never told) and `learned` are what its attempts taught (`proficiency`).
    """

    held: int = 0
    completed: int = 0
    failed: int = 0
    deleted: bool = False
    success: int = proficiency.PRIOR
    attempts: int = 0
    cost_micro: int | None = None
    learned: bytes = b""


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Agent)
_load_decoder = msgspec.msgpack.Decoder(Load)
_load_key = struct.Struct(">cQ").pack


def get(reader: Reader, number: int) -> Agent | None:
    """The agent of that number."""
    data = reader.get(b"A" + u64(number))
    return None if data is None else _decoder.decode(data)


def find(reader: Reader, agent_id: str) -> Agent | None:
    """The agent of that id."""
    if not 0 < len(agent_id.encode()) <= limits.ID_BYTES_MAX or "\0" in agent_id:
        return None
    number = reader.get(b"a" + name(agent_id))
    return None if number is None else get(reader, from_u64(number))


def put(state: Overlay, agent: Agent) -> None:
    """Write an agent's record."""
    state.put(b"A" + u64(agent.number), _encoder.encode(agent))


def create(state: Overlay, agent: Agent) -> None:
    """Write a new agent."""
    state.put(b"a" + name(agent.agent_id), u64(agent.number))
    put(state, agent)


def remove(state: Overlay, agent: Agent) -> None:
    """Remove an agent; its load stays while it holds something."""
    state.delete(b"a" + name(agent.agent_id))
    state.delete(b"A" + u64(agent.number))
    load = load_of(state, agent.number)
    load.deleted = True
    _put_load(state, agent.number, load)


def load_of(reader: Reader, number: int) -> Load:
    """What the agent of that number holds."""
    data = reader.get(_load_key(b"L", number))
    return Load() if data is None else _load_decoder.decode(data)


def held(state: Overlay, number: int) -> int:
    """How many tasks the agent of that number holds, as `load_of`."""
    load = state.look(_load_key(b"L", number), _load_decoder.decode)
    return 0 if load is None else load.held


def add_load(state: Overlay, number: int, held: int, ended: Ended | None = None) -> None:
    """Add to what an agent holds; `ended` is the attempt by whose end it lets go of a task."""
    key = _load_key(b"L", number)
    load = state.own(key, _load_decoder.decode)
    if load is None:
        load = Load()
        state.put_record(key, load)
    load.held += held
    if ended is not None:
        _learn(load, ended)
    if load.held < 0:
        raise AssertionError(f"agent number {number} would hold {load.held} tasks")
    if load.deleted and not load.held:
        state.delete(key)


def _learn(load: Load, ended: Ended) -> None:
    if ended.completed:
        load.completed += 1
    else:
        load.failed += 1
    load.cost_micro = proficiency.moved_cost(load.cost_micro, ended.cost_micro)
    if ended.succeeded is not None:
        load.attempts += 1
        load.success = proficiency.moved(load.success, succeeded=ended.succeeded)
        load.learned = proficiency.taught(load.learned, ended.task, succeeded=ended.succeeded)


def reset_learned(state: Overlay, number: int, names: tuple[str, ...] | None) -> bool:
    """Forget what an agent's attempts taught about these names, or all of it (None); whether there was anything."""
    load = load_of(state, number)
    before = msgspec.structs.replace(load)
    if names is None:
        load.success, load.attempts, load.cost_micro, load.learned = proficiency.PRIOR, 0, None, b""
    else:
        load.learned = proficiency.without(load.learned, names)
    if load == before:
        return False
    _put_load(state, number, load)
    return True


def _put_load(state: Overlay, number: int, load: Load) -> None:
    if load.deleted and not load.held:
        state.delete(_load_key(b"L", number))
    else:
        state.put(_load_key(b"L", number), _encoder.encode(load))


def scan(reader: Reader, *, after: int = 0, before: int = 1 << 63, reverse: bool = False) -> Iterator[Agent]:
    """Agents with numbers between the two (both excluded), in order of first registration; newest first
    with `reverse`."""
    for _, data in reader.scan(b"A" + u64(after + 1), b"A" + u64(before), reverse=reverse):
        yield _decoder.decode(data)


def scan_loads(reader: Reader) -> Iterator[tuple[int, Load]]:
    """(agent number, load) of every agent that ever held something."""
    for key, data in reader.scan(b"L", end_of(b"L")):
        yield from_u64(key[1:]), _load_decoder.decode(data)


def free_slots(agent: Agent, load: Load) -> int:
    """How many more tasks the agent may be given, over all its projects."""
    return max(0, agent.max_concurrent - load.held)


def status_of(agent: Agent, load: Load) -> str:
    """What API.md shows: `offline`, `unresponsive`, `draining`, `busy` or `online`, the first that holds."""
    shown = counted_status(agent)
    if shown == ONLINE and not free_slots(agent, load):
        return "busy"
    return shown


def counted_status(agent: Agent) -> str:
    """The status that is counted and reported as a change: as `status_of`, but a busy agent is `online`.

    Busy comes and goes with every grant; counting it would cost each of them a write, and watchers a message.
    """
    if agent.liveness != ONLINE:
        return agent.liveness
    return "draining" if agent.draining else ONLINE
