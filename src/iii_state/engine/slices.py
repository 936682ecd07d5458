"""Long work, cut into slices: a little of it in each turn of the event loop."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from iii_state.engine.timers import Timers

TURN_S = 0.002
"""How long a turn goes on with it. A slice that has begun is finished."""

SLICES_PER_TURN_MAX = 64

Work = Callable[[], bool]
"""Does one slice, of a few milliseconds at most; answers whether there is more to do."""


class Slices:
    """Works on several things at the same time, a slice of each after the other."""

    def __init__(self, timers: Timers) -> None:
        self._timers = timers
        self._works: deque[Work] = deque()
        self._is_due = False

    def add(self, work: Work) -> None:
        """Begin with something in the next turn."""
        self._works.append(work)
        self._plan()

    def _plan(self) -> None:
        if self._works and not self._is_due:
            self._is_due = True
            self._timers.call_soon(self._turn)

    def _turn(self) -> None:
        self._is_due = False
        until = self._timers.time() + TURN_S
        try:
            for _ in range(SLICES_PER_TURN_MAX):
                if not self._works:
                    break
                work = self._works.popleft()
                if work():
                    self._works.append(work)
                if self._timers.time() >= until:
                    break
        finally:
            self._plan()
