"""What stays of a removed session for a while: its last seq.

Its id may be used again. The session that is made under it goes on counting where the former one stopped: so an
`expected_seq` that somebody saw in the former one fits nothing, and a reference to its events (a change of the feed, a
bookmark) finds none instead of others.

A session without events leaves nothing.
"""

from __future__ import annotations

from statemachine import session_record
from statemachine.context import Context
from statemachine.former_ids import FormerIds
from statemachine.session_record import Session

_FORMER = FormerIds(b"F", b"j", "former_sessions")
scan = _FORMER.scan


def keep(ctx: Context, project_no: int, session: Session) -> None:
    """A session is removed, its record with it, and its id is free."""
    _FORMER.keep(ctx, session_record.id_key(project_no, session.session_id), session.last_seq)


def take_over(ctx: Context, project_no: int, session_id: str) -> int:
    """A new session gets this id -> the last seq of the former one; 0 when there was none, or it is forgotten."""
    id_key = session_record.id_key(project_no, session_id)
    return _FORMER.take_over(ctx, id_key, ctx.state.get(id_key))
