"""``client.budgets``: what a project, a session or an agent may spend, in tokens and in money."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from typing import Literal, Unpack

from hive_client.calls import Calls, segment, without_none
from hive_client.models.budgets import Budget, BudgetScope
from hive_client.models.cluster import Document
from hive_client.models.record import Page
from hive_client.options import ReadOptions, WriteOptions
from hive_client.paging import every_item


class Budgets:
    """Budgets: `client.budgets`. Who has none left is given no task until it is raised or reset; nothing fails.

    A project's budget goes by the project's name, and is for a client of that project. Agents belong to no project. A
    budget may be there before what it is of.
    """

    def __init__(self, calls: Calls) -> None:
        self._calls = calls

    async def put(
        self,
        scope: BudgetScope,
        budget_id: str,
        *,
        max_tokens: int | None = None,
        max_cost_usd: float | None = None,
        reserve_tokens: int = 0,
        reserve_cost_usd: float = 0.0,
        if_revision: int | None = None,
        **options: Unpack[WriteOptions],
    ) -> Budget:
        """Set all of its limits; None does not limit. ``reserve_*`` is set aside for each task while an agent holds it.
        ``if_revision``: raises ``Conflict`` if the limits were changed since; 0: if there is one already.
        """
        body = without_none(
            max_tokens=max_tokens,
            max_cost_usd=max_cost_usd,
            reserve_tokens=reserve_tokens,
            reserve_cost_usd=reserve_cost_usd,
            if_revision=if_revision,
        )
        return Budget.from_reply(await self._calls.write("PUT", _path(scope, budget_id), body, options))

    async def get(self, scope: BudgetScope, budget_id: str, **options: Unpack[ReadOptions]) -> Budget:
        """Raises ``NotFound`` where there is no budget."""
        return Budget.from_reply(await self._calls.read(_path(scope, budget_id), None, options))

    async def list(
        self,
        *,
        scope: str | Iterable[str] | None = None,
        exceeded: bool | None = None,
        limit: int | None = None,
        cursor: str | None = None,
        order: Literal["asc", "desc"] = "asc",
        **options: Unpack[ReadOptions],
    ) -> Page[Budget]:
        """By scope and id: the project's, its sessions', and those of all agents."""
        query = {
            "scope": scope,
            "exceeded": exceeded,
            "limit": limit,
            "cursor": cursor,
            "order": order if order != "asc" else None,
        }
        return Page.from_reply(await self._calls.read("/api/budgets", query, options), Budget)

    def iterate(
        self,
        *,
        scope: str | Iterable[str] | None = None,
        exceeded: bool | None = None,
        page_size: int = 500,
        **options: Unpack[ReadOptions],
    ) -> AsyncIterator[Budget]:
        """Every budget, page by page."""
        return every_item(
            lambda cursor: self.list(scope=scope, exceeded=exceeded, limit=page_size, cursor=cursor, **options)
        )

    async def reset(self, scope: BudgetScope, budget_id: str, **options: Unpack[WriteOptions]) -> Budget:
        """A new period: nothing is spent. What is reserved stays."""
        return Budget.from_reply(await self._calls.write("POST", f"{_path(scope, budget_id)}/reset", {}, options))

    async def delete(self, scope: BudgetScope, budget_id: str, **options: Unpack[WriteOptions]) -> Document:
        """Remove a budget: nothing limits any more."""
        return Document.from_reply(await self._calls.write("DELETE", _path(scope, budget_id), None, options))


def _path(scope: str, budget_id: str) -> str:
    return f"/api/budgets/{segment(scope)}/{segment(budget_id)}"
