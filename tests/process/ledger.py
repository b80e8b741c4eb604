"""What writers were told, and whether the cluster kept to it."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from dataclasses import dataclass, field

from hive_client import Client

Receipt = tuple[str, int]
"""What identifies a write in its answer: (seq or task id, revision)."""


@dataclass(slots=True)
class Told:
    """The answers of one kind of write, by the writes' unique labels."""

    acknowledged: dict[str, Receipt] = field(default_factory=dict)
    not_happened: set[str] = field(default_factory=set)
    unknown: set[str] = field(default_factory=set)
    news: asyncio.Event = field(default_factory=asyncio.Event)

    def acknowledge(self, label: str, receipt: Receipt) -> None:
        self.acknowledged[label] = receipt
        self.news.set()

    async def more(self, count: int) -> None:
        """Wait for so many more acknowledgements."""
        wanted = len(self.acknowledged) + count
        while len(self.acknowledged) < wanted:
            self.news.clear()
            await self.news.wait()

    def broken_promises(self, found: dict[str, list[Receipt]]) -> list[str]:
        """One line for every write whose answer was not true, of what is `found` in the cluster."""
        broken = []
        for label, receipt in self.acknowledged.items():
            if found.get(label) != [receipt]:
                broken.append(f"{label}: acknowledged as {receipt}, found {found.get(label, 'nowhere')}")
        for label in self.not_happened & found.keys():
            broken.append(f"{label}: called not happened, found {found[label]}")
        for label in self.unknown:
            if len(found.get(label, ())) > 1:
                broken.append(f"{label}: unknown, found {found[label]}")
        told_of = self.acknowledged.keys() | self.not_happened | self.unknown
        broken += [f"{label}: never asked for, found {found[label]}" for label in found.keys() - told_of]
        return broken


async def events_found(client: Client, session_id: str) -> dict[str, list[Receipt]]:
    """All events of a session by label; fails if there is a gap between them."""
    found: dict[str, list[Receipt]] = defaultdict(list)
    last_seq = 0
    async for event in client.sessions.iterate_events(session_id, page_size=1000, consistency="linearizable"):
        assert event.seq == last_seq + 1, f"event {event.seq} follows {last_seq}"
        last_seq = event.seq
        found[event.data["label"]].append((str(event.seq), event.revision))
    return dict(found)


async def tasks_found(client: Client, group_id: str) -> dict[str, list[Receipt]]:
    """All tasks of a group by label."""
    found: dict[str, list[Receipt]] = defaultdict(list)
    async for task in client.tasks.iterate(group_id=group_id, page_size=1000, consistency="linearizable"):
        found[task.payload["label"]].append((task.task_id, task.created_revision))
    return dict(found)
