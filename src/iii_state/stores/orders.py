"""The keys of a scope in an order, kept between the pages that are read in it.

An order may know keys that are gone: whoever reads a page looks each key up. It must not lack one,
so before a page it is told of the keys made since. Then a page costs what is on it, not what the
scope holds.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right, insort
from collections.abc import Callable, Iterable, Iterator, Sequence
from heapq import merge
from typing import Generic, TypeVar

ORDERS_KEYS_MAX = 4_000_000
"""Keys in the orders that a store keeps, 16 bytes each; one order alone may have more."""

ORDERS_MAX = 256
"""Scopes whose order is kept."""

SLACK_KEYS = 1024
"""More keys that are gone, or that wait to be sorted in, than there are others, are too many."""

INSERTS_MAX = 16
"""With more keys, sorting all that wait is quicker than inserting each."""


class CreationOrder:
    """Keys by the revision that made them. `revision`: all that were made up to it are here."""

    def __init__(self) -> None:
        self.created: array[int] = array("Q")
        self.keys: list[str] = []
        self.revision = 0

    def __len__(self) -> int:
        return len(self.keys)

    def add(self, created: array[int], keys: list[str], revision: int) -> None:
        """Add the keys made since, in order."""
        self.created.extend(created)
        self.keys.extend(keys)
        self.revision = revision

    def behind(self, created: int) -> int:
        """Where the keys made after a revision begin."""
        return bisect_right(self.created, created)

    def is_worn(self, keys: int) -> bool:
        """Whether most of it is gone from a scope of so many keys."""
        return len(self.keys) > 2 * keys + SLACK_KEYS


class NameOrder:
    """Keys by code point. `revision`: all that were made up to it are here."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self.revision = 0
        self._added: list[str] = []

    def __len__(self) -> int:
        return len(self.names) + len(self._added)

    def add(self, names: Sequence[str], revision: int) -> None:
        """Add keys, some of which may be here already."""
        self.revision = revision
        if len(names) <= INSERTS_MAX:
            for name in names:
                insort(self._added, name)
        else:
            self._added += sorted(names)
            self._added.sort()  # quick: two parts that are sorted already

    def behind(self, after: str | None, prefix: str, pending: list[str]) -> Iterator[str]:
        """Keys with a prefix behind one of them, with others that are sorted, each once."""
        last = after
        for name in merge(*(_from(names, after, prefix) for names in self._lists(pending))):
            if not name.startswith(prefix):
                return
            if name != last:
                yield name
            last = name

    def _lists(self, pending: list[str]) -> list[list[str]]:
        return [names for names in (self.names, self._added, pending) if names]

    def is_worn(self, keys: int) -> bool:
        """Whether most of it is gone from a scope of so many keys, or too much is not sorted in."""
        waiting_max = SLACK_KEYS + len(self.names) // 8
        return len(self) > 2 * keys + SLACK_KEYS or len(self._added) > waiting_max


def _from(names: list[str], after: str | None, prefix: str) -> Iterator[str]:
    """The names behind one of them, beginning with a prefix or what would stand in its place."""
    at = bisect_left(names, prefix)
    if after is not None:
        at = bisect_right(names, after, lo=at)
    return (names[index] for index in range(at, len(names)))


Order = TypeVar("Order", CreationOrder, NameOrder)


class Orders(Generic[Order]):
    """The orders that were used last, one a scope, bounded by their keys."""

    def __init__(self, make: Callable[[], Order], keys_max: int = ORDERS_KEYS_MAX) -> None:
        self._make: Callable[[], Order] = make
        self._keys_max = keys_max
        self._orders: dict[str, tuple[object, Order]] = {}

    def of(self, scope: str, owner: object, keys: int) -> Order:
        """The order of a scope of so many keys; `owner` is what holds them, and no other."""
        former, order = self._orders.pop(scope, (None, None))
        if order is None or former is not owner or order.is_worn(keys):
            order = self._make()
        self._orders[scope] = owner, order
        self._make_room()
        return order

    def _make_room(self) -> None:
        orders = self._orders
        keys = sum([len(order) for _, order in orders.values()])
        while len(orders) > 1 and (keys > self._keys_max or len(orders) > ORDERS_MAX):
            keys -= len(orders.pop(next(iter(orders)))[1])


def in_order(runs: Iterable[tuple[array[int], list[str]]]) -> tuple[array[int], list[str]]:
    """Several sorted runs of revisions and keys as one."""
    created, keys = array("Q"), list[str]()
    for revision, key in merge(*(zip(*run, strict=True) for run in runs)):
        created.append(revision)
        keys.append(key)
    return created, keys
