"""The session as it is kept: one record, found by its id or by its place in the order of creation.

The record carries what would otherwise have to be counted over its events: `last_seq` and `stats`.
"""

from __future__ import annotations

from enum import StrEnum
from hashlib import blake2b

import msgspec

from statemachine import keys
from statemachine.commands import CreateSession, Json
from statemachine.store import Overlay, Reader


class SessionStatus(StrEnum):
    """Where a session is in its life; `sessions.MOVES` says how it gets from one to the next."""

    ACTIVE = "active"
    PAUSED = "paused"
    COMPLETED = "completed"
    ARCHIVED = "archived"
    EXPIRED = "expired"


class Stats(msgspec.Struct, array_like=True, gc=False):
    """Sums over a session's events: counts, tokens, micro-dollars, and Unix milliseconds of the first and
    last.

    `by_type` counts the first `limits.EVENT_TYPES_COUNTED_MAX` types that occurred, all later ones under
    "other".
    """

    events: int = 0
    by_type: dict[str, int] = {}
    input_tokens: int = 0
    output_tokens: int = 0
    cost: int = 0
    first_event_at: int | None = None
    last_event_at: int | None = None


class Session(msgspec.Struct, array_like=True, gc=False):
    """One session. `number` is its place in the order of creation, and what its events are kept under.

    `content` is the digest of the creating command, `parent` (session_id, at_seq) or None. Its events have the seqs
    from `first_seq` to `last_seq` (`former_sessions` says why not always from 1). Times are Unix milliseconds.
    """

    session_id: str
    number: int
    content: bytes
    created_at: int
    created_revision: int
    updated_at: int
    revision: int
    status: str = SessionStatus.ACTIVE.value
    title: str | None = None
    agent_id: str | None = None
    user: str | None = None
    priority: int = 5
    expires_at: int | None = None
    metadata: Json | None = None
    parent: tuple[str, int] | None = None
    last_seq: int = 0
    stats: Stats = msgspec.field(default_factory=Stats)
    first_seq: int = 1


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Session)


def content_of(command: CreateSession) -> bytes:
    """A digest of what the user asked for, so that a repeated creation can be told from another one of the
    same id.

    Over NAMED fields, not over the encoded command: a later version with more fields must come to the same
    digest. A new field joins the tuple only where it is not its default.
    """
    fields = (
        command.session_id,
        command.title,
        command.agent_id,
        command.user,
        command.priority,
        command.expires_at,
        command.metadata,
    )
    return blake2b(_encoder.encode(fields), digest_size=16).digest()


def key_of(project_no: int, number: int) -> bytes:
    """Where the record of a session stands."""
    return b"J" + keys.u32(project_no) + keys.u64(number)


def id_key(project_no: int, session_id: str) -> bytes:
    """Where the number of a session stands, by its id; of a removed one for a while what `former_sessions` keeps."""
    return b"j" + keys.u32(project_no) + keys.name(session_id)


def find(reader: Reader, project_no: int, session_id: str) -> Session | None:
    """The session of that id."""
    number = reader.get(id_key(project_no, session_id))
    return None if number is None or len(number) != 8 else get(reader, project_no, keys.from_u64(number))


def get(reader: Reader, project_no: int, number: int) -> Session | None:
    """The session of that number."""
    data = reader.get(key_of(project_no, number))
    return None if data is None else decode(data)


def decode(data: bytes) -> Session:
    """A session from the bytes it was kept as."""
    return _decoder.decode(data)


def put_new(state: Overlay, project_no: int, session: Session) -> None:
    """Write a session that was not there before."""
    state.put(id_key(project_no, session.session_id), keys.u64(session.number))
    put(state, project_no, session)


def put(state: Overlay, project_no: int, session: Session) -> None:
    """Rewrite a session's record."""
    state.put(key_of(project_no, session.number), _encoder.encode(session))


def remove(state: Overlay, project_no: int, session: Session) -> None:
    """Take a session out of the state; its events and its expiry are the caller's."""
    state.delete(id_key(project_no, session.session_id))
    state.delete(key_of(project_no, session.number))
