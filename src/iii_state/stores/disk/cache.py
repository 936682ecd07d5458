"""Values kept in memory, bounded by bytes: the entries used last."""

from __future__ import annotations

from collections import OrderedDict

from iii_state.core.changes import Entry

ENTRY_OVERHEAD_BYTES = 352
"""What a cached entry costs beyond its value: struct, integers, bytes object and its table slot."""


class ValueCache:
    """Entries by place. Those that were not used for longest make room for new ones."""

    __slots__ = ("_bytes_max", "_entries", "bytes")

    def __init__(self, bytes_max: int) -> None:
        self._entries: OrderedDict[int, Entry] = OrderedDict()
        self._bytes_max = bytes_max
        self.bytes = 0

    def get(self, place: int) -> Entry | None:
        """The entry at a place, which counts as used now."""
        entry = self._entries.get(place)
        if entry is not None:
            self._entries.move_to_end(place)
        return entry

    def peek(self, place: int) -> Entry | None:
        """The entry at a place. May be called from any thread."""
        return self._entries.get(place)

    def put(self, place: int, entry: Entry) -> None:
        """Keep the entry of a place that is not kept yet."""
        self._entries[place] = entry
        self.bytes += len(entry.value) + ENTRY_OVERHEAD_BYTES
        while self.bytes > self._bytes_max and self._entries:
            _, oldest = self._entries.popitem(last=False)
            self.bytes -= len(oldest.value) + ENTRY_OVERHEAD_BYTES

    def drop(self, place: int) -> None:
        """Let go of the entry at a place."""
        entry = self._entries.pop(place, None)
        if entry is not None:
            self.bytes -= len(entry.value) + ENTRY_OVERHEAD_BYTES

    def move(self, former: int, place: int) -> None:
        """Keep the entry of one place under another."""
        entry = self._entries.pop(former, None)
        if entry is not None:
            self._entries[place] = entry
