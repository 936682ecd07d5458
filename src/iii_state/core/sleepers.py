"""What is asleep: the first of a lane, which is ready again at a time to come."""

from __future__ import annotations

from collections.abc import Iterator
from heapq import heappop, heappush
from itertools import count
from typing import Generic, TypeVar

Item = TypeVar("Item")

Lane = tuple[str, str]
"""The scope and key whose events come one after another."""


class Sleeper(Generic[Item]):
    """An item that is due at a time, which may be put off, but not beyond `latest_ms`."""

    __slots__ = ("due_ms", "item", "latest_ms")

    def __init__(self, item: Item, due_ms: int, latest_ms: int) -> None:
        self.item = item
        self.due_ms = due_ms
        self.latest_ms = latest_ms

    def put_off(self, item: Item, due_ms: int) -> None:
        """Let another item be due, and later."""
        self.item = item
        self.due_ms = min(due_ms, self.latest_ms)


class Sleepers(Generic[Item]):
    """At most one sleeper of each lane, woken in the order in which they are due."""

    def __init__(self) -> None:
        self._asleep: dict[Lane, Sleeper[Item]] = {}
        self._by_time: list[tuple[int, int, Lane]] = []
        self._numbers = count()

    def __len__(self) -> int:
        return len(self._asleep)

    def __iter__(self) -> Iterator[tuple[Lane, Sleeper[Item]]]:
        return iter(self._asleep.items())

    @property
    def next_due_ms(self) -> int | None:
        """When to wake the next, or a little early if it was put off; None if nothing sleeps."""
        return self._by_time[0][0] if self._by_time else None

    def add(self, lane: Lane, sleeper: Sleeper[Item]) -> None:
        """Let the first of a lane sleep."""
        self._asleep[lane] = sleeper
        heappush(self._by_time, (sleeper.due_ms, next(self._numbers), lane))

    def wake(self, now_ms: int) -> list[tuple[Lane, Sleeper[Item]]]:
        """Take out those whose time has come."""
        woken = []
        while self._by_time and self._by_time[0][0] <= now_ms:
            _, number, lane = heappop(self._by_time)
            sleeper = self._asleep[lane]
            if sleeper.due_ms > now_ms:
                heappush(self._by_time, (sleeper.due_ms, number, lane))
            else:
                del self._asleep[lane]
                woken.append((lane, sleeper))
        return woken
