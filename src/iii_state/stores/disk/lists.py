"""Reading whole scopes: values in order of creation, keys and scope names by code point."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from concurrent.futures import Executor

from iii_state.core.changes import Change, Entry
from iii_state.core.commands import ListKeys, ListScopes, ListValues, Outcome
from iii_state.core.values import encode_text
from iii_state.errors import LimitExceeded, StateError
from iii_state.stores.disk.index import Index, Resident, ScopeIndex, offset_of, slot_of
from iii_state.stores.disk.overlay import Overlay, growth
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
        segments: Segments,
        staged: Callable[[], Iterable[Change]],
        executor: Executor,
    ) -> None:
        self._staged = staged
        self._index = index
        self._overlay = overlay
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
        pending: dict[str, Change] | None,
        outcome: Outcome,
    ) -> None:
        keys, size = growth(self._staged(), command.scope) if pending is not None else (0, 0)
        if scope is not None:
            keys += scope.keys
            size += scope.value_bytes
        require_bound(command, size)
        reading = ValuesReading(scope, pending, self._segments)

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
        self, scope: ScopeIndex | None, pending: dict[str, Change] | None, segments: Segments
    ) -> None:
        self._files = segments.files
        self._entries: list[Entry] = []
        self._places: list[int] = []
        found = scope.found() if scope is not None else iter(())
        if pending is not None:
            self._entries = [e for e in (c.entry for c in pending.values()) if e is not None]
            if scope is not None:
                hidden = {id(scope.get(key)) for key in pending}
                found = (item for item in scope.found() if id(item) not in hidden)
        for item in found:
            if isinstance(item, Resident):
                assert item.entry is not None, "a key in the index is not deleted"
                self._entries.append(item.entry)
            else:
                self._places.append(item)
        self._segments: dict[int, Segment] = {
            slot: segments.at(slot) for slot in set(map(slot_of, self._places))
        }
        for segment in self._segments.values():
            segment.references += 1

    def read(self) -> list[bytes]:
        """The values, in order of creation. May be called from any thread.

        Raises:
            StoreDamaged, StorageError: one of them cannot be read.
        """
        entries = self._entries
        for place in sorted(self._places):
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


def keys_of(scope: ScopeIndex | None, pending: dict[str, Change] | None) -> list[str]:
    """The keys of a scope with what is pending, in no order."""
    keys = [key for table in scope.tables for key in table] if scope is not None else []
    if pending is None:
        return keys
    keys = [key for key in keys if key not in pending]
    keys += [key for key, change in pending.items() if change.after is not None]
    return keys


def sorted_texts(names: Iterable[str]) -> list[bytes]:
    """Names as JSON texts, ascending by code point."""
    return [encode_text(name) for name in sorted(names)]


def scope_names(index: Index, pending: dict[str, dict[str, Change]]) -> tuple[list[str], bool]:
    """All scopes that hold a key, and whether something pending made or emptied one."""
    names = set(index.scopes)
    for name, changes in pending.items():
        durable = index.scopes.get(name)
        keys = durable.keys if durable is not None else 0
        for key, change in changes.items():
            was_there = durable is not None and durable.get(key) is not None
            keys += (change.after is not None) - was_there
        if keys:
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
