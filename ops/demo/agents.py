"""The agents of the demonstration: what each can do, and the processes that do it."""

from __future__ import annotations

import asyncio
import sys
from dataclasses import dataclass
from pathlib import Path

from hive_client import Client
from hive_client.models import Agent

from ops.demo.plan import DRAINED, KILLED, LINT, OUTLINE, PAUSED, REPLACED, REPORT, survey_capability
from ops.edge import CommandError
from ops.local_cluster import POLL_S
from ops.process import ChildProcess, describe_exit

READY_TIMEOUT_S = 30.0


@dataclass(frozen=True, slots=True)
class Role:
    """`max_concurrent` is how many tasks the agent has at once."""

    agent_id: str
    capabilities: tuple[str, ...]
    max_concurrent: int = 8


# Something happens to each of the four; it has a survey in hand then that nobody else can do until the stand-in comes.
ROLES = (
    Role("outliner", (OUTLINE, survey_capability(KILLED))),
    Role("linter", (LINT, survey_capability(PAUSED))),
    Role("generalist", (OUTLINE, LINT, survey_capability(DRAINED))),
    Role("reporter", (REPORT, LINT, survey_capability(REPLACED)), max_concurrent=4),
)
STAND_IN = Role("stand-in", (OUTLINE, LINT, *(survey_capability(trial) for trial in (KILLED, PAUSED, DRAINED))))
VICTIMS = dict(zip((KILLED, PAUSED, DRAINED, REPLACED), ROLES, strict=True))


def steps_session(run_id: str, agent_id: str, life: int = 1) -> str:
    """The session in which a process of an agent writes its steps; `life` counts the processes of that name."""
    return f"{run_id}.{agent_id}.{life}"


def agent_process(role: Role, session_id: str, root: Path, endpoints: list[str], log_dir: Path) -> ChildProcess:
    """The process of one agent, not started yet; it works on files under `root`."""
    arguments = {
        "--agent-id": role.agent_id,
        "--session-id": session_id,
        "--root": str(root),
        "--endpoints": ",".join(endpoints),
        "--capabilities": ",".join(role.capabilities),
        "--max-concurrent": str(role.max_concurrent),
    }
    words = [word for pair in arguments.items() for word in pair]
    command = [sys.executable, "-P", "-m", "ops.demo.agent", *words]
    return ChildProcess(role.agent_id, command, log_dir / f"{role.agent_id}.log")


class Team:
    """The processes of the run, by the session each of them writes; those in `excused` may be down."""

    def __init__(self, run_id: str, root: Path, endpoints: list[str], log_dir: Path) -> None:
        self._run_id = run_id
        self._root = root
        self._endpoints = endpoints
        self._log_dir = log_dir
        self.processes: dict[str, ChildProcess] = {}
        self.excused: set[str] = set()

    def session_of(self, role: Role, life: int = 1) -> str:
        return steps_session(self._run_id, role.agent_id, life)

    def process_of(self, role: Role, life: int = 1) -> ChildProcess:
        return self.processes[self.session_of(role, life)]

    def excuse(self, role: Role, life: int = 1) -> ChildProcess:
        """What happens to this process next is wanted."""
        self.excused.add(self.session_of(role, life))
        return self.process_of(role, life)

    async def start(self, role: Role, life: int = 1) -> None:
        """Start a process; returns at once."""
        session_id = self.session_of(role, life)
        agent = agent_process(role, session_id, self._root, self._endpoints, self._log_dir)
        # Known before it is there, so that it is stopped whatever happens, but not missed as long.
        self.excused.add(session_id)
        self.processes[session_id] = agent
        await agent.start()
        self.excused.discard(session_id)

    def require_running(self) -> None:
        """Raises CommandError if a process ended that should not."""
        for session_id, process in self.processes.items():
            if session_id not in self.excused:
                require_running(process)

    async def wait_registered(self, client: Client, role: Role, after_epoch: int = 0) -> Agent:
        """The agent, as soon as it is there under an epoch after this one. Raises CommandError if it does not come."""
        try:
            async with asyncio.timeout(READY_TIMEOUT_S):
                while True:
                    self.require_running()
                    page = await client.agents.list(limit=1000, consistency="linearizable")
                    for agent in page.items:
                        if agent.agent_id == role.agent_id and agent.epoch > after_epoch:
                            return agent
                    await asyncio.sleep(POLL_S)
        except TimeoutError:
            raise CommandError(f"{role.agent_id} did not register within {READY_TIMEOUT_S:.0f} s") from None

    async def stop(self, grace_s: float) -> None:
        """All of them together, whatever they do."""
        await asyncio.gather(*(agent.stop(grace_s) for agent in self.processes.values()))


def require_running(process: ChildProcess) -> None:
    """Raises CommandError if it has ended."""
    if not process.running:
        raise CommandError(f"{process.name} stopped by itself ({describe_exit(process.status)}): {process.last_line()}")
