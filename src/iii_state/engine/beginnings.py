"""How a binding begins: at which revision, with which entries, or where it stopped."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from functools import partial
from itertools import count

from iii_state.core.bindings import Binding
from iii_state.core.changes import Change
from iii_state.core.checkpoints import Checkpoint, Pending
from iii_state.core.deliveries import Deliveries, Limits
from iii_state.core.policies import Policy
from iii_state.core.store import Store
from iii_state.engine.alarms import milliseconds
from iii_state.engine.dead_letter_box import DeadLetterBox
from iii_state.engine.dispatcher import Dispatcher
from iii_state.engine.durables import Durables
from iii_state.engine.feed import Feed
from iii_state.engine.followers import Follower
from iii_state.engine.initial import InitialEntries
from iii_state.engine.timers import Timers
from iii_state.errors import InvalidRequest, RevisionCompacted, StoreDamaged

log = logging.getLogger("iii_state.reactions")


class Beginnings:
    """Makes the followers of bindings that do not go on with one that is there."""

    def __init__(
        self,
        store: Store,
        feed: Feed,
        durables: Durables,
        letters: DeadLetterBox,
        turns: Dispatcher,
        timers: Timers,
        limits: Limits,
    ) -> None:
        self._store = store
        self._feed = feed
        self._durables = durables
        self._letters = letters
        self._turns = turns
        self._timers = timers
        self._limits = limits
        self._places = count()

    def require_start(self, binding: Binding) -> None:
        """Refuse a start that cannot be. One that is durable and has begun goes on instead.

        Raises:
            RevisionCompacted: what came after it is no longer kept.
            InvalidRequest: it is beyond the newest.
        """
        start, name = binding.config.start, binding.config.durable
        if start is None or (name is not None and self._durables.checkpoint(name) is not None):
            return
        oldest, newest = self._store.oldest_revision, self._store.executed_revision
        if start < oldest:
            raise RevisionCompacted(
                f"`from` is {start}, but changes up to revision {oldest} are no longer kept; "
                f'{oldest} is the lowest that can be asked for; "initial" begins with the entries',
                oldest_revision=oldest,
            )
        if start > newest:
            raise InvalidRequest(
                f"`from` is {start}, but the newest revision is {newest}: the store is another "
                f"one, or has lost its newest changes",
                code="trigger_registration_failed",
                revision=newest,
            )

    def begin(self, binding: Binding) -> Follower:
        """A follower where the binding is to begin, or, if it is durable, where it stopped.

        Nothing has changed when it fails, and nobody knows of the follower yet.

        Raises:
            StateError: the store cannot read what a durable binding left unfinished.
        """
        config = binding.config
        checkpoint, initial_up_to = self._place(binding)
        deliveries = Deliveries(checkpoint.cursor, self._limits.under(config), Policy.of(config))
        deliveries.paused = checkpoint.paused
        entries_up_to = initial_up_to or 0
        entries = self._take_up(binding, checkpoint.pending, entries_up_to, deliveries)
        follower = Follower(next(self._places), binding, deliveries, initial_up_to)
        if deliveries.is_timed:
            follower.alarm = self._turns.alarm_of(follower)
        if checkpoint.cursor < entries_up_to or entries:
            follower.initial = InitialEntries(
                self._store,
                config,
                deliveries,
                entries_up_to,
                entries,
                partial(self._turns.touch, follower),
            )
        return follower

    def _place(self, binding: Binding) -> tuple[Checkpoint, int | None]:
        """Where to go on, and the revision up to which revisions are those of entries."""
        config = binding.config
        if config.durable is not None:
            checkpoint = self._durables.checkpoint(config.durable)
            if checkpoint is not None:
                return checkpoint, self._durables.initial_up_to(config.durable)
        if config.is_initial:
            return Checkpoint(0), binding.from_revision
        start = config.start if config.start is not None else binding.from_revision
        return Checkpoint(start), None

    def _take_up(
        self,
        binding: Binding,
        unfinished: Iterable[Pending],
        entries_up_to: int,
        deliveries: Deliveries,
    ) -> list[Pending]:
        """Go on with what is unfinished, but for entries, which have to be read: these."""
        name, now_ms = binding.config.durable or "", milliseconds(self._timers)
        entries = []
        for pending in unfinished:
            letter = self._letters.sent(name, pending.revision) if pending.redriven else None
            if letter is not None:
                deliveries.take_up(pending, letter.change, now_ms)
            elif pending.revision <= entries_up_to:
                entries.append(pending)
            else:
                deliveries.take_up(pending, self._change(pending.revision), now_ms)
        if deliveries.counters.lost:
            log.warning(
                "binding %.200s: %d changes that it had not handled yet are no longer kept",
                binding.config.durable,
                deliveries.counters.lost,
            )
        return entries

    def _change(self, revision: int) -> Change | None:
        """A change; None if it is no longer kept, or damaged: it would hold up the others for ever.

        Raises:
            StateError: the store cannot read now.
        """
        try:
            return self._feed.change(revision)
        except StoreDamaged as error:
            log.error("the change %d is lost to a durable trigger: %s", revision, error)
            return None
