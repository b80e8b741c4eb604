"""Members as the engine knows them."""

from __future__ import annotations

from functools import cache
from zlib import crc32

from pysyncobj.node import Node


class MemberNode(Node):  # type: ignore[misc]  # the package is untyped
    """The engine keeps its nodes in sets and dictionaries and hashes them all the time: here that costs one attribute,
    and does not depend on the process, so that its sets have the same order in every run of a simulation."""

    def __init__(self, node_id: str) -> None:
        super().__init__(node_id)
        self._hash = crc32(node_id.encode())

    def __hash__(self) -> int:
        return self._hash

    def __eq__(self, other: object) -> bool:
        return self is other or (isinstance(other, Node) and self._id == other.id)


@cache
def member_node(node_id: str) -> MemberNode:
    """The node of that id. Only ids of members come here, so this stays small."""
    return MemberNode(node_id)
