"""Providers of models that limited the rate of an agent: their agents are offered nothing for a while.

In the leader's memory only: a new leader forgets, and hears of the next limit soon enough. The first time lasts
`first_ms`; each further one, without a success of any of the provider's agents between, twice as long as the last.
Limits that are met while a provider cools down belong to the same moment and make nothing longer.
"""

from __future__ import annotations

from dataclasses import dataclass

RATE_LIMITED = "rate_limited"
"""The reason of `fail` by which an agent tells of a limit."""

LONGEST_MS = 600_000
PROVIDERS_MAX = 1_000


@dataclass(slots=True)
class _Pause:
    until_s: float
    length_ms: int
    over: bool = False


class Cooling:
    """Times are lease time. `first_ms` 0: nobody is left alone."""

    def __init__(self) -> None:
        self.first_ms = 0
        self._pauses: dict[str, _Pause] = {}
        self._cooling = 0

    def limited(self, provider: str, now_s: float) -> None:
        """An agent of the provider met a limit."""
        known = self._pauses.pop(provider, None)
        if known is not None and not known.over:
            self._pauses[provider] = known
            return
        if not self.first_ms:
            return
        length_ms = self.first_ms if known is None else min(2 * known.length_ms, LONGEST_MS)
        self._pauses[provider] = _Pause(now_s + length_ms / 1000, length_ms)
        self._cooling += 1
        self._forget_some()

    def _forget_some(self) -> None:
        over = (name for name, pause in self._pauses.items() if pause.over)
        if len(self._pauses) > PROVIDERS_MAX and (oldest := next(over, None)) is not None:
            del self._pauses[oldest]

    def succeeded(self, provider: str) -> None:
        """An agent of the provider completed something: the next limit is the first again. What is completed while it
        cools down was begun before, and says nothing."""
        pause = self._pauses.get(provider)
        if pause is not None and pause.over:
            del self._pauses[provider]

    def end_all(self) -> None:
        """Leave nobody alone any more; `ended` names those that were."""
        for pause in self._pauses.values():
            pause.until_s = 0.0

    def cools(self, provider: str | None, now_s: float) -> bool:
        """Whether the provider is left alone now."""
        if not self._cooling or provider is None:
            return False
        pause = self._pauses.get(provider)
        return pause is not None and not pause.over and now_s < pause.until_s

    def ended(self, now_s: float) -> list[str]:
        """The providers whose pause ended since this was asked the last time."""
        if not self._cooling:
            return []
        names = [name for name, pause in self._pauses.items() if not pause.over and pause.until_s <= now_s]
        for name in names:
            self._pauses[name].over = True
        self._cooling -= len(names)
        return names
