"""Keys that expire: when, and the deletes that end them.

When a key expires is kept in a note beside the data, so that a start need not look for it; the
wall clock is read once, and time goes on from there evenly, whatever happens to that clock.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from heapq import heapify, heappop, heappush

import msgspec

from iii_state.core.changes import Origin
from iii_state.core.commands import (
    Command,
    Delete,
    Get,
    GetMany,
    Outcome,
    Set,
    Transact,
    Write,
)
from iii_state.core.store import Store
from iii_state.engine.timers import Timer, Timers
from iii_state.errors import StateError

log = logging.getLogger("iii_state.expiries")

EXPIRY = 22
"""The kind of note: named by scope and key as a JSON array, holding the time as digits."""

CAUSE = "expired"
EXPIRED_PER_TURN_MAX = 1000
SLACK = 1000
"""Times that no longer hold are thrown away when there are so many more of them than others."""

AGAIN_S = 1.0
"""After the store refused to expire a key."""

Place = tuple[str, str]


class Expiries:
    """Deletes each key at its time, or before anybody sees it after that."""

    def __init__(self, store: Store, timers: Timers, clock_ms: Callable[[], int]) -> None:
        self._store = store
        self._timers = timers
        self.commit: Callable[[], None] = lambda: None
        """Called when there is something to commit."""
        self._started_ms = clock_ms() - timers.time() * 1000
        self._times: dict[Place, int] = {}
        self._due: list[tuple[int, Place]] = []
        self._timer: Timer | None = None
        self._wakes_at_ms = 0
        self._resumes_at_ms = 0
        self._is_running = False
        self.is_used = False
        """Whether any key expires; until then nothing here costs anything."""
        self.reload()

    @property
    def now_ms(self) -> int:
        """The time, in milliseconds since the epoch."""
        return int(self._started_ms + self._timers.time() * 1000)

    def reload(self) -> None:
        """Take the times from the store: at the start, and when a commit failed with some."""
        self._times = {
            msgspec.json.decode(name, type=tuple[str, str]): int(payload)
            for name, payload in self._store.notes(EXPIRY).items()
        }
        self._due = [(at_ms, place) for place, at_ms in self._times.items()]
        heapify(self._due)
        self.is_used = self.is_used or bool(self._times)
        self._plan()

    def start(self) -> None:
        """Begin to expire keys by themselves."""
        self._is_running = True
        self._plan()

    def stop(self) -> None:
        """Expire nothing by itself any more."""
        self._is_running = False
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def at(self, scope: str, key: str) -> int | None:
        """When a key expires, in milliseconds since the epoch; None: never."""
        return self._times.get((scope, key))

    def after(self, ttl_ms: int) -> int:
        """The time so many milliseconds from now, for a key that will expire then."""
        self.is_used = True
        return self.now_ms + ttl_ms

    def touch(self, scope: str, key: str, expires_at_ms: int | None) -> Outcome:
        """Let a key that is there expire at another time, or never; final once that is durable."""
        return self._set((scope, key), expires_at_ms)

    def follow(self, command: Command, outcome: Outcome) -> None:
        """Take into account what a command did: a set gives a new time or none, an update none."""
        if outcome.change is None:
            return
        if isinstance(command, Transact):
            for write, (change, _) in zip(command.writes, outcome.results, strict=True):
                self._follow(write, change.entry.expires_at_ms if change.entry else 0)
        elif isinstance(command, Write):
            entry = outcome.change.entry
            self._follow(command, entry.expires_at_ms if entry is not None else 0)

    def expire_before(self, command: Command) -> None:
        """Expire what a command would see, or write over, after its time.

        Of what else is due a part expires in each turn, so that many keys hold up nobody.
        """
        now_ms = self.now_ms
        if not self._is_due(now_ms):
            return
        if isinstance(command, Get | Write):
            self._expire_places(((command.scope, command.key),), now_ms)
        elif isinstance(command, GetMany):
            self._expire_places(command.places, now_ms)
        elif isinstance(command, Transact):
            touched = (*command.guards, *command.writes)
            self._expire_places([(each.scope, each.key) for each in touched], now_ms)
        else:
            self._sweep(len(self._due))

    def _expire_places(self, places: Iterable[Place], now_ms: int) -> None:
        for place in places:
            if self._times.get(place, now_ms + 1) <= now_ms and not self._expire(place, now_ms):
                break

    def _sweep(self, count_max: int) -> None:
        """Expire so many of those that are due, the oldest first."""
        now_ms = self.now_ms
        if not self._is_due(now_ms):
            return
        left = count_max
        while self._due and self._due[0][0] <= now_ms and left:
            expires_at_ms, place = self._due[0]
            if self._times.get(place) == expires_at_ms:
                if not self._expire(place, now_ms):
                    break
                left -= 1
            heappop(self._due)
        self._plan()

    def _is_due(self, now_ms: int) -> bool:
        return bool(self._due) and self._due[0][0] <= now_ms and self._resumes_at_ms <= now_ms

    def _expire(self, place: Place, now_ms: int) -> bool:
        """Delete a key, as a change of its own; says whether the store does so."""
        try:
            self._store.execute(Delete(*place, Origin(), CAUSE))
        except StateError as error:
            log.warning("keys that expired are not deleted for now: %s", error.message)
            self._resumes_at_ms = now_ms + int(AGAIN_S * 1000)
            return False
        self._set(place, None)
        self.commit()
        return True

    def _follow(self, write: Write, expires_at_ms: int) -> None:
        place = write.scope, write.key
        if isinstance(write, Set) and expires_at_ms:
            self._set(place, expires_at_ms)
        elif isinstance(write, Set | Delete) and place in self._times:
            self._set(place, None)

    def _set(self, place: Place, expires_at_ms: int | None) -> Outcome:
        name = msgspec.json.encode(place).decode()
        if expires_at_ms is None:
            self._times.pop(place, None)
            return self._store.note(EXPIRY, name, None, is_tied=True)
        self.is_used = True
        self._times[place] = expires_at_ms
        heappush(self._due, (expires_at_ms, place))
        if len(self._due) > 2 * len(self._times) + SLACK:
            self._due = [(at_ms, place) for place, at_ms in self._times.items()]
            heapify(self._due)
        self._plan()
        return self._store.note(EXPIRY, name, b"%d" % expires_at_ms, is_tied=True)

    def _plan(self) -> None:
        """Wake up when the next key expires, unless that is so already."""
        if not self._due or not self._is_running:
            return
        wakes_at_ms = max(self._due[0][0], self._resumes_at_ms)
        if self._timer is not None:
            if self._wakes_at_ms <= wakes_at_ms:
                return
            self._timer.cancel()
        self._wakes_at_ms = wakes_at_ms
        delay_s = max(wakes_at_ms - self.now_ms, 0) / 1000
        self._timer = self._timers.call_later(delay_s, self._wake)

    def _wake(self) -> None:
        self._timer = None
        self._sweep(EXPIRED_PER_TURN_MAX)
        self._plan()
