"""Reading whole scopes: values in order of creation, keys and scope names by code point."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from concurrent.futures import Executor

from iii_state.core.changes import Entry
from iii_state.core.commands import ListKeys, ListScopes, ListValues, Outcome
from iii_state.core.values import encode_text
from iii_state.errors import LimitExceeded, StateError
from iii_state.stores.disk.cache import ValueCache
from iii_state.stores.disk.index import Index, ScopeIndex, offset_of, slot_of
from iii_state.stores.disk.overlay import Overlay, PendingScope
from iii_state.stores.disk.segment import Segment, Segments, read_entry

INLINE_KEYS_MAX = 1000
INLINE_BYTES_MAX = 256 << 10
"""A scope that is larger than either is read in a thread, off the event loop."""


class Lists:
    """Runs the commands that read more than one key."""

    def __init__(
        self,
        index: Index,
        overlay: Overlay,
        cache: ValueCache,
        segments: Segments,
        executor: Executor,
    ) -> None:
        self._index = index
        self._overlay = overlay
        self._cache = cache
        self._segments = segments
        self._executor = executor
        self.released: Callable[[], None] = lambda: None
        """Called when a reading has let go of its segments."""

    def read(self, command: ListValues | ListKeys | ListScopes) -> Outcome:
        """Run one; the outcome is settled unless it shows something pending.

        Raises:
            LimitExceeded: more bytes than the caller takes.
            StoreDamaged, StorageError: a value cannot be read.
        """
        if isinstance(command, ListScopes):
            names, shows_pending = scope_names(self._index, self._overlay.scopes)
            return Outcome(not shows_pending, values=sorted_texts(names))
        scope = self._index.scopes.get(command.scope)
        pending = self._overlay.scopes.get(command.scope)
        outcome = Outcome(pending is None)
        if isinstance(command, ListKeys):
            self._read_keys(command, keys_of(scope, pending), outcome)
        else:
            self._read_values(command, scope, pending, outcome)
        return outcome

    def _read_keys(self, command: ListKeys, keys: list[str], outcome: Outcome) -> None:
        def read() -> None:
            texts = sorted_texts(keys)
            require_bound(command, sum(map(len, texts)))
            outcome.values = texts

        require_bound(command, 2 * len(keys))  # the quotes alone
        if len(keys) <= INLINE_KEYS_MAX:
            read()
        else:
            outcome.reading = self._apart(outcome, read)

    def _read_values(
        self,
        command: ListValues,
        scope: ScopeIndex | None,
        pending: PendingScope | None,
        outcome: Outcome,
    ) -> None:
        keys = size = 0
        for part in (scope, pending):
            if part is not None:
                keys += part.keys
                size += part.value_bytes
        require_bound(command, size)
        reading = ValuesReading(scope, pending, self._segments, self._cache)

        def read() -> None:
            outcome.values = reading.read()

        if keys <= INLINE_KEYS_MAX and size <= INLINE_BYTES_MAX:
            try:
                read()
            finally:
                reading.release()
            return
        done = self._apart(outcome, read)
        done.add_done_callback(lambda _: self._release(reading))
        outcome.reading = done

    def _apart(self, outcome: Outcome, read: Callable[[], None]) -> asyncio.Future[None]:
        """Read in a thread; what is wrong becomes the outcome's failure."""

        def read_or_fail() -> None:
            try:
                read()
            except StateError as failure:
                outcome.failure = failure

        return asyncio.wrap_future(self._executor.submit(read_or_fail))

    def _release(self, reading: ValuesReading) -> None:
        reading.release()
        self.released()


class ValuesReading:
    """One list of values: what to read, fixed when the list was asked for.

    The segments it reads from are held until `release`, so that compaction cannot delete them.
    """

    def __init__(
        self,
        scope: ScopeIndex | None,
        pending: PendingScope | None,
        segments: Segments,
        cache: ValueCache,
    ) -> None:
        self._files = segments.files
        self._cache = cache
        self._entries: list[Entry] = []
        places = scope.places() if scope is not None else []
        if pending is not None:
            entries = [change.entry for change in pending.changes.values()]
            self._entries = [entry for entry in entries if entry is not None]
            if scope is not None:
                hidden = {scope.get(key) for key in pending.changes}
                places = [place for place in places if place not in hidden]
        self._places = places
        self._segments: dict[int, Segment] = {
            slot: segments.at(slot) for slot in set(map(slot_of, places))
        }
        for segment in self._segments.values():
            segment.references += 1

    def read(self) -> list[bytes]:
        """The values, in order of creation. May be called from any thread.

        Raises:
            StoreDamaged, StorageError: one of them cannot be read.
        """
        entries = self._entries
        cold: list[int] = []
        for place in self._places:
            entry = self._cache.peek(place)
            if entry is not None:
                entries.append(entry)
            else:
                cold.append(place)
        cold.sort()
        for place in cold:
            segment = self._segments[slot_of(place)]
            entries.append(read_entry(self._files, segment, offset_of(place)))
        entries.sort(key=_created)
        return [entry.value for entry in entries]

    def release(self) -> None:
        """Let go of the segments."""
        for segment in self._segments.values():
            segment.references -= 1


def _created(entry: Entry) -> int:
    return entry.created_revision


def keys_of(scope: ScopeIndex | None, pending: PendingScope | None) -> list[str]:
    """The keys of a scope with what is pending, in no order."""
    keys = [key for table in scope.tables for key in table] if scope is not None else []
    if pending is None:
        return keys
    changes = pending.changes
    keys = [key for key in keys if key not in changes]
    keys += [key for key, change in changes.items() if change.after is not None]
    return keys


def sorted_texts(names: Iterable[str]) -> list[bytes]:
    """Names as JSON texts, ascending by code point."""
    return [encode_text(name) for name in sorted(names)]


def scope_names(index: Index, pending: dict[str, PendingScope]) -> tuple[list[str], bool]:
    """All scopes that hold a key, and whether something pending made or emptied one."""
    names = set(index.scopes)
    for name, scope in pending.items():
        durable = index.scopes.get(name)
        if (durable.keys if durable is not None else 0) + scope.keys > 0:
            names.add(name)
        else:
            names.discard(name)
    return list(names), names != index.scopes.keys()


def require_bound(command: ListValues | ListKeys, size: int) -> None:
    """Refuse a list that has more bytes than its caller takes.

    Raises:
        LimitExceeded: with the code that callers know from too large answers.
    """
    if size > command.bytes_max:
        raise LimitExceeded(
            f"The list of scope {command.scope!r} has {size} bytes, more than the "
            f"{command.bytes_max} that this caller can take in one answer",
            code="payload_too_large",
            limit="bytes_max",
            actual=size,
            bound=command.bytes_max,
        )
