"""Members of the fake: the one it is, and those that a test adds. They are names only: nobody runs behind them."""

from __future__ import annotations

from typing import Any

from hive_client.testing.exchange import Answer, Asked
from hive_client.testing.problems import Problem, invalid
from hive_client.testing.task_routes import Handler
from hive_client.testing.world import World

SELF = "fake"
_ADDRESSES = ("peer_address", "http_address")


class Members:
    """A learner votes when it is promoted: by a request, or by the test (`promote`)."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._members: dict[str, dict[str, Any]] = {
            SELF: {
                "node_id": SELF, "peer_address": "", "http_address": "", "role": "leader", "voter": True,
                "connected": True,
            }
        }  # fmt: skip
        self._removed: set[str] = set()

    def table(self) -> list[tuple[str, str, Handler]]:
        return [
            ("GET", "/api/cluster/members", lambda a: self._all()),
            ("POST", "/api/cluster/members", lambda a: self._add(a.document())),
            ("GET", "/api/cluster/members/{}", self._get),
            ("PUT", "/api/cluster/members/{}", self._update),
            ("DELETE", "/api/cluster/members/{}", lambda a, n: self._remove(n)),
            ("POST", "/api/cluster/members/{}/promote", lambda a, n: Answer(200, self.promote(n))),
        ]

    def documents(self) -> list[dict[str, Any]]:
        return [dict(member) for member in self._members.values()]

    def promote(self, node_id: str) -> dict[str, Any]:
        """Let it vote. Raises Problem `not_found`."""
        member = self._one(node_id)
        if not member["voter"]:
            member |= {"voter": True, "role": "follower"}
            self._world.wake()
        return dict(member)

    def _one(self, node_id: str) -> dict[str, Any]:
        if node_id not in self._members:
            raise Problem("not_found", f"there is no member {node_id!r}")
        return self._members[node_id]

    def _all(self) -> Answer:
        return Answer(200, {"items": self.documents(), "next_cursor": None})

    async def _get(self, asked: Asked, node_id: str) -> Answer:
        if asked.query.get("until") == "voter":
            wait_s = (asked.number("wait_ms") or 0) / 1000
            await self._world.wait_until(lambda: self._one(node_id)["voter"] or None, wait_s)
        return Answer(200, dict(self._one(node_id)))

    def _add(self, body: dict[str, Any]) -> Answer:
        for name in ("node_id", *_ADDRESSES):
            if not isinstance(body.get(name), str) or not body[name]:
                raise invalid(name, "must be a non-empty string")
        node_id = body["node_id"]
        if node_id in self._removed:
            raise Problem("node_id_used", f"node id {node_id!r} was used before; give one that never was")
        member = self._members.get(node_id)
        if member is not None and any(member[name] != body[name] for name in _ADDRESSES):
            raise Problem("exists", f"member {node_id!r} has other addresses", current=dict(member))
        if member is None:
            wanted = {name: body[name] for name in ("node_id", *_ADDRESSES)}
            member = self._members[node_id] = {**wanted, "role": "learner", "voter": False, "connected": False}
            self._world.wake()
        return Answer(200 if member["voter"] else 202, dict(member))

    def _update(self, asked: Asked, node_id: str) -> Answer:
        changes = {name: asked.document()[name] for name in _ADDRESSES if asked.document().get(name)}
        if not changes:
            raise invalid("peer_address", "give peer_address, http_address, or both")
        self._one(node_id).update(changes)
        return Answer(200, dict(self._one(node_id)))

    def _remove(self, node_id: str) -> Answer:
        if node_id == SELF:
            raise Problem("quorum_at_risk", "the last voter cannot be removed", current={"voters": 1, "needed": 1})
        if self._members.pop(node_id, None) is not None:
            self._removed.add(node_id)
            self._world.wake()
        return self._all()
