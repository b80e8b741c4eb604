"""Idempotency records: a write with a key happens once, whoever repeats it, wherever, and across changes of
leader.

Two classes, since they end differently: UUIDv7 keys carry their age, so the oldest may be dropped early under
the record limit (a later repeat is refused by the horizon, never run again); all other keys keep their full
time, and new ones are refused when the limit is reached by them alone.
"""

from __future__ import annotations

import msgspec

from statemachine import limits
from statemachine.entry import Idempotency
from statemachine.keys import u32, u64
from statemachine.outcome import Outcome, Refused, stored
from statemachine.records import Project
from statemachine.store import Overlay, Reader

NOT_REMEMBERED = frozenset(
    {"idempotency_key_reused", "idempotency_key_expired", "queue_full", "rate_limited", "internal", "invalid_request"}
    | {"too_large"}
)
"""Refusals that are about the key itself or the form of the request, or that may be tried again: not kept under it."""

_DROPPABLE = b"\x00"
_KEPT = b"\x01"


class IdempotencyRecord(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """The answer of the first run, and the digest of the request it answered."""

    digest: bytes
    expires_ms: int
    created_ms: int
    uuid7_ms: int
    outcome: Outcome


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(IdempotencyRecord)


def _key(project_no: int, key_hash: bytes) -> bytes:
    return b"I" + u32(project_no) + key_hash


def _class_of(uuid7_ms: int) -> bytes:
    return _DROPPABLE if uuid7_ms else _KEPT


def _age_of(key: Idempotency, time_ms: int) -> int:
    """The time in a UUIDv7 key, or 0 for any other: also for one from too far ahead, which would poison the
    horizon."""
    return key.uuid7_ms if key.uuid7_ms <= time_ms + limits.IDEMPOTENCY_UUID7_AHEAD_MS_MAX else 0


def find(reader: Reader, project_no: int, key_hash: bytes) -> IdempotencyRecord | None:
    """The record of a key, expired or not."""
    data = reader.get(_key(project_no, key_hash))
    return None if data is None else _decoder.decode(data)


def check(state: Overlay, project: Project, key: Idempotency, time_ms: int) -> Outcome | None:
    """The recorded answer if this is a repeat; None lets the command run; raises Refused."""
    record = find(state, project.number, key.key_hash)
    if record is not None and record.expires_ms > time_ms:
        if record.digest != key.digest:
            raise Refused(
                "idempotency_key_reused",
                "this Idempotency-Key was used for a different request; take a new key",
            )
        return msgspec.structs.replace(record.outcome, replayed=True)
    uuid7_ms = _age_of(key, time_ms)
    if uuid7_ms and uuid7_ms <= project.idempotency_horizon_ms:
        raise Refused(
            "idempotency_key_expired",
            "the record of this Idempotency-Key was dropped: whether it ran is unknown; look, then take a new key",
        )
    if not uuid7_ms and project.idempotency_kept >= limits.IDEMPOTENCY_RECORDS_MAX:
        raise Refused(
            "queue_full",
            f"this project remembers {limits.IDEMPOTENCY_RECORDS_MAX} Idempotency-Keys, the most it may: "
            "use UUIDv7 keys, or shorter Idempotency-Ttl-Ms",
        )
    return None


def record(state: Overlay, project: Project, key: Idempotency, time_ms: int, outcome: Outcome) -> None:
    """Remember an answer. Changes `project`'s counters: the caller writes it."""
    old = find(state, project.number, key.key_hash)
    if old is not None:
        _drop(state, project, key.key_hash, old)
    uuid7_ms = _age_of(key, time_ms)
    expires_ms = time_ms + min(key.ttl_ms, limits.IDEMPOTENCY_TTL_MS)
    state.put(
        _key(project.number, key.key_hash),
        _encoder.encode(IdempotencyRecord(key.digest, expires_ms, time_ms, uuid7_ms, stored(outcome))),
    )
    state.put(_expiry_key(project.number, key.key_hash, uuid7_ms, expires_ms), b"")
    project.idempotency_records += 1
    if not uuid7_ms:
        project.idempotency_kept += 1
    if project.idempotency_records > limits.IDEMPOTENCY_RECORDS_MAX:
        _drop_oldest_uuid7(state, project)


def purge(state: Overlay, project: Project, time_ms: int, count_max: int) -> None:
    """Remove up to `count_max` expired records of a project, of each class."""
    for kind in (_DROPPABLE, _KEPT):
        prefix = b"x" + u32(project.number) + kind
        left = count_max
        for entry_key, _ in state.scan(prefix, prefix + u64(time_ms)):
            if left == 0:
                break
            key_hash = entry_key[len(prefix) + 8 :]
            _drop(state, project, key_hash, _indexed(state, project.number, key_hash))
            left -= 1


def oldest_ms(reader: Reader, project_no: int) -> int | None:
    """When the oldest record still kept was made."""
    found: list[int] = []
    for kind in (_DROPPABLE, _KEPT):
        prefix = b"x" + u32(project_no) + kind
        for entry_key, _ in reader.scan(prefix, prefix + b"\xff" * 8):
            found.append(_indexed(reader, project_no, entry_key[len(prefix) + 8 :]).created_ms)
            break
    return min(found, default=None)


def _expiry_key(project_no: int, key_hash: bytes, uuid7_ms: int, expires_ms: int) -> bytes:
    return b"x" + u32(project_no) + _class_of(uuid7_ms) + u64(expires_ms) + key_hash


def _indexed(reader: Reader, project_no: int, key_hash: bytes) -> IdempotencyRecord:
    """The record that an expiry row names."""
    found = find(reader, project_no, key_hash)
    if found is None:
        raise AssertionError("an expiry row of an Idempotency-Key without its record")
    return found


def _drop(state: Overlay, project: Project, key_hash: bytes, old: IdempotencyRecord) -> None:
    state.delete(_key(project.number, key_hash))
    state.delete(_expiry_key(project.number, key_hash, old.uuid7_ms, old.expires_ms))
    project.idempotency_records -= 1
    if not old.uuid7_ms:
        project.idempotency_kept -= 1


def _drop_oldest_uuid7(state: Overlay, project: Project) -> None:
    prefix = b"x" + u32(project.number) + _DROPPABLE
    for entry_key, _ in state.scan(prefix, prefix + b"\xff" * 8):
        key_hash = entry_key[len(prefix) + 8 :]
        old = _indexed(state, project.number, key_hash)
        _drop(state, project, key_hash, old)
        project.idempotency_horizon_ms = max(project.idempotency_horizon_ms, old.uuid7_ms)
        return
