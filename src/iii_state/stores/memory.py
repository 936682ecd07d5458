"""The reference store: everything in memory, nothing survives the process."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from iii_state.core.changes import Change, Entry
from iii_state.core.commands import (
    Command,
    Get,
    ListKeys,
    ListScopes,
    ListValues,
    Outcome,
    change_of,
)
from iii_state.core.store import StoreInfo
from iii_state.core.values import encode_text
from iii_state.errors import LimitExceeded, RevisionCompacted

CHANGE_OVERHEAD_BYTES = 320
"""What a kept change costs beyond its values, roughly."""


class MemoryStore:
    """Scopes of entries in dicts; the change log keeps the newest changes, bounded by bytes.

    Insertion order of a dict is order of creation: an overwrite keeps the place, a delete gives it
    up. That is exactly the order in which `ListValues` answers.

    Outcomes are settled at once, since nothing is gained by waiting; `revision` and `changes` move
    with the commit, as in every store, so that nobody hears of a change before it.
    """

    def __init__(self, clock_ms: Callable[[], int], *, history_bytes: int = 64 << 20) -> None:
        self._clock_ms = clock_ms
        self._scopes: dict[str, dict[str, Entry]] = {}
        self._revision = 0
        self._bytes = 0
        self._pending: list[Change] = []
        self._history: dict[int, Change] = {}
        self._history_bytes = 0
        self._history_bytes_max = history_bytes

    @property
    def revision(self) -> int:
        """See `Store.revision`."""
        return self._revision

    @property
    def oldest_revision(self) -> int:
        """See `Store.oldest_revision`."""
        return self._revision - len(self._history)

    def execute(self, command: Command) -> Outcome:
        """See `Store.execute`. Every outcome is settled at once."""
        if isinstance(command, Get):
            of_scope = self._scopes.get(command.scope)
            return Outcome(True, entry=of_scope.get(command.key) if of_scope else None)
        if isinstance(command, ListValues):
            entries = self._scopes.get(command.scope, {})
            return Outcome(True, values=_bounded([e.value for e in entries.values()], command))
        if isinstance(command, ListKeys):
            keys = sorted(self._scopes.get(command.scope, ()))
            return Outcome(True, values=_bounded([encode_text(key) for key in keys], command))
        if isinstance(command, ListScopes):
            return Outcome(True, values=[encode_text(name) for name in sorted(self._scopes)])
        before = self._scopes.get(command.scope, {}).get(command.key)
        change, errors = change_of(
            command, before, self._revision + len(self._pending) + 1, self._clock_ms()
        )
        self._apply(change, before)
        return Outcome(True, change, errors)

    async def commit(self) -> Sequence[Change]:
        """See `Store.commit`."""
        changes, self._pending = self._pending, []
        for change in changes:
            self._remember(change)
        return changes

    def changes(self, after: int, limit: int, bytes_max: int) -> Sequence[Change]:
        """See `Store.changes`."""
        if after < self.oldest_revision:
            raise RevisionCompacted(
                f"changes after revision {after} are no longer kept; the oldest that can be asked "
                f"for is {self.oldest_revision}",
                oldest_revision=self.oldest_revision,
            )
        taken: list[Change] = []
        size = 0
        for revision in range(after + 1, min(after + limit, self._revision) + 1):
            change = self._history[revision]
            taken.append(change)
            size += len(change.before or b"") + len(change.after or b"")
            if size >= bytes_max:
                break
        return taken

    def info(self) -> StoreInfo:
        """See `Store.info`."""
        return StoreInfo(
            adapter="memory",
            durability="memory",
            revision=self._revision,
            oldest_revision=self.oldest_revision,
            scopes=len(self._scopes),
            keys=sum(map(len, self._scopes.values())),
            bytes=self._bytes,
        )

    async def close(self) -> None:
        """See `Store.close`."""
        await self.commit()

    def _apply(self, change: Change, before: Entry | None) -> None:
        entry = change.entry
        if entry is not None:
            self._scopes.setdefault(change.scope, {})[change.key] = entry
            self._bytes += len(entry.value)
        elif before is not None:
            entries = self._scopes[change.scope]
            del entries[change.key]
            if not entries:
                del self._scopes[change.scope]
        self._bytes -= len(before.value) if before else 0
        self._pending.append(change)

    def _remember(self, change: Change) -> None:
        self._revision = change.revision
        self._history[change.revision] = change
        self._history_bytes += _size(change)
        while self._history_bytes > self._history_bytes_max and len(self._history) > 1:
            oldest = self._history.pop(self.oldest_revision + 1)
            self._history_bytes -= _size(oldest)


def _size(change: Change) -> int:
    return len(change.before or b"") + len(change.after or b"") + CHANGE_OVERHEAD_BYTES


def _bounded(values: list[bytes], command: ListValues | ListKeys) -> list[bytes]:
    size = sum(map(len, values))
    if size > command.bytes_max:
        raise LimitExceeded(
            f"The list of scope {command.scope!r} has {size} bytes, more than the "
            f"{command.bytes_max} that this caller can take in one answer",
            code="payload_too_large",
            limit="bytes_max",
            actual=size,
            bound=command.bytes_max,
        )
    return values
