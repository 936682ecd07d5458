"""An event loop in a thread of its own, for callers that have none."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from iii_state.errors import Refused, StateError, Stopped

T = TypeVar("T")

FAREWELL_S = 1.0
"""How long what other threads wait for may take to end by itself when this is closed."""


class LoopThread:
    """Runs coroutines for other threads, from the start until `close`."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(
            target=self._loop.run_forever, name="iii-state", daemon=True
        )
        self._is_open = True
        self._lock = threading.Lock()
        """Held while something is handed to the loop, so that nothing is after `close`."""
        self._thread.start()

    def wait(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """What a coroutine returns or raises.

        Raises:
            Refused: this is the loop's own thread, which would wait for itself.
            Stopped: this is closed.
        """
        refusal: StateError | None = None
        with self._lock:
            if threading.current_thread() is self._thread:
                refusal = Refused("A reaction cannot wait for the store; use `open`, and await it")
            elif not self._is_open:
                refusal = Stopped("The store is closed, nothing changed; open it again")
            else:
                future = asyncio.run_coroutine_threadsafe(coroutine, self._loop)
        if refusal is not None:
            coroutine.close()
            raise refusal
        return future.result()

    def call(self, function: Callable[[], T]) -> T:
        """What a function returns or raises in the loop's thread. See `wait`."""

        async def call() -> T:
            return function()

        return self.wait(call())

    def close(self) -> None:
        """Let what others wait for come to an end, soon, and end the thread."""
        with self._lock:
            self._is_open = False
            farewell = asyncio.run_coroutine_threadsafe(_say_farewell(), self._loop)
        farewell.result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


async def _say_farewell() -> None:
    """Let the calls end that other threads still wait for; stop those that do not."""
    others = asyncio.all_tasks() - {asyncio.current_task()}
    if others:
        _, unfinished = await asyncio.wait(others, timeout=FAREWELL_S)
        for task in unfinished:
            task.cancel()
        await asyncio.gather(*unfinished, return_exceptions=True)
