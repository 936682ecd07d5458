"""Reading the change log for a caller: what a scan looks for, and how far it has got.

A scan reads in slices. Between two of them changes are committed, and old ones are dropped from the
log; neither is missed silently.
"""

from __future__ import annotations

from iii_state.core.binding_config import BindingConfig
from iii_state.core.bindings import BindingIndex
from iii_state.core.changes import Change
from iii_state.core.commands import Get
from iii_state.core.events import event_payload
from iii_state.core.store import Store
from iii_state.core.values import encode_text
from iii_state.errors import RevisionCompacted, StateError

SLICE_CHANGES_MAX = 64
SLICE_BYTES_MAX = 256 << 10
"""What is read at a time: a few milliseconds, also of a log that nobody has read for long."""


class Page:
    """The JSON texts for one answer: at most `limit`, and of `bytes_max` together.

    The first is taken at any size.
    """

    def __init__(self, limit: int, bytes_max: int) -> None:
        self.texts: list[bytes] = []
        self._limit = limit
        self._bytes_left = bytes_max

    @property
    def is_full(self) -> bool:
        """Whether there are as many as there may be."""
        return len(self.texts) >= self._limit

    def take(self, text: bytes) -> bool:
        """Add a text; false if there is no room for it."""
        size = len(text) + 1
        if self.texts and size > self._bytes_left:
            return False
        self.texts.append(text)
        self._bytes_left -= size
        return True


class ChangesScan:
    """The changes after a revision that a config selects, ascending, as a page of events.

    `position` is the revision up to which all is told. An event of more than `room` bytes goes
    without its values.
    """

    def __init__(
        self, store: Store, after: int, config: BindingConfig, page: Page, room: int
    ) -> None:
        self.position = after
        self.config = config
        self.page = page
        self._selected: BindingIndex[None] = BindingIndex()
        self._selected.add(0, config, None)
        self._is_at_end = False
        self._store = store
        self._room = room

    @property
    def is_fruitless(self) -> bool:
        """Whether all has been read and nothing was found."""
        return self._is_at_end and not self.page.texts

    def step(self) -> bool:
        """Read on; whether there may be more.

        Raises:
            StateError: the store cannot read there, and nothing has been found before.
        """
        try:
            changes = self._store.changes(self.position, SLICE_CHANGES_MAX, SLICE_BYTES_MAX)
        except StateError:
            if self.page.texts:
                return False
            raise
        for change in changes:
            if self._selected.match(change) and not self.page.take(self._event(change)):
                return False
            self.position = change.revision
            if self.page.is_full:
                return False
        self._is_at_end = not changes
        return bool(changes)

    def result(self) -> bytes:
        """What is answered."""
        return b'{"changes":[%b],"last_revision":%d,"oldest_revision":%d,"revision":%d}' % (
            b",".join(self.page.texts),
            self.position,
            self._store.oldest_revision,
            self._store.revision,
        )

    def _event(self, change: Change) -> bytes:
        text = event_payload(change, 1)
        if len(text) > self._room:
            return event_payload(change, 1, values_omitted=True)
        return text


class HistoryScan:
    """The kept versions of a key, newest first, as a page.

    A version names the one before it by its revision. Only where none is named, as before a key was
    created, the log is searched, backwards.
    """

    def __init__(
        self, store: Store, scope: str, key: str, before: int | None, page: Page, room: int
    ) -> None:
        self.page = page
        self._store = store
        self._scope = scope
        self._key = key
        self._room = room
        self._below = store.revision + 1
        """Versions of this revision and above are told, or not wanted."""
        self._version: int | None = None
        """That of the newest version below, if it is known."""
        self._searched_to = 0
        self._found: Change | None = None
        self._has_more = True
        if before is not None and before < self._below:
            self._below = before
            # Most likely it is a version that was told before.
            self._follow(self._change(before))
        else:
            self._begin()

    def step(self) -> bool:
        """Read on; whether there may be more.

        Raises:
            StateError: the store cannot read, and nothing has been found before.
        """
        try:
            return self._read_on()
        except StateError:
            if self.page.texts:
                return False
            raise

    def result(self) -> bytes:
        """What is answered."""
        more = b',"next_before":%d' % self._below if self._has_more else b""
        return b'{"versions":[%b],"oldest_revision":%d%b}' % (
            b",".join(self.page.texts),
            self._store.oldest_revision,
            more,
        )

    def _begin(self) -> None:
        entry = self._store.execute(Get(self._scope, self._key)).entry
        # One that is not durable yet does not count.
        if entry is not None and entry.revision < self._below:
            self._expect(entry.revision)

    def _read_on(self) -> bool:
        oldest = self._store.oldest_revision
        if self._below <= oldest + 1:
            self._has_more = False
        if not self._has_more:
            return False
        if self._version is None:
            return self._search(oldest)
        version, self._version = self._version, None
        change = self._change(version)
        return change is None or self._tell(change)

    def _search(self, oldest: int) -> bool:
        """Read a part below what is told, upwards, for the newest version in it."""
        start = max(oldest, self._below - 1 - SLICE_CHANGES_MAX)
        after = max(start, self._searched_to)
        changes = self._store.changes(after, SLICE_CHANGES_MAX, SLICE_BYTES_MAX)
        for change in changes:
            if change.revision < self._below and self._is_version(change):
                self._found = change
        if changes and changes[-1].revision < self._below - 1:
            self._searched_to = changes[-1].revision
            return True
        found, self._found, self._searched_to = self._found, None, 0
        if found is not None:
            return self._tell(found)
        self._below = start + 1
        return True

    def _tell(self, change: Change) -> bool:
        text = _version(change)
        if len(text) > self._room:
            text = _version(change, values_omitted=True)
        if not self.page.take(text):
            return False
        self._below = change.revision
        self._follow(change)
        return self._has_more and not self.page.is_full

    def _follow(self, change: Change | None) -> None:
        if change is not None and change.replaced is not None and self._is_version(change):
            self._expect(change.replaced.revision)

    def _expect(self, version: int) -> None:
        """Go on with a version that is known, if it is kept."""
        if version > self._store.oldest_revision:
            self._version = version
        else:
            self._has_more = False

    def _is_version(self, change: Change) -> bool:
        return change.key == self._key and change.scope == self._scope

    def _change(self, revision: int) -> Change | None:
        try:
            changes = self._store.changes(revision - 1, 1, 1)
        except RevisionCompacted:
            return None
        return changes[0] if changes and changes[0].revision == revision else None


def _version(change: Change, *, values_omitted: bool = False) -> bytes:
    entry, origin = change.entry, change.origin
    value = b"" if entry is None or values_omitted else b',"value":%b' % entry.value
    return b'{"revision":%d,"event_type":"%b"%b,"timestamp_ms":%d%b%b%b%b}' % (
        change.revision,
        change.event_type.encode(),
        value,
        change.timestamp_ms,
        _member(b"worker", origin.worker),
        _member(b"function", origin.function),
        _member(b"cause", change.cause),
        b',"values_omitted":true' if values_omitted else b"",
    )


def _member(name: bytes, text: str) -> bytes:
    return b',"%b":%b' % (name, encode_text(text)) if text else b""
