"""Guards of queues, keys and waits in the state machine, taken away as in `mutations.py`: the chores show it."""

from __future__ import annotations

from tests.sim.mutations import Change, Mutation

QUEUES = (
    Mutation(
        "a queue takes more than it may",
        (Change("statemachine.queue_limits", "_of_queue", "queue.held >= queue.max_running", "False"),),
    ),
    Mutation(
        "a paused queue goes on",
        (Change("statemachine.queue_limits", "_of_queue", "if queue.paused:", "if False:"),),
    ),
    Mutation(
        "a key keeps nobody out",
        (Change("statemachine.queue_limits", "hindrances", "if len(holders) >= most:", "if False:"),),
    ),
    Mutation(
        "two answers resume a task twice",
        (
            Change(
                "statemachine.task_waits",
                "_resume",
                "task.wait if task.status is TaskState.WAITING else None",
                "task.wait",
            ),
        ),
    ),
    Mutation(
        "an answer that comes early is lost",
        (Change("statemachine.task_waits", "_keep", "[*resumes, early]", "list(resumes)"),),
    ),
    Mutation(
        "a redrive takes what has not failed",
        (
            Change(
                "statemachine.task_redrive",
                "_redrive_some",
                "ctx.state, project_no, TaskState.FAILED,",
                "ctx.state, project_no, TaskState.WAITING,",
            ),
        ),
    ),
)
