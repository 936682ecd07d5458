"""What a command that takes many turns sees of a scope, and how far it has got."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from operator import itemgetter
from typing import Any

from iii_state.core.changes import Change, Entry
from iii_state.core.commands import ListEntries
from iii_state.core.values import encode_text
from iii_state.stores.disk.index import Index, Resident, ScopeIndex
from iii_state.stores.orders import CreationOrder


class Sight:
    """The keys of a scope as one command sees them.

    That is the durable state and, over it, what was pending when the command was executed, as long
    as that is not durable. So a command that takes many turns shows nothing that may yet be lost.
    """

    def __init__(
        self,
        name: str,
        index: Index,
        pending: dict[str, Change] | None,
        staged: Callable[[], Iterable[Change]],
    ) -> None:
        self.pending = dict(pending) if pending is not None else {}
        self._name = name
        self._index = index
        self._staged = staged
        self._scope: ScopeIndex | None = None
        self._oldest_pending = 0
        self.look()

    def look(self) -> None:
        """Look again, in another turn."""
        self._scope = self._index.scopes.get(self._name)
        if self.pending:
            oldest = next(iter(self._staged()), None)
            self._oldest_pending = oldest.revision if oldest is not None else 1 << 62

    def find(self, key: str) -> Entry | int | None:
        """What a key holds, or the place of that; None if it is absent."""
        change = self.pending.get(key)
        if change is not None and change.revision >= self._oldest_pending:
            return change.entry
        found = self._scope.get(key) if self._scope is not None else None
        return found.entry if isinstance(found, Resident) else found

    @property
    def average_bytes(self) -> int:
        """Of a value, roughly."""
        scope = self._scope
        return scope.value_bytes // scope.keys if scope is not None else 0


class EntriesPage:
    """The entries for one `ListEntries`, found along an order and put into `values`.

    `places` are those that must be read before what was gathered can be taken.
    """

    def __init__(
        self,
        command: ListEntries,
        order: CreationOrder,
        sight: Sight,
        revision: int,
        values: list[Any],
    ) -> None:
        self.bytes_left = command.bytes_max
        self._command = command
        self._order = order
        self._sight = sight
        self._values = values
        self._at = order.behind(command.after)
        self._end = order.behind(revision)
        # Those made later are among the pending ones, as far as this command sees them.
        after = max(revision, command.after)
        made = [
            (change.entry.created_revision, key)
            for key, change in sight.pending.items()
            if change.entry is not None and change.entry.created_revision > after
        ]
        self._late = sorted(made, key=itemgetter(0))
        self._found: list[tuple[int, int, str, Entry | int]] = []

    @property
    def is_done(self) -> bool:
        """Whether there is nothing more to add."""
        is_full = self.bytes_left < 0 or len(self._values) >= self._command.limit
        return is_full or self._at >= self._total

    @property
    def places(self) -> list[int]:
        """Where the entries are that were gathered without their values."""
        return [now for *_, now in self._found if isinstance(now, int)]

    @property
    def _total(self) -> int:
        return self._end + len(self._late)

    def gather(self, steps_max: int) -> bool:
        """Look for what fits, at so many keys at most; says whether those were too few."""
        limit = self._command.limit - len(self._values)
        wanted = min(limit, self.bytes_left // (self._sight.average_bytes + 1) + 1)
        prefix, sight, order, end = self._command.prefix, self._sight, self._order, self._end
        at = self._at
        found = self._found = list[tuple[int, int, str, Entry | int]]()
        stop = min(at + steps_max, self._total)
        while at < stop and len(found) < wanted:
            made = (order.created[at], order.keys[at]) if at < end else self._late[at - end]
            created, key = made
            at += 1
            if not key.startswith(prefix):
                continue
            now = sight.find(key)
            if isinstance(now, int) or (now is not None and now.created_revision == created):
                found.append((at, created, key, now))
        self._at = at
        return at >= stop

    def take(self, read: dict[int, Entry]) -> None:
        """Add what was gathered, with what was read for it."""
        for behind, created, key, now in self._found:
            entry = read.get(now) if isinstance(now, int) else now
            if entry is None:  # the reading ended before it
                self._at = behind - 1
                return
            if entry.created_revision != created:
                continue  # made again since
            self._values.append((key, entry))
            self.bytes_left -= len(encode_text(key)) + len(entry.value)
            if self.bytes_left < 0:
                return
