"""Chains of writes: a handler writes, that fires a handler, which writes again.

How deep a write stands in such a chain is known from the trace of its call: an event's call starts
a trace of ours, whose id says how deep the handler's own writes will stand. SDKs carry the id of a
trace on to what a handler calls, and so do calls from worker to worker.

Source: docs/protocol.md, trace fields; W3C Trace Context.
"""

from __future__ import annotations

import re
import secrets
from urllib.parse import unquote

from iii_state.core.changes import Origin
from iii_state.engine.workers import Worker

DEPTH_MAX = 0xFFFF
_SAMPLED = "01"
_DIGITS = re.compile("[0-9a-f]{4}")


class Chains:
    """Marks traces with a depth, and finds it again; only in those of this process."""

    def __init__(self) -> None:
        self._mark = f"00-{secrets.token_hex(8)}"
        self._count = secrets.randbits(32)

    def traceparent(self, depth: int) -> str:
        """The header of a new trace for a call whose writes will stand at `depth`."""
        self._count += 1
        count = self._count & 0xFFFFFFFF
        return f"{self._mark}{min(depth, DEPTH_MAX):04x}{count:012x}-{count + 1:016x}-{_SAMPLED}"

    def origin(self, worker: Worker, traceparent: str | None, baggage: str | None) -> Origin:
        """Who writes: the worker, the function that it runs, and how deep in a chain."""
        function, depth = "", 0
        if traceparent is not None and traceparent.startswith(self._mark):
            digits = _DIGITS.match(traceparent, len(self._mark))
            depth = int(digits[0], 16) if digits is not None else 0
        if baggage is not None:
            for item in baggage.split(","):
                name, _, value = item.strip().partition("=")
                if name == "iii.function.id":
                    function = unquote(value)
        known = worker.origin
        return Origin(known.worker, function, depth) if function or depth else known
