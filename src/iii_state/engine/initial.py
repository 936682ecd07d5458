"""The entries that are there when a binding begins: told first, in order of creation.

An entry that was written since is left out: the feed tells of that. So the entries, and then the
feed from that revision on, are the whole, and nothing of it comes twice. The feed is read once all
entries are on their way; what comes of a key whose entry is not done yet waits behind it.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Collection, Iterable
from heapq import heappop, heapreplace
from itertools import takewhile

import msgspec

from iii_state.core.bindings import BindingConfig, BindingIndex
from iii_state.core.changes import Change, Entry
from iii_state.core.checkpoints import Pending
from iii_state.core.commands import ListEntries, ListScopes, Outcome
from iii_state.core.deliveries import Deliveries
from iii_state.core.events import INITIAL
from iii_state.core.store import Store
from iii_state.errors import StateError, StorageError

PAGE_ENTRIES_MAX = 256
PAGE_BYTES_MAX = 1 << 20
"""Of all the scopes that are read at once, together."""


class _Scope:
    """What was read of one scope. The next entry was made after the revision `after`."""

    __slots__ = ("after", "name", "rows")

    def __init__(self, name: str, after: int) -> None:
        self.name = name
        self.after = after
        self.rows: deque[tuple[str, Entry]] = deque()


class InitialEntries:
    """What a binding is told before the feed.

    To `deliveries` these are changes whose revision is the one that made the key: they ascend, and
    a cursor among them is the place in the walk. All of them are at or below `up_to`, the revision
    at which it began, and those of the feed are above it. `pending` are the entries that an earlier
    process left undone below the cursor. `wake` is called, in its own turn, when there may be more
    to read.
    """

    def __init__(
        self,
        store: Store,
        config: BindingConfig,
        deliveries: Deliveries,
        up_to: int,
        pending: Iterable[Pending],
        wake: Callable[[], None],
    ) -> None:
        self.up_to = up_to
        self._store = store
        self._config = config
        self._deliveries = deliveries
        self._wake = wake
        self._pending = {each.revision: each for each in pending}
        self._cursor = deliveries.position
        self._selection: BindingIndex[None] = BindingIndex()
        self._selection.add(0, config, None)
        self._prefix = config.key_prefix or _common_prefix(config.selected_keys or ())
        self._scopes: list[tuple[int, int, _Scope]] | None = None
        """A heap, the one whose next entry may be the oldest first."""
        self._page_entries = PAGE_ENTRIES_MAX
        self._page_bytes = PAGE_BYTES_MAX
        self._reading: asyncio.Future[None] | None = None
        self._failure: StateError | None = None

    @property
    def is_early(self) -> bool:
        """Whether what it is to begin with is not durable yet."""
        return self._store.revision < self.up_to

    @property
    def untaken(self) -> Collection[Pending]:
        """What is pending and known here only, not to the deliveries yet."""
        return self._pending.values()

    def forget(self, revisions: Iterable[int]) -> None:
        """Take up nothing of these: others have them on their way."""
        for revision in revisions:
            self._pending.pop(revision, None)

    def read_on(self, now_ms: int) -> bool:
        """Offer some entries; whether all there are were offered, so that the feed is next.

        Raises:
            StateError: the store cannot read. Nothing is lost by that.
        """
        if self._reading is not None or self.is_early:
            return False
        failure, self._failure = self._failure, None
        if failure is not None:
            raise failure
        if self._scopes is None and not self._open():
            return False
        scopes = self._scopes or []
        for _ in range(PAGE_ENTRIES_MAX):
            if not scopes:
                self._pending.clear()
                self._deliveries.pass_over(self.up_to)
                return True
            _, place, scope = scopes[0]
            if not scope.rows:
                if not self._read_page(scope):
                    return False
                if not scope.rows:
                    heappop(scopes)
                    continue
            elif self._offer(scope, now_ms):
                scope.rows.popleft()
            else:
                return False
            first = scope.rows[0][1].created_revision if scope.rows else scope.after
            heapreplace(scopes, (first, place, scope))
        self._wake()
        return False

    def _open(self) -> bool:
        """Learn which scopes there are; whether that is known now."""
        if self._config.scope is not None:
            self._begin([self._config.scope])
            return True

        def opened(outcome: Outcome) -> None:
            self._begin([msgspec.json.decode(name, type=str) for name in outcome.values])

        return self._read(ListScopes(), opened)

    def _begin(self, names: list[str]) -> None:
        after = min(self._pending, default=self._cursor + 1) - 1
        self._scopes = [(after, place, _Scope(name, after)) for place, name in enumerate(names)]
        self._page_entries = max(1, PAGE_ENTRIES_MAX // max(1, len(names)))
        self._page_bytes = PAGE_BYTES_MAX // max(1, len(names))

    def _read_page(self, scope: _Scope) -> bool:
        """Read more of a scope; nothing more comes when that is nothing. Whether it is there."""
        command = ListEntries(
            scope.name, scope.after, self._page_entries, self._page_bytes, self._prefix
        )

        def taken(outcome: Outcome) -> None:
            for key, entry in outcome.values:
                if entry.created_revision > self.up_to:
                    return
                scope.after = entry.created_revision
                scope.rows.append((key, entry))

        return self._read(command, taken)

    def _read(self, command: ListEntries | ListScopes, take: Callable[[Outcome], None]) -> bool:
        """Read; whether it has been done at once.

        What is not durable yet need not be waited for: it is newer than all that is told here.
        """
        outcome = self._store.execute(command)
        if outcome.reading is None:
            take(outcome)
            return True

        def done(reading: asyncio.Future[None]) -> None:
            self._reading = None
            if reading.cancelled():
                return
            error = reading.exception()
            if error is not None:
                self._failure = StorageError(f"The entries cannot be read: {error}")
            elif outcome.failure is not None:
                self._failure = outcome.failure
            else:
                take(outcome)
            self._wake()

        self._reading = asyncio.ensure_future(outcome.reading)
        self._reading.add_done_callback(done)
        return False

    def _offer(self, scope: _Scope, now_ms: int) -> bool:
        """Offer the next entry of a scope; false if there is no room."""
        key, entry = scope.rows[0]
        made = entry.created_revision
        if entry.revision > self.up_to:
            self._pending.pop(made, None)
            return True
        change = Change(made, scope.name, key, None, entry, entry.updated_at_ms, cause=INITIAL)
        if made <= self._cursor:
            pending = self._pending.pop(made, None)
            if pending is not None:
                self._deliveries.take_up(pending, change, now_ms)
            return True
        if not self._selection.match(change):
            return True
        return self._deliveries.offer(change, now_ms)


def _common_prefix(keys: Collection[str]) -> str:
    if not keys:
        return ""
    first, last = min(keys), max(keys)
    pairs = zip(first, last, strict=False)
    return "".join(one for one, _ in takewhile(lambda pair: pair[0] == pair[1], pairs))
