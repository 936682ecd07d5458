"""How far one binding has got: a cursor over the feed of changes, never a queue of events.

Matched changes are offered in order of revision. Each goes into the lane of its key: the first of a
lane may be in flight, the rest wait, so the events of one key are handled one after another and
those of different keys side by side. What waits is bounded; beyond that `offer` says no, and the
binding reads on from the feed when it has room. So however far it lags, it costs the same.

Pure: whoever holds it makes the calls and brings back how they ended. What is still to come has its
place: a retry with back-off lets a lane's head sleep before it is ready again (`_retake`), a dead
letter is one more way for `finished` to end, a durable cursor is `cursor` written down, coalescing
belongs into `offer`, and a pause is not asking for `next_ready`.
"""

from __future__ import annotations

from collections import deque
from enum import Enum

import msgspec

from iii_state.core.changes import Change

Lane = tuple[str, str]


class Result(Enum):
    """How a delivery ended."""

    DELIVERED = "delivered"
    SKIPPED = "skipped"
    """The condition said no."""
    FAILED = "failed"
    """The function, or the condition, failed or does not exist."""
    INTERRUPTED = "interrupted"
    """Whoever ran it went away; it may have been carried out or not."""


class Limits(msgspec.Struct, frozen=True):
    """The bounds of one binding.

    `in_flight_max` deliveries run at once, each of another key. At most `read_ahead_max` changes
    with `read_ahead_bytes_max` bytes of values (one change may go over) wait for their turn. An
    event whose delivery was interrupted is delivered again `interruptions_max` times.
    """

    in_flight_max: int = 64
    read_ahead_max: int = 4096
    read_ahead_bytes_max: int = 1 << 20
    interruptions_max: int = 3


class Delivery(msgspec.Struct, frozen=True, gc=False):
    """One change on its way to a binding's function, for the `attempt`-th time, from 1."""

    change: Change
    attempt: int = 1


class Counters(msgspec.Struct):
    """What became of the changes of one binding, since it was made.

    `matched` is the sum of the next three and of what is waiting or in flight. `lost` counts the
    revisions that the feed no longer had when the binding came to them, matching or not.
    """

    matched: int = 0
    delivered: int = 0
    skipped: int = 0
    failed: int = 0
    lost: int = 0


class Deliveries:
    """The deliveries of one binding.

    `position` is the highest revision that was taken or passed over; what is offered again is
    ignored.
    """

    def __init__(self, position: int, limits: Limits) -> None:
        self.position = position
        self.counters = Counters()
        self.last_lost: tuple[int, int] | None = None
        self._limits = limits
        self._lanes: dict[Lane, deque[Delivery] | None] = {}
        self._ready: deque[Delivery] = deque()
        self._in_flight: dict[int, Delivery] = {}
        self._waiting = 0
        self._waiting_bytes = 0

    @property
    def in_flight(self) -> int:
        """How many deliveries are running."""
        return len(self._in_flight)

    @property
    def waiting(self) -> int:
        """How many changes wait for their turn."""
        return self._waiting

    @property
    def has_room(self) -> bool:
        """Whether it is worth reading the feed again after `offer` has said no.

        True at half the read-ahead, so that the feed is read in strides and not for one change.
        """
        limits = self._limits
        return (
            self._waiting <= limits.read_ahead_max // 2
            and self._waiting_bytes <= limits.read_ahead_bytes_max // 2
        )

    def cursor(self, read_up_to: int) -> int:
        """The revision up to which everything is done, if the feed was read to `read_up_to`."""
        unfinished = [
            *self._in_flight,
            *(delivery.change.revision for delivery in self._ready),
        ]
        return min(unfinished) - 1 if unfinished else max(read_up_to, self.position)

    def offer(self, change: Change) -> bool:
        """Take a matching change, in order of revision. False: no room, offer it again later."""
        revision = change.revision
        if revision <= self.position:
            return True
        limits = self._limits
        if (
            self._waiting >= limits.read_ahead_max
            or self._waiting_bytes >= limits.read_ahead_bytes_max
        ):
            return False
        self.position = revision
        self.counters.matched += 1
        delivery = Delivery(change)
        self._waiting += 1
        self._waiting_bytes += _size(change)
        lane = (change.scope, change.key)
        if lane not in self._lanes:
            self._lanes[lane] = None
            self._ready.append(delivery)
            return True
        queue = self._lanes[lane]
        if queue is None:
            queue = self._lanes[lane] = deque()
        queue.append(delivery)
        return True

    def pass_over(self, revision: int) -> None:
        """Ask for nothing up to this revision that was not taken yet."""
        self.position = max(self.position, revision)

    def lose(self, up_to: int) -> None:
        """Note that the changes after `position`, up to this revision, are no longer kept."""
        if up_to <= self.position:
            return
        self.counters.lost += up_to - self.position
        self.last_lost = (self.position + 1, up_to)
        self.position = up_to

    def next_ready(self) -> list[Delivery]:
        """The deliveries to start now; each is in flight until it is `finished`."""
        started = []
        ready, in_flight, room = self._ready, self._in_flight, self._limits.in_flight_max
        while ready and len(in_flight) < room:
            delivery = ready.popleft()
            in_flight[delivery.change.revision] = delivery
            self._waiting -= 1
            self._waiting_bytes -= _size(delivery.change)
            started.append(delivery)
        return started

    def finished(self, revision: int, result: Result) -> None:
        """Note how the delivery of a revision ended; the next of its key becomes ready."""
        delivery = self._in_flight.pop(revision)
        if result is Result.INTERRUPTED:
            if delivery.attempt <= self._limits.interruptions_max:
                self._retake(delivery)
                return
            result = Result.FAILED
        counters = self.counters
        if result is Result.DELIVERED:
            counters.delivered += 1
        elif result is Result.SKIPPED:
            counters.skipped += 1
        else:
            counters.failed += 1
        self._free((delivery.change.scope, delivery.change.key))

    def _retake(self, delivery: Delivery) -> None:
        """Have a delivery made again, before the later ones of its key."""
        self._ready.appendleft(Delivery(delivery.change, delivery.attempt + 1))
        self._waiting += 1
        self._waiting_bytes += _size(delivery.change)

    def _free(self, lane: Lane) -> None:
        queue = self._lanes[lane]
        if not queue:
            del self._lanes[lane]
            return
        self._ready.append(queue.popleft())


def _size(change: Change) -> int:
    return len(change.before or b"") + len(change.after or b"")
