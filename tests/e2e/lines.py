"""The lines of JSON that a process writes, kept in order and waited for."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from typing import IO, Any

PATIENCE_S = 30.0
"""How long a test waits for something that normally takes milliseconds. A bound, not a delay."""

Line = dict[str, Any]


class Lines:
    """Reads a stream to its end, on a thread of its own.

    A line that is no JSON object is kept as `{"text": line}`.
    """

    def __init__(self, stream: IO[str]) -> None:
        self._stream = stream
        self._lines: list[Line] = []
        self._ended = False
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def matching(self, is_wanted: Callable[[Line], bool]) -> list[Line]:
        """All lines so far that are wanted, oldest first."""
        with self._changed:
            return [line for line in self._lines if is_wanted(line)]

    def wait_for(
        self, is_wanted: Callable[[Line], bool], count: int = 1, what: str = "a line"
    ) -> list[Line]:
        """Wait until `count` wanted lines have come; all wanted ones, oldest first.

        Raises:
            AssertionError: they did not come in time, or the stream ended before.
        """
        until = time.monotonic() + PATIENCE_S
        with self._changed:
            while True:
                found = [line for line in self._lines if is_wanted(line)]
                if len(found) >= count:
                    return found
                remaining = until - time.monotonic()
                if self._ended or remaining <= 0:
                    why = "the program ended" if self._ended else f"nothing for {PATIENCE_S:g} s"
                    latest = "\n".join(str(line) for line in self._lines[-15:])
                    raise AssertionError(
                        f"waited for {count} times {what}, had {len(found)}: {why}.\n{latest}"
                    )
                self._changed.wait(remaining)

    def join(self) -> None:
        """Wait until the stream has ended."""
        self._thread.join(PATIENCE_S)

    def _read(self) -> None:
        with self._stream:
            for text in self._stream:
                line = _parsed(text)
                with self._changed:
                    self._lines.append(line)
                    self._changed.notify_all()
        with self._changed:
            self._ended = True
            self._changed.notify_all()


def _parsed(text: str) -> Line:
    try:
        value = json.loads(text)
    except ValueError:
        value = None
    return value if isinstance(value, dict) else {"text": text.rstrip("\n")}
