"""Turns: what is ready starts, what has ended makes room, what is behind reads on.

    committed / touched → turn → start → firing → finished → touched …

One follower is looked at once a turn, however much happened to it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from functools import partial

from iii_state.core.changes import Change
from iii_state.core.delivery import Delivery, Result
from iii_state.core.events import event_payload
from iii_state.core.names import shortened
from iii_state.engine.absences import Absences
from iii_state.engine.alarms import Alarm, milliseconds
from iii_state.engine.dead_letter_box import DeadLetterBox
from iii_state.engine.durables import Durables
from iii_state.engine.feed import Feed
from iii_state.engine.firings import Firing
from iii_state.engine.followers import Follower
from iii_state.engine.invocations import Failure, Invoker
from iii_state.engine.timers import Timers
from iii_state.errors import StateError, TimedOut

log = logging.getLogger("iii_state.reactions")

READ_AGAIN_S = 1.0
CHAIN_TOO_DEEP = "CHAIN_TOO_DEEP"


class Dispatcher:
    """Makes the calls of all followers, and takes how they ended."""

    def __init__(
        self,
        feed: Feed,
        invoker: Invoker,
        timers: Timers,
        letters: DeadLetterBox,
        durables: Durables,
        *,
        max_chain_depth: int,
        jitter: Callable[[], float],
    ) -> None:
        self._feed = feed
        self._invoker = invoker
        self._timers = timers
        self._letters = letters
        self._durables = durables
        self._max_chain_depth = max_chain_depth
        self._jitter = jitter
        self._touched: dict[Follower, None] = {}
        self._early: dict[Follower, None] = {}
        self._absences = Absences()
        self._turn_planned = False
        self._may_read = True
        self._unreadable: set[Feed | Follower] = set()
        self._stopped = False
        self._payload: tuple[Change, bytes] | None = None

    @property
    def is_stuck(self) -> bool:
        """Whether the latest attempt to read, for somebody who is behind, failed."""
        return bool(self._unreadable)

    def committed(self, changes: Sequence[Change]) -> None:
        """Start what a commit made ready."""
        for follower in self._feed.committed(changes, milliseconds(self._timers)):
            self._start(follower)
        self._payload = None
        early, self._early = self._early, {}
        for follower in early:
            self.touch(follower)
        if self._feed.has_unread:
            self._plan_turn()

    def stop(self) -> None:
        """Start nothing more."""
        self._stopped = True

    def alarm_of(self, follower: Follower) -> Alarm:
        """An alarm that looks at a follower when it rings."""
        return Alarm(self._timers, partial(self._rung, follower))

    def registered(self, namespace: str, function_id: str) -> None:
        """Go on, in the next turn, with what waited for a function, now that it is there."""
        for follower in self._absences.waiting(namespace, function_id):
            self._absences.end(follower)
            follower.deliveries.release()
            self.touch(follower)

    def forget(self, follower: Follower) -> None:
        """Forget a follower that has gone."""
        self._unreadable.discard(follower)
        self._absences.end(follower)
        if follower.alarm is not None:
            follower.alarm.cancel()

    def touch(self, follower: Follower) -> None:
        """Look at a follower in the next turn."""
        self._touched[follower] = None
        self._plan_turn()

    def _plan_turn(self) -> None:
        if not self._turn_planned:
            self._turn_planned = True
            self._timers.call_soon(self._turn)

    def _turn(self) -> None:
        """Start what became ready and read on for those that are behind, a slice at a time."""
        self._turn_planned = False
        touched, self._touched = self._touched, {}
        for follower in touched:
            if follower.gone:
                continue
            if follower.alarm is not None:
                self._wake(follower)
            if follower.owner is None:
                self._set_alarm(follower)
                continue
            if follower.cohort is None and follower.deliveries.has_room:
                self._go_on(follower)
            self._start(follower)
        if self._feed.has_unread and self._may_read:
            self._read_on()
        self._payload = None

    def _wake(self, follower: Follower) -> None:
        was_held = follower.deliveries.is_held
        follower.deliveries.wake(milliseconds(self._timers))
        if was_held and not follower.deliveries.is_held:
            self._absences.end(follower)

    def _go_on(self, follower: Follower) -> None:
        """Let a follower that reads nothing read on."""
        initial = follower.initial
        if initial is not None:
            try:
                is_over = initial.read_on(milliseconds(self._timers))
            except StateError as error:
                log.error("entries cannot be read for %s: %s", follower.name, error)
                self._unreadable.add(follower)
                self._timers.call_later(READ_AGAIN_S, partial(self.touch, follower))
                return
            self._unreadable.discard(follower)
            if not is_over:
                if initial.is_early:
                    self._early[follower] = None
                return
            follower.initial = None
            self._durables.moved(follower)
        self._feed.follow(follower, follower.deliveries.position)

    def _read_on(self) -> None:
        try:
            for follower in self._feed.read_on(milliseconds(self._timers)):
                self._start(follower)
        except StateError as error:
            log.error("changes cannot be read for the bindings that are behind: %s", error)
            self._may_read = False
            self._unreadable.add(self._feed)
            self._timers.call_later(READ_AGAIN_S, self._read_again)
            return
        self._unreadable.discard(self._feed)
        if self._feed.has_unread:
            self._plan_turn()

    def _read_again(self) -> None:
        self._may_read = True
        self._plan_turn()

    def _start(self, follower: Follower) -> None:
        if self._stopped:
            return
        deliveries = follower.deliveries
        now_ms = milliseconds(self._timers) if follower.alarm is not None else 0
        for delivery in deliveries.next_ready(now_ms):
            depth = delivery.change.origin.depth
            if depth >= self._max_chain_depth and not delivery.redriven:
                self._finished(follower, delivery, Result.REFUSED, _too_deep(follower, depth))
                continue
            firing = Firing(self._invoker, follower, delivery, self._finished)
            if follower.alarm is not None:
                follower.firings[delivery.change.revision] = firing
            firing.start(self._payload_for(delivery.change, delivery.attempt))
        self._set_alarm(follower)

    def _set_alarm(self, follower: Follower) -> None:
        if follower.alarm is not None:
            at_ms = follower.deliveries.next_wakeup()
            if at_ms is not None:
                follower.alarm.set(at_ms, milliseconds(self._timers))

    def _rung(self, follower: Follower) -> None:
        """Let fail what takes too long, and look at what slept in the next turn."""
        for delivery in follower.deliveries.overdue(milliseconds(self._timers)):
            firing = follower.firings.get(delivery.change.revision)
            if firing is not None:
                firing.abandon()
            self._finished(follower, delivery, Result.FAILED, _timed_out(follower))
        self.touch(follower)

    def _payload_for(self, change: Change, attempt: int) -> bytes:
        """The event's JSON text, made once for all the bindings that a change matches."""
        if attempt > 1:
            return event_payload(change, attempt)
        if self._payload is None or self._payload[0] is not change:
            self._payload = change, event_payload(change, 1)
        return self._payload[1]

    def _finished(
        self, follower: Follower, delivery: Delivery, result: Result, failure: Failure | None
    ) -> None:
        if follower.gone:
            return
        if follower.deliveries.is_running(delivery):
            follower.firings.pop(delivery.change.revision, None)
        if failure is None:
            follower.deliveries.finished(delivery, result)
        elif follower.deliveries.is_running(delivery):
            self._failed(follower, delivery, result, failure)
        if follower.is_durable:
            self._durables.moved(follower)
        self.touch(follower)

    def _failed(
        self, follower: Follower, delivery: Delivery, result: Result, failure: Failure
    ) -> None:
        now_s = self._timers.time()
        follower.note_failure(failure, delivery.change.revision, now_s)
        given_up = follower.deliveries.finished(
            delivery, result, milliseconds(self._timers), self._jitter()
        )
        if result is Result.ABSENT:
            self._absences.begin(follower)
        if given_up is not None:
            self._letters.park(follower, given_up, failure)


def _too_deep(follower: Follower, depth: int) -> Failure:
    return Failure(
        CHAIN_TOO_DEEP,
        f"The write stands at depth {depth} of a chain of writes that handlers made for one "
        f"another's; {shortened(follower.binding.function_id)} is not called for it. If that is no "
        f"endless loop, raise the setting max_chain_depth or redrive the event; else let a handler "
        f"write elsewhere, or give its trigger a condition",
    )


def _timed_out(follower: Follower) -> Failure:
    return Failure(
        TimedOut.code,
        f"{shortened(follower.binding.function_id)} did not answer in the time that the trigger "
        f"gives it; it may still run. Raise timeout_ms if it needs longer",
    )
