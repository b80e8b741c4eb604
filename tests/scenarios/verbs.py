"""What can be written in a scenario: each verb, the request it makes, and how its reply is written down."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import urlencode

from tests.scenarios import shown
from tests.scenarios.script import Command
from tests.scenarios.shown import Lines, Show
from tests.scenarios.stage import Stage

Perform = Callable[[Stage, Command], Awaitable[Lines]]

HEADERS = {"key": "Idempotency-Key", "fence": "Hive-Fence"}
STEADY_BACKOFF = {"initial_ms": 1_000, "factor": 2, "jitter": 0}
"""Unless a scenario says otherwise: jitter is chance, which no transcript can repeat."""


def _headers(command: Command) -> dict[str, str]:
    return {header: str(command.options[name]) for name, header in HEADERS.items() if name in command.options}


def _fields(command: Command) -> dict[str, Any]:
    return {name: value for name, value in command.options.items() if name not in HEADERS}


def _names(text: str, figure: str) -> list[dict[str, Any]]:
    """`python:0.8,docker` as a list of capabilities, `figure` being what stands behind the colon."""
    parts = [part.partition(":") for part in text.split(",")]
    return [{"name": name, **({figure: float(value)} if value else {})} for name, _, value in parts]


def _task(task_id: str, fields: dict[str, Any]) -> dict[str, Any]:
    body = {"task_id": task_id, "backoff": STEADY_BACKOFF, **fields}
    if "requires" in body:
        body["requires"] = _names(body["requires"], "min_proficiency")
    if "depends_on" in body:
        body["depends_on"] = body["depends_on"].split(",")
    return body


def _held(text: str) -> dict[str, Any]:
    task_id, _, attempt = text.partition("#")
    return {"task_id": task_id, "attempt": int(attempt)}


# --- users ------------------------------------------------------------------------------------------------------------


async def submit(stage: Stage, command: Command) -> Lines:
    """submit TASK FIELD=…"""
    body = _task(command.words[0], _fields(command))
    return shown.answer(await stage.ask("POST", "/api/tasks", body, _headers(command)), shown.one_task)


async def batch(stage: Stage, command: Command) -> Lines:
    """batch [atomic] TASK,TASK:DEPENDENCY+DEPENDENCY,… FIELD=… (the fields of all of them)"""
    *mode, listed = command.words
    items = []
    for item in listed.split(","):
        task_id, _, needs = item.partition(":")
        fields = _fields(command) | ({"depends_on": needs.replace("+", ",")} if needs else {})
        items.append(_task(task_id, fields))
    body = {"items": items, "atomic": mode == ["atomic"]}
    return shown.answer(await stage.ask("POST", "/api/tasks/batch", body, _headers(command)), shown.batch)


def _on_one(method: str, path: str, show: Show) -> Perform:
    """VERB ID [FIELD=…]: a request about one resource, whose id stands for `{}`."""

    async def perform(stage: Stage, command: Command) -> Lines:
        body = _fields(command) if method in {"POST", "PUT", "PATCH"} else None
        return shown.answer(await stage.ask(method, path.format(command.words[0]), body, _headers(command)), show)

    return perform


def _read(path: str, show: Show) -> Perform:
    """VERB [ID] [PARAMETER=…]: a read."""

    async def perform(stage: Stage, command: Command) -> Lines:
        query = f"?{urlencode(command.options)}" if command.options else ""
        return shown.answer(await stage.ask("GET", path.format(*command.words) + query), show)

    return perform


async def wait(stage: Stage, command: Command) -> Lines:
    """wait task|group ID until=…: somebody asks, and hears when it has come to that."""
    kind, resource_id = command.words
    path, show = {"task": ("tasks", shown.one_task), "group": ("groups", shown.group)}[kind]
    query = urlencode({**command.options, "wait_ms": 60_000})
    who = f"whoever waits for {resource_id}"
    stage.wait_for(who, show, "GET", f"/api/{path}/{resource_id}?{query}")
    return [f"waits until {command.options['until']}"]


async def session(stage: Stage, command: Command) -> Lines:
    """session ID FIELD=…"""
    body = {"session_id": command.words[0], **_fields(command)}
    return shown.answer(await stage.ask("POST", "/api/sessions", body, _headers(command)), shown.session)


async def append(stage: Stage, command: Command) -> Lines:
    """append SESSION TYPE[,TYPE…] [data=…] [expected_seq=…]"""
    session_id, types = command.words
    fields = _fields(command)
    body = {"expected_seq": fields.pop("expected_seq")} if "expected_seq" in fields else {}
    body["items"] = [{"type": kind, **fields} for kind in types.split(",")]
    reply = await stage.ask("POST", f"/api/sessions/{session_id}/events", body, _headers(command))
    return shown.answer(reply, shown.appended)


async def set_settings(stage: Stage, command: Command) -> Lines:
    """set NAME VALUE"""
    name, value = command.words
    body = {name: json.loads(value)}
    return shown.answer(await stage.ask("PATCH", "/api/settings", body, _headers(command)), shown.settings)


async def schedule(stage: Stage, command: Command) -> Lines:
    """schedule ID [FIELD=…]: a task of type `run`, made again and again"""
    body = {"schedule_id": command.words[0], "task": {"type": "run"}, **_fields(command)}
    return shown.answer(await stage.ask("POST", "/api/schedules", body, _headers(command)), shown.schedule)


# --- agents -----------------------------------------------------------------------------------------------------------


async def register(stage: Stage, command: Command) -> Lines:
    """register AGENT [CAPABILITY:PROFICIENCY,…] [FIELD=…]"""
    agent_id, *capabilities = command.words
    body = {"agent_id": agent_id, **_fields(command)}
    if capabilities:
        body["capabilities"] = _names(capabilities[0], "proficiency")
    reply = await stage.ask("POST", "/api/agents", body, _headers(command))
    if reply.status < 400:
        stage.epochs[agent_id] = reply.json["epoch"]
    return shown.answer(reply, shown.registered)


def _beat(stage: Stage, command: Command) -> tuple[str, dict[str, Any]]:
    agent_id, *held = command.words
    body = {"epoch": stage.epochs.get(agent_id, 0), "running": [_held(text) for text in held], **_fields(command)}
    return agent_id, body


async def beat(stage: Stage, command: Command) -> Lines:
    """beat AGENT [TASK#ATTEMPT …]: a heartbeat that lists what it works on, and does not wait."""
    agent_id, body = _beat(stage, command)
    return shown.answer(await stage.ask("POST", f"/api/agents/{agent_id}/heartbeat", body), shown.news)


async def poll(stage: Stage, command: Command) -> Lines:
    """poll AGENT [TASK#ATTEMPT …]: a heartbeat that waits for news; what it hears is told when it comes."""
    agent_id, body = _beat(stage, command)
    is_open = await stage.poll(agent_id, {"wait_ms": 60_000, **body})
    return [f"{agent_id} listens"] if is_open else []


async def claim(stage: Stage, command: Command) -> Lines:
    """claim AGENT [TASK] [FIELD=…]: one named task, or whatever fits."""
    agent_id, *task_ids = command.words
    body = {"agent_id": agent_id, "epoch": stage.epochs.get(agent_id, 0), **_fields(command)}
    if task_ids:
        reply = await stage.ask("POST", f"/api/tasks/{task_ids[0]}/claim", body, _headers(command))
        return shown.answer(reply, shown.one_task)
    return shown.answer(await stage.ask("POST", "/api/tasks/claim", body, _headers(command)), shown.tasks)


def _by_holder(verb: str, show: Show = shown.one_task) -> Perform:
    """VERB AGENT TASK#ATTEMPT [FIELD=…]"""

    async def perform(stage: Stage, command: Command) -> Lines:
        agent_id, held = command.words
        task = _held(held)
        body = {"agent_id": agent_id, "attempt": task["attempt"], **_fields(command)}
        return shown.answer(
            await stage.ask("POST", f"/api/tasks/{task['task_id']}/{verb}", body, _headers(command)), show
        )

    return perform


async def park(stage: Stage, command: Command) -> Lines:
    """park AGENT TASK#ATTEMPT KIND NAME [FIELD=…]"""
    agent_id, held, kind, name = command.words
    task, fields = _held(held), _fields(command)
    wanted = {"kind": kind, "name": name} | ({"prompt": fields.pop("prompt")} if "prompt" in fields else {})
    body = {"agent_id": agent_id, "attempt": task["attempt"], "for": wanted, **fields}
    return shown.answer(
        await stage.ask("POST", f"/api/tasks/{task['task_id']}/wait", body, _headers(command)), shown.one_task
    )


async def redrive(stage: Stage, command: Command) -> Lines:
    """redrive FIELD=…: failed tasks by filter"""
    return shown.answer(
        await stage.ask("POST", "/api/tasks/retry", _fields(command), _headers(command)), shown.redriven
    )


# --- time and leaders -------------------------------------------------------------------------------------------------


async def clock(stage: Stage, command: Command) -> Lines:
    """clock +SECONDSs: time passes, and everything in it happens at its own moment."""
    await stage.node.clock.advance(_seconds(command))
    return []


async def freeze(stage: Stage, command: Command) -> Lines:
    """freeze SECONDSs: the process stands still for that long, and finds out afterwards."""
    await stage.node.clock.jump(_seconds(command))
    return []


def _seconds(command: Command) -> float:
    return float(command.words[0].removesuffix("s"))


async def leader(stage: Stage, command: Command) -> Lines:
    """leader lost|elected: an election is lost, and nobody leads; or won, and a term begins."""
    replica = stage.node.replica
    if command.words == ("lost",):
        replica.follow()
        return ["nobody leads"]
    if command.words != ("elected",):
        raise ValueError("leader lost, or leader elected")
    replica.lead()
    return [f"term {replica.term} begins"]


VERBS: dict[str, Perform] = {
    "submit": submit,
    "batch": batch,
    "show": _read("/api/tasks/{}", shown.whole_task),
    "list": _read("/api/tasks", shown.tasks),
    "explain": _read("/api/tasks/{}/explain", shown.explanation),
    "patch": _on_one("PATCH", "/api/tasks/{}", shown.one_task),
    "assign": _on_one("PUT", "/api/tasks/{}/assign", shown.one_task),
    "cancel": _on_one("DELETE", "/api/tasks/{}", shown.one_task),
    "retry": _on_one("POST", "/api/tasks/{}/retry", shown.one_task),
    "group": _read("/api/groups/{}", shown.group),
    "cancel-group": _on_one("DELETE", "/api/groups/{}", shown.group),
    "wait": wait,
    "schedule": schedule,
    "show-schedule": _read("/api/schedules/{}", shown.schedule),
    "pause": _on_one("POST", "/api/schedules/{}/pause", shown.schedule),
    "resume-schedule": _on_one("POST", "/api/schedules/{}/resume", shown.schedule),
    "patch-schedule": _on_one("PATCH", "/api/schedules/{}", shown.schedule),
    "trigger": _on_one("POST", "/api/schedules/{}/trigger", shown.one_task),
    "queue": _read("/api/queues/{}", shown.queue),
    "set-queue": _on_one("PATCH", "/api/queues/{}", shown.queue),
    "budget": _read("/api/budgets/{}", shown.budget),
    "set-budget": _on_one("PUT", "/api/budgets/{}", shown.budget),
    "reset-budget": _on_one("POST", "/api/budgets/{}/reset", shown.budget),
    "session": session,
    "append": append,
    "events": _read("/api/sessions/{}/events", shown.events),
    "register": register,
    "agent": _read("/api/agents/{}", shown.agent),
    "standing": _read("/api/tasks/{}/explain", shown.standing),
    "learned": _read("/api/agents/{}", shown.learned),
    "reset-learned": _on_one("POST", "/api/agents/{}/learned/reset", shown.learned),
    "settings": _read("/api/settings", shown.settings),
    "set": set_settings,
    "drain": _on_one("POST", "/api/agents/{}/drain", shown.agent),
    "undrain": _on_one("DELETE", "/api/agents/{}/drain", shown.agent),
    "delete-agent": _on_one("DELETE", "/api/agents/{}", shown.deleted),
    "beat": beat,
    "poll": poll,
    "claim": claim,
    "accept": _by_holder("accept"),
    "complete": _by_holder("complete"),
    "fail": _by_holder("fail"),
    "release": _by_holder("release"),
    "park": park,
    "resume": _on_one("POST", "/api/tasks/{}/resume", shown.one_task),
    "redrive": redrive,
    "renew": _by_holder("renew", shown.lease),
    "progress": _by_holder("progress", shown.lease),
    "clock": clock,
    "freeze": freeze,
    "leader": leader,
}


async def perform(stage: Stage, command: Command) -> Lines:
    """Do one step -> its answer, and all that followed from it. KeyError for a verb that there is none of."""
    lines = await VERBS[command.verb](stage, command)
    return lines + await stage.aftermath()
