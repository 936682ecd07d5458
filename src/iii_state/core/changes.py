"""What a write did: the `Entry` a key holds, and the `Change` that made it so.

A `Change` is the only thing the reactive side looks at. Values are raw JSON text as bytes, exactly
as they were written; `None` means absent, `b"null"` is a value.
"""

from __future__ import annotations

from typing import Literal

import msgspec
from msgspec.structs import force_setattr

EventType = Literal["state:created", "state:updated", "state:deleted"]


class Origin(msgspec.Struct, frozen=True, gc=False):
    """Who asked for a write: the worker, the function that made it, and how deep in a chain."""

    worker: str = ""
    function: str = ""
    depth: int = 0


ANONYMOUS = Origin()


class Entry(msgspec.Struct, frozen=True, gc=False):
    """What a key holds.

    `created_revision` is that of the write that made the key; an overwrite keeps it, a delete ends
    it. Listing order is ascending `created_revision`. Times are milliseconds since the epoch.
    `stamp` is empty until `stamped` was called.
    """

    value: bytes
    revision: int
    created_revision: int
    created_at_ms: int
    updated_at_ms: int
    expires_at_ms: int = 0
    stamp: bytes = b""

    def stamped(self) -> bytes:
        """The revision and the times as the last members of a JSON object; `stamp` from now on.

        Whoever reads a key with its revision does so again, to compare and set: making three
        numbers text costs a twentieth of such a read.
        """
        text = b',"revision":%d,"created_at_ms":%d,"updated_at_ms":%d}' % (
            self.revision,
            self.created_at_ms,
            self.updated_at_ms,
        )
        force_setattr(self, "stamp", text)
        return text


class Change(msgspec.Struct, frozen=True, gc=False):
    """One write, committed or about to be.

    `replaced` is what the key held before, `entry` what it holds now; `None` means absent. What a
    write leaves carries the write's own revision.
    """

    revision: int
    scope: str
    key: str
    replaced: Entry | None
    entry: Entry | None
    timestamp_ms: int
    origin: Origin = ANONYMOUS
    cause: str = ""

    @property
    def before(self) -> bytes | None:
        """The value before."""
        return self.replaced.value if self.replaced is not None else None

    @property
    def after(self) -> bytes | None:
        """The value now."""
        return self.entry.value if self.entry is not None else None

    @property
    def value_bytes(self) -> int:
        """The bytes of the values around it."""
        replaced, entry = self.replaced, self.entry
        return (len(replaced.value) if replaced is not None else 0) + (
            len(entry.value) if entry is not None else 0
        )

    @property
    def event_type(self) -> EventType:
        """The event's name on the wire; created means that the key was absent before."""
        if self.entry is None:
            return "state:deleted"
        return "state:created" if self.replaced is None else "state:updated"
