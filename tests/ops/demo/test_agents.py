"""The team: which processes must be running."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from ops.demo.agents import ROLES, Team
from ops.edge import CommandError
from ops.process import ChildProcess

NOBODY = "http://127.0.0.1:9"


def test_a_process_is_missed_unless_it_was_excused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario() -> None:
        team = Team("run", tmp_path, [NOBODY], tmp_path)
        start = ChildProcess.start

        async def looked_at_meanwhile(process: ChildProcess) -> None:
            team.require_running()
            await start(process)

        monkeypatch.setattr(ChildProcess, "start", looked_at_meanwhile)
        try:
            await team.start(ROLES[0])
            await team.start(ROLES[0], life=2)
            team.require_running()
            await team.excuse(ROLES[0]).kill()
            team.require_running()
            await team.process_of(ROLES[0], life=2).kill()
            with pytest.raises(CommandError, match="outliner stopped by itself"):
                team.require_running()
        finally:
            await team.stop(0.01)

    asyncio.run(scenario())
