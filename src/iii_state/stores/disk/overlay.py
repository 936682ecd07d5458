"""What was executed but is not durable yet: staged batches, and what they make of the keys."""

from __future__ import annotations

from collections.abc import Sequence

from iii_state.core.changes import Change
from iii_state.core.commands import Outcome, Read

BATCH_CHANGES_MAX = 8192
"""Changes in one block. With more, the loop would stall while they are encoded and applied."""

BATCH_BYTES_MAX = 8 << 20
"""Bytes of values after which the next change goes into another block."""


class Batch:
    """Changes that become durable together, as one block, and the outcomes that wait for it."""

    __slots__ = ("changes", "outcomes", "reads", "value_bytes")

    def __init__(self) -> None:
        self.changes: list[Change] = []
        self.outcomes: list[Outcome] = []
        self.reads: list[tuple[Outcome, Read]] = []
        self.value_bytes = 0

    @property
    def is_full(self) -> bool:
        """Whether the next change goes into another batch."""
        return len(self.changes) >= BATCH_CHANGES_MAX or self.value_bytes >= BATCH_BYTES_MAX


class PendingScope:
    """The newest pending change of each key of a scope, and how they move its figures."""

    __slots__ = ("changes", "keys", "value_bytes")

    def __init__(self) -> None:
        self.changes: dict[str, Change] = {}
        self.keys = 0
        self.value_bytes = 0

    def count(self, change: Change, sign: int) -> None:
        """Add a change to the figures, or take it out of them again."""
        before, after = change.before, change.after
        if before is None:
            if after is not None:
                self.keys += sign
                self.value_bytes += sign * len(after)
        elif after is None:
            self.keys -= sign
            self.value_bytes -= sign * len(before)
        else:
            self.value_bytes += sign * (len(after) - len(before))


class Overlay:
    """Pending changes by scope and key, over what is durable."""

    __slots__ = ("scopes",)

    def __init__(self) -> None:
        self.scopes: dict[str, PendingScope] = {}

    def get(self, scope: str, key: str) -> Change | None:
        """The newest pending change of a key."""
        pending = self.scopes.get(scope)
        return pending.changes.get(key) if pending is not None else None

    def add(self, change: Change) -> None:
        """Take in the next change."""
        pending = self.scopes.get(change.scope)
        if pending is None:
            pending = self.scopes[change.scope] = PendingScope()
        pending.changes[change.key] = change
        pending.count(change, 1)

    def settle(self, changes: Sequence[Change]) -> None:
        """Take out changes that became durable, oldest first."""
        scopes = self.scopes
        for change in changes:
            pending = scopes[change.scope]
            pending.count(change, -1)
            kept = pending.changes
            if kept[change.key] is change:
                del kept[change.key]
                if not kept:
                    del scopes[change.scope]
