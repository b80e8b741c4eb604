"""Sessions without budget: passed over as a whole until something about their budget changes.

A closed flow has no place in any lane and its runs are not read on, so thousands of such sessions with any number of
tasks cost a pass nothing. Its tasks with a concurrency key go back to the state, for in a lane they would hide others
of their key; when there is budget again they are read by the key.
"""

from __future__ import annotations

from collections.abc import Callable

from node.duties.budget_gate import BudgetGate
from node.duties.concurrency import ConcurrencyKeys
from node.duties.fairness import Fairness, Flow
from node.duties.lanes import PendingTask
from node.duties.runs import Runs


class ClosedSessions:
    """`drop` takes a task out of its lane."""

    def __init__(
        self,
        budgets: BudgetGate,
        fairness: Fairness,
        runs: Runs,
        keys: ConcurrencyKeys,
        drop: Callable[[PendingTask], None],
    ) -> None:
        self._budgets = budgets
        self._fairness = fairness
        self._runs = runs
        self._keys = keys
        self._drop = drop

    def clear(self) -> None:
        """Nothing is closed any more, and no budget is known."""
        self._budgets.clear()
        self._fairness.reopen()

    def admits(self, flow: Flow) -> bool:
        """Whether the next task of the flow may be given away in this pass; if not, the flow is closed."""
        if not self._budgets or self._budgets.admits(flow):
            return True
        flow.closed = True
        for run in self._runs.of_flow(flow):
            self._runs.close(run)
        for task in self._runs.keyed(flow):
            self.keep_back(task)
        return False

    def keep_back(self, task: PendingTask) -> None:
        """Leave a task of a closed flow that has a concurrency key in the state. Again: nothing happens."""
        if task.strand is not None and task.concurrency_key is not None and not task.reserved:
            task.strand.run.flow.kept_keys[task.concurrency_key] = None
            self._drop(task)

    def keeps(self, project: str, session: str, key: str) -> bool:
        """Whether tasks of the session with this concurrency key are to be left in the state for now."""
        flow = self._fairness.known(project, session)
        if flow is None or not flow.closed:
            return False
        flow.kept_keys[key] = None
        return True

    def decided(self, flow: Flow) -> None:
        """A task of the flow is on its way to nobody any more: what it took of budgets is free, or in the state."""
        self._budgets.reserve(flow, -1)
        self._reopen(flow)

    def reopen(self, project: str, session: str) -> None:
        """The session may have budget again: the next pass looks. Harmless when it was not closed."""
        flow = self._fairness.known(project, session)
        if flow is not None:
            self._reopen(flow)

    def _reopen(self, flow: Flow) -> None:
        if not flow.closed:
            return
        flow.closed = False
        for key in flow.kept_keys:
            self._keys.read_again((flow.share.project, key))
        flow.kept_keys.clear()
        for run in self._runs.of_flow(flow):
            self._runs.reopen(run)
        self._runs.push(flow)
