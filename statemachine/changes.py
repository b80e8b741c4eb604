"""The change feed: what happened at each revision, bounded, resumable from any kept revision.

One log entry writes one group, under its last revision: many commands cost one put. The feed names resources,
it does not copy them.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec

from statemachine import limits
from statemachine.entry import array_header
from statemachine.keys import end_of, u64
from statemachine.records import Meta
from statemachine.store import Overlay, Reader

_TABLE = b"C"


class Change(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """One change: `type` dotted (`task.created`), the resource it is about, who did it, where watchers find
    it."""

    revision: int
    type: str
    project: str
    resource: str
    resource_id: str
    source: str
    correlation_id: str | None
    topics: tuple[str, ...]
    data: dict[str, Any] | None


class ChangeGroup(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """All changes of one entry, in revision order. `first_revision` to the key's revision are covered,
    without gap."""

    first_revision: int
    time_ms: int
    changes: tuple[Change, ...]


class _EncodedGroup(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """A ChangeGroup whose changes are encoded already."""

    first_revision: int
    time_ms: int
    changes: msgspec.Raw


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(ChangeGroup)


def encode(changes: list[Change], revision_before: int, revision: int) -> bytes:
    """The changes of one command one behind the other, encoded WITHIN that command: a defect in them is then its own
    alone.

    AssertionError when they are not in order of revision, or outside of what the command took.
    """
    if not changes:
        return b""
    last = revision_before + 1
    for change in changes:
        if not last <= change.revision <= revision:
            raise AssertionError(f"a change of revision {change.revision} between {last} and {revision}")
        last = change.revision
    if len(changes) == 1:
        return _encoder.encode(changes[0])
    return _encoder.encode(changes)[len(array_header(len(changes))) :]


def append(state: Overlay, meta: Meta, first_revision: int, time_ms: int, feed: list[bytes], count: int) -> None:
    """Write the group of an entry that took the revisions `first_revision` to `meta.revision`: `count` changes, as
    `encode` made them of its commands."""
    changes = msgspec.Raw(b"".join([array_header(count), *feed]))
    state.put(_TABLE + u64(meta.revision), _encoder.encode(_EncodedGroup(first_revision, time_ms, changes)))
    meta.feed_groups += 1
    meta.feed_revisions += meta.revision - first_revision + 1


def compact(state: Overlay, meta: Meta, kept_max: int) -> None:
    """Drop the oldest groups while more than `kept_max` revisions are kept, a few per entry."""
    if meta.feed_revisions <= kept_max:
        return
    budget = limits.CHANGES_PURGED_PER_ENTRY
    for key, value in state.scan(_TABLE, end_of(_TABLE)):
        if budget == 0 or meta.feed_revisions <= kept_max:
            return
        group = _decoder.decode(value)
        last_revision = int.from_bytes(key[1:], "big")
        state.delete(key)
        meta.feed_groups -= 1
        meta.feed_revisions -= last_revision - group.first_revision + 1
        meta.compacted_revision = last_revision
        budget -= 1


def drop_all(state: Overlay, meta: Meta) -> None:
    """Drop every group at once."""
    for key, _ in list(state.scan(_TABLE, end_of(_TABLE))):
        state.delete(key)
    meta.feed_groups = meta.feed_revisions = 0


def read(reader: Reader, from_revision: int) -> Iterator[tuple[int, ChangeGroup]]:
    """Groups that cover `from_revision` and later, as (last revision, group), ascending.

    The first group may begin before `from_revision`: the caller drops those changes. Whether `from_revision`
    is still kept is `meta.compacted_revision < from_revision`.
    """
    for key, value in reader.scan(_TABLE + u64(from_revision), end_of(_TABLE)):
        yield int.from_bytes(key[1:], "big"), _decoder.decode(value)
