"""The reference store: everything in memory, nothing survives the process."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Mapping, Sequence
from itertools import islice, takewhile
from typing import Any

from iii_state.core.changes import Change, Entry
from iii_state.core.commands import (
    WRITES,
    Command,
    Count,
    Get,
    GetMany,
    ListEntries,
    ListKeys,
    ListScopes,
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
from iii_state.stores.orders import CreationOrder, NameOrder, Orders
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
        self._recent = RecentChanges(history_bytes, keeps_unread=True)
        self._creations = Orders(CreationOrder)
        self._names = Orders(NameOrder)

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

    def note(
        self, kind: int, name: str, payload: bytes | None, *, is_tied: bool = False
    ) -> Outcome:
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
        return Outcome(True, values=self._several(command))

    def _several(
        self, command: ListValues | ListKeys | ListScopes | ListEntries | Count | GetMany
    ) -> Sequence[Any]:
        if isinstance(command, ListScopes):
            return [encode_text(name) for name in sorted(self._scopes)]
        if isinstance(command, GetMany):
            found = [self._entry(scope, key) for scope, key in command.places]
            _require_bound(sum([len(e.value) for e in found if e is not None]), command)
            return found
        entries = self._scopes.get(command.scope, {})
        if isinstance(command, ListValues):
            values = [entry.value for entry in entries.values()]
            _require_bound(sum(map(len, values)), command)
            return values
        if isinstance(command, ListKeys):
            return self._list_keys(command, entries)
        if isinstance(command, ListEntries):
            return self._list_entries(command, entries)
        sizes = [len(e.value) for key, e in entries.items() if key.startswith(command.prefix)]
        return [len(sizes), sum(sizes)]

    def _list_keys(self, command: ListKeys, entries: dict[str, Entry]) -> list[bytes]:
        if command.limit is None:
            names = sorted(
                key
                for key in entries
                if key.startswith(command.prefix) and (command.after is None or key > command.after)
            )
            texts = [encode_text(key) for key in names]
            _require_bound(sum(map(len, texts)), command)
            return texts
        order = self._names.of(command.scope, entries, len(entries))
        if order.revision:
            order.add([key for key, _ in _newer(entries, order.revision)], self.executed_revision)
        else:
            order.names, order.revision = sorted(entries), self.executed_revision
        there = (key for key in order.behind(command.after, command.prefix, []) if key in entries)
        texts = []
        left = command.bytes_max
        for key in islice(there, command.limit):
            texts.append(encode_text(key))
            left -= len(texts[-1])
            if left < 0:
                break
        return texts

    def _list_entries(
        self, command: ListEntries, entries: dict[str, Entry]
    ) -> list[tuple[str, Entry]]:
        order = self._creations.of(command.scope, entries, len(entries))
        newer = _newer(entries, order.revision)
        order.add(
            array("Q", [entry.created_revision for _, entry in newer]),
            [key for key, _ in newer],
            self.executed_revision,
        )
        found: list[tuple[str, Entry]] = []
        left = command.bytes_max
        for at in range(order.behind(command.after), len(order)):
            if left < 0 or len(found) >= command.limit:
                break
            key = order.keys[at]
            entry = entries.get(key)
            if (
                entry is not None
                and entry.created_revision == order.created[at]
                and key.startswith(command.prefix)
            ):
                found.append((key, entry))
                left -= len(encode_text(key)) + len(entry.value)
        return found

    def hold(self, after: Callable[[], int | None]) -> None:
        """See `Store.hold`. Memory is bounded: nothing is kept longer."""

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


def _newer(entries: dict[str, Entry], revision: int) -> list[tuple[str, Entry]]:
    """The keys made after a revision, in order: those at the end."""
    newer = takewhile(lambda item: item[1].created_revision > revision, reversed(entries.items()))
    return [*newer][::-1]


def _require_bound(size: int, command: ListValues | ListKeys | GetMany) -> None:
    if size > command.bytes_max:
        raise LimitExceeded(
            f"The answer has {size} bytes, more than the {command.bytes_max} that this caller can "
            f"take",
            code="payload_too_large",
            limit="bytes_max",
            actual=size,
            bound=command.bytes_max,
        )
