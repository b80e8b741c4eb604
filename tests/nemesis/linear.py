"""Whether a history of one key is linearizable: a search for an order of its calls that real time and a model allow.

Wing and Gong's search, with states already seen under the same set of calls remembered (Lowe). A call whose outcome is
unknown may take its place at any time after it began, or never; of some it is known that, if at all, they did before
they returned.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

C = TypeVar("C")
S = TypeVar("S", bound=Hashable)

STEPS_MAX = 2_000_000
"""A search this long is given up. Valid histories take about as many steps as they have calls."""


@dataclass(frozen=True, slots=True)
class Call(Generic[C]):
    """One call and when it ran. `return_s` is None when its outcome is unknown: it needs no place. Nor does an
    `optional` one, which takes its place before it returned or never."""

    what: C
    invoke_s: float
    return_s: float | None
    optional: bool = False


@dataclass(frozen=True, slots=True)
class Verdict(Generic[C]):
    """`linear` is None when the search was given up. Otherwise, for a history that is not linearizable, `order` is the
    longest beginning of an order that was found, and `stuck` are the calls none of which could follow it."""

    linear: bool | None
    order: tuple[Call[C], ...] = ()
    stuck: tuple[Call[C], ...] = ()


@dataclass(slots=True)
class _Place(Generic[S]):
    """Where the search stands: the calls that have taken effect as bits, the state they made, what to try next."""

    done: int
    state: S
    untried: Iterator[int]


def check(
    calls: Sequence[Call[C]], initial: S, step: Callable[[S, C], S | None], steps_max: int = STEPS_MAX
) -> Verdict[C]:
    """Search an order. `step` is the model: the state after a call that did and showed what was recorded, or None if
    that is impossible in this state."""
    search = _Search(calls)
    seen: set[tuple[int, S]] = set()
    path: list[int] = []
    places = [_Place(0, initial, search.candidates(0))]
    longest: tuple[list[int], int] = ([], 0)
    steps = 0
    while places:
        place = places[-1]
        if search.is_whole(place.done):
            return Verdict(True)
        number = next(place.untried, None)
        if number is None:
            places.pop()
            if path:
                path.pop()
            continue
        steps += 1
        if steps > steps_max:
            return Verdict(None)
        state = step(place.state, search.calls[number].what)
        done = place.done | 1 << number | search.over[number]
        if state is None or (done, state) in seen:
            continue
        seen.add((done, state))
        path.append(number)
        places.append(_Place(done, state, search.candidates(done)))
        if len(path) > len(longest[0]):
            longest = (list(path), done)
    order, done = longest
    return Verdict(
        False, tuple(search.calls[n] for n in order), tuple(search.calls[n] for n in search.candidates(done))
    )


class _Search(Generic[C]):
    def __init__(self, calls: Sequence[Call[C]]) -> None:
        self.calls = sorted(calls, key=lambda call: call.invoke_s)
        self._answered = sum(
            1 << n for n, call in enumerate(self.calls) if call.return_s is not None and not call.optional
        )
        bounded = [
            (n, call.return_s) for n, call in enumerate(self.calls) if call.optional and call.return_s is not None
        ]
        self.over = [sum(1 << n for n, return_s in bounded if return_s < call.invoke_s) for call in self.calls]
        """For each call, the optional ones that can have no place after it. They count as done, placed or not, so that
        ways which differ only in them are one."""

    def is_whole(self, done: int) -> bool:
        """Whether every answered call has its place; the others need none."""
        return done & self._answered == self._answered

    def candidates(self, done: int) -> Iterator[int]:
        """Calls that may be next: those that began before any other outstanding one returned. Unknown ones last: they
        can wait, and most never happened."""
        bound_s = math.inf
        found: list[tuple[float, int]] = []
        first = (~done & (done + 1)).bit_length() - 1  # the first call without a place
        for number in range(first, len(self.calls)):
            call = self.calls[number]
            if call.invoke_s > bound_s:
                break
            if done >> number & 1:
                continue
            return_s = math.inf if call.return_s is None else call.return_s
            if not call.optional:
                bound_s = min(bound_s, return_s)
            found.append((return_s, number))
        found.sort()
        return iter([number for _, number in found])
