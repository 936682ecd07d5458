"""Pages of large scopes: in order of creation or by name, from orders that are kept between pages.

The first page of a scope puts its keys in order: for the order of creation the head of every record
that is not in memory is read. Later ones find the keys made since at the ends of the index's
tables, which keep their keys as they came, and cost what they show. Both are steps that stop for
what is to be read, so that they go on in the event loop or beside it.
"""

from __future__ import annotations

import asyncio
from bisect import bisect_right
from collections.abc import Callable, Generator, Iterable
from itertools import islice
from typing import Any

from iii_state.core.changes import Change, Entry
from iii_state.core.commands import Count, ListEntries, ListKeys
from iii_state.core.values import encode_text
from iii_state.stores.disk.index import Index, Resident, ScopeIndex, Table, offset_of, slot_of
from iii_state.stores.disk.readings import (
    CreatedReading,
    EntriesReading,
    HeadsReading,
    MergeReading,
    Reading,
    Run,
    SortReading,
    read_head,
)
from iii_state.stores.disk.scans import EntriesPage, Sight
from iii_state.stores.disk.segment import Segments
from iii_state.stores.orders import CreationOrder, NameOrder, Orders

STEPS_MAX = 4096
"""Keys looked at in one turn of the event loop."""

TABLES_MAX = 8
"""Tables whose keys are copied in one turn."""

ROUNDS_MAX = 64
"""Readings in one turn of the event loop."""

TAILS_MAX = 4096
"""New keys that are gathered from several tables before it is read when they were made."""

Steps = Generator[Reading | asyncio.Event | None, Any, None]
"""Yields what is to be read, what is to be waited for, or None for a pause; is sent what was read.
"""


class Pages:
    """Carries out the commands that read a part of a scope."""

    def __init__(
        self,
        index: Index,
        segments: Segments,
        staged: Callable[[], Iterable[Change]],
    ) -> None:
        self._index = index
        self._segments = segments
        self._staged = staged
        self._creations = Orders(CreationOrder)
        self._names = Orders(NameOrder)
        self._growing: dict[CreationOrder | NameOrder, asyncio.Event] = {}

    def steps(
        self,
        command: ListEntries | ListKeys | Count,
        pending: dict[str, Change] | None,
        revision: int,
        values: list[Any],
    ) -> Steps:
        """The steps that put what a command asks for into `values`.

        `pending` are the newest changes of the scope's keys above `revision`, the durable one.
        """
        sight = Sight(command.scope, self._index, pending, self._staged)
        if isinstance(command, ListEntries):
            return self._entries(command, sight, revision, values)
        if isinstance(command, ListKeys):
            return self._keys(command, sight, revision, values)
        return self._count(command, sight, revision, values)

    # -- in order of creation -------------------------------------------------------------------

    def _entries(
        self, command: ListEntries, sight: Sight, revision: int, values: list[Any]
    ) -> Steps:
        order = CreationOrder()
        scope = self._index.scopes.get(command.scope)
        if scope is not None:
            order = self._creations.of(command.scope, scope, scope.keys)
            yield from self._grow(order, scope, revision, self._grow_creations)
        page = EntriesPage(command, order, sight, revision, values)
        rounds = 0
        while True:
            is_paused = page.gather(STEPS_MAX)
            places, read = page.places, {}
            if places:
                expected = len(places) * sight.average_bytes
                read = yield EntriesReading(places, self._segments, expected, page.bytes_left)
            page.take(read)
            if page.is_done:
                return
            rounds += 1
            if is_paused or not rounds % ROUNDS_MAX:
                yield None
            sight.look()

    def _grow_creations(self, order: CreationOrder, scope: ScopeIndex, revision: int) -> Steps:
        runs: list[Run] = []
        tails: list[tuple[str, int | Resident]] = []
        tables = scope.tables()
        for table in tables:
            tails += self._newer(table, order.revision)
            if len(tails) >= TAILS_MAX or table is tables[-1]:
                after, tails, gathered = order.revision, [], tails
                run: Run = yield CreatedReading(gathered, self._segments, after, revision)
                runs.append(run)
        created, keys = yield MergeReading(runs)
        order.add(created, keys, revision)

    # -- by name --------------------------------------------------------------------------------

    def _keys(self, command: ListKeys, sight: Sight, revision: int, values: list[Any]) -> Steps:
        order = yield from self._name_order(command.scope, revision)
        after, bytes_left = command.after, command.bytes_max
        limit = command.limit
        assert limit is not None
        made = sorted(sight.pending)
        while True:
            names = order.behind(after, command.prefix, made)
            looked = 0
            for name in islice(names, STEPS_MAX):
                looked += 1
                after = name
                if sight.find(name) is None:
                    continue
                text = encode_text(name)
                values.append(text)
                bytes_left -= len(text)
                if len(values) >= limit or bytes_left < 0:
                    return
            if looked < STEPS_MAX:
                return
            yield None
            sight.look()

    def _count(self, command: Count, sight: Sight, revision: int, values: list[Any]) -> Steps:
        order = yield from self._name_order(command.scope, revision)
        after = None
        keys = size = 0
        made = sorted(sight.pending)
        while True:
            names = list(islice(order.behind(after, command.prefix, made), STEPS_MAX))
            found = [now for now in map(sight.find, names) if now is not None]
            keys += len(found)
            size += sum([len(now.value) for now in found if isinstance(now, Entry)])
            places = [now for now in found if isinstance(now, int)]
            if places:
                heads = yield HeadsReading(places, self._segments)
                size += sum([head.value_bytes for head in heads.values()])
            if len(names) < STEPS_MAX:
                values += [keys, size]
                return
            after = names[-1]
            yield None
            sight.look()

    def _name_order(
        self, name: str, revision: int
    ) -> Generator[Reading | asyncio.Event | None, Any, NameOrder]:
        scope = self._index.scopes.get(name)
        if scope is None:
            return NameOrder()
        order = self._names.of(name, scope, scope.keys)
        yield from self._grow(order, scope, revision, self._grow_names)
        return order

    def _grow_names(self, order: NameOrder, scope: ScopeIndex, revision: int) -> Steps:
        if order.revision:
            made: list[str] = []
            for table in scope.tables():
                made += [key for key, _ in self._newer(table, order.revision)]
            order.add(made, revision)
            return
        names: list[str] = []
        for number, table in enumerate(scope.tables(), 1):
            names += table
            if not number % TABLES_MAX:
                yield None
        order.names = yield SortReading(names)
        order.revision = revision

    # -- keys made since ------------------------------------------------------------------------

    def _grow(
        self, order: Any, scope: ScopeIndex, revision: int, grow: Callable[..., Steps]
    ) -> Steps:
        """Tell an order of the keys made since; if somebody does so already, wait for that."""
        while order in self._growing:
            yield self._growing[order]
        if order.revision >= revision:
            return
        grown = self._growing[order] = asyncio.Event()
        try:
            yield from grow(order, scope, revision)
        finally:
            del self._growing[order]
            grown.set()

    def _newer(self, table: Table, revision: int) -> list[tuple[str, int | Resident]]:
        """The keys of a table that were made after a revision.

        A table keeps its keys in the order in which they came, so they are at its end.
        """
        if not revision:
            return list(table.items())
        count = 1
        while True:
            tail = list(islice(reversed(table.items()), count))
            if len(tail) < count or self._created(tail[-1][1]) <= revision:
                break
            count *= 8
        return tail[: bisect_right(tail, -revision - 1, key=lambda item: -self._created(item[1]))]

    def _created(self, found: int | Resident) -> int:
        """When the key that leads to something was made."""
        if isinstance(found, Resident):
            assert found.entry is not None
            return found.entry.created_revision
        segment = self._segments.at(slot_of(found))
        return read_head(self._segments.files, segment, offset_of(found)).created_revision
