"""The wall clock, handed to those who need one."""

from __future__ import annotations

import time


def wall_clock_ms() -> int:
    """Milliseconds since the epoch; 0 while the system's clock stands before it.

    Files and messages have no earlier times. What happened first is told by revisions anyway.
    """
    return max(time.time_ns() // 1_000_000, 0)
