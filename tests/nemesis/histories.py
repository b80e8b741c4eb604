"""Histories for tests of the checkers, written by hand."""

from __future__ import annotations

from typing import Any

from tests.nemesis.history import OK, Op

NODE = "n1"


class Script:
    """Operations one after the other, a second apart, unless a test says otherwise."""

    def __init__(self, key: str = "") -> None:
        self.key = key
        self.ops: list[Op] = []

    def add(
        self,
        kind: str,
        args: dict[str, Any] | None = None,
        value: dict[str, Any] | None = None,
        *,
        revision: int = 0,
        outcome: str = OK,
        client: str = "ann",
        at_s: float | None = None,
        lasts_s: float = 0.5,
        key: str | None = None,
    ) -> Script:
        """One more."""
        invoke_s = float(len(self.ops)) if at_s is None else at_s
        self.ops.append(
            Op(
                client=client, kind=kind, key=self.key if key is None else key, args=args or {}, invoke_s=invoke_s,
                return_s=invoke_s + lasts_s, outcome=outcome, nodes=[NODE], value=value or {}, revision=revision,
            )
        )  # fmt: skip
        return self
