"""Commands that read more than one key: what they see, how much it may be, and where they run."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from concurrent.futures import Executor

from iii_state.core.changes import Change
from iii_state.core.commands import ListKeys, ListScopes, ListValues, Outcome
from iii_state.errors import StateError
from iii_state.stores.disk.index import Index, ScopeIndex
from iii_state.stores.disk.overlay import Overlay, growth
from iii_state.stores.disk.readings import NamesReading, Reading, ValuesReading, require_bound
from iii_state.stores.disk.segment import Segments

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
            outcome = Outcome(not shows_pending)
            self._run(outcome, NamesReading(names, None), len(names))
            return outcome
        scope = self._index.scopes.get(command.scope)
        pending = self._overlay.scopes.get(command.scope)
        outcome = Outcome(pending is None)
        if isinstance(command, ListKeys):
            keys = keys_of(scope, pending)
            require_bound(command, 2 * len(keys))  # the quotes alone
            self._run(outcome, NamesReading(keys, command), len(keys))
        else:
            self._read_values(command, scope, pending, outcome)
        return outcome

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
        self._run(outcome, reading, keys if size <= INLINE_BYTES_MAX else size)

    def _run(self, outcome: Outcome, reading: Reading, keys: int) -> None:
        """Read now if there is little to read, else in a thread."""
        if keys <= INLINE_KEYS_MAX:
            try:
                outcome.values = reading.read()
            finally:
                reading.release()
            return
        loop = asyncio.get_running_loop()

        def read() -> None:
            try:
                outcome.values = reading.read()
            except StateError as failure:
                outcome.failure = failure

        def release() -> None:
            reading.release()
            self.released()

        submitted = self._executor.submit(read)
        # Whoever waits may give up: the files are held until the thread is done with them.
        submitted.add_done_callback(lambda _: loop.call_soon_threadsafe(release))
        outcome.reading = asyncio.wrap_future(submitted)


def keys_of(scope: ScopeIndex | None, pending: dict[str, Change] | None) -> list[str]:
    """The keys of a scope with what is pending, in no order."""
    keys = [key for table in scope.tables() for key in table] if scope is not None else []
    if pending is None:
        return keys
    keys = [key for key in keys if key not in pending]
    keys += [key for key, change in pending.items() if change.entry is not None]
    return keys


def scope_names(index: Index, pending: dict[str, dict[str, Change]]) -> tuple[list[str], bool]:
    """All scopes that hold a key, and whether something pending made or emptied one."""
    if not pending:
        return list(index.scopes), False
    names = set(index.scopes)
    for name, changes in pending.items():
        durable = index.scopes.get(name)
        keys = durable.keys if durable is not None else 0
        for key, change in changes.items():
            was_there = durable is not None and durable.get(key) is not None
            keys += (change.entry is not None) - was_there
        if keys:
            names.add(name)
        else:
            names.discard(name)
    return list(names), names != index.scopes.keys()
