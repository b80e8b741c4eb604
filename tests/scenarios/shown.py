"""How replies are written down: on few lines, and so that two runs write the same."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from statemachine.changes import Change
from tests.node.harness import START_MS, Answer

Lines = list[str]
Show = Callable[[Any], Lines]

_TIME = re.compile(r'"?(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z)"?')
_TIMEOUT = re.compile(r"within [\d.]+ s")


def since_start(milliseconds: int) -> str:
    """A time as the seconds since the story began."""
    return f"+{(milliseconds - START_MS) / 1_000:g}s"


def _relative(text: str) -> str:
    """Times within a text count from the start of the story too."""

    def replaced(match: re.Match[str]) -> str:
        at = datetime.fromisoformat(match[1]).astimezone(UTC)
        return since_start(round(at.timestamp() * 1_000))

    return _TIME.sub(replaced, text)


def compact(value: Any) -> str:
    """A JSON value on one line; a text without its quotes."""
    return _relative(value if isinstance(value, str) else json.dumps(value, separators=(",", ":")))


def facts(members: dict[str, Any] | None) -> str:
    """` name=value` for each member that says something."""
    return "".join(f" {name}={compact(value)}" for name, value in (members or {}).items() if value is not None)


def answer(reply: Answer, show: Show) -> Lines:
    """A reply: its status, then the problem, or what `show` makes of the body."""
    status = f"{reply.status}" + (" replayed" if "Idempotency-Replayed" in reply.headers else "")
    if reply.status >= 400:
        return problem(status, reply.json)
    first, *rest = show(reply.json) or [""]
    return [f"{status} {first}".rstrip(), *("  " + line for line in rest)]


def problem(status: str, document: dict[str, Any]) -> Lines:
    """A refusal, and what stands in the way. How much time a request had left is chance, so it is left out."""
    retry = "" if document["retry"] == "no" else f" (retry: {document['retry']})"
    lines = [f"{status} {document['code']}{retry}: {_relative(_TIMEOUT.sub('in time', document['detail']))}"]
    lines += [f"  {wrong['path']}: {wrong['message']}" for wrong in document.get("errors") or ()]
    if document.get("current") is not None:
        lines.append("  current:" + facts(document["current"]))
    return lines


def change(told: Change, time_ms: int) -> str:
    """One change of the feed."""
    return f"r{told.revision} {since_start(time_ms)} {told.type} {told.resource_id}{facts(told.data)}"


def attempt(task: dict[str, Any]) -> str:
    """`t1#2`: a task and its fence."""
    return f"{task['task_id']}#{task['attempt']}" if task["attempt"] else str(task["task_id"])


def task(shown: dict[str, Any]) -> str:
    """A task on one line; of a grant also its lease and what comes with it."""
    line = f"{attempt(shown)} {shown['status']}"
    if shown["agent_id"] is not None:
        line += f" {'to' if shown['status'] == 'assigned' else 'by'} {shown['agent_id']}"
    if shown["tries"]:
        line += f" try {shown['tries']} of {shown['max_attempts']}"
    if shown["failure"] is not None:
        line += f" failure={shown['failure']['reason']}"
    if shown["result"] is not None:
        line += f" result={compact(shown['result'])}"
    if shown["progress"]["checkpoint"] is not None:
        line += f" checkpoint={compact(shown['progress']['checkpoint'])}"
    if (waiting := shown.get("waiting")) is not None:
        line += f" for {waiting['kind']} {waiting['name']}"
    if (resume := shown.get("resume")) is not None:
        line += f" resume={resume['name']}:{'timed_out' if resume['timed_out'] else compact(resume['data'])}"
    if shown.get("lease_remaining_ms") is not None:
        line += f" lease={shown['lease_remaining_ms'] / 1_000:g}s"
    for other in shown.get("dependencies") or ():
        line += f" {other['task_id']}={other['status']}:{compact(other.get('result'))}"
    return line


def one_task(shown: dict[str, Any]) -> Lines:
    """A task as the answer of a verb."""
    return [task(shown)]


def redriven(shown: dict[str, Any]) -> Lines:
    """A mass redrive."""
    return [f"{shown['retried']} begin anew{', the rest follows' if shown['more'] else ''}"]


def whole_task(shown: dict[str, Any]) -> Lines:
    """A task with its story."""
    lines = [task(shown), f"priority={shown['priority']} queue={shown['queue']} revision={shown['revision']}"]
    if shown["failure"] is not None:
        lines.append("failure:" + facts(shown["failure"]))
    if shown["progress"]["fraction"] is not None:
        lines.append(f"progress: {shown['progress']['fraction']} {shown['progress']['message'] or ''}".rstrip())
    for line in shown["history"]:
        moved = {name: line[name] for name in ("attempt", "agent_id", "reason") if line[name]}
        lines.append(f"{compact(line['at'])} {line['from']} -> {line['to']}{facts(moved)}")
    return lines


def tasks(page: dict[str, Any]) -> Lines:
    """Tasks, one a line."""
    count = len(page["items"])
    return [f"{count or 'no'} task{'s' * (count > 1)}", *(task(item) for item in page["items"])]


def lease(shown: dict[str, Any]) -> Lines:
    """What a renewal answers; progress with a checkpoint answers the task."""
    if "history" in shown:
        return one_task(shown)
    return [f"{attempt(shown)} lease={shown['lease_remaining_ms'] / 1_000:g}s durable={compact(shown['durable'])}"]


def batch(reply: dict[str, Any]) -> Lines:
    """Each item of a batch."""
    lines = [f"revision={reply['revision']}"]
    for item in reply["items"]:
        refused = f" {item['code']}: {item['detail']}" if "code" in item else ""
        lines.append(f"{item['status']} {item['id']}{refused}")
    return lines


def registered(reply: dict[str, Any]) -> Lines:
    """A registration."""
    return [f"{agent(reply['agent'])[0]} heartbeat={reply['heartbeat_interval_ms'] / 1_000:g}s"]


def agent(shown: dict[str, Any]) -> Lines:
    """An agent, and what it holds."""
    holds = [f"{attempt(item)}({item['status']})" for item in shown.get("current_tasks") or ()]
    line = f"{shown['agent_id']} {shown['status']} epoch={shown['epoch']} free_slots={shown['free_slots']}"
    return [line + (f" holds={','.join(holds)}" if holds else "")]


def standing(reply: dict[str, Any]) -> Lines:
    """What speaks for each agent that could do a task."""
    lines = [reply["status"]]
    for found in reply["agents"]["candidates"]:
        lines.append(f"{found['agent_id']} score={found['score']:.3f}{facts(found['parts'])}")
    return lines


def learned(shown: dict[str, Any]) -> Lines:
    """What an agent's attempts taught."""
    line = shown["agent_id"] + facts({"overall": shown["learned_proficiency"], "cost": shown["average_cost_usd"]})
    return [line] + [f"{one['name']}: {one['proficiency']} after {one['attempts']}" for one in shown["learned"]]


def settings(shown: dict[str, Any]) -> Lines:
    """What was set."""
    values = {one["name"]: one["value"] for one in shown["items"] if one["is_set"]}
    return [f"revision={shown['revision']}{facts(values)}"]


def deleted(reply: dict[str, Any]) -> Lines:
    """The end of an agent."""
    return [f"{reply['agent_id']} deleted"]


def news(reply: dict[str, Any]) -> Lines:
    """What a heartbeat is told."""
    lines: Lines = []
    for offer in reply["offers"]:
        lines.append(f"offer: {task(offer)}, to accept within {offer['offer_expires_in_ms'] / 1_000:g}s")
    for held in reply["held"]:
        if held["status"] in {"assigned", "running"}:
            lines.append(f"holds: {attempt(held)} lease={held['lease_remaining_ms'] / 1_000:g}s")
    lines += [f"stop: {attempt(item)} {item['reason']}" for item in reply["cancel"]]
    lines += [f"lost: {attempt(item)}, now:{facts(item['current'])}" for item in reply["lost"]]
    return lines + (["drain"] if reply["drain"] else []) or ["no news"]


def explanation(reply: dict[str, Any]) -> Lines:
    """Why a task is where it is."""
    lines = [reply["status"]]
    lines += [f"{found['code']}: {found['message']}{facts(found['data'])}" for found in reply["reasons"]]
    if reply["agents"] is not None:
        lines.append(f"agents: total={reply['agents']['total']}{facts(reply['agents']['filtered'])}")
        lines += [f"candidate: {found['agent_id']}" for found in reply["agents"]["candidates"]]
    return lines


def group(shown: dict[str, Any]) -> Lines:
    """A group of tasks."""
    line = f"{shown['group_id']} ended={compact(shown['ended'])}{facts(shown['counts'])}"
    line += f" failed_ids={','.join(shown['failed'])}" if shown["failed"] else ""
    return [line + (f" cancelled_now={shown['cancelled']}" if "cancelled" in shown else "")]


def schedule(shown: dict[str, Any]) -> Lines:
    """A schedule, and what has become of its due times."""
    figures = {name: shown[name] for name in ("runs", "skipped", "missed") if shown[name]}
    next_run = "paused" if shown["paused"] else f"next={compact(shown['next_run_at'])}"
    return [f"{shown['schedule_id']} overlap={shown['overlap']} {next_run}{facts(figures)}"]


def queue(shown: dict[str, Any]) -> Lines:
    """A queue: what is in it, and what limits it."""
    counts = {state: number for state, number in shown["counts"].items() if number}
    names = ("paused", "max_running", "rate_per_second")
    limits = {name: shown[name] for name in names if shown[name] not in (None, False)}
    if shown["max_running_per_key"] != 1:
        limits["max_running_per_key"] = shown["max_running_per_key"]
    return [f"{shown['name']}{facts({**counts, **limits, 'held': shown['held']})}"]


def budget(shown: dict[str, Any]) -> Lines:
    """A budget: its limits, and how much of them is gone."""
    names = ("max_tokens", "reserve_tokens", "max_cost_usd", "reserve_cost_usd")
    limits = {name: shown[name] for name in names if shown[name]}
    line = f"{shown['scope']}/{shown['id']}{facts(limits)}{' EXCEEDED' if shown['exceeded'] else ''}"
    return [line, *(f"{name}:{facts(shown[name])}" for name in ("spent", "reserved", "left"))]


def session(shown: dict[str, Any]) -> Lines:
    """A session."""
    return [f"{shown['session_id']} {shown['status']} last_seq={shown['last_seq']}"]


def appended(reply: dict[str, Any]) -> Lines:
    """Where events went."""
    return [f"first_seq={reply['first_seq']} last_seq={reply['last_seq']}"]


def events(page: dict[str, Any]) -> Lines:
    """Events, one a line."""
    lines = [f"last_seq={page['last_seq']}"]
    for event in page["items"]:
        lines.append(f"{event['seq']} {event['type']}{facts({'actor': event['actor'], 'data': event['data']})}")
    return lines
