"""Reactions: committed changes become calls of the functions that are bound to them.

    commit → committed → feed → deliveries → condition → function → result → next of that key

A binding of a worker that goes away keeps its place for a while, so that a worker which comes back
and binds the same again misses nothing; what it had in flight is delivered again. A durable one
keeps it until it is deleted, over restarts too, in the ledger; several workers that bind it share
its work.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Callable, Hashable, Iterable, Sequence
from functools import partial
from itertools import islice

from iii_state.clock import wall_clock_ms
from iii_state.core.bindings import Binding
from iii_state.core.changes import Change
from iii_state.core.dead_letters import DeadLetter, DeadLetters
from iii_state.core.deliveries import Limits
from iii_state.core.delivery import GivenUp
from iii_state.core.store import Store
from iii_state.engine.beginnings import Beginnings
from iii_state.engine.dead_letter_box import DeadLetterBox
from iii_state.engine.dispatcher import Dispatcher
from iii_state.engine.durables import Durables
from iii_state.engine.feed import Feed
from iii_state.engine.followers import BindingStatus, Follower
from iii_state.engine.invocations import Invoker
from iii_state.engine.ledgers import Ledger, MemoryLedger
from iii_state.engine.timers import Timers
from iii_state.errors import Conflict, NotFound, StateError

log = logging.getLogger("iii_state.reactions")

DETACHED_MAX = 10_000
MAX_CHAIN_DEPTH = 16


class Reactions:
    """The bindings of all workers, and what runs for them.

    Bound by construction: for each binding by `limits`, for dead letters by `letters`;
    `DETACHED_MAX` bindings are remembered for workers that went away. A change that stands at
    `max_chain_depth` in a chain of writes made by handlers goes to the dead letters at once.

    What a durable binding acknowledged is in the `ledger` after `SAVE_MS`, or `stop`. `jitter`
    gives numbers from 0 to 1.
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
        ledger: Ledger | None = None,
        letters: DeadLetters | None = None,
        max_chain_depth: int = MAX_CHAIN_DEPTH,
        clock_ms: Callable[[], int] = wall_clock_ms,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        ledger = ledger if ledger is not None else MemoryLedger()
        letters = letters if letters is not None else DeadLetters()
        self._timers = timers
        self._resume_window_s = resume_window_s
        self._limits = limits if limits is not None else Limits()
        self._enabled = enabled
        self._feed = Feed(store)
        self._letters = DeadLetterBox(letters, ledger, clock_ms)
        self._durables = Durables(ledger, timers, self._feed.read_up_to, self._letters.saved)
        self._turns = Dispatcher(
            self._feed,
            invoker,
            timers,
            self._letters,
            self._durables,
            max_chain_depth=max_chain_depth,
            jitter=jitter,
        )
        self._beginnings = Beginnings(
            store, self._feed, self._durables, self._letters, self._turns, timers, self._limits
        )
        self._bound: dict[str, Follower] = {}
        self._detached: dict[str, Follower] = {}
        self._owned: dict[Hashable, dict[str, Follower]] = {}
        self._take_over()

    def is_put_off(self, name: str | None) -> bool:
        """Whether a durable binding could not go on after the start, so that nobody serves it."""
        return name is not None and self._durables.is_put_off(name)

    @property
    def is_stuck(self) -> bool:
        """Whether the store could not be read, a moment ago, for bindings that are behind."""
        return self._turns.is_stuck

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
        """Serve a binding for `owner`, instead of the one with the same id.

        If that one selected the same for the same function, also for an owner that went away
        within the window, the binding goes on where it stands. Else it starts after its
        `from_revision`. A durable one that has been served before goes on where that stands; if
        others bind it, they share its work. The first calls start in the next turn.

        Raises:
            Conflict: others bind the same durable name, and something else to it.
            RevisionCompacted: it is to start at a revision that is no longer kept.
            InvalidRequest: it is to start at a revision that is not there yet.
            LimitExceeded: there are too many durable ones.
            StateError: the store cannot read what a durable binding left unfinished.
        """
        name = binding.config.durable
        of_id = self._bound.get(binding.id) or self._detached.get(binding.id)
        follower = self._durables.get(name) if name is not None else of_id
        continues = follower is not None and binding.continues(follower.binding)
        if follower is not None and name is not None and not continues:
            _require_alone(follower, binding)
        self._durables.require_room(binding)
        begun = None
        if not continues:
            self._beginnings.require_start(binding)
            if follower is not None:
                self._durables.keep(follower)
            begun = self._beginnings.begin(binding)  # may fail: then the other one stays
        if of_id is not None:
            self._let_go(of_id, binding)
        if begun is not None:
            if follower is not None and not follower.gone:
                self._drop(follower)
            self._durables.serve(begun)
            _warn_of_unknown_members(binding)
            follower = begun
        assert follower is not None, "it goes on, or has begun"
        follower.join(binding, owner)
        self._bound[binding.id] = follower
        self._owned.setdefault(owner, {})[binding.id] = follower
        self._durables.define(follower)
        if follower.cohort is None and follower.initial is None and follower.deliveries.has_room:
            self._feed.follow(follower, follower.deliveries.position)
        self._turns.touch(follower)

    def unbind(self, binding_id: str) -> None:
        """Forget a binding, whoever bound it; an unknown one is fine.

        What runs for it runs on; nothing more starts. The place of a durable one stays.
        """
        follower = self._bound.get(binding_id) or self._detached.get(binding_id)
        if follower is None:
            return
        self._unlink(follower, binding_id)
        if not follower.is_durable:
            self._drop(follower)

    def delete(self, name: str) -> None:
        """Forget a durable binding and its place, for good. Its dead letters stay.

        Raises:
            NotFound: there is no durable binding of that name.
        """
        follower = self._durables.get(name)
        if follower is not None:
            self._drop(follower)
            checkpoint = self._durables.checkpoint(name)
            if checkpoint is not None:
                self._letters.take_back(name, checkpoint)
        elif not self._durables.is_put_off(name):
            raise NotFound(f"No durable trigger with the name {name!r} is known")
        self._durables.forget(name)

    def detach(self, owner: Hashable) -> None:
        """Keep the places of an owner that has gone, for the length of the window.

        Call it in the same turn in which the owner's functions are removed and its calls failed.
        """
        owned = self._owned.get(owner, {})
        gone = tuple(follower for follower in owned.values() if not follower.is_durable)
        for binding_id, follower in tuple(owned.items()):
            self._unlink(follower, binding_id)
        for follower in gone:
            follower.absence = gone
            self._detached[follower.binding.id] = follower
        if self._resume_window_s <= 0:
            self._expire(gone)
            return
        too_many = max(0, len(self._detached) - DETACHED_MAX)
        for follower in list(islice(self._detached.values(), too_many)):
            self._drop(follower)
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
        self._turns.committed(changes)
        self._durables.passed(self._feed.head)

    def registered(self, namespace: str, function_id: str) -> None:
        """Deliver, from the next turn on, what waited for a function that is there now."""
        self._turns.registered(namespace, function_id)

    def stop(self) -> None:
        """Start nothing more; what runs may still end. Writes down how far all has got."""
        self._turns.stop()
        self._durables.save_all()

    def pause(self, name: str) -> None:
        """Start nothing more for a binding, called by its id or durable name, until it is resumed.

        What runs for it runs on. It stays paused when it is bound again.

        Raises:
            NotFound: there is no such binding.
        """
        self._set_paused(name, True)

    def resume(self, name: str) -> None:
        """Go on with a paused binding, called by its id or durable name.

        Raises:
            NotFound: there is no such binding.
        """
        self._set_paused(name, False)

    def dead_letters(
        self, name: str | None = None, after: int = 0, limit: int = 100
    ) -> tuple[list[DeadLetter], int | None]:
        """Letters of one binding, by id or durable name, or of all, in the order of parking.

        Also the `after` of the next page, None behind the last.
        """
        return self._letters.page(name, after, limit)

    def letters(self, ids: Iterable[str], name: str | None = None) -> list[DeadLetter]:
        """The letters with these ids, of one binding or of any."""
        return self._letters.chosen(ids, name)

    def redrive(self, ids: Iterable[str] | None = None, name: str | None = None) -> int:
        """Deliver letters again, those with these ids or all; of one binding, or of any.

        They leave the letters. Those whose binding is not there, or is still among entries that
        were made before their changes, stay. Returns how many go.
        """
        letters: dict[Follower, list[DeadLetter]] = {}
        for letter in self._letters.chosen(ids, name):
            follower = self._called(letter.trigger)
            if follower is not None and not follower.is_before(letter.change):
                letters.setdefault(follower, []).append(letter)
        for follower, of_one in letters.items():
            follower.deliveries.redrive([GivenUp(each.change, each.attempts) for each in of_one])
            if follower.initial is not None:
                follower.initial.forget(letter.change.revision for letter in of_one)
            self._letters.send(of_one)
            self._durables.moved(follower)
            self._turns.touch(follower)
        self._durables.save()
        return sum(map(len, letters.values()))

    def discard(self, ids: Iterable[str] | None = None, name: str | None = None) -> int:
        """Forget letters, those with these ids or all; of one binding, or of any. How many."""
        letters = self._letters.chosen(ids, name)
        self._durables.save()  # else a crash could bring back what was given up a moment ago
        self._letters.remove(letters)
        return len(letters)

    def snapshot(self) -> list[BindingStatus]:
        """How every binding fares, those of workers that are away included, in order of binding."""
        every = [*self._bound.values(), *self._detached.values(), *self._durables.served]
        followers = sorted(dict.fromkeys(every), key=lambda follower: follower.place)
        return [
            self._feed.status(follower, self._letters.count(follower)) for follower in followers
        ]

    def _take_over(self) -> None:
        """Hold the places of the durable bindings that an earlier process left."""
        for definition in self._durables.definitions():
            try:
                self._durables.serve(self._beginnings.begin(definition.binding()))
            except StateError as error:
                log.error("durable trigger %r cannot go on yet: %s", definition.name, error)

    def _let_go(self, follower: Follower, binding: Binding) -> None:
        """Take the id of a binding from whoever is called so; that ends, unless it goes on."""
        self._unlink(follower, binding.id)
        if not follower.is_durable and not binding.continues(follower.binding):
            self._drop(follower)

    def _called(self, name: str) -> Follower | None:
        """The binding with a durable name, or with an id."""
        return self._durables.get(name) or self._bound.get(name) or self._detached.get(name)

    def _set_paused(self, name: str, paused: bool) -> None:
        follower = self._called(name)
        if follower is None:
            raise NotFound(f"No state trigger with id or durable name {name!r} is registered")
        follower.deliveries.paused = paused
        self._durables.moved(follower)
        self._durables.save()
        self._turns.touch(follower)

    def _unlink(self, follower: Follower, binding_id: str) -> None:
        """Take a follower from an id and its owner; it starts nothing when it has no other."""
        if self._detached.pop(binding_id, None) is not None:
            return
        _, owner = follower.members[binding_id]
        follower.part(binding_id)
        del self._bound[binding_id]
        owned = self._owned[owner]
        del owned[binding_id]
        if not owned:
            del self._owned[owner]
        if follower.owner is None:
            self._feed.leave(follower)
            self._durables.moved(follower)

    def _drop(self, follower: Follower) -> None:
        for binding_id in tuple(follower.members):
            self._unlink(follower, binding_id)
        if self._detached.get(follower.binding.id) is follower:
            del self._detached[follower.binding.id]
        self._feed.leave(follower)
        self._durables.drop(follower)
        self._turns.forget(follower)
        follower.gone = True

    def _expire(self, gone: Sequence[Follower]) -> None:
        """Forget those that did not come back.

        One that came back and went again has another absence, with a timer of its own.
        """
        for follower in gone:
            if follower.owner is None and follower.absence is gone and not follower.gone:
                self._drop(follower)


def _require_alone(follower: Follower, binding: Binding) -> None:
    """Refuse another meaning of a durable name while somebody else binds it."""
    others = [binding_id for binding_id in follower.members if binding_id != binding.id]
    if others:
        raise Conflict(
            f"The durable trigger {follower.name!r} is bound by a connected worker with another "
            f"config or function; stop all workers that bind it before you change it, or take "
            f"another name",
            bound_as=others[-1],
        )


def _warn_of_unknown_members(binding: Binding) -> None:
    if binding.config.unknown:
        log.warning(
            "binding %.200s of %.200s: the config members %.400s mean nothing here and are ignored",
            binding.id,
            binding.function_id,
            binding.config.unknown_hint,
        )
