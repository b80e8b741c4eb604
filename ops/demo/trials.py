"""What happens to the four agents: one is killed, one paused, one drained, and one registers again under its name.

Each has a survey in hand at that time. A trial goes through the stages of that task; what `explain` must say at each is
in `stages`. A trial that goes wrong ends; the others go on, and so does the demonstration.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hive_client import Client, HiveError, StaleEpoch, TaskFields

from ops.demo import agent, survey
from ops.demo.agents import STAND_IN, VICTIMS, Role, Team
from ops.demo.plan import DRAINED, KILLED, LEASE_MS, PAUSED, REPLACED, TRIALS, plan_survey
from ops.demo.progress import Progress
from ops.demo.recording import recorded_event
from ops.demo.stages import (
    Look,
    Rule,
    Stage,
    StageMissedError,
    Stages,
    all_of,
    completed_by,
    half_done,
    handed_back,
    held_by,
    moved,
    refused,
    resting_after_loss,
    taken_over_by,
)
from ops.demo.survey import count_lines

# How long a stage may take that nothing has to run out for; on a busy machine, with a leader that dies meanwhile.
STAGE_LIMIT_S = 45.0


@dataclass(frozen=True, slots=True)
class Pace:
    """How long the paused agent is stopped at least, and how long leases last: `pause_s` is well over one."""

    pause_s: float = 60.0
    lease_ms: int = LEASE_MS


QUICK = Pace(pause_s=12.0, lease_ms=6_000)


class Trials:
    """The four trials of one run."""

    def __init__(
        self, client: Client, team: Team, progress: Progress, run_id: str, root: Path, paths: Sequence[str], pace: Pace
    ) -> None:
        self._client = client
        self._team = team
        self._progress = progress
        self._pace = pace
        self._stages = Stages(client, progress)
        self._loss_limit_s = 3 * pace.lease_ms / 1000 + STAGE_LIMIT_S
        self.tasks: dict[str, TaskFields] = {
            trial: plan_survey(run_id, trial, paths, team.session_of(VICTIMS[trial]), pace.lease_ms) for trial in TRIALS
        }
        surveyed = next(iter(self.tasks.values()))["payload"]["paths"]
        self._result = {"files": len(surveyed), "lines": count_lines(root, surveyed)}

    @property
    def seen(self) -> list[Stage]:
        return self._stages.seen

    async def run(self, begin: Callable[[], Awaitable[None]]) -> bool:
        """All four at once, after `begin`, while the rest of the work goes on; whether all went as they must."""
        try:
            looks = [await self._at_work(trial) for trial in TRIALS]
        except StageMissedError:
            return False
        await begin()
        trials = (self._killed, self._paused, self._drained, self._replaced)
        ended = await asyncio.gather(
            *(self._guarded(step(look.task.attempt, look.task.tries)) for step, look in zip(trials, looks, strict=True))
        )
        return all(ended)

    async def _guarded(self, trial: Awaitable[None]) -> bool:
        try:
            await trial
        except StageMissedError:
            return False  # it is in the list of stages
        return True

    async def _at_work(self, trial: str) -> Look:
        return await self._reach(trial, "at work", all_of(held_by(VICTIMS[trial].agent_id), half_done))

    async def _killed(self, attempt: int, _tries: int) -> None:
        """SIGKILL: nobody is told. Held until its lease ends, then somebody else's."""
        victim = VICTIMS[KILLED]
        await self._team.excuse(victim).kill()
        await self._lose(KILLED, "SIGKILL, its lease runs on", attempt)

    async def _paused(self, attempt: int, _tries: int) -> None:
        """SIGSTOP, and SIGCONT when it has long lost its task: what it says then comes too late."""
        victim = VICTIMS[PAUSED]
        process = self._team.excuse(victim)
        wake_at = time.monotonic() + self._pace.pause_s
        process.pause()
        try:
            look = await self._lose(PAUSED, "SIGSTOP, its lease runs on", attempt)
            await asyncio.sleep(wake_at - time.monotonic())
        finally:
            process.resume()
        said = await self._event(self._team.session_of(victim), survey.LATE)
        now = await self._stages.look(self._id(PAUSED))
        holder = (said.get("current") or {}).get("agent_id")
        wrong = refused(said.get("code"), ("stale_attempt",))
        wrong = wrong or completed_by(STAND_IN.agent_id, look.task.attempt, self._result)(now)
        if not wrong and holder != STAND_IN.agent_id:
            wrong = f"the refusal names {holder} as the holder, not {STAND_IN.agent_id}"
        self._note(
            PAUSED, f"awake: its acknowledgement of attempt {attempt} is refused, {said.get('code')}", now, wrong
        )

    async def _drained(self, attempt: int, tries: int) -> None:
        """It hands its task back, with the checkpoint and without a try; who replaces it comes after that."""
        victim = VICTIMS[DRAINED]
        await self._client.agents.drain(victim.agent_id)
        rule, held = handed_back(victim.agent_id, attempt, tries), held_by(victim.agent_id, attempt)
        try:
            await self._stages.reach(DRAINED, "handed back", self._id(DRAINED), rule, STAGE_LIMIT_S, held)
        except StageMissedError:
            # The other trials need somebody to go on with their tasks, whatever became of this one.
            await self._team.start(STAND_IN)
            raise
        await self._team.start(STAND_IN)
        look = await self._taken_over(DRAINED, attempt)
        if look.task.tries != tries:
            self._note(DRAINED, "no try was spent", look, f"tries is {look.task.tries}, not {tries}")
        await self._done(DRAINED, STAND_IN, look.task.attempt)
        await self._client.agents.undrain(victim.agent_id)

    async def _replaced(self, attempt: int, _tries: int) -> None:
        """A second process registers under the name: it gets the task at once, and the first one is fenced."""
        victim, trial = VICTIMS[REPLACED], REPLACED
        old = self._team.excuse(victim)
        known = await self._team.wait_registered(self._client, victim)
        await self._team.start(victim, life=2)
        agent_now = await self._team.wait_registered(self._client, victim, after_epoch=known.epoch)
        look = await self._reach(trial, "registered again, at work", taken_over_by(victim.agent_id, attempt))
        self._note(trial, "taken back by the registration, not by the lease", look, _taken_back(look, agent_now.raw))
        code = await self._speak_as(victim, known.epoch, attempt)
        self._note(
            trial, f"epoch {known.epoch} is refused, {code}", look, refused(code, ("stale_epoch", "stale_attempt"))
        )
        told = await self._event(self._team.session_of(victim), agent.REPLACED)
        async with asyncio.timeout(STAGE_LIMIT_S):
            status = await old.wait()
        wrong = refused(told.get("code"), ("stale_epoch",)) or ("" if status == 0 else f"it ended with {status}")
        self._note(trial, f"the first process heard {told.get('code')} and left", look, wrong)
        await self._done(trial, victim, look.task.attempt)

    async def _lose(self, trial: str, what: str, attempt: int) -> Look:
        """From the blow to the end of the task by somebody else."""
        victim = VICTIMS[trial]
        struck_at = time.monotonic()
        look = await self._stages.look(self._id(trial))
        held = held_by(victim.agent_id, attempt)
        self._note(trial, what, look, held(look))
        rule = resting_after_loss(victim.agent_id, attempt)
        look = await self._stages.reach(trial, "lease over", self._id(trial), rule, self._loss_limit_s, held)
        # The last renewal was at most a third of the lease before the blow.
        held_s, least_s = time.monotonic() - struck_at, self._pace.lease_ms / 2000
        if held_s < least_s:
            self._note(trial, "held for its lease", look, f"taken back after {held_s:.1f} s, before {least_s:.1f} s")
        look = await self._taken_over(trial, attempt)
        await self._done(trial, STAND_IN, look.task.attempt)
        return look

    async def _taken_over(self, trial: str, attempt: int) -> Look:
        return await self._reach(trial, "with somebody else", taken_over_by(STAND_IN.agent_id, attempt))

    async def _done(self, trial: str, role: Role, attempt: int) -> None:
        path = all_of(
            completed_by(role.agent_id, attempt, self._result),
            moved("assigned", "running", "completed", since_attempt=attempt),
        )
        await self._reach(trial, "done", path)

    async def _speak_as(self, victim: Role, epoch: int, attempt: int) -> str | None:
        """What the first process would say that does not know it is not wanted any more: code of the refusal."""
        codes: list[str] = []
        task_id = self._id(REPLACED)
        event = recorded_event(task_id, attempt, victim.agent_id)
        try:
            await self._client.agents.heartbeat(victim.agent_id, epoch=epoch)
        except StaleEpoch as error:
            codes.append(error.code)
        try:
            await self._client.tasks.complete(
                task_id, agent_id=victim.agent_id, attempt=attempt, epoch=epoch, result={"late": True}, events=[event]
            )
        except HiveError as error:
            codes.append(error.code)
        return codes[-1] if len(codes) == 2 else None

    async def _event(self, session_id: str, kind: str) -> dict[str, Any]:
        """The data of the first event of a type in a session; nothing if it does not come."""
        until = time.monotonic() + STAGE_LIMIT_S
        while time.monotonic() < until:
            page = await self._client.sessions.events(session_id, types=[kind], wait_ms=1000, limit=1)
            for event in page.items:
                return dict(event.data)
        return {}

    async def _reach(self, trial: str, stage: str, rule: Rule) -> Look:
        return await self._stages.reach(trial, stage, self._id(trial), rule, STAGE_LIMIT_S)

    def _note(self, trial: str, stage: str, look: Look, wrong: str) -> None:
        self._stages.note(trial, stage, look, wrong)

    def _id(self, trial: str) -> str:
        return self.tasks[trial]["task_id"]


def _taken_back(look: Look, agent_now: Any) -> str:
    """Whether the task was taken from the first process in the same step as the second one registered."""
    times = [line["at"] for line in look.task.history if line["reason"] == "lease_lost"]
    registered_at = agent_now["registered_at"]
    return "" if registered_at in times else f"taken back at {times}, registered at {registered_at}"
