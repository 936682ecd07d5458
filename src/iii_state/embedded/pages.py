"""What comes in pages, as one sequence."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from typing import Any, Generic, TypeVar

T = TypeVar("T")

Fetch = Callable[[Any], Awaitable[tuple[Iterable[T], Any]]]
"""Gets the page at a place, None for the first one: its items, and the place of the next or None"""


class Pages(AsyncIterator[T], Generic[T]):
    """The items of all pages, each page read when it is needed. Errors are those of reading it."""

    def __init__(self, fetch: Fetch[T]) -> None:
        self._fetch = fetch
        self._items: deque[T] = deque()
        self._place: Any = None
        self._has_more = True

    async def __anext__(self) -> T:
        while not self._items:
            if not self._has_more:
                raise StopAsyncIteration
            items, self._place = await self._fetch(self._place)
            self._items.extend(items)
            self._has_more = self._place is not None
        return self._items.popleft()
