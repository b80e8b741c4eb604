"""What the keys of the workload promise one after the other: a register, a list, a task that is fought over.

Each model is a step function for `linear.check`: the next state, or None if the operation cannot have shown what it
did. Where an answer leaves something open, the model takes every possibility: it never complains without reason.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any

from tests.nemesis.history import FAILED, OK, REFUSED, UNKNOWN, Op
from tests.nemesis.linear import Call, check

LINES_SHOWN = 12

# --- a register: the metadata of a session, with its revision --------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Register:
    """`exact`: the value has this revision; otherwise a later one that nobody has seen yet."""

    value: str | None
    revision: int
    exact: bool = True


def register_step(state: Register | None, op: Op) -> Register | None:
    """Kinds: create; write {value}; cas {value, if_revision}; read -> {value}."""
    if state is None:
        return Register(None, op.revision, exact=op.outcome == OK) if op.kind == "create" else None
    if op.kind == "read":
        if op.value["value"] != state.value or not _may_have(state, op.value["revision"]):
            return None
        return Register(state.value, op.value["revision"])
    if op.kind == "write" and op.outcome == REFUSED:
        return state  # too many others wrote at the same time
    if op.kind == "cas":
        expected = op.args["if_revision"]
        if op.outcome == REFUSED:
            return None if state.exact and expected == state.revision else state
        if not _may_have(state, expected):
            return None
        state = Register(state.value, expected)
    if not op.revision:
        return Register(op.args["value"], state.revision, exact=False)
    return Register(op.args["value"], op.revision) if op.revision > state.revision else None


def _may_have(state: Register, revision: int) -> bool:
    return revision == state.revision if state.exact else revision > state.revision


# --- a list: the events of a session, appended with expected_seq -----------------------------------------------------


@dataclass(frozen=True, slots=True)
class Events:
    """How many there are, and a digest of them in their order."""

    count: int = 0
    digest: bytes = b""

    def plus(self, value: str) -> Events:
        """With one more."""
        return Events(self.count + 1, hashlib.blake2b(self.digest + value.encode(), digest_size=16).digest())


def events_step(state: Events | None, op: Op) -> Events | None:
    """Kinds: create; append {value, expected_seq} -> {first_seq} or, refused, {last_seq}; read -> {values}."""
    if state is None:
        return Events() if op.kind == "create" else None
    if op.kind == "read":
        shown = Events()
        for value in op.value["values"]:
            shown = shown.plus(value)
        return state if shown == state else None
    matches = op.args["expected_seq"] == state.count
    if op.outcome == REFUSED:
        return state if not matches and op.value["last_seq"] == state.count else None
    if not matches or (op.outcome == OK and op.value["first_seq"] != state.count + 1):
        return None
    return state.plus(op.args["value"])


# --- a task that several agents claim, release and complete ----------------------------------------------------------

OPEN, HELD, RELEASED, DONE = "open", "held", "released", "done"


@dataclass(frozen=True, slots=True)
class Duel:
    """`agent` and `attempt` of the last grant. What is held may become open without anybody's call: leases end."""

    phase: str = OPEN
    attempt: int = 0
    agent: str = ""
    token: str = ""


def duel_step(state: Duel | None, op: Op) -> Duel | None:
    """Kinds: create; claim {agent} -> {attempt}; release, complete {agent, attempt, token}; read -> {status, ...}."""
    if state is None:
        return Duel() if op.kind == "create" else None
    if op.outcome == REFUSED:
        return _refused(state, op)
    if op.kind == "read":
        return _shown(state, op.value)
    agent = op.args["agent"]
    if op.kind == "claim":
        attempt = state.attempt + 1
        if state.phase == DONE or (op.outcome == OK and op.value["attempt"] != attempt):
            return None
        return Duel(HELD, attempt, agent)
    if (state.agent, state.attempt) != (agent, op.args["attempt"]):
        return None
    if op.kind == "release":
        return replace(state, phase=RELEASED) if state.phase in (HELD, RELEASED) else None
    if state.phase == DONE:
        return state  # the same attempt again: it has won already
    return replace(state, phase=DONE, token=op.args["token"]) if state.phase == HELD else None


def _refused(state: Duel, op: Op) -> Duel | None:
    """A refusal shows the task as it was."""
    return state if "status" not in op.value else _shown(state, op.value)


def _shown(state: Duel, seen: dict[str, Any]) -> Duel | None:
    if seen["attempt"] != state.attempt:
        return None
    status = seen["status"]
    if status == "completed":
        token_fits = "token" not in seen or seen["token"] == state.token
        return state if state.phase == DONE and token_fits else None
    if state.phase == DONE:
        return None
    if status == "running":
        return state if state.phase == HELD and seen["agent"] == state.agent else None
    return state if state.phase in (OPEN, RELEASED) else replace(state, phase=OPEN)


# --- all keys --------------------------------------------------------------------------------------------------------

MODELS: dict[str, Callable[[Any, Op], Any]] = {
    "register": register_step,
    "events": events_step,
    "duel": duel_step,
}
"""By the part of a key before its dash."""


def broken_keys(ops: Iterable[Op]) -> list[str]:
    """For every key whose history is not linearizable, why."""
    by_key: dict[str, list[Call[Op]]] = defaultdict(list)
    for op in ops:
        # A read that was not answered showed nothing, and what failed did not happen.
        if op.key.partition("-")[0] in MODELS and op.outcome != FAILED and (op.outcome, op.kind) != (UNKNOWN, "read"):
            unknown = op.outcome == UNKNOWN
            return_s = None if unknown and not op.over else op.return_s
            by_key[op.key].append(Call(op, op.invoke_s, return_s, optional=unknown))
    broken = []
    for key, calls in sorted(by_key.items()):
        verdict = check(calls, None, MODELS[key.partition("-")[0]])
        if verdict.linear is None:
            broken.append(f"{key}: undecided, the search through {len(calls)} calls was given up")
        elif not verdict.linear:
            lines = [f"{key}: not linearizable; the longest order found ends in"]
            lines += [f"    {describe(call.what)}" for call in verdict.order[-LINES_SHOWN:]]
            lines += ["  and none of these can follow:"]
            lines += [f"    {describe(call.what)}" for call in verdict.stuck[:LINES_SHOWN]]
            broken.append("\n".join(lines))
    return broken


def describe(op: Op) -> str:
    """One line."""
    shown = {name: value for name, value in op.value.items() if name != "values"}
    if "values" in op.value:
        shown["values"] = f"{len(op.value['values'])}, the last {op.value['values'][-2:]}"
    return (
        f"{op.invoke_s:.3f}-{op.return_s:.3f} {op.client}@{','.join(op.nodes)} {op.kind} {op.args} -> {op.outcome} "
        f"{op.code} {shown} revision {op.revision}"
    )
