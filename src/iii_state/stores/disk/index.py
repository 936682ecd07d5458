"""Where each key's record is: scope, then key, to one packed integer.

A place is `slot << 32 | offset`: the slot is the number of a segment in this process, the offset
that of the record in its file. It fits in 60 bits, so that it costs one object of 32 bytes.
"""

from __future__ import annotations

from collections.abc import Iterator

SHARDS = 61
"""Tables of a large scope. A prime: the shard must not follow from the bits that a table uses."""

SHARD_ABOVE_KEYS = 4096
"""A scope with more keys is spread over shards, so that no table stalls the loop as it grows."""


def place_at(slot: int, offset: int) -> int:
    """The place of a record."""
    return slot << 32 | offset


def slot_of(place: int) -> int:
    """The segment's slot in a place."""
    return place >> 32


def offset_of(place: int) -> int:
    """The record's offset in a place."""
    return place & 0xFFFFFFFF


class ScopeIndex:
    """The keys of one scope, and how many bytes their values have."""

    __slots__ = ("keys", "tables", "value_bytes")

    def __init__(self) -> None:
        self.tables: list[dict[str, int]] = [{}]
        self.keys = 0
        self.value_bytes = 0

    def get(self, key: str) -> int | None:
        """The place of a key."""
        tables = self.tables
        return tables[hash(key) % len(tables)].get(key)

    def put(self, key: str, place: int) -> int | None:
        """Set the place of a key; returns the former one."""
        tables = self.tables
        table = tables[hash(key) % len(tables)]
        former = table.get(key)
        table[key] = place
        if former is None:
            self.keys += 1
            if self.keys > SHARD_ABOVE_KEYS and len(tables) == 1:
                self._spread()
        return former

    def pop(self, key: str) -> int | None:
        """Forget a key; returns the place it had."""
        tables = self.tables
        former = tables[hash(key) % len(tables)].pop(key, None)
        if former is not None:
            self.keys -= 1
        return former

    def places(self) -> list[int]:
        """The places of all keys, in no order."""
        return [place for table in self.tables for place in table.values()]

    def items(self) -> Iterator[tuple[str, int]]:
        """Keys with their places, in no order."""
        for table in self.tables:
            yield from table.items()

    def _spread(self) -> None:
        shards: list[dict[str, int]] = [{} for _ in range(SHARDS)]
        for key, place in self.tables[0].items():
            shards[hash(key) % SHARDS][key] = place
        self.tables = shards


class Index:
    """All scopes that hold a key."""

    __slots__ = ("keys", "scopes", "value_bytes")

    def __init__(self) -> None:
        self.scopes: dict[str, ScopeIndex] = {}
        self.keys = 0
        self.value_bytes = 0

    def get(self, scope: str, key: str) -> int | None:
        """The place of a key; None when it is absent."""
        found = self.scopes.get(scope)
        return found.get(key) if found is not None else None

    def put(self, scope: str, key: str, place: int, grown_bytes: int) -> int | None:
        """Set the place of a key, whose value grew by that much; returns the former place."""
        found = self.scopes.get(scope)
        if found is None:
            found = self.scopes[scope] = ScopeIndex()
        former = found.put(key, place)
        found.value_bytes += grown_bytes
        self.value_bytes += grown_bytes
        if former is None:
            self.keys += 1
        return former

    def pop(self, scope: str, key: str, value_bytes: int) -> int | None:
        """Forget a key, whose value had that many bytes; returns the place it had."""
        found = self.scopes.get(scope)
        if found is None:
            return None
        former = found.pop(key)
        if former is not None:
            found.value_bytes -= value_bytes
            self.value_bytes -= value_bytes
            self.keys -= 1
            if not found.keys:
                del self.scopes[scope]
        return former

    def move(self, scope: str, key: str, expected: int, place: int) -> bool:
        """Set the place of a key if it still is the expected one."""
        found = self.scopes.get(scope)
        if found is None:
            return False
        table = found.tables[hash(key) % len(found.tables)]
        if table.get(key) != expected:
            return False
        table[key] = place
        return True
