"""A limit on log lines of one kind, so that nobody fills the disk by misbehaving.

A kind is what a line in the program says, with whatever names in it: logger, level and template.
"""

from __future__ import annotations

import logging
import threading
from collections import Counter
from collections.abc import Callable

WINDOW_S = 60.0

KINDS_MAX = 1000
"""Kinds that are counted apart in a window; what is beyond them counts as one for each logger."""

OTHERS = "others"

Kind = tuple[str, int, str]


class LineLimit(logging.Filter):
    """Lets so many lines of a kind through in a minute, and says afterwards how many it left out.

    That is told with the first line, of any kind, after the minute, through `tell`: the handler
    that this is a filter of. `clock` gives seconds, from anywhere. Any thread may log.
    """

    def __init__(
        self,
        lines_max: int,
        tell: Callable[[logging.LogRecord], object],
        clock: Callable[[], float],
    ) -> None:
        super().__init__()
        self._lines_max = lines_max
        self._tell = tell
        self._clock = clock
        self._lock = threading.Lock()
        self._counts: Counter[Kind] = Counter()
        self._ends_at = float("-inf")

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether a line is logged."""
        if isinstance(record, _LeftOut):
            return True
        with self._lock:
            over = self._next_window(self._clock())
            kind = record.name, record.levelno, str(record.msg)
            if kind not in self._counts and len(self._counts) >= KINDS_MAX:
                kind = record.name, record.levelno, OTHERS
            self._counts[kind] += 1
            is_let_through = self._counts[kind] <= self._lines_max
        for each, count in over.items():
            if count > self._lines_max:
                self._tell(_LeftOut(each, count - self._lines_max))
        return is_let_through

    def _next_window(self, now: float) -> Counter[Kind]:
        """What was counted in a window that is over."""
        if now < self._ends_at:
            return Counter()
        over, self._counts = self._counts, Counter()
        self._ends_at = now + WINDOW_S
        return over


class _LeftOut(logging.LogRecord):
    """The line that says how many were left out."""

    def __init__(self, kind: Kind, count: int) -> None:
        name, level, template = kind
        message = "%s more lines like this were left out: %s"
        arguments = (f"{count:,}", template)
        super().__init__(name, level, __file__, 0, message, arguments, None)
