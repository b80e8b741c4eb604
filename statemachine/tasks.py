"""Tasks: which function handles which command. The states and verbs are pictured in DESIGN.md.

`task_states` is the table of transitions, `task_record` the record, `task_rows` its index rows, `task_store` writes
it with all of them; `task_submit`, `task_edits`, `task_grants`, `task_verbs`, `task_timers` are the verbs by who
uses them; `task_waits` parks and resumes, `task_redrive` begins failed ones anew, `task_removal` is retention;
`task_dependencies` and `task_requeue` what follows from them; `task_queries` is for readers.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from statemachine import (
    task_edits,
    task_grants,
    task_redrive,
    task_removal,
    task_submit,
    task_timers,
    task_verbs,
    task_waits,
)
from statemachine.commands import (
    AcceptTasks,
    AssignTask,
    CancelGroup,
    CancelTask,
    CheckpointTasks,
    ClaimTasks,
    Command,
    CompleteTasks,
    EndWaits,
    ExpireLeases,
    ExpireRuns,
    ExpireTasks,
    FailTasks,
    OfferTasks,
    ParkTasks,
    ReleaseTasks,
    RemoveEndedTasks,
    ResumeTasks,
    RetryTask,
    RetryTasks,
    SubmitTasks,
    UpdateTask,
    WakeTasks,
    WithdrawOffers,
)
from statemachine.context import Context
from statemachine.outcome import Outcome

HANDLERS: dict[type[Command], Callable[[Context, Any], Outcome]] = {
    SubmitTasks: task_submit.submit_tasks,
    UpdateTask: task_edits.update_task,
    CancelTask: task_edits.cancel_task,
    CancelGroup: task_edits.cancel_group,
    RetryTask: task_redrive.retry_task,
    RetryTasks: task_redrive.retry_tasks,
    ResumeTasks: task_waits.resume_tasks,
    AssignTask: task_grants.assign_task,
    ClaimTasks: task_grants.claim_tasks,
    OfferTasks: task_grants.offer_tasks,
    AcceptTasks: task_verbs.accept_tasks,
    CheckpointTasks: task_verbs.checkpoint_tasks,
    CompleteTasks: task_verbs.complete_tasks,
    FailTasks: task_verbs.fail_tasks,
    ReleaseTasks: task_verbs.release_tasks,
    ParkTasks: task_verbs.park_tasks,
    WithdrawOffers: task_timers.withdraw_offers,
    ExpireLeases: task_timers.expire_leases,
    ExpireRuns: task_timers.expire_runs,
    WakeTasks: task_timers.wake_tasks,
    ExpireTasks: task_timers.expire_tasks,
    EndWaits: task_timers.end_waits,
    RemoveEndedTasks: task_removal.remove_ended_tasks,
}
