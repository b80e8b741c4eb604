"""``Worker``: an agent process that takes tasks from the cluster and does them."""

from hive_client.worker.context import Stop, SyncTaskContext, TaskContext
from hive_client.worker.handlers import Completion, NonRetryable, RateLimited, Reject
from hive_client.worker.parking import Wait
from hive_client.worker.worker import Worker

__all__ = [
    "Completion",
    "NonRetryable",
    "RateLimited",
    "Reject",
    "Stop",
    "SyncTaskContext",
    "TaskContext",
    "Wait",
    "Worker",
]
