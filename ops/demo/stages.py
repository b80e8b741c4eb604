"""What `explain` must say of a task at each stage of what happens to its agent, and what it said.

A rule looks at a task and its explanation and returns what is wrong with them, or nothing. While something is
under way the rule of the next stage is asked again and again: `Stages.reach` keeps the first right answer, or the last.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from hive_client import Client, Task
from hive_client.models import Explanation

from ops.demo.progress import Progress

# Two of them look all the while until a lease is over, and the nodes have work to do.
LOOK_EVERY_S = 0.1


@dataclass(frozen=True, slots=True)
class Look:
    """A task, and what `explain` said of it just before."""

    task: Task
    explanation: Explanation

    @property
    def codes(self) -> tuple[str, ...]:
        return tuple(reason.code for reason in self.explanation.reasons)

    @property
    def candidates(self) -> tuple[str, ...]:
        """The agents the task could go to; nobody while no leader answers."""
        return tuple(candidate["agent_id"] for candidate in (self.explanation.agents or {}).get("candidates", ()))

    @property
    def filtered(self) -> Mapping[str, int]:
        return dict((self.explanation.agents or {}).get("filtered", {}))


Rule = Callable[[Look], str]


@dataclass(frozen=True, slots=True)
class Stage:
    """What was seen at a stage: `status`, `reasons`, `candidates` and `filtered` as `explain` said, `agent_id` and
    `attempt` as the task said; `wrong` is empty if all this is as it must be."""

    at_s: float
    trial: str
    stage: str
    task_id: str
    status: str
    reasons: tuple[str, ...] = ()
    candidates: tuple[str, ...] = ()
    filtered: Mapping[str, int] = field(default_factory=dict)
    agent_id: str | None = None
    attempt: int = 0
    wrong: str = ""

    @property
    def said(self) -> str:
        """In a few words, what `explain` said."""
        parts = [self.status]
        if self.reasons:
            parts.append(", ".join(self.reasons))
        if self.status in ("assigned", "running", "completed"):
            parts.append(f"with {self.agent_id}, attempt {self.attempt}")
        elif self.candidates:
            parts.append(f"may go to {', '.join(self.candidates)}")
        elif self.filtered:
            parts.append("not to " + ", ".join(f"{count} ({why})" for why, count in self.filtered.items()))
        return "; ".join(parts)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


class StageMissedError(Exception):
    """A stage did not come, or not as it must be; it is in the list of stages."""


class Stages:
    """Looks at tasks and keeps what was seen."""

    def __init__(self, client: Client, progress: Progress) -> None:
        self._client = client
        self._progress = progress
        self.seen: list[Stage] = []

    async def look(self, task_id: str) -> Look:
        """Both as of one revision or later: what the task shows is not older than what was explained."""
        while True:
            before = await self._client.tasks.get(task_id, consistency="linearizable")
            explanation = await self._client.tasks.explain(task_id, min_revision=before.revision)
            after = await self._client.tasks.get(task_id, consistency="linearizable")
            if before.revision == after.revision and explanation.agents is not None:
                return Look(after, explanation)
            await asyncio.sleep(LOOK_EVERY_S)

    async def reach(
        self, trial: str, stage: str, task_id: str, rule: Rule, limit_s: float, until_then: Rule | None = None
    ) -> Look:
        """Look until the rule holds, and at each look before that `until_then`, if given.

        Raises StageMissedError when it does not hold within the time, or as soon as neither does.
        """
        until = time.monotonic() + limit_s
        while True:
            look = await self.look(task_id)
            wrong = rule(look)
            if not wrong or time.monotonic() >= until:
                break
            if until_then is not None and (before := until_then(look)):
                wrong = f"{wrong}; nor is it as it was: {before}"
                break
            await asyncio.sleep(LOOK_EVERY_S)
        self.note(trial, stage, look, wrong)
        return look

    def note(self, trial: str, stage: str, look: Look, wrong: str) -> None:
        """Keep what was seen. Raises StageMissedError if it is wrong."""
        seen = Stage(
            at_s=round(self._progress.elapsed_s, 2),
            trial=trial,
            stage=stage,
            task_id=look.task.task_id,
            status=look.explanation.status,
            reasons=look.codes,
            candidates=look.candidates,
            filtered=look.filtered,
            agent_id=look.task.agent_id,
            attempt=look.task.attempt,
            wrong=wrong,
        )
        self.seen.append(seen)
        self._progress.note(f"{trial}, {stage}: {seen.said}" + (f" WRONG: {wrong}" if wrong else ""))
        if wrong:
            raise StageMissedError(f"{trial}, {stage}: {wrong}")


def all_of(*rules: Rule) -> Rule:
    """The first thing that is wrong by any of them."""
    return lambda look: next((wrong for rule in rules if (wrong := rule(look))), "")


def held_by(agent_id: str, attempt: int | None = None) -> Rule:
    """It is running with this agent (at this attempt), and nothing keeps it from it."""

    def rule(look: Look) -> str:
        task = look.task
        return (
            _differs("status", look.explanation.status, "running")
            or _differs("agent", task.agent_id, agent_id)
            or (attempt is not None and _differs("attempt", task.attempt, attempt))
            or _differs("reasons", look.codes, ())
        )

    return rule


def taken_over_by(agent_id: str, attempt: int) -> Rule:
    """This agent has it under a later attempt than that, or has already done it."""

    def rule(look: Look) -> str:
        if look.task.attempt <= attempt:
            return f"attempt is {look.task.attempt}, not later than {attempt}"
        if look.task.status == "completed":
            return _differs("agent", look.task.agent_id, agent_id) or _differs("reasons", look.codes, ("ended",))
        return held_by(agent_id)(look)

    return rule


def half_done(look: Look) -> str:
    """Its agent has saved its checkpoint."""
    progress = look.task.progress
    return "" if progress is not None and progress.checkpoint is not None else "there is no checkpoint yet"


def resting_after_loss(victim: str, attempt: int) -> Rule:
    """Its lease is over; it rests for a moment, and may then go to others, not to whoever lost it."""

    def rule(look: Look) -> str:
        failure = look.task.failure
        data = look.explanation.reasons[0].data if look.explanation.reasons else {}
        return (
            _differs("status", look.explanation.status, "scheduled")
            or _differs("reasons", look.codes, ("not_before",))
            or _differs("backoff", data.get("backoff"), True)
            or _differs("failure", None if failure is None else failure.reason, "lease_lost")
            or _differs("attempt", look.task.attempt, attempt)
            or (f"{victim} is a candidate, which has just lost the task" if victim in look.candidates else "")
        )

    return rule


def handed_back(victim: str, attempt: int, tries: int) -> Rule:
    """It waits for an agent that is not draining; the try that was handed back does not count any more."""

    def rule(look: Look) -> str:
        return (
            _differs("status", look.explanation.status, "pending")
            or _differs("reasons", look.codes, ("all_draining",))
            or _differs("draining agents", look.filtered.get("draining"), 1)
            or _differs("candidates", look.candidates, ())
            or _differs("agent", look.task.agent_id, None)
            or _differs("attempt", look.task.attempt, attempt)
            or _differs("tries", look.task.tries, tries - 1)
            or half_done(look)
            or _left(look, victim, "pending")
        )

    return rule


def completed_by(agent_id: str, attempt: int, result: Mapping[str, Any]) -> Rule:
    """It has ended well, with this agent and this result."""

    def rule(look: Look) -> str:
        return (
            _differs("status", look.explanation.status, "completed")
            or _differs("reasons", look.codes, ("ended",))
            or _differs("agent", look.task.agent_id, agent_id)
            or _differs("attempt", look.task.attempt, attempt)
            or _differs("result", look.task.result, result)
        )

    return rule


def moved(*path: str, since_attempt: int) -> Rule:
    """From that attempt on, its history went through these states, one after the other."""

    def rule(look: Look) -> str:
        lines = [line for line in look.task.history if line["attempt"] >= since_attempt]
        went = tuple(line["to"] for line in lines)
        return _differs("history", went[-len(path) :], path)

    return rule


def refused(code: str | None, allowed: Sequence[str]) -> str:
    """What is wrong about the answer to a call that must be refused."""
    if code is None:
        return "the call was not refused"
    return "" if code in allowed else f"the call was refused with {code}, not {' or '.join(allowed)}"


def _left(look: Look, agent_id: str, to: str) -> str:
    line = look.task.history[-1]
    return _differs("last transition", (line["from"], line["to"], line["agent_id"]), ("running", to, agent_id))


def _differs(what: str, seen: object, wanted: object) -> str:
    return "" if seen == wanted else f"{what} is {seen!r}, not {wanted!r}"
