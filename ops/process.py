"""One child process: started, watched, stopped. It never outlives this one by accident."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

_PR_SET_PDEATHSIG = 1
# Loaded before any fork: after it, only calls that take no locks are safe.
_LIBC = ctypes.CDLL(None) if sys.platform == "linux" else None


class ChildProcess:
    """A process in a session of its own, so that Ctrl-C reaches only us and we decide in which order things stop."""

    def __init__(self, name: str, command: Sequence[str], log_path: Path | None, stdout: int | None = None) -> None:
        self.name = name
        self.command = list(command)
        self._log_path = log_path
        self._stdout = stdout
        self._process: asyncio.subprocess.Process | None = None

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.returncode is None

    @property
    def status(self) -> int:
        """The exit status of a process that has ended."""
        assert self._process is not None, "not started"
        assert self._process.returncode is not None, "still running"
        return self._process.returncode

    @property
    def pid(self) -> int:
        assert self._process is not None, "not started"
        return self._process.pid

    @property
    def output(self) -> asyncio.StreamReader:
        """What the process prints; only if `stdout` was a pipe."""
        assert self._process is not None, "not started"
        assert self._process.stdout is not None, "output goes to a file"
        return self._process.stdout

    async def start(self) -> None:
        """Start it, also again after its end. Raises OSError if it cannot be run at all."""
        with contextlib.ExitStack() as stack:
            output: object = self._stdout
            if self._log_path is not None:
                output = stack.enter_context(self._log_path.open("ab"))
            self._process = await asyncio.create_subprocess_exec(
                *self.command,
                stdin=subprocess.DEVNULL,
                stdout=output,  # type: ignore[arg-type]  # a file, PIPE or None; the stub knows them under a private name
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=_die_with_parent if _LIBC is not None else None,
            )

    async def wait(self) -> int:
        """Wait for its end; the exit status, negative for a signal."""
        assert self._process is not None, "not started"
        return await self._process.wait()

    async def kill(self) -> None:
        """SIGKILL, and wait until it is gone. Harmless when it is."""
        await self._signal_and_wait(signal.SIGKILL, None)

    async def stop(self, grace_s: float) -> None:
        """SIGTERM; SIGKILL after `grace_s`. Harmless when it is gone."""
        try:
            await self._signal_and_wait(signal.SIGTERM, grace_s)
        except TimeoutError:
            await self.kill()

    def pause(self) -> None:
        """SIGSTOP: it is there, holds all it has, and does nothing. Harmless when it is gone."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        """SIGCONT. Harmless when it is gone, or was not paused."""
        self._signal(signal.SIGCONT)

    def _signal(self, number: signal.Signals) -> None:
        if self._process is not None and self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self._process.send_signal(number)

    async def _signal_and_wait(self, number: signal.Signals, limit_s: float | None) -> None:
        if self._process is None or self._process.returncode is not None:
            return
        self._signal(number)
        async with asyncio.timeout(limit_s):
            await self._process.wait()

    def last_line(self) -> str:
        """The last line of its log: a process that gives up says there why."""
        if self._log_path is None or not self._log_path.exists():
            return ""
        lines = self._log_path.read_text(encoding="utf-8", errors="replace").strip().splitlines()
        return lines[-1] if lines else ""


def describe_exit(status: int) -> str:
    """`exit status 1`, or `killed by SIGKILL`."""
    if status >= 0:
        return f"exit status {status}"
    try:
        return f"killed by {signal.Signals(-status).name}"
    except ValueError:
        return f"killed by signal {-status}"


def _die_with_parent() -> None:
    assert _LIBC is not None
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
