"""The reference store: everything in memory, nothing survives the process."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from iii_state.core.changes import Change, Entry
from iii_state.core.commands import (
    WRITES,
    Command,
    Get,
    ListKeys,
    ListValues,
    Outcome,
    Read,
    Transact,
    change_of,
    failed_guards,
    results_of,
)
from iii_state.core.store import StoreInfo
from iii_state.core.values import encode_text
from iii_state.errors import LimitExceeded, RevisionCompacted
from iii_state.stores.recent import RecentChanges, bounded


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
        self._pending_bytes = 0
        self._now_ms = 0
        self._notes: dict[int, dict[str, bytes]] = {}
        self._recent = RecentChanges(history_bytes)

    @property
    def revision(self) -> int:
        """See `Store.revision`."""
        return self._revision

    @property
    def executed_revision(self) -> int:
        """See `Store.executed_revision`."""
        return self._revision + len(self._pending)

    @property
    def oldest_revision(self) -> int:
        """See `Store.oldest_revision`."""
        after = self._recent.after
        return after if after is not None else self._revision

    def execute(self, command: Command) -> Outcome:
        """See `Store.execute`. Every outcome is settled at once."""
        if not isinstance(command, WRITES):
            return self._transact(command) if isinstance(command, Transact) else self._read(command)
        scope = self._scopes.get(command.scope)
        before = scope.get(command.key) if scope is not None else None
        if not self._pending:
            self._now_ms = self._clock_ms()
        change, errors = change_of(command, before, self.executed_revision + 1, self._now_ms)
        self._apply(change, scope)
        self._pending.append(change)
        return Outcome(True, change, errors)

    def _transact(self, command: Transact) -> Outcome:
        failed = failed_guards(command.guards, self._entry)
        if failed:
            return Outcome(True, failed=failed)
        if not self._pending:
            self._now_ms = self._clock_ms()
        results = results_of(command.writes, self._entry, self.executed_revision + 1, self._now_ms)
        for change, _ in results:
            self._apply(change, self._scopes.get(change.scope))
            self._pending.append(change)
        return Outcome(True, results[-1][0] if results else None, results=results)

    def _entry(self, scope: str, key: str) -> Entry | None:
        entries = self._scopes.get(scope)
        return entries.get(key) if entries is not None else None

    def note(self, kind: int, name: str, payload: bytes | None) -> Outcome:
        """See `Store.note`."""
        notes = self._notes.setdefault(kind, {})
        if payload is None:
            notes.pop(name, None)
        else:
            notes[name] = payload
        return Outcome(True)

    def notes(self, kind: int) -> Mapping[str, bytes]:
        """See `Store.notes`."""
        return self._notes.get(kind, {})

    def _read(self, command: Read) -> Outcome:
        if isinstance(command, Get):
            of_scope = self._scopes.get(command.scope)
            return Outcome(True, entry=of_scope.get(command.key) if of_scope else None)
        if isinstance(command, ListValues):
            entries = self._scopes.get(command.scope, {})
            return Outcome(True, values=_bounded([e.value for e in entries.values()], command))
        if isinstance(command, ListKeys):
            keys = sorted(self._scopes.get(command.scope, ()))
            return Outcome(True, values=_bounded([encode_text(key) for key in keys], command))
        return Outcome(True, values=[encode_text(name) for name in sorted(self._scopes)])

    async def commit(self) -> Sequence[Change]:
        """See `Store.commit`."""
        changes, self._pending = self._pending, []
        if changes:
            self._revision = changes[-1].revision
            self._recent.add(changes, self._pending_bytes)
            self._pending_bytes = 0
        return changes

    def changes(self, after: int, limit: int, bytes_max: int) -> Sequence[Change]:
        """See `Store.changes`."""
        if after < self.oldest_revision:
            raise RevisionCompacted(
                f"changes after revision {after} are no longer kept; the oldest that can be asked "
                f"for is {self.oldest_revision}",
                oldest_revision=self.oldest_revision,
            )
        return bounded(self._recent.since(after), limit, bytes_max)

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

    def _apply(self, change: Change, scope: dict[str, Entry] | None) -> None:
        entry, replaced = change.entry, change.replaced
        replaced_bytes = len(replaced.value) if replaced is not None else 0
        entry_bytes = 0
        if entry is not None:
            entry_bytes = len(entry.value)
            if scope is None:
                scope = self._scopes[change.scope] = {}
            scope[change.key] = entry
        elif scope is not None and replaced is not None:
            del scope[change.key]
            if not scope:
                del self._scopes[change.scope]
        self._bytes += entry_bytes - replaced_bytes
        self._pending_bytes += entry_bytes + replaced_bytes


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
