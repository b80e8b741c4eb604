"""The invariants of the machine's own records: change feed, idempotency records, work rows, sessions and
their events.
"""

from __future__ import annotations

from collections import Counter

from statemachine import changes, counters, former_sessions, machine, projects, session_record, sessions, work
from statemachine.keys import end_of, from_u64, u32
from statemachine.records import Meta, Project
from statemachine.store import Reader


def check(reader: Reader, faults: list[str]) -> None:
    """All checks of feed, keys, work and sessions."""
    meta = machine.read_meta(reader)
    _check_feed(reader, meta, faults)
    for number, row in work.scan(reader):
        if number >= meta.next_work or row.kind not in work.KINDS:
            faults.append(f"work row {number} of kind {row.kind} can not be")
    if sum(1 for _ in reader.scan(b"p", end_of(b"p"))) != sum(1 for _ in projects.scan(reader)):
        faults.append("names of projects differ from their records")
    for project in projects.scan(reader):
        if projects.find(reader, project.name) != project:
            faults.append(f"project {project.name} is not found by its name")
        _check_idempotency(reader, project, faults)
    _check_sessions(reader, faults)
    _check_former_sessions(reader, faults)


def _check_feed(reader: Reader, meta: Meta, faults: list[str]) -> None:
    next_revision, count = meta.compacted_revision + 1, 0
    for last, group in changes.read(reader, 0):
        if group.first_revision != next_revision or last < group.first_revision:
            faults.append(f"the feed has a group {group.first_revision}-{last} where {next_revision} was due")
        revisions = [change.revision for change in group.changes]
        if revisions != sorted(revisions) or (
            revisions and not group.first_revision <= revisions[0] <= revisions[-1] <= last
        ):
            faults.append(f"the feed's group {group.first_revision}-{last} has changes out of order: {revisions}")
        next_revision, count = last + 1, count + 1
    if next_revision != meta.revision + 1 or count != meta.feed_groups:
        faults.append(f"the feed ends before {next_revision} with {count} groups; meta says {meta}")
    if meta.feed_revisions != meta.revision - meta.compacted_revision:
        faults.append(f"the feed counts {meta.feed_revisions} revisions; meta says {meta}")


def _check_idempotency(reader: Reader, project: Project, faults: list[str]) -> None:
    prefix = u32(project.number)
    hashes = {key[5:] for key, _ in reader.scan(b"I" + prefix, end_of(b"I" + prefix))}
    rows = [key[14:] for key, _ in reader.scan(b"x" + prefix, end_of(b"x" + prefix))]
    if len(hashes) != project.idempotency_records or hashes != set(rows) or len(rows) != len(hashes):
        faults.append(f"project {project.name}: {len(hashes)} idempotency records, {len(rows)} by expiry")


def _check_former_sessions(reader: Reader, faults: list[str]) -> None:
    rows = {key: value for key, value in reader.scan(b"j", end_of(b"j")) if len(value) != 8}
    removed = sorted((key, from_u64(value[8:])) for key, value in rows.items())
    by_time = sorted((key, at) for at, key in former_sessions.scan(reader))
    count = machine.read_meta(reader).former_sessions
    if removed != by_time or len(removed) != count:
        faults.append(f"former sessions {removed}, by time {by_time}; meta says {count}")


def _check_sessions(reader: Reader, faults: list[str]) -> None:
    wanted: Counter[tuple[int, str]] = Counter()
    by_time: set[bytes] = set()
    for project in projects.scan(reader):
        table = b"J" + u32(project.number)
        for _, data in reader.scan(table, end_of(table)):
            session = session_record.decode(data)
            wanted[project.number, f"sessions.{session.status}"] += 1
            key = sessions.expiry_key(project.number, session) or sessions.ended_key(project.number, session)
            by_time.update(() if key is None else (key,))
            if session_record.find(reader, project.number, session.session_id) != session:
                faults.append(f"session {session.session_id} is not found by its id")
            prefix = b"E" + u32(project.number) + session.number.to_bytes(8, "big")
            seqs = [from_u64(key[-8:]) for key, _ in reader.scan(prefix, end_of(prefix))]
            if seqs != list(range(session.first_seq, session.last_seq + 1)) or session.stats.events != len(seqs):
                faults.append(f"session {session.session_id} has {len(seqs)} events; it says {session.last_seq}")
    rows = {key for table in (b"e", b"z") for key, _ in reader.scan(table, end_of(table))}
    if rows != by_time:
        faults.append(f"sessions by time differ from their records: {rows ^ by_time}")
    found = {
        (project_no, name): count
        for project_no, counts in counters.scan(reader)
        for name, count in counts.items()
        if count and name.startswith("sessions.")
    }
    if wanted != found:
        faults.append(f"counters of sessions: {found} where there are {dict(wanted)}")
