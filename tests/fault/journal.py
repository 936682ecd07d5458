"""What several processes witness, in one order: all of them write lines to one pipe.

What a process has written is there, however it ends. Needs nothing but the standard library, since
programs in other environments import it.
"""

from __future__ import annotations

import asyncio
import json
import os
import threading
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

PATIENCE_S = 60.0
"""How long to wait for what normally takes milliseconds. A bound, not a delay."""

LINE_BYTES_MAX = 4096
"""Up to this size (PIPE_BUF), lines of several writers never mix."""

Entry = dict[str, Any]
"""`who`, its `group`, `what`, and what belongs to that."""


class Pen:
    """Writes to the pipe, in the name of one process, which is one of a group."""

    def __init__(self, descriptor: int, who: str, group: str) -> None:
        self._descriptor = descriptor
        self._signature = {"who": who, "group": group}

    def write(self, what: str, **more: Any) -> None:
        """Write a line; when this returns, it is in the pipe, before all that happens after."""
        line = json.dumps({**self._signature, "what": what, **more}).encode() + b"\n"
        assert len(line) <= LINE_BYTES_MAX
        os.write(self._descriptor, line)


class Journal:
    """Reads the pipe, on a thread of its own, and keeps all lines in `entries`."""

    def __init__(self) -> None:
        self.entries: list[Entry] = []
        self.seen: Counter[tuple[str, str]] = Counter()
        """How many lines there are of each `who` or `group`, and `what`."""
        reader, self.descriptor = os.pipe()
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._read, args=(reader,), daemon=True)
        self._thread.start()

    async def until(self, is_so: Callable[[], bool], what: str) -> None:
        """Wait until something holds, looked at after each line.

        Raises:
            AssertionError: it did not come to hold in time.
        """
        await asyncio.to_thread(self._wait, is_so, what)

    def close(self) -> None:
        """End it, once all who write to it have ended."""
        os.close(self.descriptor)
        self._thread.join(PATIENCE_S)

    def _wait(self, is_so: Callable[[], bool], what: str) -> None:
        until = time.monotonic() + PATIENCE_S
        with self._changed:
            while not is_so():
                remaining = until - time.monotonic()
                latest = "\n".join(str(entry) for entry in self.entries[-20:])
                assert remaining > 0, f"waited {PATIENCE_S:g} s in vain for {what}:\n{latest}"
                self._changed.wait(remaining)

    def _read(self, reader: int) -> None:
        with os.fdopen(reader, "rb") as lines:
            for line in lines:
                entry = json.loads(line)
                with self._changed:
                    self.entries.append(entry)
                    for who in {entry["who"], entry["group"]}:
                        self.seen[who, entry["what"]] += 1
                    self._changed.notify_all()
