"""What was executed but is not durable yet: staged batches, and what they make of the keys."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from iii_state.core.changes import Change
from iii_state.core.commands import Outcome, Read, Transact
from iii_state.stores.disk.index import Resident
from iii_state.stores.disk.losses import Loss

BATCH_ROOM = 8 << 20
"""When values, and `CHANGE_BYTES` for each of them, take so much, the next change goes into another
block. With more, the loop would stall while they are encoded and applied."""

CHANGE_BYTES = 1 << 10


class Batch:
    """Changes that become durable together, as one block, and the outcomes that wait for it.

    All carry the time at which the first of them was made. `residents` has, for each change, what
    the index held of the key in memory, if it was asked. `room` is what is left of `BATCH_ROOM`;
    the batch is full when there is none. `notes` go into the same block; those that are `tied` fail
    with it, others go into the next one then. `losses` are the damaged values that its changes
    write over.
    """

    __slots__ = (
        "changes",
        "losses",
        "notes",
        "outcomes",
        "reads",
        "residents",
        "room",
        "tied",
        "timestamp_ms",
    )

    def __init__(self) -> None:
        self.changes: list[Change] = []
        self.residents: list[Resident | None] = []
        self.outcomes: list[Outcome] = []
        self.reads: list[tuple[Outcome, Read | Transact]] = []
        self.notes: dict[tuple[int, str], bytes | None] = {}
        self.losses: list[Loss] = []
        self.tied: set[tuple[int, str]] = set()
        self.timestamp_ms = 0
        self.room = BATCH_ROOM

    @property
    def value_bytes(self) -> int:
        """The bytes of the values that are written."""
        return BATCH_ROOM - self.room - len(self.changes) * CHANGE_BYTES

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to write."""
        return not self.changes and not self.notes


class Overlay:
    """The newest pending change of each key, by scope, over what is durable."""

    __slots__ = ("scopes",)

    def __init__(self) -> None:
        self.scopes: dict[str, dict[str, Change]] = {}

    def get(self, scope: str, key: str) -> Change | None:
        """The newest pending change of a key."""
        pending = self.scopes.get(scope)
        return pending.get(key) if pending is not None else None

    def settle(self, changes: Sequence[Change], *, is_all: bool) -> None:
        """Take out changes that became durable; `is_all` when nothing else is pending."""
        scopes = self.scopes
        if is_all:
            scopes.clear()
            return
        for change in changes:
            pending = scopes[change.scope]
            if pending.get(change.key) is change:
                del pending[change.key]
                if not pending:
                    del scopes[change.scope]


def changes_of(batches: Iterable[Batch]) -> Iterator[Change]:
    """The changes of several batches, in order."""
    for batch in batches:
        yield from batch.changes


def growth(batches: Iterable[Batch], scope: str) -> tuple[int, int]:
    """By how many keys and bytes of values pending changes make a scope larger."""
    keys = value_bytes = 0
    for batch in batches:
        for change in batch.changes:
            if change.scope == scope:
                keys += (change.entry is not None) - (change.replaced is not None)
                value_bytes += len(change.after or b"") - len(change.before or b"")
        for loss in batch.losses:
            if loss.scope == scope:
                keys -= 1
                value_bytes -= loss.value_bytes
    return keys, value_bytes
