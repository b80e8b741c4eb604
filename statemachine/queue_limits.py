"""What keeps a pending task from an agent although agents are free: its queue, its concurrency key, its locks.

Checked in `apply` before every grant, by offer, by hand or by claim, against counts that the same entry keeps. So no
two leaders, and no leader and a claim through another node, can grant more than the settings allow.
"""

from __future__ import annotations

from collections.abc import Iterator
from hashlib import blake2b
from itertools import islice

import msgspec

from statemachine import budgets, path_locks, queues, task_record
from statemachine.hindrance import HOLDERS_NAMED_MAX, Hindrance
from statemachine.keys import end_of, name, u32, u64
from statemachine.store import Reader
from statemachine.task_record import Task

_encoder = msgspec.msgpack.Encoder()
_NEED = b"\xff"
"""Greater than any rank: what stands before the digest of a need in a key."""


def hindrances(reader: Reader, task: Task, time_ms: int, *, budgeted: bool = True) -> Iterator[Hindrance]:
    """Everything that keeps this task from any agent now, most lasting first; nothing when it may be granted.

    `budgeted` False: there are no budgets, which need not be looked for.
    """
    if budgeted:
        for shortage in budgets.shortages(reader, task):
            yield Hindrance("budget", shortage.message, shortage.data)
    queue = queues.get(reader, task.project_no, task.queue)
    if queue is not None:
        yield from _of_queue(queue, time_ms)
    if task.concurrency_key is not None:
        most = 1 if queue is None else queue.max_running_per_key
        holders = list(islice(held_with_key(reader, task.project_no, task.concurrency_key), most))
        if len(holders) >= most:
            yield _of_key(reader, task, holders, most)
    if task.locks:
        yield from path_locks.hindrances(reader, task)


def first_hindrance(reader: Reader, task: Task, time_ms: int, *, budgeted: bool = True) -> Hindrance | None:
    """The most lasting of `hindrances`."""
    return next(hindrances(reader, task, time_ms, budgeted=budgeted), None)


def _of_queue(queue: queues.Queue, time_ms: int) -> Iterator[Hindrance]:
    if queue.paused:
        message = f"queue {queue.queue!r} is paused; resume it to go on"
        yield Hindrance("queue_paused", message, {"queue": queue.queue})
    if queue.max_running is not None and queue.held >= queue.max_running:
        message = (
            f"queue {queue.queue!r} has {queue.held} tasks with agents, max_running is {queue.max_running}; "
            "wait for one to end or raise max_running"
        )
        data = {"queue": queue.queue, "held": queue.held, "max_running": queue.max_running}
        yield Hindrance("queue_limit", message, data)
    if queue.tokens(time_ms) == 0:
        rate_milli, wait_ms = queue.rate_milli or 0, max(1, queue.next_token_ms() - time_ms)
        message = (
            f"queue {queue.queue!r} grants {_decimal(rate_milli)} tasks per second; the next in {wait_ms} ms, "
            "or raise rate_per_second"
        )
        yield Hindrance("rate_limit", message, {"queue": queue.queue, "rate_milli": rate_milli, "wait_ms": wait_ms})


def _decimal(thousandths: int) -> str:
    whole, part = divmod(thousandths, 1000)
    return f"{whole}.{part:03}".rstrip("0").rstrip(".")


def _of_key(reader: Reader, task: Task, holders: list[int], most: int) -> Hindrance:
    found = [task_record.get(reader, task.project_no, number) for number in holders[:HOLDERS_NAMED_MAX]]
    ids = [other.task_id for other in found if other is not None]
    message = (
        f"concurrency key {task.concurrency_key!r} lets {most} run at a time, now {', '.join(ids)}; "
        f"wait for an end or raise max_running_per_key of queue {task.queue!r}"
    )
    data = {"concurrency_key": task.concurrency_key, "held": len(holders), "max_running": most, "tasks": ids}
    return Hindrance("concurrency_key", message, data)


# --- rows: pure functions of the record, kept by `task_store` ---------------------------------------------------------


def held_key(project_no: int, text: str, number: int) -> bytes:
    """The row of a task that occupies a slot, under its concurrency key."""
    return b"c" + u32(project_no) + _digest(text, 16) + u64(number)


def pending_key(task: Task, rank: int) -> bytes:
    """The row of a pending task under its concurrency key: within a queue and need in order of priority and age."""
    if task.concurrency_key is None:
        raise AssertionError("only tasks with a concurrency key have this row")
    prefix = b"k" + u32(task.project_no) + _digest(task.concurrency_key, 16) + name(task.queue)
    if task.requires or task.locks:
        prefix += _NEED + _need(task)
    return prefix + bytes([rank]) + u64(task.number)


def _need(task: Task) -> bytes:
    """What a task needs beside its key: one that nobody can do now must not hide others of the key."""
    return blake2b(_encoder.encode((task.requires, task.locks)), digest_size=8).digest()


def session_key(project_no: int, queue: str, session_id: str, rank: int, number: int) -> bytes:
    """The row of a pending task under its session: within a queue in order of priority and age."""
    return session_prefix(project_no, queue, session_id) + bytes([rank]) + u64(number)


def session_prefix(project_no: int, queue: str, session_id: str) -> bytes:
    """What the rows of a session's pending tasks in one queue begin with."""
    return b"r" + u32(project_no) + name(queue) + _digest(session_id, 8)


def _digest(text: str, size: int) -> bytes:
    # Keys and ids may be longer than what a key of the store has room for beside a queue's name.
    return blake2b(text.encode(), digest_size=size).digest()


def held_with_key(reader: Reader, project_no: int, text: str) -> Iterator[int]:
    """Numbers of the tasks that occupy a slot under a concurrency key, oldest first."""
    prefix = b"c" + u32(project_no) + _digest(text, 16)
    for key, _ in reader.scan(prefix, end_of(prefix)):
        yield int.from_bytes(key[-8:], "big")


def pending_with_key(reader: Reader, project_no: int, text: str) -> Iterator[tuple[str, Iterator[int]]]:
    """(queue, numbers of its pending tasks of one need in order) for each queue and need that has some under a
    concurrency key."""
    prefix = b"k" + u32(project_no) + _digest(text, 16)
    start, end = prefix, end_of(prefix)
    while (row := next(iter(reader.scan(start, end)), None)) is not None:
        of_need = row[0][:-9]
        queue = of_need[len(prefix) : of_need.index(b"\0", len(prefix))]
        # Those that need nothing stand before all others of their queue.
        plain = len(of_need) == len(prefix) + len(queue) + 1
        start = of_need + _NEED if plain else end_of(of_need)
        numbers = (int.from_bytes(key[-8:], "big") for key, _ in reader.scan(of_need, start))
        yield queue.decode(), numbers


def pending_of_sessions(reader: Reader, project_no: int, queue: str, *, after: str | None = None) -> Iterator[int]:
    """The number of one pending task of each session in a queue, in an order of their own: a look-up for each. `after`:
    the session to go on behind."""
    prefix = b"r" + u32(project_no) + name(queue)
    start, end = prefix if after is None else end_of(session_prefix(project_no, queue, after)), end_of(prefix)
    while (row := next(iter(reader.scan(start, end)), None)) is not None:
        yield int.from_bytes(row[0][-8:], "big")
        start = end_of(row[0][:-9])
