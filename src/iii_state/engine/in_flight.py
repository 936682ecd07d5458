"""What one connection has under way: how much of it there may be, and what happens past that."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from iii_state.engine.workers import Peer

READINGS_MAX = 16
"""Long lists that one connection may have read for it at a time."""


class InFlight:
    """The calls of one connection that wait for the store, by number and by weight in bytes.

    At either bound the connection is read no further, until half of it is done. The store needs
    nothing from the connection to finish them, so that nobody waits for each other.
    """

    __slots__ = ("_bytes", "_bytes_max", "_calls", "_calls_max", "_is_full", "_peer")

    def __init__(self, peer: Peer, calls_max: int, bytes_max: int) -> None:
        self._peer = peer
        self._calls_max = calls_max
        self._bytes_max = bytes_max
        self._calls = 0
        self._bytes = 0
        self._is_full = False

    @property
    def reading_weight(self) -> int:
        """What a long list weighs: its size is not known before it is read."""
        return self._bytes_max // READINGS_MAX

    def add(self, weight: int) -> None:
        """A call of this weight begins to wait."""
        self._calls += 1
        self._bytes += weight
        if self._calls >= self._calls_max or self._bytes >= self._bytes_max:
            self._fill()

    def _fill(self) -> None:
        if not self._is_full:
            self._is_full = True
            self._peer.pause_reading()

    def remove(self, weight: int, calls: int = 1) -> None:
        """A call of this weight is done, or so many that weigh that together."""
        self._calls -= calls
        self._bytes -= weight
        if (
            self._is_full
            and self._calls <= self._calls_max // 2
            and self._bytes <= self._bytes_max // 2
        ):
            self._is_full = False
            self._peer.resume_reading()
