"""What nodes and the leader say to each other about its memory (msgpack; see `Replica.call_leader`).

Fields are only ever added at the end, so that nodes of neighbouring versions understand each other.
"""

from __future__ import annotations

import msgspec

BEAT = "beat"
CLAIM = "claim"
POLLS = "polls"
LIVE = "live"
EXPLAIN = "explain"
HAND_OVER = "hand_over"


class Message(msgspec.Struct, array_like=True, frozen=True):
    """A message, or part of one."""


class Running(Message, frozen=True):
    """A task an agent says it works on. `project` None: whichever of its projects. `fraction` in ten-thousandths."""

    task_id: str
    attempt: int
    project: str | None = None
    fraction: int | None = None
    message: str | None = None


class Beat(Message, frozen=True):
    """A sign of life of one agent. `epoch` None: not said. `poll` = (number of the poll at that node, wait_ms) when one
    opens; `closed` the number of one that ended. Leases of `running` are renewed."""

    agent_id: str
    epoch: int | None
    running: tuple[Running, ...] = ()
    metrics: bytes | None = None
    poll: tuple[int, int] | None = None
    closed: int | None = None


class BeatRequest(Message, frozen=True):
    """All beats of one moment at one node."""

    node_run: str
    beats: tuple[Beat, ...]


class LeaseLeft(Message, frozen=True):
    """What is left of a lease, or of an offer's time."""

    project: str
    task_id: str
    attempt: int
    remaining_ms: int
    status: str


class BeatAnswer(Message, frozen=True):
    """`code` is empty, `not_found` or `stale_epoch` (then `epoch` is the current one). `leases` are all the agent's."""

    code: str
    epoch: int = 0
    interval_ms: int = 0
    leases: tuple[LeaseLeft, ...] = ()


class BeatReply(Message, frozen=True):
    """Answers in order. `code` is empty, or `no_leader`: whoever was asked does not lead, or is not sure of it."""

    code: str
    answers: tuple[BeatAnswer, ...] = ()


class PollsRequest(Message, frozen=True):
    """A node asks to hear what happens to its polls; answered when something does, or after `wait_ms`."""

    node_run: str
    wait_ms: int


class PollsReply(Message, frozen=True):
    """Polls of the node that a newer one elsewhere has ended."""

    code: str
    superseded: tuple[int, ...] = ()


class ClaimRequest(Message, frozen=True):
    """Find tasks for an agent, in one project; wait for them up to `wait_ms`. `queues` None: all."""

    agent_id: str
    epoch: int
    project: str
    limit: int
    queues: tuple[str, ...] | None = None
    wait_ms: int = 0


class ClaimReply(Message, frozen=True):
    """`code` as in BeatAnswer, or `no_leader`, `overloaded`.

    The tasks are kept for the agent for a moment: it must claim them now.
    """

    code: str
    epoch: int = 0
    task_ids: tuple[str, ...] = ()


class LiveRequest(Message, frozen=True):
    """What only the leader knows of these tasks and agents; `everything`: of all agents."""

    tasks: tuple[tuple[str, str], ...] = ()
    agents: tuple[str, ...] = ()
    everything: bool = False


class LiveTask(Message, frozen=True):
    """A held task. `fraction` in ten-thousandths, as last reported without a checkpoint."""

    project: str
    task_id: str
    attempt: int
    agent_id: str
    status: str
    remaining_ms: int
    fraction: int | None = None
    message: str | None = None


class LiveAgent(Message, frozen=True):
    """An agent. `seen_ms` and `metrics_ms` are Unix times; `metrics` the JSON it sent last. What it completed, failed,
    and what of that is tried again, counts the last minute."""

    agent_id: str
    epoch: int
    seen_ms: int
    poll_open: bool
    slots_used: int
    slots_free: int
    completed: int
    failed: int
    retried: int
    metrics: bytes | None = None
    metrics_ms: int | None = None


class LiveReply(Message, frozen=True):
    """As of a Unix time."""

    code: str
    as_of_ms: int = 0
    tasks: tuple[LiveTask, ...] = ()
    agents: tuple[LiveAgent, ...] = ()


class ExplainRequest(Message, frozen=True):
    """Why is this pending task not with an agent?"""

    project: str
    task_id: str


class Candidate(Message, frozen=True):
    """An agent the task could go to. Score and its parts are 0 to 1."""

    agent_id: str
    score: float
    parts: dict[str, float]


class ExplainReply(Message, frozen=True):
    """`filtered` counts agents by the first thing that keeps the task from them; `behind` is a task that comes first,
    and waits for locks that overlap."""

    code: str
    total: int = 0
    filtered: dict[str, int] = {}
    candidates: tuple[Candidate, ...] = ()
    behind: str | None = None


class HandOverRequest(Message, frozen=True):
    """Let this member lead; None: whoever is most caught up."""

    to: str | None
    timeout_ms: int


class HandOverReply(Message, frozen=True):
    """Who leads now; or why it is still who was asked (`code`)."""

    code: str
    detail: str = ""
    leader_id: str = ""
    term: int = 0
