"""What a write did: the `Entry` a key holds, and the `Change` that made it so.

A `Change` is the only thing the reactive side looks at. Values are raw JSON text as bytes, exactly
as they were written; `None` means absent, `b"null"` is a value.
"""

from __future__ import annotations

from typing import Literal

import msgspec

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
    """

    value: bytes
    revision: int
    created_revision: int
    created_at_ms: int
    updated_at_ms: int
    expires_at_ms: int = 0


class Change(msgspec.Struct, frozen=True, gc=False):
    """One write, committed or about to be.

    `before` and `after` are the values around it. `previous_revision` is 0 when the key was absent
    before, else the revision of the entry that was replaced; `created_revision` is 0 when a delete
    found nothing.
    """

    revision: int
    scope: str
    key: str
    before: bytes | None
    after: bytes | None
    previous_revision: int
    created_revision: int
    created_at_ms: int
    timestamp_ms: int
    origin: Origin = ANONYMOUS
    cause: str = ""
    expires_at_ms: int = 0

    @property
    def event_type(self) -> EventType:
        """The event's name on the wire; created means that the key was absent before."""
        if self.after is None:
            return "state:deleted"
        return "state:updated" if self.previous_revision else "state:created"

    @property
    def entry(self) -> Entry | None:
        """What the key holds after this change."""
        if self.after is None:
            return None
        return Entry(
            self.after,
            self.revision,
            self.created_revision,
            self.created_at_ms,
            self.timestamp_ms,
            self.expires_at_ms,
        )
