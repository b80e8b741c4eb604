"""Guards of queues, keys, waits, locks and budgets, taken away as in `mutations.py`: the chores show it."""

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
    Mutation(
        "locks keep nobody out",
        (Change("statemachine.queue_limits", "hindrances", "if task.locks:", "if False:"),),
    ),
    Mutation(
        "a task that waits loses its locks",
        (Change("statemachine.path_locks", "holds", "task.wait is not None and", "False and"),),
    ),
    Mutation(
        "shared locks do not mind exclusive ones",
        (
            Change(
                "statemachine.path_locks", "conflicts", "exclusive or lock.exclusive", "exclusive and lock.exclusive"
            ),
        ),
    ),
    Mutation(
        "tasks are granted without budget",
        (Change("statemachine.queue_limits", "hindrances", "if budgeted:", "if False:"),),
    ),
    Mutation(
        "an agent without budget is given more",
        (Change("statemachine.budgets", "shortage_of_agent", "and budget.room == 0", "and False"),),
    ),
    Mutation(
        "what is set aside is not counted",
        (Change("statemachine.budget_record", "Unit.room", "- self.reserved", ""),),
    ),
    Mutation(
        "what is set aside is never given back",
        (Change("statemachine.budgets", "give_back", "budget.reserved_tokens -= kept.tokens", "pass"),),
    ),
    Mutation(
        "another budget of the name is given it back",
        (Change("statemachine.budgets", "give_back", "or budget.created_revision != kept.created_revision", ""),),
    ),
    Mutation(
        "what an attempt cost is charged to nobody",
        (Change("statemachine.budgets", "charge", "budget.cost + usage[2]", "budget.cost"),),
    ),
    Mutation(
        "nobody is told that a budget is used up",
        (Change("statemachine.budgets", "_write", "if exceeded == exceeded_before:", "if exceeded:"),),
    ),
)
