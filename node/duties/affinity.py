"""Who worked on what lately: the sessions, branches and repositories of the last tasks that each agent began.

Looked up from the site, so that a decision looks at a few agents and never at all of them. In the leader's memory
only: a new leader knows what agents hold, and learns the rest as they go on.
"""

from __future__ import annotations

from collections import deque
from itertools import islice

import msgspec

from statemachine.labels import text as label_text

Site = tuple[str, ...]
"""(what, project, name, …): a session, a branch of a repository, or a repository."""

SESSION, BRANCH, REPOSITORY = "session", "branch", "repository"
DEGREE = {SESSION: 1.0, BRANCH: 0.8, REPOSITORY: 0.5}
"""How close an agent is to a task that has this in common with one of its last."""

TASKS_KEPT = 4
AGENTS_LOOKED_AT = 8

_labels = msgspec.json.Decoder(dict[str, msgspec.Raw])


def sites_of(project: str, session_id: str | None, labels: bytes | None) -> tuple[Site, ...]:
    """Where a task belongs, the closest first: by its session, and by its labels `repository` and `branch`."""
    session = () if session_id is None else ((SESSION, project, session_id),)
    if labels is None or b'"repository"' not in labels:
        return session
    named = _labels.decode(labels)
    repository, branch = (label_text(named[name]) if name in named else None for name in (REPOSITORY, BRANCH))
    if repository is None:
        return session
    whole = (REPOSITORY, project, repository)
    return (*session, whole) if branch is None else (*session, (BRANCH, project, repository, branch), whole)


class Affinity:
    """The last `TASKS_KEPT` tasks of each agent, those that belong somewhere."""

    def __init__(self) -> None:
        self._agents: dict[Site, dict[str, int]] = {}
        self._tasks: dict[str, deque[tuple[Site, ...]]] = {}

    def began(self, agent_id: str, sites: tuple[Site, ...]) -> None:
        """The agent began a task that belongs here."""
        if not sites:
            return
        tasks = self._tasks.setdefault(agent_id, deque())
        if not tasks or tasks[-1] != sites:
            tasks.append(sites)
            for site in sites:
                known = self._agents.setdefault(site, {})
                # At the end: who came last is looked at first.
                known[agent_id] = known.pop(agent_id, 0) + 1
        if len(tasks) > TASKS_KEPT:
            self._forget(agent_id, tasks.popleft())

    def drop(self, agent_id: str) -> None:
        """Forget a deleted agent."""
        for sites in self._tasks.pop(agent_id, ()):
            self._forget(agent_id, sites)

    def clear(self) -> None:
        """Forget everything."""
        self._agents.clear()
        self._tasks.clear()

    def _forget(self, agent_id: str, sites: tuple[Site, ...]) -> None:
        for site in sites:
            known = self._agents[site]
            known[agent_id] -= 1
            if not known[agent_id]:
                del known[agent_id]
                if not known:
                    del self._agents[site]

    def near(self, sites: tuple[Site, ...]) -> list[str]:
        """Up to `AGENTS_LOOKED_AT` agents that worked here, the closest and latest first."""
        found: dict[str, None] = {}
        for site in sites:
            for agent_id in islice(reversed(self._agents.get(site, {})), AGENTS_LOOKED_AT - len(found)):
                found[agent_id] = None
        return list(found)

    def degree(self, agent_id: str, sites: tuple[Site, ...]) -> float:
        """How close the agent is to a task that belongs here, 0 to 1."""
        for site in sites:
            if agent_id in self._agents.get(site, ()):
                return DEGREE[site[0]]
        return 0.0
