"""How far one binding has got: a cursor over the feed of changes, never a queue of events.

Matched changes are offered in order of revision. Each goes into the lane of its key: the first of a
lane may be in flight or asleep, the rest wait, so the events of one key are handled one after
another and those of different keys side by side. What waits is bounded; beyond that `offer` says
no, and the binding reads on from the feed when it has room. So its lag costs nothing.

    offer → lane → ready → in flight → done, or a dead letter
                     ↑         ↓
                     └─ asleep ┘

Pure: whoever holds it makes the calls and brings back how they ended, and the time, in milliseconds
from anywhere. Time matters only to a policy that `is_timed`; then `next_wakeup` says when to come
back: to `wake` what slept, and to look what is `overdue`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from itertools import chain, islice, takewhile

import msgspec

from iii_state.core import policies
from iii_state.core.bindings import BindingConfig
from iii_state.core.changes import Change
from iii_state.core.checkpoints import Checkpoint, Pending
from iii_state.core.delivery import Counters, Delivery, GivenUp, Result
from iii_state.core.policies import ONCE, Policy
from iii_state.core.sleepers import Lane, Sleeper, Sleepers


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

    def under(self, config: BindingConfig) -> Limits:
        """These, as a config changes them."""
        least = policies.DURABLE_INTERRUPTIONS_MAX if config.durable is not None else 0
        return msgspec.structs.replace(
            self,
            in_flight_max=config.max_in_flight or self.in_flight_max,
            interruptions_max=max(self.interruptions_max, least),
        )


class Deliveries:
    """The deliveries of one binding.

    `position` is the highest revision that was taken or passed over; what is offered again is
    ignored. `is_timed` tells whether time matters here.
    """

    def __init__(self, position: int, limits: Limits, policy: Policy = ONCE) -> None:
        self.position = position
        self.counters = Counters()
        self.last_lost: tuple[int, int] | None = None
        self.is_timed = policy.is_timed
        self._limits = limits
        self._policy = policy
        self._timeout_ms = policy.timeout_ms
        self._debounce_ms = policy.debounce_ms
        self._paused = False
        self._held_until: int | None = None
        self._room = limits.in_flight_max
        self._lanes: dict[Lane, deque[Delivery] | None] = {}
        self._ready: deque[Delivery] = deque()
        self._in_flight: dict[int, Delivery] = {}
        self._deadlines: dict[int, int] = {}
        self._sleepers: Sleepers[Delivery] = Sleepers()
        self._gatherings: dict[Lane, Sleeper[Delivery]] = {}
        self._owed: dict[Lane, Pending] = {}
        self._waiting = 0
        self._waiting_bytes = 0
        self._done_up_to = position

    @property
    def in_flight(self) -> int:
        """How many deliveries are running."""
        return len(self._in_flight)

    @property
    def waiting(self) -> int:
        """How many changes wait for their turn, asleep or not."""
        return self._waiting

    @property
    def sleeping(self) -> int:
        """How many of those that wait are asleep, until their next attempt or for a newer one."""
        return len(self._sleepers)

    @property
    def paused(self) -> bool:
        """Whether nothing is started. What runs may end, and what can be read ahead is."""
        return self._paused

    @paused.setter
    def paused(self, paused: bool) -> None:
        self._paused = paused
        self._set_room()

    @property
    def is_held(self) -> bool:
        """Whether nothing is started for a while, since nobody runs the function."""
        return self._held_until is not None

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
        read = max(read_up_to, self.position)
        owed = (pending.first for pending in self._owed_after(read))
        unfinished = (delivery.first for delivery in self._unfinished())
        return min(chain(owed, unfinished), default=read + 1) - 1

    def checkpoint(self, read_up_to: int) -> Checkpoint:
        """How far this has got, to go on from. What is in flight counts as interrupted."""
        read = max(read_up_to, self.position)
        unfinished = [*map(self._pending, self._unfinished()), *self._owed_after(read)]
        return Checkpoint.of(unfinished, self._done_up_to, read, self._paused)

    def take_up(self, pending: Pending, change: Change | None, now_ms: int = 0) -> None:
        """Go on with what a checkpoint left pending, in order, before anything is offered.

        It is lost if its change is not kept any more. What slept until its next attempt is ready.
        """
        if change is None:
            self.counters.lost += 1
            self.last_lost = (pending.revision, pending.revision)
        elif pending.revision > self.position:
            self._owed[(change.scope, change.key)] = pending
        elif self._debounce_ms is not None and not pending.was_tried:
            self.counters.matched += 1
            self._gather(change, now_ms, pending.since)
        else:
            self.counters.matched += 1
            self._enqueue(
                Delivery(
                    change,
                    pending.attempt,
                    pending.failures,
                    pending.interruptions,
                    pending.redriven,
                    pending.since,
                )
            )

    def offer(self, change: Change, now_ms: int = 0) -> bool:
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
        if self._debounce_ms is None:
            self._enqueue(Delivery(change))
        else:
            owed = self._owed.pop((change.scope, change.key), None)
            self._gather(change, now_ms, owed.since if owed is not None else 0)
        return True

    def redrive(self, letters: Iterable[GivenUp]) -> None:
        """Deliver what was given up as if it were new, but for the number of the attempt.

        Each takes its place behind what waits of its key, out of order, even if there is no room.
        Nothing happens to a change that is on its way already, or that will be offered yet.
        """
        under_way = {delivery.change.revision for delivery in self._unfinished()}
        for letter in letters:
            revision = letter.change.revision
            if revision <= self.position and revision not in under_way:
                self.counters.redriven += 1
                self._enqueue(Delivery(letter.change, letter.attempts + 1, redriven=True))

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

    def next_ready(self, now_ms: int = 0) -> list[Delivery]:
        """The deliveries to start now; each is in flight until it is `finished`."""
        started = []
        ready, in_flight, room = self._ready, self._in_flight, self._room
        while ready and len(in_flight) < room:
            delivery = ready.popleft()
            revision = delivery.change.revision
            in_flight[revision] = delivery
            if self._timeout_ms is not None:
                self._deadlines[revision] = now_ms + self._timeout_ms
            self._waiting -= 1
            self._waiting_bytes -= delivery.change.value_bytes
            started.append(delivery)
        return started

    def is_running(self, delivery: Delivery) -> bool:
        """Whether a delivery is in flight. Not when it took too long, even if it still runs."""
        return self._in_flight.get(delivery.change.revision) is delivery

    def finished(
        self, delivery: Delivery, result: Result, now_ms: int = 0, jitter: float = 0.0
    ) -> GivenUp | None:
        """Note how a delivery ended; the next of its key becomes ready, unless it is made again.

        `jitter`, from 0 to 1, is for the wait until then. One that is not in flight, since it took
        too long, is ignored. Returns what becomes a dead letter.
        """
        revision = delivery.change.revision
        if self._in_flight.get(revision) is not delivery:
            return None
        del self._in_flight[revision]
        if self._timeout_ms is not None:
            del self._deadlines[revision]
        counters = self.counters
        given_up = None
        if result is Result.DELIVERED:
            counters.delivered += 1
        elif result is Result.SKIPPED:
            counters.skipped += 1
        elif self._goes_on(delivery, result, now_ms, jitter):
            return None
        else:
            counters.failed += 1
            made = delivery.attempt if result is not Result.REFUSED else delivery.attempt - 1
            given_up = GivenUp(delivery.change, made)
        done_up_to = self._done_up_to
        self._done_up_to = revision if revision > done_up_to else done_up_to
        self._free((delivery.change.scope, delivery.change.key))
        return given_up

    def next_wakeup(self) -> int | None:
        """When there is something to `wake` or `overdue`, unless other things happen before."""
        times = [*islice(self._deadlines.values(), 1)]
        if not self._paused:
            times += [
                time for time in (self._sleepers.next_due_ms, self._held_until) if time is not None
            ]
        return min(times, default=None)

    def wake(self, now_ms: int) -> None:
        """Make ready what slept until now."""
        if self._held_until is not None and self._held_until <= now_ms:
            self.release()
        for lane, sleeper in self._sleepers.wake(now_ms):
            if self._gatherings.get(lane) is sleeper:
                del self._gatherings[lane]
            self._ready.append(sleeper.item)

    def release(self) -> None:
        """Wait no longer for the function."""
        self._held_until = None
        self._set_room()

    def overdue(self, now_ms: int) -> list[Delivery]:
        """The deliveries that take too long. They have failed: tell so with `finished`."""
        late = takewhile(lambda item: item[1] <= now_ms, self._deadlines.items())
        return [self._in_flight[revision] for revision, _ in late]

    def _enqueue(self, delivery: Delivery) -> None:
        """Put a delivery behind what waits of its key."""
        change = delivery.change
        self._waiting += 1
        self._waiting_bytes += change.value_bytes
        lane = (change.scope, change.key)
        if lane not in self._lanes:
            self._lanes[lane] = None
            self._ready.append(delivery)
            return
        queue = self._lanes[lane]
        if queue is None:
            queue = self._lanes[lane] = deque()
        queue.append(delivery)

    def _gather(self, change: Change, now_ms: int, since: int) -> None:
        """Let a change wait for a newer one of its key, instead of one that does so already."""
        delay_ms = self._debounce_ms or 0
        lane = (change.scope, change.key)
        self._waiting_bytes += change.value_bytes
        gathering = self._gatherings.get(lane)
        if gathering is not None:
            earlier = gathering.item
            self._waiting_bytes -= earlier.change.value_bytes
            gathering.put_off(Delivery(change, since=earlier.first), now_ms + delay_ms)
            self.counters.coalesced += 1
            return
        latest_ms = now_ms + policies.DEBOUNCE_DELAYS_MAX * delay_ms
        gathering = Sleeper(Delivery(change, since=since), now_ms + delay_ms, latest_ms)
        self._gatherings[lane] = gathering
        self._waiting += 1
        if lane not in self._lanes:
            self._lanes[lane] = None
            self._sleepers.add(lane, gathering)

    def _goes_on(self, delivery: Delivery, result: Result, now_ms: int, jitter: float) -> bool:
        """Have a delivery made again, before the later ones of its key, if that is to be."""
        change, attempt, failures = delivery.change, delivery.attempt + 1, delivery.failures
        policy, interruptions = self._policy, delivery.interruptions
        again = msgspec.structs.replace
        if result is Result.INTERRUPTED and interruptions < self._limits.interruptions_max:
            self._ready.appendleft(
                again(delivery, attempt=attempt, interruptions=interruptions + 1)
            )
        elif result is Result.ABSENT and policy.waits_for_function:
            self._ready.appendleft(delivery)
            self._held_until = now_ms + policies.HOLD_MS
            self._set_room()
        elif result in (Result.FAILED, Result.ABSENT) and failures + 1 < policy.attempts_max:
            self.counters.retried += 1
            due_ms = now_ms + policy.wait_ms(failures + 1, jitter)
            retry = again(delivery, attempt=attempt, failures=failures + 1)
            self._sleepers.add((change.scope, change.key), Sleeper(retry, due_ms, due_ms))
        else:
            return False
        self._waiting += 1
        self._waiting_bytes += change.value_bytes
        return True

    def _free(self, lane: Lane) -> None:
        queue = self._lanes[lane]
        if queue:
            self._ready.append(queue.popleft())
        elif lane in self._gatherings:
            self._sleepers.add(lane, self._gatherings[lane])
        else:
            del self._lanes[lane]

    def _set_room(self) -> None:
        stands = self._paused or self._held_until is not None
        self._room = 0 if stands else self._limits.in_flight_max

    def _unfinished(self) -> Iterator[Delivery]:
        """All deliveries that are on their way, in no order."""
        yield from self._in_flight.values()
        yield from self._ready
        for queue in self._lanes.values():
            yield from queue or ()
        for lane, sleeper in self._sleepers:
            if self._gatherings.get(lane) is not sleeper:
                yield sleeper.item
        for gathering in self._gatherings.values():
            yield gathering.item

    def _owed_after(self, read: int) -> Iterator[Pending]:
        """What was gathered before a restart beyond what is read, and gathers when it is read."""
        return (pending for pending in self._owed.values() if pending.revision > read)

    def _pending(self, delivery: Delivery) -> Pending:
        interrupted = int(self.is_running(delivery))
        return Pending(
            delivery.change.revision,
            delivery.attempt + interrupted,
            delivery.failures,
            delivery.interruptions + interrupted,
            delivery.redriven,
            delivery.since,
        )
