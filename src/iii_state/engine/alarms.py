"""An alarm: one timer, set to the earliest time that somebody asked for."""

from __future__ import annotations

from collections.abc import Callable

from iii_state.engine.timers import Timer, Timers


class Alarm:
    """Rings once at the earliest time it was set to, then it may be set anew.

    It may ring too early, when what it was set for is gone; that costs less than to keep up.
    """

    __slots__ = ("_at_ms", "_on_ring", "_timer", "_timers")

    def __init__(self, timers: Timers, on_ring: Callable[[], None]) -> None:
        self._timers = timers
        self._on_ring = on_ring
        self._timer: Timer | None = None
        self._at_ms = 0

    def set(self, at_ms: int, now_ms: int) -> None:
        """Ring at that time, which may be over, if not before."""
        if self._timer is not None:
            if self._at_ms <= at_ms:
                return
            self._timer.cancel()
        self._at_ms = at_ms
        self._timer = self._timers.call_later(max(0, at_ms - now_ms) / 1000, self._ring)

    def cancel(self) -> None:
        """Do not ring."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _ring(self) -> None:
        self._timer = None
        self._on_ring()


def milliseconds(timers: Timers) -> int:
    """The time of an event loop, as deliveries count it."""
    return round(timers.time() * 1000)
