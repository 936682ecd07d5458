"""Calls that read the change log: carried out in slices, and held while there is nothing to tell.

Nothing is done for a call that waits until there are new changes. Then those are looked up for whom
they are, as for bindings, and these read on. That is done in slices, too: a commit does not take
longer because somebody waits.
"""

from __future__ import annotations

from functools import partial
from itertools import count

from iii_state.core.bindings import BindingIndex
from iii_state.core.changes import Change
from iii_state.core.store import Store
from iii_state.engine.calls import Call
from iii_state.engine.feed_scans import (
    SLICE_BYTES_MAX,
    SLICE_CHANGES_MAX,
    ChangesScan,
    HistoryScan,
)
from iii_state.engine.slices import Slices
from iii_state.engine.timers import Timer, Timers
from iii_state.engine.workers import Worker
from iii_state.errors import LimitExceeded, StateError

CALLS_MAX = 4096
"""How many of these calls may be unanswered, on all connections together."""
CALLS_PER_CONNECTION_MAX = 256

SCAN_S_MAX = 10.0
"""After that time an answer tells what has been found; the caller goes on from there."""

WAKES_PER_SLICE_MAX = 512
"""Waiting calls that are woken in one slice: about a millisecond."""


class FeedCall:
    """A call under way: its scan reads, or waits for a change until a time.

    `scan_until` is the time at which reading ends, `wait_until` that at which waiting does; while
    it waits, `waiting` is its scan, and `timer` rings then.
    """

    __slots__ = (
        "call",
        "is_open",
        "is_reading",
        "place",
        "scan",
        "scan_until",
        "timer",
        "wait_until",
        "waiting",
    )

    def __init__(self, call: Call, scan: ChangesScan | HistoryScan, wait_until: float) -> None:
        self.call = call
        self.scan = scan
        self.wait_until = wait_until
        self.scan_until = 0.0
        self.place = 0
        self.waiting: ChangesScan | None = None
        self.timer: Timer | None = None
        self.is_open = True
        self.is_reading = False

    def wants(self, change: Change) -> bool:
        """Whether it has not passed a change that it selects."""
        return self.waiting is not None and change.revision > self.waiting.position


class FeedCalls:
    """Carries out calls that read the log of a store.

    A call that reads weighs as much for its connection as a long list that is read for it.
    """

    def __init__(self, store: Store, timers: Timers) -> None:
        self._store = store
        self._timers = timers
        self._slices = Slices(timers)
        self._open: dict[Worker | None, set[FeedCall]] = {}
        self._count = 0
        self._places = count()
        self._waiting: BindingIndex[FeedCall] = BindingIndex()
        self._looked_to = 0
        self._is_looking = False
        self._is_stopped = False

    def begin(self, call: Call, scan: ChangesScan | HistoryScan, wait_s: float = 0.0) -> None:
        """Carry out a call, and answer it in a later turn.

        When nothing is found, it waits for up to `wait_s` until something is committed.

        Raises:
            LimitExceeded: there are too many unanswered.
        """
        caller = call.caller
        if call.invocation_id is None and caller is not None:
            return  # nobody would get the answer
        of_caller = self._open.get(caller, ())
        _require_room("feed_calls_per_connection_max", len(of_caller), CALLS_PER_CONNECTION_MAX)
        _require_room("feed_calls_max", self._count, CALLS_MAX)
        feed_call = FeedCall(call, scan, self._timers.time() + wait_s)
        self._open.setdefault(caller, set()).add(feed_call)
        self._count += 1
        self._read(feed_call)

    def committed(self) -> None:
        """Look, soon, who waits for what has been committed."""
        if len(self._waiting) and not self._is_looking:
            self._is_looking = True
            self._slices.add(self._look)

    def forget(self, caller: Worker) -> None:
        """Drop the calls of one that has gone."""
        for feed_call in tuple(self._open.get(caller, ())):
            self._close(feed_call)

    def stop(self) -> None:
        """Answer everybody with what has been found; those that still come do not wait."""
        self._is_stopped = True
        for feed_call in [each for of_caller in self._open.values() for each in of_caller]:
            self._answer(feed_call)

    def _read(self, feed_call: FeedCall) -> None:
        feed_call.scan_until = self._timers.time() + SCAN_S_MAX
        feed_call.is_reading = True
        caller = feed_call.call.caller
        if caller is not None:
            caller.in_flight.add(caller.in_flight.reading_weight)
        self._slices.add(partial(self._read_slice, feed_call))

    def _read_slice(self, feed_call: FeedCall) -> bool:
        if not feed_call.is_open:
            return False
        scan = feed_call.scan
        try:
            has_more = scan.step()
        except StateError as error:
            self._close(feed_call)
            feed_call.call.fail_with(error)
            return False
        now = self._timers.time()
        if has_more and now < feed_call.scan_until:
            return True
        is_in_time = now < feed_call.wait_until and not self._is_stopped
        if is_in_time and isinstance(scan, ChangesScan) and scan.is_fruitless:
            self._stop_reading(feed_call)
            self._wait(feed_call, scan)
        else:
            self._answer(feed_call)
        return False

    def _wait(self, feed_call: FeedCall, scan: ChangesScan) -> None:
        if not len(self._waiting):
            self._looked_to = self._store.revision
        feed_call.waiting = scan
        feed_call.place = next(self._places)
        self._waiting.add(feed_call.place, scan.config, feed_call)
        delay = feed_call.wait_until - self._timers.time()
        feed_call.timer = self._timers.call_later(delay, partial(self._answer, feed_call))

    def _look(self) -> bool:
        """Go through some of what has been committed; whether there is more."""
        self._is_looking = False
        if not len(self._waiting):
            return False
        try:
            changes = self._store.changes(self._looked_to, SLICE_CHANGES_MAX, SLICE_BYTES_MAX)
        except StateError:
            # Each of them will meet the same, and say so.
            for feed_call in tuple(self._waiting):
                self._wake(feed_call)
            return False
        left = WAKES_PER_SLICE_MAX
        for change in changes:
            wanting = [each for each in self._waiting.match(change) if each.wants(change)]
            for feed_call in wanting[:left]:
                self._wake(feed_call)
            left -= len(wanting)
            if left < 0:
                break
            self._looked_to = change.revision
        self._is_looking = bool(changes)
        return self._is_looking

    def _wake(self, feed_call: FeedCall) -> None:
        self._stop_waiting(feed_call)
        self._read(feed_call)

    def _answer(self, feed_call: FeedCall) -> None:
        self._close(feed_call)
        feed_call.call.answer(feed_call.scan.result())

    def _close(self, feed_call: FeedCall) -> None:
        caller = feed_call.call.caller
        feed_call.is_open = False
        self._stop_reading(feed_call)
        self._stop_waiting(feed_call)
        self._count -= 1
        of_caller = self._open[caller]
        of_caller.remove(feed_call)
        if not of_caller:
            del self._open[caller]

    def _stop_reading(self, feed_call: FeedCall) -> None:
        if not feed_call.is_reading:
            return
        feed_call.is_reading = False
        caller = feed_call.call.caller
        if caller is not None:
            caller.in_flight.remove(caller.in_flight.reading_weight)

    def _stop_waiting(self, feed_call: FeedCall) -> None:
        scan, timer = feed_call.waiting, feed_call.timer
        if scan is None or timer is None:
            return
        feed_call.waiting = feed_call.timer = None
        timer.cancel()
        self._waiting.remove(feed_call.place)
        # What has been looked at meanwhile was not for it.
        scan.position = max(scan.position, self._looked_to)


def _require_room(limit: str, actual: int, bound: int) -> None:
    if actual >= bound:
        raise LimitExceeded(
            f"{actual} calls of state::changes and state::history wait to be answered, which is "
            f"all that {limit} allows; wait for answers, and ask for more with each call",
            limit=limit,
            actual=actual + 1,
            bound=bound,
        )
