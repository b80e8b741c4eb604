"""Budgets kept a second time, in the plainest way: from what users asked for, and from where tasks are before and after
each command. What the state keeps must be the same, and no grant may have been too much."""

from __future__ import annotations

from dataclasses import dataclass, field

from statemachine import budget_record
from statemachine.commands import Command, DeleteBudget, PutBudget, ResetBudget
from statemachine.outcome import Outcome
from statemachine.store import Reader
from statemachine.task_record import Task

Place = tuple[str, str, str]
"""(project, or nothing for agents; scope, id)."""
Attempt = tuple[str, str, int]
Tasks = dict[tuple[str, str], Task]


@dataclass
class Account:
    """One budget: limits and reserves of (tokens, micro-dollars)."""

    most: tuple[int | None, int | None]
    reserve: tuple[int, int]
    spent: list[int] = field(default_factory=lambda: [0, 0])
    reserved: dict[Attempt, tuple[int, int]] = field(default_factory=dict)

    def sums(self) -> tuple[int, int]:
        return sum(kept[0] for kept in self.reserved.values()), sum(kept[1] for kept in self.reserved.values())

    def check_grant(self, attempt: Attempt) -> None:
        """There must have been room; then it is taken."""
        for most, reserve, spent, reserved in zip(self.most, self.reserve, self.spent, self.sums(), strict=True):
            if most is not None:
                assert spent + reserved < most if reserve == 0 else spent + reserved + reserve <= most
        self.reserved[attempt] = self.reserve


class Ledger:
    """All budgets."""

    def __init__(self) -> None:
        self.accounts: dict[Place, Account] = {}

    def follow(self, project: str, command: Command, outcome: Outcome, before: Tasks, after: Tasks) -> None:
        """What a command did."""
        if outcome.refusal is None and isinstance(command, PutBudget | ResetBudget | DeleteBudget):
            self.set(project, command, outcome.items[0].status)
        for place, was in before.items():
            now = after.get(place)
            if now is not None and now.usage != was.usage:
                used = [new - old for new, old in zip(now.usage, was.usage, strict=True)]
                for account in self.of(was):
                    account.spent = [account.spent[0] + used[0] + used[1], account.spent[1] + used[2]]
            if was.holder_no and (now is None or not now.holder_no):
                for account in self.accounts.values():
                    account.reserved.pop((was.project, was.task_id, was.attempt), None)
        for task in sorted(after.values(), key=lambda one: one.revision):
            known = before.get((task.project, task.task_id))
            if task.holder_no and (known is None or known.attempt != task.attempt):
                for account in self.of(task):
                    account.check_grant((task.project, task.task_id, task.attempt))

    def of(self, task: Task) -> list[Account]:
        """The budgets that apply to a task that somebody has."""
        assert task.agent_id is not None
        places = [(task.project, "project", task.project), ("", "agent", task.agent_id)]
        if task.session_id is not None:
            places.append((task.project, "session", task.session_id))
        return [self.accounts[place] for place in places if place in self.accounts]

    def set(self, project: str, command: PutBudget | ResetBudget | DeleteBudget, status: int) -> None:
        place = "" if command.scope == "agent" else project, command.scope, command.id
        if isinstance(command, DeleteBudget):
            del self.accounts[place]
        elif isinstance(command, ResetBudget):
            self.accounts[place].spent = [0, 0]
        else:
            assert (status == 201) == (place not in self.accounts)
            most, reserve = (command.max_tokens, command.max_cost), (command.reserve_tokens, command.reserve_cost)
            account = self.accounts.setdefault(place, Account(most, reserve))
            account.most, account.reserve = most, reserve

    def compare(self, reader: Reader) -> None:
        """The state has the same."""
        found = {(one.project, one.scope, one.id): one for _, one in budget_record.everything(reader)}
        assert found.keys() == self.accounts.keys()
        for place, account in self.accounts.items():
            budget = found[place]
            assert [budget.tokens, budget.cost] == account.spent
            assert (budget.reserved_tokens, budget.reserved_cost) == account.sums()
            assert budget.tasks == len(account.reserved)
