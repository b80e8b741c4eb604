"""The four agents of the demonstration: what each can do, and the process that does it."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

from ops.demo.plan import LINT, OUTLINE, REPORT
from ops.process import ChildProcess


@dataclass(frozen=True, slots=True)
class Role:
    """`max_concurrent` is how many tasks the agent has at once."""

    agent_id: str
    capabilities: tuple[str, ...]
    max_concurrent: int = 8


ROLES = (
    Role("outliner", (OUTLINE,)),
    Role("linter", (LINT,)),
    Role("generalist", (OUTLINE, LINT)),
    Role("reporter", (REPORT, LINT), max_concurrent=4),
)


def steps_session(run_id: str, agent_id: str) -> str:
    """The session in which an agent writes its steps."""
    return f"{run_id}.{agent_id}"


def agent_process(role: Role, run_id: str, root: Path, endpoints: list[str], log_dir: Path) -> ChildProcess:
    """The process of one agent, not started yet; it works on files under `root`."""
    arguments = {
        "--agent-id": role.agent_id,
        "--run-id": run_id,
        "--root": str(root),
        "--endpoints": ",".join(endpoints),
        "--capabilities": ",".join(role.capabilities),
        "--max-concurrent": str(role.max_concurrent),
    }
    words = [word for pair in arguments.items() for word in pair]
    command = [sys.executable, "-P", "-m", "ops.demo.agent", *words]
    return ChildProcess(role.agent_id, command, log_dir / f"{role.agent_id}.log")
