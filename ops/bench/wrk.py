"""`wrk` as the load generator: a script for each kind of request, and its figures read back."""

from __future__ import annotations

import json
from pathlib import Path

from ops.bench.figures import Figures
from ops.bench.load import COUNTER_DIGITS, KEY_DIGITS, KEYS, RUN_STEP, THREAD_STEP, Shot
from ops.edge import CommandError

MARK = "hive-figures "

# Each thread has its own Lua state: `setup` runs in the main one and numbers them.
SCRIPT = """
local threads = 0
function setup(thread)
  thread:set("number", threads)
  threads = threads + 1
end

local method, target, body = {method}, {target}, {body}
local headers = {{ ["Content-Type"] = "application/json" }}
local counter, fixed = 0, nil

function init(args)
  counter = {first} + number * {thread_step}
  if {is_fixed} then fixed = wrk.format(method, target, headers, body) end
end

local function fill(text)
  text = text:gsub("{{n}}", string.format("%0{counter_digits}d", counter))
  return (text:gsub("{{k}}", string.format("%0{key_digits}d", counter % {keys})))
end

function request()
  if fixed then return fixed end
  counter = counter + 1
  return wrk.format(method, fill(target), headers, fill(body))
end

function done(summary, latency, requests)
  local e = summary.errors
  io.write(string.format('{mark}{{"requests": %d, "us": %d, "status": %d, "broken": %d, "p50": %f, "p99": %f}}\\n',
    summary.requests, summary.duration, e.status, e.connect + e.read + e.write + e.timeout,
    latency:percentile(50), latency:percentile(99)))
end
"""


def script(shot: Shot, run: int) -> str:
    """The Lua text for one run."""
    return SCRIPT.format(
        method=_quoted(shot.method),
        target=_quoted(shot.target),
        body=_quoted(shot.body),
        first=run * RUN_STEP,
        thread_step=THREAD_STEP,
        is_fixed="true" if shot.fixed else "false",
        counter_digits=COUNTER_DIGITS,
        key_digits=KEY_DIGITS,
        keys=KEYS,
        mark=MARK,
    )


def _quoted(text: str) -> str:
    # A Lua long string takes anything; the level keeps a body with ]] from ending it.
    return f"[==[{text}]==]"


def command(script_path: Path, endpoint: str, connections: int, seconds: float) -> list[str]:
    """The command line of one run; whole seconds, for wrk knows no others."""
    threads = 1 if connections < 16 else 2
    duration = f"{max(1, round(seconds))}s"
    return [
        "wrk",
        f"-t{threads}",
        f"-c{connections}",
        f"-d{duration}",
        "--timeout",
        "10s",
        "-s",
        str(script_path),
        endpoint,
    ]


def parse(output: str, units: int) -> Figures:
    """The figures in wrk's output. Raises CommandError if there are none."""
    line = next((line for line in output.splitlines() if line.startswith(MARK)), None)
    if line is None:
        raise CommandError(f"wrk gave no figures: {output.strip()[-500:]}")
    found = json.loads(line.removeprefix(MARK))
    good = found["requests"] - found["status"]
    return Figures(
        rate=good * units / (found["us"] / 1e6),
        p50_ms=found["p50"] / 1000,
        p99_ms=found["p99"] / 1000,
        requests=found["requests"],
        errors=found["status"] + found["broken"],
    )
