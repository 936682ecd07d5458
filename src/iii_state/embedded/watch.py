"""Changes as they come, one after another, none left out."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Mapping

import msgspec

from iii_state.embedded.events import Event, Json
from iii_state.embedded.functions import Functions, decode, encode

WAIT_MS = 2000
"""How long a call waits in the engine; also, how long one stays there that nobody awaits."""


class _Changes(msgspec.Struct):
    changes: list[Event]
    last_revision: int


class Watch(AsyncIterator[Event]):
    """The changes after a revision, in order of revision. Made by `State.watch`.

    It ends when it or the store is closed, maybe before the last changes: `revision` tells. After
    an error it can be asked again. For one task at a time.
    """

    def __init__(self, functions: Functions, selection: Mapping[str, Json], after: int) -> None:
        self._functions = functions
        self._selection = selection
        self._handed_out = after
        self._read_up_to = after
        self._events: deque[Event] = deque()
        self._pending: asyncio.Future[bytes | None] | None = None
        self._is_open = True

    @property
    def revision(self) -> int:
        """All up to this revision has been handed out: another watch from here misses nothing."""
        return self._handed_out

    def close(self) -> None:
        """End it; who waits for the next change hears that there is none."""
        self._is_open = False
        self._events.clear()
        if self._pending is not None and not self._pending.done():
            self._pending.set_result(None)

    async def __anext__(self) -> Event:
        """The next change, waiting for it if need be.

        Raises:
            RevisionCompacted: the change log does not reach back to where this would go on.
            StateError: the store cannot read it.
        """
        while not self._events:
            if not self._is_open or not self._functions.is_open:
                raise StopAsyncIteration
            await self._read()
        event = self._events.popleft()
        self._handed_out = event.revision if self._events else self._read_up_to
        return event

    async def _read(self) -> None:
        request = {**self._selection, "after": self._read_up_to, "wait_ms": WAIT_MS}
        self._pending = self._functions.begin("state::changes", encode(request))
        try:
            result = await self._pending
        finally:
            self._pending = None
        if result is not None and self._is_open:
            answer = msgspec.convert(decode(result), _Changes)
            self._events.extend(answer.changes)
            self._read_up_to = answer.last_revision
            if not self._events:
                self._handed_out = self._read_up_to
