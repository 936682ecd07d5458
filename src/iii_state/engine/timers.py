"""Time, as the engine needs it from an event loop; tests bring their own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol


class Timer(Protocol):
    """Something that will happen, unless it is cancelled."""

    def cancel(self) -> None:
        """Let it not happen."""


class Timers(Protocol):
    """What is used of an event loop; `asyncio`'s has it."""

    def time(self) -> float:
        """Seconds, from anywhere, never going back."""

    def call_soon(self, callback: Callable[[], object], /) -> object:
        """Call in the next turn."""

    def call_later(self, delay: float, callback: Callable[[], object], /) -> Timer:
        """Call after `delay` seconds."""
