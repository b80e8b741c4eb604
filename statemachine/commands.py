"""Every command of the log: its number, its payload. NUMBERS ARE NEVER REUSED, fields are only ever added at
the end.

Times are Unix milliseconds, durations milliseconds, money micro-dollars, ratios ten-thousandths. User JSON is
kept as the bytes the user sent. Ids and random numbers were chosen before the log.

`items` commands decide each item on its own; with `atomic` all or none. Their `Item.numbers` are documented
here: a repeat under the same Idempotency-Key sees them again.
"""

from __future__ import annotations

import msgspec

Json = bytes


class Command(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """A payload."""


# --- projects (1-9) -----------------------------------------------------------------------------------------


class CreateProject(Command, frozen=True):
    """Make the frame's project. Already there: accepted with status 200 and no revision taken."""


# --- sessions (10-19) ---------------------------------------------------------------------------------------


class CreateSession(Command, frozen=True):
    """A new session. The same id and content again: 200 without a revision; other content: `exists`."""

    session_id: str
    title: str | None = None
    agent_id: str | None = None
    user: str | None = None
    priority: int = 5
    expires_at: int | None = None
    metadata: Json | None = None


class UpdateSession(Command, frozen=True):
    """A merge patch: `fields` names what is changed (also to null); `metadata` is the already merged object.

    `if_revision`, when not None, must be the session's revision (the edge sets it when it merged `metadata`,
    and retries by itself; `conflict` otherwise).
    """

    session_id: str
    fields: tuple[str, ...]
    title: str | None = None
    agent_id: str | None = None
    user: str | None = None
    priority: int = 5
    expires_at: int | None = None
    status: str | None = None
    metadata: Json | None = None
    if_revision: int | None = None


class DeleteSession(Command, frozen=True):
    """Remove a session and its events (the events in bounded steps, by a work row)."""

    session_id: str


class NewEvent(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """One event to append. `usage` is (input_tokens, output_tokens, cost in micro-dollars) or None."""

    event_id: str
    type: str
    data: Json | None = None
    actor: str | None = None
    correlation_id: str | None = None
    causation_id: str | None = None
    occurred_at: int | None = None
    usage: tuple[int, int, int] | None = None
    artifacts: Json | None = None


class AppendEvents(Command, frozen=True):
    """Append events atomically under one revision. `Item.numbers` = (first_seq, last_seq)."""

    session_id: str
    events: tuple[NewEvent, ...]
    expected_seq: int | None = None


class ExpireSessions(Command, frozen=True):
    """Leader: these sessions' `expires_at` has come. What no longer holds is passed over."""

    session_ids: tuple[str, ...]


class EndedSession(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """A session as the leader believed it to be; passed over if it was changed since."""

    session_id: str
    project: str
    revision: int


class RemoveEndedSessions(Command, frozen=True):
    """Leader: these sessions ended so long ago that they need not be kept. What no longer holds is passed over."""

    items: tuple[EndedSession, ...]


# --- tasks: users (20-39) -----------------------------------------------------------------------------------


class Requirement(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """A capability a task needs; `min_proficiency` in ten-thousandths."""

    name: str
    min_proficiency: int = 0


class Backoff(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """Delay before attempt n+1: initial * factor^(n-1), at most max, plus or minus jitter. Ratios in
    ten-thousandths."""

    initial_ms: int = 1_000
    factor: int = 20_000
    max_ms: int = 60_000
    jitter: int = 2_000


class PathLock(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """A lock on the paths that a pattern (`globs`) matches."""

    path: str
    exclusive: bool = True


class NewTask(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """A task as submitted. `not_before`/`deadline` are absolute; when the user gave the relative twins
    (`delay_ms`, `deadline_in_ms`) they are added to the entry's time by the handler."""

    task_id: str
    queue: str = "default"
    type: str = "task"
    title: str | None = None
    description: str | None = None
    payload: Json | None = None
    priority: int = 5
    requires: tuple[Requirement, ...] = ()
    labels: Json | None = None
    depends_on: tuple[str, ...] = ()
    on_dependency_failure: str = "block"
    group_id: str | None = None
    not_before: int | None = None
    delay_ms: int | None = None
    deadline: int | None = None
    deadline_in_ms: int | None = None
    expires_unstarted_ms: int | None = None
    run_timeout_ms: int | None = None
    lease_ms: int = 60_000
    max_attempts: int = 3
    backoff: Backoff = Backoff()
    unique_key: str | None = None
    concurrency_key: str | None = None
    session_id: str | None = None
    metadata: Json | None = None
    locks: tuple[PathLock, ...] = ()


class SubmitTasks(Command, frozen=True):
    """New tasks; items may depend on each other in any order.

    Item: 201 created; 200 the same id and content again, or `unique_key` held by a task that has not ended
    (`resource_id` is then that task's id).
    """

    items: tuple[NewTask, ...]
    atomic: bool = False


class UpdateTask(Command, frozen=True):
    """PATCH: `fields` names what is changed. `labels`/`metadata` are already merged objects."""

    task_id: str
    fields: tuple[str, ...]
    priority: int = 5
    labels: Json | None = None
    metadata: Json | None = None
    deadline: int | None = None
    not_before: int | None = None
    queue: str = "default"
    if_revision: int | None = None


class CancelTask(Command, frozen=True):
    """Cancel; again: 200; ended otherwise: `conflict`. Slot and locks are freed by `release` or the lease's
    end."""

    task_id: str


class CancelGroup(Command, frozen=True):
    """Cancel every task of a group that has not ended; in bounded steps by a work row. numbers = (cancelled
    now,)."""

    group_id: str


class RetryTask(Command, frozen=True):
    """Redrive one `failed` task: pending again with its tries reset."""

    task_id: str


class RetryTasks(Command, frozen=True):
    """Redrive tasks that have `failed` before now, oldest first, in bounded steps by a work row; None filters
    nothing. `rate_per_second` at once, as many again each second. numbers = (redriven now, 1 if more may follow)."""

    queue: str | None = None
    reason: str | None = None
    group_id: str | None = None
    limit: int = 1_000
    rate_per_second: int = 1_000


class Resumption(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """An answer for a task that waits, or will wait, for `name`; None: whatever it waits for now."""

    task_id: str
    name: str | None = None
    data: Json | None = None
    actor: str | None = None


class ResumeTasks(Command, frozen=True):
    """waiting -> pending. An answer before its wait is kept for it. The same answer again: 200."""

    items: tuple[Resumption, ...]


class UpdateQueue(Command, frozen=True):
    """Settings of a queue: `fields` names those that are set, None lifts a limit. The first makes the queue's record.

    `rate_milli` in thousandths of a grant per second; `max_running_per_key`: how many tasks with one
    `concurrency_key` may be with agents.
    """

    queue: str
    fields: tuple[str, ...]
    paused: bool = False
    max_running: int | None = None
    rate_milli: int | None = None
    max_running_per_key: int = 1
    if_revision: int | None = None


class AssignTask(Command, frozen=True):
    """By hand: offer a pending task to this agent, or `agent_unavailable` with why. numbers = (attempt,)."""

    task_id: str
    agent_id: str
    offer_timeout_ms: int = 5_000


# --- tasks: agents (40-59) ----------------------------------------------------------------------------------


class ClaimTasks(Command, frozen=True):
    """Grant these tasks at once to the agent (`running`, attempt raised), as many as still are pending and
    fit its free slots; chosen by the leader, or named by the user (`named`: then a task that can not be
    granted is refused with `conflict` and `current`; a `failed` or requeued task may be claimed back by name
    while it has not ended).

    Items in order of `task_ids`: numbers = (attempt,); tasks that were passed over have status 0 and no
    refusal.
    """

    agent_id: str
    epoch: int
    task_ids: tuple[str, ...]
    named: bool = False
    lease_ms: int | None = None


class Held(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """A task an agent says it holds."""

    task_id: str
    attempt: int


class AcceptTasks(Command, frozen=True):
    """Take offers: assigned -> running. For the holder of a running attempt a 200 that changes nothing."""

    agent_id: str
    items: tuple[Held, ...]
    epoch: int | None = None


class Completion(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """The end of an attempt that succeeded; follow-up tasks and session events ride in the same apply
    step."""

    task_id: str
    attempt: int
    result: Json | None = None
    artifacts: Json | None = None
    usage: tuple[int, int, int] | None = None
    tasks: tuple[NewTask, ...] = ()
    events: tuple[tuple[str, NewEvent], ...] = ()


class CompleteTasks(Command, frozen=True):
    """Repeating what this attempt already won: 200, nothing changes."""

    agent_id: str
    items: tuple[Completion, ...]
    epoch: int | None = None


class Failure(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """The end of an attempt that failed. `random` (0 to 2^32-1) feeds the jitter of the back-off."""

    task_id: str
    attempt: int
    reason: str
    message: str
    retryable: bool
    usage: tuple[int, int, int] | None
    random: int


class FailTasks(Command, frozen=True):
    """Fail attempts: `scheduled` for the next one while attempts are left and it is retryable, else
    `failed`."""

    agent_id: str
    items: tuple[Failure, ...]
    epoch: int | None = None


class Release(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """Give a task back, or decline an offer; the try is not counted. May hand back a checkpoint."""

    task_id: str
    attempt: int
    checkpoint: Json | None = None
    message: str | None = None


class ReleaseTasks(Command, frozen=True):
    """Back to pending; also confirms a cancellation."""

    agent_id: str
    items: tuple[Release, ...]
    epoch: int | None = None


class Checkpoint(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """Progress that must last. `fraction` in ten-thousandths."""

    task_id: str
    attempt: int
    fraction: int | None
    message: str | None
    checkpoint: Json | None


class CheckpointTasks(Command, frozen=True):
    """Progress with a checkpoint: replicated, seen by the next attempt."""

    agent_id: str
    items: tuple[Checkpoint, ...]
    epoch: int | None = None


class Park(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """What an attempt waits for (`kind`: approval, event, time), and what shall happen when nothing comes within
    `timeout_ms` (`on_timeout`: resume, fail, cancel). `options` is a JSON array."""

    task_id: str
    attempt: int
    kind: str
    name: str
    prompt: str | None = None
    options: Json | None = None
    assignee: str | None = None
    checkpoint: Json | None = None
    timeout_ms: int | None = None
    on_timeout: str = "resume"
    usage: tuple[int, int, int] | None = None


class ParkTasks(Command, frozen=True):
    """Park running tasks: no slot, no lease clock, the try not counted. With its answer kept already: pending."""

    agent_id: str
    items: tuple[Park, ...]
    epoch: int | None = None


# --- tasks: the leader's decisions (60-79) ------------------------------------------------------------------


class Believed(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """A task as the leader believed it to be when it decided; passed over if it no longer is."""

    task_id: str
    project: str
    attempt: int
    status: str


class Offer(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """Assign a pending task (at this attempt, before the raise) to an agent at this epoch."""

    task_id: str
    project: str
    attempt: int
    agent_id: str
    epoch: int


class OfferTasks(Command, frozen=True):
    """pending -> assigned, attempt raised. numbers = (new attempt,); passed over: status 0."""

    items: tuple[Offer, ...]
    offer_timeout_ms: int = 5_000


class WithdrawOffers(Command, frozen=True):
    """assigned -> pending: not accepted in time; no try counted. The agent is avoided by the next offer."""

    items: tuple[Believed, ...]


class ExpireLeases(Command, frozen=True):
    """running -> next attempt or failed (`lease_lost`), or `cancelled` confirmed for cancelled ones."""

    items: tuple[Believed, ...]
    randoms: tuple[int, ...]


class ExpireRuns(Command, frozen=True):
    """running past `run_timeout_ms` -> next attempt or failed (`timeout`)."""

    items: tuple[Believed, ...]
    randoms: tuple[int, ...]


class WakeTasks(Command, frozen=True):
    """scheduled -> pending where the time has come (checked against the entry's time)."""

    count_max: int = 256


class ExpireTasks(Command, frozen=True):
    """Not ended past `deadline`, or not started within `expires_unstarted_ms` -> expired (failure:
    `never_started` for the latter). Checked against the entry's time."""

    items: tuple[Believed, ...]


class EndWaits(Command, frozen=True):
    """waiting past `timeout_ms` -> what its `on_timeout` says. Checked against the entry's time."""

    items: tuple[Believed, ...]


class RemoveEndedTasks(Command, frozen=True):
    """Tasks that ended so long ago that they need not be kept, and on which nothing depends that may still run."""

    items: tuple[Believed, ...]


class DoWork(Command, frozen=True):
    """Drain work rows: at most `limits.SIDE_EFFECTS_MAX` effects."""


# --- agents (80-99) -----------------------------------------------------------------------------------------


class Capability(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """`proficiency` in ten-thousandths."""

    name: str
    proficiency: int = 10_000


class RegisterAgent(Command, frozen=True):
    """201 and a new epoch, or 200 and the same epoch for the same `instance_id`. numbers = (epoch,).

    `agent` fields are replaced. What was held under the old epoch is requeued at once. `label_names` are its
    labels as `name=value`, by which tasks may ask for it.
    """

    agent_id: str
    name: str | None = None
    endpoint: str | None = None
    model: str | None = None
    specialization: str | None = None
    capabilities: tuple[Capability, ...] = ()
    hardware: Json | None = None
    performance_targets: Json | None = None
    labels: Json | None = None
    projects: tuple[str, ...] = ()
    max_concurrent: int = 1
    instance_id: str | None = None
    metadata: Json | None = None
    label_names: tuple[str, ...] = ()


class DrainAgent(Command, frozen=True):
    """`draining` on or off."""

    agent_id: str
    draining: bool


class DeleteAgent(Command, frozen=True):
    """Remove an agent; what it holds is requeued at once."""

    agent_id: str


class AgentBelieved(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """An agent as the leader believed it to be."""

    agent_id: str
    epoch: int
    liveness: str


class SetAgentLiveness(Command, frozen=True):
    """Leader: agents became `online`, `unresponsive` or `offline` (the transition is replicated, heartbeats
    are not)."""

    items: tuple[AgentBelieved, ...]
    liveness: str


class RequeueAgentWork(Command, frozen=True):
    """Leader: offers to agents that are gone go back to pending; running attempts wait for their leases."""

    items: tuple[AgentBelieved, ...]


class ResetLearned(Command, frozen=True):
    """Forget what the agent's attempts taught about these names; None: about everything."""

    agent_id: str
    names: tuple[str, ...] | None = None


# --- schedules (100-109) ------------------------------------------------------------------------------------


class Definition(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """What a user says of a schedule: `cron` in `timezone`, or `every_ms` from `starts_at` (or 1970) on. `task` is made
    at each run; its id is empty here."""

    task: NewTask
    cron: str | None = None
    every_ms: int | None = None
    timezone: str = "UTC"
    overlap: str = "skip"
    missed_runs: str = "skip"
    starting_deadline_ms: int | None = None
    starts_at: int | None = None
    ends_at: int | None = None
    paused: bool = False
    metadata: Json | None = None


class CreateSchedule(Command, frozen=True):
    """A new schedule, its first run reckoned before the log. The same id and content again: 200 without a revision;
    other content: `exists`."""

    schedule_id: str
    definition: Definition
    next_run_at: int | None


class UpdateSchedule(Command, frozen=True):
    """The whole definition anew, made of the one of `base_revision` (`conflict` when there is another meanwhile).
    `next_run_at` counts when the times of the runs changed. None: the edge did not see the schedule."""

    schedule_id: str
    definition: Definition | None
    next_run_at: int | None
    base_revision: int
    if_revision: int | None = None


class DeleteSchedule(Command, frozen=True):
    """Remove a schedule; the tasks it made stay."""

    schedule_id: str


class TriggerSchedule(Command, frozen=True):
    """A run now, also of a paused schedule. `overlap` instead of the schedule's own. The item is that of the task."""

    schedule_id: str
    overlap: str | None = None


class FireSchedule(Command, frozen=True):
    """Leader: the run due at `run_ms` (None: none), after `missed` earlier ones that are not made up for. Passed over
    (status 0) unless the schedule has this definition and waits for `due_ms`; afterwards it waits for `next_ms`."""

    schedule_id: str
    definition_revision: int
    due_ms: int
    run_ms: int | None
    missed: int
    next_ms: int | None


# --- budgets (110-119) ---------------------------------------------------------------------------------------


class PutBudget(Command, frozen=True):
    """The limits of a budget anew; the first makes it. `scope`: `project`, `session` or `agent`. Costs in
    micro-dollars, a maximum of None is no limit; `reserve_*` is set aside with each grant. The same again: 200 without
    a revision. `if_revision`: 0 where there is none yet."""

    scope: str
    id: str
    max_tokens: int | None = None
    max_cost: int | None = None
    reserve_tokens: int = 0
    reserve_cost: int = 0
    if_revision: int | None = None


class ResetBudget(Command, frozen=True):
    """A new period: nothing is spent. What is reserved stays."""

    scope: str
    id: str


class DeleteBudget(Command, frozen=True):
    """Remove a budget: nothing limits any more."""

    scope: str
    id: str


# --- members of the cluster (90-99) -------------------------------------------------------------------------


class Founder(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """A member the cluster was started with: a voter from the beginning."""

    node_id: str
    peer_address: str


class FoundMembers(Command, frozen=True):
    """Leader: the start-up list becomes the membership. Only the first of these does anything."""

    founders: tuple[Founder, ...]


class AddMember(Command, frozen=True):
    """A new member, which learns first. There with the same addresses: 200; `exists`, or `id_used` for ever."""

    node_id: str
    peer_address: str
    http_address: str


class PromoteMember(Command, frozen=True):
    """A learner becomes a voter. A voter stays one: 200."""

    node_id: str


class RemoveMember(Command, frozen=True):
    """A member goes, and its id is never used again: a voter in two steps, of which the leader makes the second.
    Gone already: 200. The last voter stays: `quorum_at_risk`."""

    node_id: str


class UpdateMember(Command, frozen=True):
    """Other addresses of a member; None leaves one as it is."""

    node_id: str
    peer_address: str | None = None
    http_address: str | None = None


class PinJournal(Command, frozen=True):
    """Leader: the member was met with this journal (16 bytes). It is refused with any other from now on:
    `conflict`."""

    node_id: str
    journal_id: bytes
    http_address: str


# --- settings (120-129) -------------------------------------------------------------------------------------


class UpdateSettings(Command, frozen=True):
    """Set some replicated settings (`settings.SETTINGS`), by name; None: back to the default."""

    values: tuple[tuple[str, int | None], ...]
    if_revision: int | None = None


COMMANDS: dict[int, type[Command]] = {
    1: CreateProject,
    10: CreateSession,
    11: UpdateSession,
    12: DeleteSession,
    13: AppendEvents,
    14: ExpireSessions,
    15: RemoveEndedSessions,
    20: SubmitTasks,
    21: UpdateTask,
    22: CancelTask,
    23: CancelGroup,
    24: RetryTask,
    25: AssignTask,
    26: RetryTasks,
    27: ResumeTasks,
    28: UpdateQueue,
    40: ClaimTasks,
    41: AcceptTasks,
    42: CompleteTasks,
    43: FailTasks,
    44: ReleaseTasks,
    45: CheckpointTasks,
    46: ParkTasks,
    60: OfferTasks,
    61: WithdrawOffers,
    62: ExpireLeases,
    63: ExpireRuns,
    64: WakeTasks,
    65: ExpireTasks,
    66: DoWork,
    67: EndWaits,
    68: RemoveEndedTasks,
    80: RegisterAgent,
    81: DrainAgent,
    82: DeleteAgent,
    83: SetAgentLiveness,
    84: RequeueAgentWork,
    85: ResetLearned,
    90: FoundMembers,
    91: AddMember,
    92: PromoteMember,
    93: RemoveMember,
    94: UpdateMember,
    95: PinJournal,
    100: CreateSchedule,
    101: UpdateSchedule,
    102: DeleteSchedule,
    103: TriggerSchedule,
    104: FireSchedule,
    110: PutBudget,
    111: ResetBudget,
    112: DeleteBudget,
    120: UpdateSettings,
}

NUMBERS: dict[type[Command], int] = {kind: number for number, kind in COMMANDS.items()}

CLUSTER_SCOPED = frozenset(
    {OfferTasks, WithdrawOffers, ExpireLeases, ExpireRuns, WakeTasks, ExpireTasks, DoWork}
    | {EndWaits, RemoveEndedTasks, RemoveEndedSessions}
    | {RegisterAgent, DrainAgent, DeleteAgent, SetAgentLiveness, RequeueAgentWork, ResetLearned, UpdateSettings}
    | {FoundMembers, AddMember, PromoteMember, RemoveMember, UpdateMember, PinJournal}
)
"""Commands that live in no single project: they name the project of each item, or concern the cluster."""

MEMBERSHIP = frozenset({FoundMembers, AddMember, PromoteMember, RemoveMember, UpdateMember, PinJournal})
"""Commands that only the leader's own membership rules may put into the log, in an entry of their own."""

PROJECT_CREATING = frozenset(
    {CreateProject, CreateSession, AppendEvents, SubmitTasks, UpdateQueue, CreateSchedule, PutBudget}
)
"""Writes that may create their project on first use."""

VERSION = 1
"""The version of every payload. A command whose meaning changes gets a new version; old ones are applied for
ever."""

_encoder = msgspec.msgpack.Encoder()
_decoders = {number: msgspec.msgpack.Decoder(kind) for number, kind in COMMANDS.items()}


def is_membership(number: int) -> bool:
    """Whether a command of that number changes the membership."""
    return COMMANDS.get(number) in MEMBERSHIP


def is_known(number: int, version: int) -> bool:
    """Whether this version of Hive can apply such a command."""
    return number in COMMANDS and version == VERSION


def encode(command: Command) -> bytes:
    """The payload's bytes."""
    return _encoder.encode(command)


def decode(number: int, payload: msgspec.Raw) -> Command:
    """The command of that number. KeyError for an unknown number, msgspec.DecodeError for bytes that do not
    fit."""
    return _decoders[number].decode(payload)
