"""Fires one load once, with `wrk` where it is installed and our own generator elsewhere."""

from __future__ import annotations

import asyncio
import json
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from ops.bench import wrk
from ops.bench.figures import Figures
from ops.bench.load import RUN_STEP, Shot
from ops.edge import CommandError

# Beyond the time of the load itself.
GENERATOR_GRACE_S = 30.0


class Generator:
    """`name` says which one it is. Each run gets numbers of its own."""

    def __init__(self, script_dir: Path, *, own: bool = False) -> None:
        self.name = "asyncio" if own or shutil.which("wrk") is None else "wrk"
        self._script_dir = script_dir
        self._run = 0

    async def fire(self, endpoint: str, shot: Shot, connections: int, seconds: float) -> Figures:
        self._run += 1
        if self.name == "wrk":
            path = self._script_dir / "load.lua"
            path.write_text(wrk.script(shot, self._run), encoding="utf-8")
            output = await _run(wrk.command(path, endpoint, connections, seconds), seconds)
            return wrk.parse(output, shot.units)
        arguments = {
            "--endpoint": endpoint,
            "--shot": json.dumps(asdict(shot)),
            "--connections": str(connections),
            "--seconds": str(seconds),
            "--first": str(self._run * RUN_STEP),
        }
        words = [word for pair in arguments.items() for word in pair]
        output = await _run([sys.executable, "-P", "-m", "ops.bench.load", *words], seconds)
        return Figures(**json.loads(output))


async def _run(command: Sequence[str], seconds: float) -> str:
    process = await asyncio.create_subprocess_exec(*command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    try:
        async with asyncio.timeout(seconds + GENERATOR_GRACE_S):
            output, errors = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode != 0:
        text = errors.decode("utf-8", "replace").strip().splitlines()
        raise CommandError(f"{command[0]} failed: {text[-1] if text else f'exit status {process.returncode}'}")
    return output.decode("utf-8", "replace")
