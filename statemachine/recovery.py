"""A state that goes on in a new cluster, whose past may differ from what clients of the old one have seen."""

from __future__ import annotations

import msgspec

from statemachine import changes
from statemachine.keys import META
from statemachine.machine import read_meta
from statemachine.store import Overlay

REVISIONS_SKIPPED = 10**9
"""More than a lost part of the old cluster's log can have taken: what anybody saw there is never given again."""


def begin_anew(state: Overlay) -> int:
    """Leave the revisions of the old cluster behind and compact all its changes; returns the new revision."""
    meta = read_meta(state)
    changes.drop_all(state, meta)
    meta.revision += REVISIONS_SKIPPED
    meta.compacted_revision = meta.revision
    state.put(META, msgspec.msgpack.encode(meta))
    return meta.revision
