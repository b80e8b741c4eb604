"""What every handler may use: the replica, the leader's memory, the ways to wait. One per node."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar, cast

from cluster.replica import Replica
from node.api.live import Live, NoLive
from node.api.traffic import Traffic
from node.api.wakeups import Wakeups

if TYPE_CHECKING:
    from node.api.route import Route

T = TypeVar("T")


@dataclass(slots=True)
class Api:
    """The parts behind the API. `closing` is set when the node begins to stop: long-polls end then.

    `routes` are what is served. `project_numbers` are those read once: a project is never removed, nor numbered anew.
    `parts` are further objects by their type: what a noun needs and the framework need not know.
    """

    replica: Replica
    version: str
    auto_create_projects: bool = True
    live: Live = field(default_factory=NoLive)
    wakeups: Wakeups = field(init=False)
    traffic: Traffic = field(default_factory=Traffic)
    routes: tuple[Route, ...] = ()
    closing: bool = False
    project_numbers: dict[str, int] = field(default_factory=dict)
    parts: dict[type[Any], Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.wakeups = Wakeups(self.replica)
        self.replica.subscribe(self.traffic.minute.on_notice)

    def provide(self, part: object, kind: type[Any] | None = None) -> None:
        """Make a part available under its type, or under `kind`."""
        self.parts[type(part) if kind is None else kind] = part

    def part(self, kind: type[T]) -> T:
        """The part of that type. KeyError when the composition root forgot it."""
        return cast(T, self.parts[kind])

    def close(self) -> None:
        """End every long-poll with `shutting_down`; later ones do not begin."""
        self.closing = True
        self.wakeups.close()
