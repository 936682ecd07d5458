"""Where each key's record is, by scope and key, and the entries that were used last.

A key leads to a place, `slot << 32 | offset`: the slot is the number of a segment in this process,
the offset that of the record in its file. It fits in 60 bits and so costs one object of 32 bytes.
While a key's entry is in memory it leads to a `Resident` instead, which holds both: index and cache
are one look-up. Residents are bounded by bytes; one that was used since the last round stays for
another (the clock algorithm).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence

import msgspec

from iii_state.core.changes import Change, Entry
from iii_state.stores.disk.format import RECORD_PREFIX_BYTES

SHARDS = 61
"""Tables of a large scope. A prime: the shard must not follow from the bits that a table uses."""

SHARD_ABOVE_KEYS = 4096
"""A scope with more keys is spread over shards, so that no table stalls the loop as it grows."""

RESIDENT_OVERHEAD_BYTES = 464
"""What an entry in memory costs beyond its value: two structs, five integers, a bytes object, and
the stamp that it may get."""

GONE_MAX = 1024
"""Residents of deleted keys that may wait for their turn, if they are not the most."""


def place_at(slot: int, offset: int) -> int:
    """The place of a record."""
    return slot << 32 | offset


def slot_of(place: int) -> int:
    """The segment's slot in a place."""
    return place >> 32


def offset_of(place: int) -> int:
    """The record's offset in a place."""
    return place & 0xFFFFFFFF


class Resident(msgspec.Struct, gc=False):
    """A key whose entry is in memory; without an entry, one that no key leads to any more."""

    place: int
    entry: Entry | None
    scope: ScopeIndex
    key: str
    is_used: bool = False


Table = dict[str, "int | Resident"]


class ScopeIndex:
    """The keys of one scope, and how many bytes their values have.

    `one` is the only table of a small scope; a large one has `shards` instead.
    """

    __slots__ = ("keys", "one", "shards", "value_bytes")

    def __init__(self) -> None:
        self.one: Table = {}
        self.shards: list[Table] | None = None
        self.keys = 0
        self.value_bytes = 0

    def table(self, key: str) -> Table:
        """The table that a key belongs to."""
        shards = self.shards
        return self.one if shards is None else shards[hash(key) % SHARDS]

    def tables(self) -> list[Table]:
        """All tables."""
        return [self.one] if self.shards is None else self.shards

    def get(self, key: str) -> int | Resident | None:
        """Where a key leads to."""
        return self.table(key).get(key)

    def add(self, key: str, found: int | Resident) -> None:
        """Add a key that is not there yet."""
        self.expect(1)
        self.table(key)[key] = found
        self.keys += 1

    def expect(self, keys: int) -> None:
        """Prepare for so many more keys."""
        if self.keys + keys > SHARD_ABOVE_KEYS and self.shards is None:
            self._spread()

    def found(self) -> list[int | Resident]:
        """What all keys lead to, in no order."""
        return [found for table in self.tables() for found in table.values()]

    def _spread(self) -> None:
        shards: list[Table] = [{} for _ in range(SHARDS)]
        for key, found in self.one.items():
            shards[hash(key) % SHARDS][key] = found
        self.one, self.shards = {}, shards


class Index:
    """All scopes that hold a key."""

    def __init__(self) -> None:
        self.scopes: dict[str, ScopeIndex] = {}
        self.keys = 0
        self.value_bytes = 0
        self.resident_bytes = 0
        self.resident_bytes_max = 0
        self._residents: deque[Resident] = deque()
        self._gone = 0

    def get(self, scope: str, key: str) -> int | Resident | None:
        """Where a key leads to; None when it is absent."""
        found = self.scopes.get(scope)
        if found is None:
            return None
        shards = found.shards
        return (found.one if shards is None else shards[hash(key) % SHARDS]).get(key)

    def follow(
        self,
        changes: Sequence[Change],
        residents: Sequence[Resident | None],
        lengths: Sequence[int],
        place: int,
        kills: dict[int, int],
    ) -> int:
        """Let keys lead to what changes left, in records that stand one after another at `place`.

        `lengths` are those of the new values, `residents` what the keys led to when the changes
        were made, where that is known: while one holds what its change replaced, the key still
        leads to it. Then there is only so much in memory as there should be.

        Adds what became superseded to `kills`, by slot; returns the bytes of the values before.
        """
        replaced_bytes = 0
        for change, resident, length in zip(changes, residents, lengths, strict=True):
            entry, replaced = change.entry, change.replaced
            before_bytes = len(replaced.value) if replaced is not None else 0
            if entry is None:
                former = self.pop(change.scope, change.key, before_bytes)
            elif resident is not None and resident.entry is replaced:
                former = resident.place
                resident.place, resident.entry = place, entry
                if not resident.is_used:
                    resident.is_used = True
                if length != before_bytes:
                    self._grow(resident.scope, length - before_bytes)
            else:
                former = self._set(change.scope, change.key, place, entry, length - before_bytes)
            if former:
                replaced_bytes += before_bytes
                slot = former >> 32
                kills[slot] = kills.get(slot, 0) + RECORD_PREFIX_BYTES + before_bytes
            place += RECORD_PREFIX_BYTES + length
        self.make_room()
        return replaced_bytes

    def _grow(self, keys: ScopeIndex, grown_bytes: int) -> None:
        keys.value_bytes += grown_bytes
        self.value_bytes += grown_bytes
        self.resident_bytes += grown_bytes

    def _set(self, scope: str, key: str, place: int, entry: Entry, grown_bytes: int) -> int:
        """Let a key lead to an entry; returns the place it had, 0 if it is new."""
        keys = self.scopes.get(scope)
        if keys is None:
            keys = self.scopes[scope] = ScopeIndex()
        table = keys.table(key)
        former = table.get(key)
        if isinstance(former, Resident):
            former_place = former.place
            former.place, former.entry, former.is_used = place, entry, True
            self._grow(keys, grown_bytes)
            return former_place
        resident = Resident(place, entry, keys, key)
        self._residents.append(resident)
        keys.value_bytes += grown_bytes
        self.value_bytes += grown_bytes
        self.resident_bytes += len(entry.value) + RESIDENT_OVERHEAD_BYTES
        if former is None:
            self.keys += 1
            keys.add(key, resident)
            return 0
        table[key] = resident
        return former

    def warm(self, scope: str, key: str, entry: Entry) -> None:
        """Keep the entry of a key that was read from disk."""
        keys = self.scopes[scope]
        table = keys.table(key)
        place = table[key]
        assert isinstance(place, int)
        table[key] = resident = Resident(place, entry, keys, key)
        self._residents.append(resident)
        self.resident_bytes += len(entry.value) + RESIDENT_OVERHEAD_BYTES
        self.make_room()

    def pop(self, scope: str, key: str, value_bytes: int) -> int:
        """Forget a key, whose value had that many bytes; returns the place it had, 0 if none."""
        keys = self.scopes.get(scope)
        former = keys.table(key).pop(key, None) if keys is not None else None
        if keys is None or former is None:
            return 0
        keys.value_bytes -= value_bytes
        self.value_bytes -= value_bytes
        keys.keys -= 1
        self.keys -= 1
        if not keys.keys:
            del self.scopes[scope]
        if not isinstance(former, Resident):
            return former
        former.entry = None
        self.resident_bytes -= value_bytes + RESIDENT_OVERHEAD_BYTES
        self._gone += 1
        if self._gone > GONE_MAX and self._gone * 2 > len(self._residents):
            self._residents = deque(kept for kept in self._residents if kept.entry is not None)
            self._gone = 0
        return former.place

    def move(self, scope: str, key: str, slots: Iterable[int], place: int) -> bool:
        """Set the place of a key if its record is in one of some slots; says whether it was."""
        keys = self.scopes.get(scope)
        if keys is None:
            return False
        table = keys.table(key)
        found = table.get(key)
        if found is None:
            return False
        if isinstance(found, Resident):
            if slot_of(found.place) not in slots:
                return False
            found.place = place
        elif slot_of(found) in slots:
            table[key] = place
        else:
            return False
        return True

    def make_room(self) -> None:
        """Let go of entries that nobody asked for in a while, if there are too many in memory."""
        residents = self._residents
        while self.resident_bytes > self.resident_bytes_max and residents:
            resident = residents.popleft()
            entry = resident.entry
            if entry is None:
                self._gone -= 1
            elif resident.is_used:
                resident.is_used = False
                residents.append(resident)
            else:
                resident.scope.table(resident.key)[resident.key] = resident.place
                resident.entry = None
                self.resident_bytes -= len(entry.value) + RESIDENT_OVERHEAD_BYTES
