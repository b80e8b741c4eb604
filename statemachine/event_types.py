"""The types an event of a session may have: a catalogue, so that tools of many makers can read each other's
logs.

What is not in it goes under `custom.`: anything that begins so is free.
"""

from __future__ import annotations

import re

from statemachine import limits

CUSTOM_PREFIX = "custom."

_SHAPE = re.compile(r"[A-Za-z0-9_:-]+(\.[A-Za-z0-9_:-]+)+", re.ASCII)

CATALOGUE: dict[str, str] = {
    # the session itself
    "session.created": "the session began",
    "session.started": "work in the session began",
    "session.updated": "title, owner, priority or metadata changed",
    "session.status_changed": "paused, resumed, completed, archived or expired",
    "session.paused": "work was interrupted",
    "session.resumed": "work went on",
    "session.completed": "the session reached its end",
    "session.forked": "another session took its history from here",
    "session.snapshot_created": "the state of the session was kept under a name",
    "session.deleted": "the session was removed",
    "event.appended": "events were written to a session",
    # conversation
    "message.user": "a person wrote",
    "message.assistant": "the model answered",
    "message.system": "instructions were given",
    "message.sent": "an agent wrote to another",
    "message.received": "an agent got a message",
    # the model
    "llm.request": "a model was asked",
    "llm.response": "a model answered, with usage",
    "llm.error": "a model did not answer",
    "reasoning.step": "one step of thinking",
    "plan.created": "a plan was made",
    "plan.updated": "the plan changed",
    "plan.step_started": "a step of the plan began",
    "plan.step_completed": "a step of the plan was done",
    "context.added": "something was put into the model's context",
    "context.compacted": "the context was shortened",
    # tools
    "tool.called": "a tool was started",
    "tool.result": "a tool gave its result",
    "tool.completed": "a tool ended well",
    "tool.failed": "a tool ended badly",
    "command.started": "a shell command began",
    "command.completed": "a shell command ended",
    "web.requested": "a page was fetched",
    "search.performed": "something was searched for",
    # code
    "file.read": "a file was read",
    "file.created": "a file was written for the first time",
    "file.modified": "a file was changed",
    "file.deleted": "a file was removed",
    "git.commit": "a commit was made",
    "git.branch": "a branch was made or changed",
    "git.push": "commits were published",
    "git.merge": "branches were joined",
    "build.completed": "a build ended well",
    "build.failed": "a build ended badly",
    "test.started": "tests began",
    "test.passed": "tests passed",
    "test.failed": "tests failed",
    "review.requested": "somebody was asked to look at a change",
    "review.completed": "a change was looked at",
    "artifact.created": "something that lasts was made",
    # tasks and agents, as the change feed names them
    "task.created": "a task was submitted",
    "task.scheduled": "a task waits for a time",
    "task.pending": "a task waits for an agent",
    "task.assigned": "a task was offered to an agent",
    "task.started": "an attempt began",
    "task.progress": "an attempt told how far it is",
    "task.waiting": "a task was parked by its agent",
    "task.resumed": "a parked task goes on",
    "task.completed": "a task was done",
    "task.failed": "a task ended without a result",
    "task.retried": "a failed task was started anew",
    "task.released": "a task was given back",
    "task.requeued": "a task lost its agent",
    "task.cancelled": "a task was called off",
    "task.expired": "a task was not done in time",
    "task.updated": "a task's fields changed",
    "task.deleted": "a task that ended long ago was removed",
    "agent.registered": "an agent joined",
    "agent.status_changed": "an agent's status changed",
    "agent.deleted": "an agent was removed",
    "agent.learned_reset": "what an agent's attempts had taught was forgotten",
    "agent.handoff": "one agent handed its work to another",
    # knowledge
    "memory.created": "something was remembered",
    "memory.updated": "a memory changed",
    "memory.deleted": "a memory was forgotten",
    "memory.recalled": "a memory was used",
    "decision.made": "a decision was taken",
    "decision.revised": "a decision was taken anew",
    "note.added": "a remark",
    "checkpoint.saved": "a place to go on from was kept",
    # people
    "approval.requested": "a person was asked for leave",
    "approval.granted": "a person agreed",
    "approval.denied": "a person refused",
    "feedback.given": "a person judged the work",
    # running the fleet
    "workflow.execution_started": "a workflow began",
    "workflow.node_completed": "a step of a workflow ended",
    "workflow.execution_completed": "a workflow ended",
    "lock.acquired": "a lock was taken",
    "lock.released": "a lock was given back",
    "budget.exceeded": "spending reached its limit",
    "metric.recorded": "a figure was measured",
    "error.raised": "something went wrong",
    "error.recovered": "something that had gone wrong was put right",
    "settings.updated": "replicated settings changed",
    "system.alert": "an operator should look",
    "system.maintenance": "an operator is at work",
    "cluster.leader_changed": "another node leads",
    "cluster.member_added": "a node joined",
    "cluster.member_removed": "a node left",
}
"""Every known type and what it says."""


def check_type(text: str) -> str | None:
    """What is wrong with an event type from outside, as the end of a sentence; None when it is good."""
    if wrong := check_shape(text):
        return wrong
    if text not in CATALOGUE and not text.startswith(CUSTOM_PREFIX):
        return f"{text!r} is not in the catalogue of event types; types of your own begin with {CUSTOM_PREFIX!r}"
    return None


def check_shape(text: str) -> str | None:
    """As `check_type`, whatever the catalogue says: the state must not depend on the catalogue of one
    version."""
    if len(text) > limits.EVENT_TYPE_BYTES_MAX:
        return f"must be at most {limits.EVENT_TYPE_BYTES_MAX} characters"
    if _SHAPE.fullmatch(text) is None:
        return "must be words of letters, digits and _ : - with dots between them"
    return None
