"""Commands that read more than one key: what they see, how much it may be, and where they run."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from concurrent.futures import Executor
from typing import Any

from iii_state.core.changes import Change, Entry
from iii_state.core.commands import (
    Count,
    GetMany,
    ListEntries,
    ListKeys,
    ListScopes,
    ListValues,
    Outcome,
)
from iii_state.errors import StateError
from iii_state.stores.disk.index import Index, Resident, ScopeIndex
from iii_state.stores.disk.overlay import Batch, Overlay, changes_of, growth
from iii_state.stores.disk.pages import Pages, Steps
from iii_state.stores.disk.readings import (
    INLINE_BYTES_MAX,
    INLINE_KEYS_MAX,
    EntriesReading,
    NamesReading,
    Reading,
    ValuesReading,
    require_bound,
)
from iii_state.stores.disk.segment import Segments

Several = ListValues | ListKeys | ListScopes | ListEntries | Count | GetMany


class Lists:
    """Runs the commands that read more than one key."""

    def __init__(
        self,
        index: Index,
        overlay: Overlay,
        segments: Segments,
        staged: Callable[[], Iterable[Batch]],
        executor: Executor,
    ) -> None:
        self._staged = staged
        self._index = index
        self._overlay = overlay
        self._segments = segments
        self._executor = executor
        self._pages = Pages(index, segments, lambda: changes_of(staged()))
        self.released: Callable[[], None] = lambda: None
        """Called when a reading has let go of its segments."""

    def read(self, command: Several, revision: int) -> Outcome:
        """Run one; the outcome is settled unless it shows something pending.

        `revision` is that of the newest durable change.

        Raises:
            LimitExceeded: more bytes than the caller takes.
            StoreDamaged, StorageError: a value cannot be read.
        """
        outcome = Outcome()
        self.read_into(outcome, command, revision)
        return outcome

    def read_into(self, outcome: Outcome, command: Several, revision: int) -> None:
        """The same, into an outcome that may be that of an earlier reading."""
        # What is read later is put into the list of values: it stays the same one.
        values: list[Any] = []
        outcome.values = values
        if isinstance(command, ListScopes):
            names, shows_pending = scope_names(self._index, self._overlay.scopes)
            outcome.settled = not shows_pending
            self._run(outcome, _whole(NamesReading(names, None), values))
        elif isinstance(command, GetMany):
            self._get_many(command, outcome, values)
        else:
            pending = self._overlay.scopes.get(command.scope)
            outcome.settled = pending is None
            if isinstance(command, ListValues):
                steps = self._values(command, pending, values)
            elif isinstance(command, ListKeys) and command.limit is None:
                steps = self._keys(command, pending, values)
            elif isinstance(command, Count) and not command.prefix:
                values += self._figures(command.scope, pending)
                return
            else:
                steps = self._pages.steps(command, pending, revision, values)
            self._run(outcome, steps)

    def _values(
        self, command: ListValues, pending: dict[str, Change] | None, values: list[Any]
    ) -> Steps:
        scope = self._index.scopes.get(command.scope)
        keys, size = self._figures(command.scope, pending)
        require_bound(command, size)
        is_large = keys > INLINE_KEYS_MAX or size > INLINE_BYTES_MAX
        return _whole(ValuesReading(scope, pending, self._segments, is_large=is_large), values)

    def _keys(
        self, command: ListKeys, pending: dict[str, Change] | None, values: list[Any]
    ) -> Steps:
        keys = keys_of(self._index.scopes.get(command.scope), pending)
        if not command.prefix and command.after is None:
            require_bound(command, 2 * len(keys))  # the quotes alone
        return _whole(NamesReading(keys, command), values)

    def _figures(self, name: str, pending: dict[str, Change] | None) -> tuple[int, int]:
        """The keys of a scope and the bytes of their values, with what is pending."""
        scope = self._index.scopes.get(name)
        keys, size = growth(self._staged(), name) if pending is not None else (0, 0)
        return (keys, size) if scope is None else (keys + scope.keys, size + scope.value_bytes)

    def _get_many(self, command: GetMany, outcome: Outcome, values: list[Any]) -> None:
        outcome.settled = True
        found: list[Entry | int | None] = []
        for scope, key in command.places:
            change = self._overlay.get(scope, key)
            if change is not None:
                outcome.settled = False
                found.append(change.entry)
                continue
            item = self._index.get(scope, key)
            if isinstance(item, Resident):
                item.is_used = True
            found.append(item.entry if isinstance(item, Resident) else item)
        size = sum([len(item.value) for item in found if isinstance(item, Entry)])
        require_bound(command, size)
        places = list({item: None for item in found if isinstance(item, int)})
        expected = len(places) * self._index.value_bytes // max(self._index.keys, 1)

        def steps() -> Steps:
            entries: dict[int, Entry] = {}
            if places:
                left = command.bytes_max - size
                entries = yield EntriesReading(places, self._segments, expected, left)
                require_bound(command, size + sum([len(e.value) for e in entries.values()]))
            values.extend([entries[item] if isinstance(item, int) else item for item in found])
            require_bound(command, sum([len(entry.value) for entry in values if entry is not None]))

        self._run(outcome, steps())

    def _run(self, outcome: Outcome, steps: Steps) -> None:
        """Go through steps: at once as long as they are short, then beside the event loop."""
        read: Any = None
        try:
            while True:
                step = steps.send(read)
                if step is None or isinstance(step, asyncio.Event) or step.is_large:
                    break
                read = _read_now(step)
        except StopIteration:
            return
        except StateError:
            steps.close()
            raise
        outcome.reading = asyncio.ensure_future(self._go_on(outcome, steps, step))

    async def _go_on(
        self, outcome: Outcome, steps: Steps, step: Reading | asyncio.Event | None
    ) -> None:
        values = outcome.values
        try:
            while True:
                read: Any = None
                if step is None:
                    await asyncio.sleep(0)
                elif isinstance(step, asyncio.Event):
                    await step.wait()
                elif step.is_large:
                    read = await self._in_thread(step)
                else:
                    read = _read_now(step)
                step = steps.send(read)
        except StopIteration:
            pass
        except StateError as failure:
            if outcome.values is values:  # else it was read anew, since a commit failed
                outcome.failure = failure
        finally:
            steps.close()

    async def _in_thread(self, reading: Reading) -> Any:
        loop = asyncio.get_running_loop()

        def release() -> None:
            reading.release()
            self.released()

        submitted = self._executor.submit(reading.read)
        # Whoever waits may give up: the files are held until the thread is done with them.
        submitted.add_done_callback(lambda _: loop.call_soon_threadsafe(release))
        return await asyncio.wrap_future(submitted)


def _read_now(reading: Reading) -> Any:
    try:
        return reading.read()
    finally:
        reading.release()


def _whole(reading: Reading, values: list[Any]) -> Steps:
    """The steps of what is read in one go."""
    values += yield reading


def keys_of(scope: ScopeIndex | None, pending: dict[str, Change] | None) -> list[str]:
    """The keys of a scope with what is pending, in no order."""
    keys: list[str] = []
    for table in scope.tables() if scope is not None else []:
        keys += table
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
