"""Client and worker library for Hive, the coordination store for fleets of AI coding agents.

``Client`` (async), ``SyncClient`` (blocking), ``Worker`` (an agent process); ``hive_client.testing`` has a fake server.
"""

from hive_client.client import Client
from hive_client.errors import (
    ClusterRestored,
    Compacted,
    Conflict,
    Exists,
    Fenced,
    HiveError,
    InvalidRequest,
    NotFound,
    NotHappened,
    OutcomeUnknown,
    Refused,
    SequenceMismatch,
    StaleAttempt,
    StaleEpoch,
    Unavailable,
    Unreachable,
    WaitTimedOut,
)
from hive_client.idempotency import uuid7
from hive_client.models import (
    Agent,
    ChangeMessage,
    ClusterStatus,
    Event,
    Grant,
    Group,
    Page,
    Session,
    Task,
    TaskFields,
    TaskStatus,
)
from hive_client.retry import Backoff
from hive_client.sync import SyncClient
from hive_client.watch import Watch
from hive_client.worker import (
    Completion,
    NonRetryable,
    Reject,
    Stop,
    SyncTaskContext,
    TaskContext,
    Worker,
)

__all__ = [
    "Agent",
    "Backoff",
    "ChangeMessage",
    "Client",
    "ClusterRestored",
    "ClusterStatus",
    "Compacted",
    "Completion",
    "Conflict",
    "Event",
    "Exists",
    "Fenced",
    "Grant",
    "Group",
    "HiveError",
    "InvalidRequest",
    "NonRetryable",
    "NotFound",
    "NotHappened",
    "OutcomeUnknown",
    "Page",
    "Refused",
    "Reject",
    "SequenceMismatch",
    "Session",
    "StaleAttempt",
    "StaleEpoch",
    "Stop",
    "SyncClient",
    "SyncTaskContext",
    "Task",
    "TaskContext",
    "TaskFields",
    "TaskStatus",
    "Unavailable",
    "Unreachable",
    "WaitTimedOut",
    "Watch",
    "Worker",
    "uuid7",
]
