"""What simulated nodes say to each other."""

from __future__ import annotations

from typing import Any

from tests.sim.script import Script

Message = dict[str, Any]


def listen(play: Script, *kinds: str) -> list[tuple[str, str, Message]]:
    """Messages of these kinds from now on, as (from, to, message)."""
    heard: list[tuple[str, str, Message]] = []
    before = play.sim.hub.on_sent

    def on_sent(node_id: str, peer_id: str, message: Message) -> None:
        before(node_id, peer_id, message)
        if message.get("type") in kinds:
            heard.append((node_id, peer_id, message))

    play.sim.hub.on_sent = on_sent
    return heard
