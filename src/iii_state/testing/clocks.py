"""A clock that only moves when it is told to."""

from __future__ import annotations


class FakeClock:
    """Stands in wherever a `clock_ms` is taken: call it to read it.

    Time is milliseconds since the epoch, as everywhere. It never moves by itself, so that a test
    knows each timestamp to the millisecond; it may be set back, as a real wall clock can.
    """

    def __init__(self, now_ms: int = 1_700_000_000_000) -> None:
        self.now_ms = now_ms

    def __call__(self) -> int:
        """The time now."""
        return self.now_ms

    def advance(self, milliseconds: int) -> None:
        """Move by that much; backwards, if it is negative."""
        self.now_ms += milliseconds
