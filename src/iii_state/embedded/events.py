"""What a reaction or a watch is told of a change."""

from __future__ import annotations

from typing import Any

import msgspec

Json = Any
"""None, bool, int, float, str, and lists and dicts of these."""


class Event(msgspec.Struct, frozen=True):
    """A change, as a reaction or a watch gets it; the members are those of the event on the wire.

    `event_type` is `state:created`, `state:updated` or `state:deleted`. `event_id` is the same
    whenever the same change is delivered again. `depth` counts the reactions whose writes led to
    it; `worker` wrote it, `cause` is why it was made if nobody did: `expired`. Both may be empty.
    `initial` marks an entry that was there when the reaction began.
    """

    event_type: str
    scope: str
    key: str
    old_value: Json
    new_value: Json
    event_id: str
    revision: int
    timestamp_ms: int
    attempt: int
    depth: int = 0
    worker: str = ""
    cause: str = ""
    initial: bool = False
