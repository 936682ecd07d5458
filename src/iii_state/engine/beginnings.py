"""How a binding begins: at which revision, with which entries, or where it stopped."""

from __future__ import annotations

import logging
from functools import partial
from itertools import count

from iii_state.core.bindings import Binding
from iii_state.core.checkpoints import Checkpoint
from iii_state.core.deliveries import Deliveries, Limits
from iii_state.core.policies import Policy
from iii_state.core.store import Store
from iii_state.engine.alarms import milliseconds
from iii_state.engine.dispatcher import Dispatcher
from iii_state.engine.durables import Durables
from iii_state.engine.feed import Feed
from iii_state.engine.followers import Follower
from iii_state.engine.initial import InitialEntries
from iii_state.engine.timers import Timers
from iii_state.errors import InvalidRequest, RevisionCompacted

log = logging.getLogger("iii_state.reactions")


class Beginnings:
    """Makes the followers of bindings that do not go on with one that is there."""

    def __init__(
        self,
        store: Store,
        feed: Feed,
        durables: Durables,
        turns: Dispatcher,
        timers: Timers,
        limits: Limits,
    ) -> None:
        self._store = store
        self._feed = feed
        self._durables = durables
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

    def begin(self, binding: Binding, initial_up_to: int | None = None) -> Follower:
        """A follower where the binding is to begin, or, if it is durable, where it stopped.

        `initial_up_to`: it stopped while it was told of the entries that were there then.

        Raises:
            StateError: the store cannot read what a durable binding left unfinished.
        """
        config = binding.config
        checkpoint = self._durables.checkpoint(config.durable) if config.durable else None
        if checkpoint is None and config.is_initial:
            checkpoint, initial_up_to = Checkpoint(0), binding.from_revision
        elif checkpoint is None:
            start = config.start if config.start is not None else binding.from_revision
            checkpoint = Checkpoint(start)
        deliveries = self._deliveries(binding, checkpoint.cursor)
        deliveries.paused = checkpoint.paused
        if initial_up_to is None:
            self._take_up(binding, checkpoint, deliveries)
        follower = Follower(next(self._places), binding, deliveries)
        if deliveries.is_timed:
            follower.alarm = self._turns.alarm_of(follower)
        if initial_up_to is not None:
            follower.initial = InitialEntries(
                self._store,
                config,
                deliveries,
                self._deliveries(binding, initial_up_to),
                initial_up_to,
                checkpoint.pending,
                partial(self._turns.touch, follower),
            )
        if config.durable is not None:
            self._durables.serve(config.durable, follower)
        return follower

    def _deliveries(self, binding: Binding, position: int) -> Deliveries:
        config = binding.config
        return Deliveries(position, self._limits.under(config), Policy.of(config))

    def _take_up(self, binding: Binding, checkpoint: Checkpoint, deliveries: Deliveries) -> None:
        now_ms = milliseconds(self._timers)
        for pending in checkpoint.pending:
            deliveries.take_up(pending, self._feed.change(pending.revision), now_ms)
        if deliveries.counters.lost:
            log.warning(
                "binding %.200s: %d changes that it had not handled yet are no longer kept",
                binding.config.durable,
                deliveries.counters.lost,
            )
