"""What stays of a removed session for a while: its last seq.

Its id may be used again. The session that is made under it goes on counting where the former one stopped: so an
`expected_seq` that somebody saw in the former one fits nothing, and a reference to its events (a change of the feed, a
bookmark) finds none instead of others.

It stands in the row of the id itself: 16 bytes instead of 8. A session without events leaves nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

from statemachine import limits, session_record
from statemachine.context import Context
from statemachine.keys import end_of, from_u64, name, u32, u64
from statemachine.session_record import Session
from statemachine.store import Reader

_TABLE = b"F"
_BOTH = 16


def keep(ctx: Context, project_no: int, session: Session) -> None:
    """A session is removed, its record and id with it. Of those that were removed before it some may be forgotten."""
    if session.last_seq:
        at = u64(ctx.time_ms)
        ctx.state.put(session_record.id_key(project_no, session.session_id), u64(session.last_seq) + at)
        ctx.state.put(_TABLE + at + u32(project_no) + name(session.session_id), b"")
        ctx.meta.former_sessions += 1
    _forget(ctx)


def take_over(ctx: Context, project_no: int, session_id: str) -> int:
    """A new session gets this id -> the last seq of the former one; 0 when there was none, or it is forgotten."""
    former = ctx.state.get(session_record.id_key(project_no, session_id))
    if former is None or len(former) != _BOTH:
        return 0
    ctx.state.delete(_TABLE + former[8:] + u32(project_no) + name(session_id))
    ctx.meta.former_sessions -= 1
    return from_u64(former[:8])


def scan(reader: Reader) -> Iterator[tuple[int, bytes]]:
    """(when it was removed, the row of its id) of each former session, longest ago first."""
    for key, _ in reader.scan(_TABLE, end_of(_TABLE)):
        yield from_u64(key[1:9]), b"j" + key[9:]


def _forget(ctx: Context) -> None:
    """Each removal forgets more than it adds, as long as there is something to forget."""
    for at, id_key in list(islice(scan(ctx.state), limits.FORMER_SESSIONS_FORGOTTEN_PER_REMOVAL)):
        if ctx.meta.former_sessions <= limits.FORMER_SESSIONS_MAX and at + limits.FORMER_SESSION_KEPT_MS > ctx.time_ms:
            return
        ctx.state.delete(_TABLE + u64(at) + id_key[1:])
        ctx.state.delete(id_key)
        ctx.meta.former_sessions -= 1
