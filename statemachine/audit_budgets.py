"""The invariants of budgets: what is reserved is what held tasks say, whatever path they took."""

from __future__ import annotations

from collections import Counter

from statemachine import budget_record, counters, limits, machine, projects
from statemachine.audit_tasks import Tasks
from statemachine.budget_record import AGENT, PROJECT, SCOPES, Budget
from statemachine.context import CLUSTER
from statemachine.store import Reader

Place = tuple[int, str, str]
"""(project number, scope, id)."""


def check(reader: Reader, tasks: Tasks, faults: list[str]) -> None:
    """Keys, values, counts, and what is reserved, recounted from the tasks."""
    found: dict[Place, Budget] = {}
    for key, budget in budget_record.everything(reader):
        found[budget.project_no, budget.scope, budget.id] = budget
        if budget.scope not in SCOPES or key != budget_record.key(budget.project_no, budget.scope, budget.id):
            faults.append(f"budget {budget.name} lies under the key of another")
        faults.extend(f"budget {budget.name}: {fault}" for fault in _faults_of(reader, budget))
    if machine.read_meta(reader).budgets != len(found):
        faults.append(f"there are {len(found)} budgets; meta says {machine.read_meta(reader).budgets}")
    _check_reserved(tasks, found, faults)
    _check_counters(reader, found, faults)


def _faults_of(reader: Reader, budget: Budget) -> list[str]:
    project = projects.get(reader, budget.project_no)
    owner = "" if project is None else project.name
    numbers = (budget.input_tokens, budget.output_tokens, budget.cost, budget.reserve_tokens, budget.reserve_cost)
    most = [unit.most for unit in budget.units if unit.most is not None]
    rules = {
        "belongs to no project": budget.project == owner and (budget.project_no == CLUSTER) == (budget.scope == AGENT),
        "of another project": budget.scope != PROJECT or budget.id == budget.project,
        "impossible numbers": min(numbers) >= 0 and max(budget.input_tokens, budget.cost) <= limits.BUDGET_SUM_MAX,
        "impossible limits": all(0 <= one <= limits.BUDGET_MAX for one in most),
        "reserves more than there is": all(unit.most is None or unit.reserve <= unit.most for unit in budget.units),
        "revisions run backwards": budget.created_revision <= budget.revision,
    }
    return [fault for fault, holds in rules.items() if not holds]


def _check_reserved(tasks: Tasks, found: dict[Place, Budget], faults: list[str]) -> None:
    sums: dict[Place, Counter[str]] = {}
    for task in tasks.values():
        if task.reserved and not task.holder_no:
            faults.append(f"task {task.task_id} is held by nobody, and {task.reserved} is reserved for it")
        for kept in task.reserved:
            place = CLUSTER if kept.scope == AGENT else task.project_no, kept.scope, kept.id
            budget = found.get(place)
            if budget is not None and budget.created_revision == kept.created_revision:
                sums.setdefault(place, Counter()).update(tokens=kept.tokens, cost=kept.cost, tasks=1)
    for place, budget in found.items():
        wanted = sums.get(place, Counter())
        if (budget.reserved_tokens, budget.reserved_cost, budget.tasks) != (
            wanted["tokens"],
            wanted["cost"],
            wanted["tasks"],
        ):
            faults.append(f"budget {budget.name} reserves {budget} where held tasks have {dict(wanted)}")


def _check_counters(reader: Reader, found: dict[Place, Budget], faults: list[str]) -> None:
    wanted: Counter[tuple[int, str]] = Counter()
    for (project_no, scope, _), budget in found.items():
        wanted[project_no, f"budgets.{scope}"] += 1
        wanted[project_no, f"budgets_exceeded.{scope}"] += int(budget.exceeded)
    counted = {
        (project_no, name): count
        for project_no, counts in counters.scan(reader)
        for name, count in counts.items()
        if count and name.startswith(("budgets.", "budgets_exceeded."))
    }
    if counted != {place: count for place, count in wanted.items() if count}:
        faults.append(f"counters of budgets: {counted} where there are {dict(wanted)}")
