"""Reactions: committed changes become calls of the functions that are bound to them.

    commit → committed → feed → deliveries → condition → function → result → next of that key

A binding of a worker that goes away keeps its place for a while, so that a worker which comes back
and binds the same again misses nothing; what it had in flight is delivered again.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Hashable, Sequence
from functools import partial
from itertools import count, islice
from typing import Protocol

from iii_state.core.bindings import Binding
from iii_state.core.changes import Change
from iii_state.core.deliveries import Deliveries, Limits, Result
from iii_state.core.events import event_payload
from iii_state.core.store import Store
from iii_state.engine.feed import Feed
from iii_state.engine.firings import Firing
from iii_state.engine.followers import BindingStatus, Follower
from iii_state.engine.invocations import Failure, Invoker
from iii_state.errors import StateError

log = logging.getLogger("iii_state.reactions")

DETACHED_MAX = 10_000
READ_AGAIN_S = 1.0


class Timers(Protocol):
    """What is used of an event loop; `asyncio`'s has it."""

    def time(self) -> float:
        """Seconds, from anywhere, never going back."""

    def call_soon(self, callback: Callable[[], object], /) -> object:
        """Call in the next turn."""

    def call_later(self, delay: float, callback: Callable[[], object], /) -> object:
        """Call after `delay` seconds."""


class Reactions:
    """The bindings of all workers, and what runs for them.

    Bound by construction: for each binding by `limits`; `DETACHED_MAX` bindings are remembered
    for workers that went away.
    """

    def __init__(
        self,
        store: Store,
        invoker: Invoker,
        timers: Timers,
        *,
        resume_window_s: float = 60.0,
        limits: Limits | None = None,
        enabled: bool = True,
    ) -> None:
        self._invoker = invoker
        self._timers = timers
        self._resume_window_s = resume_window_s
        self._limits = limits if limits is not None else Limits()
        self._enabled = enabled
        self._feed = Feed(store)
        self._places = count()
        self._bound: dict[str, Follower] = {}
        self._detached: dict[str, Follower] = {}
        self._owned: dict[Hashable, dict[str, Follower]] = {}
        self._touched: dict[Follower, None] = {}
        self._turn_planned = False
        self._may_read = True
        self._stopped = False
        self._payload: tuple[Change, bytes] | None = None

    @property
    def enabled(self) -> bool:
        """Whether changes are delivered.

        Those committed while it is false never are. What a binding had not read when it turns
        false is dropped too; what it had taken is still delivered.
        """
        return self._enabled

    @enabled.setter
    def enabled(self, enabled: bool) -> None:
        if not enabled:
            self._feed.skip()
        self._enabled = enabled

    def bind(self, owner: Hashable, binding: Binding) -> None:
        """Serve a binding for `owner`, instead of the one with the same id, if there is one.

        If that one selected the same for the same function, also for an owner that went away
        within the window, the binding goes on where it stands. Else it starts after its
        `from_revision`. The first calls start in the next turn.
        """
        follower = self._bound.get(binding.id) or self._detached.pop(binding.id, None)
        if follower is not None and binding.continues(follower.binding):
            self._disown(follower)
            follower.binding = binding
            follower.owner = owner
            if follower.cohort is None and follower.deliveries.has_room:
                self._feed.follow(follower, follower.deliveries.position)
        else:
            if follower is not None:
                self._drop(follower)
            deliveries = Deliveries(binding.from_revision, self._limits)
            follower = Follower(next(self._places), binding, owner, deliveries)
            self._feed.follow(follower, binding.from_revision)
            _warn_of_unknown_members(binding)
        self._bound[binding.id] = follower
        self._owned.setdefault(owner, {})[binding.id] = follower
        self._touch(follower)

    def unbind(self, binding_id: str) -> None:
        """Forget a binding, whoever bound it; an unknown one is fine.

        What runs for it runs on; nothing more starts.
        """
        follower = self._bound.get(binding_id) or self._detached.pop(binding_id, None)
        if follower is not None:
            self._drop(follower)

    def detach(self, owner: Hashable) -> None:
        """Keep the places of an owner that has gone, for the length of the window.

        Call it in the same turn in which the owner's functions are removed and its calls failed.
        """
        gone = tuple(self._owned.pop(owner, {}).values())
        for follower in gone:
            self._feed.leave(follower)
            follower.owner = None
            follower.absence = gone
            del self._bound[follower.binding.id]
            self._detached[follower.binding.id] = follower
        if self._resume_window_s <= 0:
            self._expire(gone)
            return
        for binding_id in list(islice(self._detached, max(0, len(self._detached) - DETACHED_MAX))):
            del self._detached[binding_id]
        if gone:
            self._timers.call_later(self._resume_window_s, partial(self._expire, gone))

    def committed(self, changes: Sequence[Change]) -> None:
        """Deliver what a commit made durable, in order of revision.

        Call it after every commit, once its replies are written. Not re-entrant.
        """
        if not changes:
            return
        if not self._enabled:
            self._feed.committed_unseen(changes)
            return
        for follower in self._feed.committed(changes):
            self._start(follower)
        self._payload = None
        if self._feed.has_unread:
            self._plan_turn()

    def stop(self) -> None:
        """Start nothing more; what runs may still end."""
        self._stopped = True

    def snapshot(self) -> list[BindingStatus]:
        """How every binding fares, those of workers that are away included, in order of binding."""
        followers = sorted(
            [*self._bound.values(), *self._detached.values()], key=lambda follower: follower.place
        )
        return [self._feed.status(follower) for follower in followers]

    def _touch(self, follower: Follower) -> None:
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
            if follower.owner is None:
                continue
            if follower.cohort is None and follower.deliveries.has_room:
                self._feed.follow(follower, follower.deliveries.position)
            self._start(follower)
        if self._feed.has_unread and self._may_read:
            self._read_on()
        self._payload = None

    def _read_on(self) -> None:
        try:
            for follower in self._feed.read_on():
                self._start(follower)
        except StateError as error:
            log.error("changes cannot be read for the bindings that are behind: %s", error)
            self._may_read = False
            self._timers.call_later(READ_AGAIN_S, self._read_again)
            return
        if self._feed.has_unread:
            self._plan_turn()

    def _read_again(self) -> None:
        self._may_read = True
        self._plan_turn()

    def _start(self, follower: Follower) -> None:
        if self._stopped:
            return
        for delivery in follower.deliveries.next_ready():
            firing = Firing(self._invoker, follower, delivery, self._finished)
            firing.start(self._payload_for(delivery.change, delivery.attempt))

    def _payload_for(self, change: Change, attempt: int) -> bytes:
        """The event's JSON text, made once for all the bindings that a change matches."""
        if attempt > 1:
            return event_payload(change, attempt)
        if self._payload is None or self._payload[0] is not change:
            self._payload = change, event_payload(change, 1)
        return self._payload[1]

    def _finished(
        self, follower: Follower, revision: int, result: Result, failure: Failure | None
    ) -> None:
        follower.deliveries.finished(revision, result)
        if failure is not None:
            follower.note_failure(failure, revision, self._timers.time())
        self._touch(follower)

    def _disown(self, follower: Follower) -> None:
        if follower.owner is None:
            return
        owned = self._owned[follower.owner]
        del owned[follower.binding.id]
        if not owned:
            del self._owned[follower.owner]

    def _drop(self, follower: Follower) -> None:
        self._feed.leave(follower)
        self._disown(follower)
        follower.owner = None
        self._bound.pop(follower.binding.id, None)

    def _expire(self, gone: Sequence[Follower]) -> None:
        """Forget those that did not come back.

        One that came back and went again has another absence, with a timer of its own.
        """
        for follower in gone:
            binding_id = follower.binding.id
            if self._detached.get(binding_id) is follower and follower.absence is gone:
                del self._detached[binding_id]


def _warn_of_unknown_members(binding: Binding) -> None:
    if binding.config.unknown:
        log.warning(
            "binding %.200s of %.200s: the config members %.400s mean nothing here and are "
            "ignored; known are scope, key and condition_function_id",
            binding.id,
            binding.function_id,
            ", ".join(map(repr, binding.config.unknown)),
        )
