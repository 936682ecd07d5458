"""Who has read the changes up to where, and who is told of the next one.

Followers that have read equally far form a cohort with one index, so that a change costs a look-up
and then time for its matches only. The cohort at the newest revision is live: changes come to it
from memory as they are committed. A follower that takes no more leaves its cohort; when it has room
again, or its worker is back, it reads on from the store, in bounded slices, until it is live again.
Cohorts that come to the same place become one.

Nothing here starts a call: the methods yield the followers that have something to start.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence

from iii_state.core.bindings import BindingIndex
from iii_state.core.changes import Change
from iii_state.core.store import Store
from iii_state.engine.followers import BindingStatus, Follower
from iii_state.errors import RevisionCompacted, StateError

log = logging.getLogger("iii_state.reactions")

SLICE_CHANGES_MAX = 256
SLICE_BYTES_MAX = 1 << 20
MATCHES_PER_TURN_MAX = 2048
"""The longest that a turn of the event loop is held: about 10 ms."""

_NAMED_MAX = 5


class Cohort:
    """Followers that have read up to the same revision."""

    __slots__ = ("members", "position")

    def __init__(self, position: int) -> None:
        self.position = position
        self.members: BindingIndex[Follower] = BindingIndex()

    def admit(self, follower: Follower) -> None:
        """Let it read on from here."""
        self.members.add(follower.place, follower.binding.config, follower)
        follower.cohort = self


class Feed:
    """The changes of a store, as its followers read them.

    `head` is the newest revision that was handed to `committed`.
    """

    def __init__(self, store: Store) -> None:
        self.head = store.revision
        self._store = store
        self._live = Cohort(self.head)
        self._behind: dict[int, Cohort] = {}
        self._floor = 0

    @property
    def has_unread(self) -> bool:
        """Whether `read_on` has something to do."""
        return bool(self._behind)

    def follow(self, follower: Follower, position: int) -> None:
        """Let a follower that reads nothing read what comes after `position`."""
        position = max(position, self._floor)
        follower.deliveries.pass_over(position)
        if position >= self.head:
            self._live.admit(follower)
            return
        cohort = self._behind.get(position)
        if cohort is None:
            cohort = self._behind[position] = Cohort(position)
        cohort.admit(follower)

    def leave(self, follower: Follower) -> None:
        """Let it read nothing for now. Its position tells where to go on."""
        cohort = follower.cohort
        if cohort is None:
            return
        follower.deliveries.pass_over(cohort.position)
        self._part(follower, cohort)

    def skip(self) -> None:
        """Drop all that was committed so far and not read yet, for everybody."""
        self._floor = self.head

    def status(self, follower: Follower, dead_letters: int) -> BindingStatus:
        """How a follower fares, that has so many dead letters."""
        is_live = follower.cohort is self._live
        return follower.status(self.head, self.read_up_to(follower), is_live, dead_letters)

    def read_up_to(self, follower: Follower) -> int:
        """The revision up to which a follower has nothing to read any more."""
        position = follower.read_up_to
        return position if follower.initial is not None else max(position, self._floor)

    def change(self, revision: int) -> Change | None:
        """One change from the store; None if it is no longer kept.

        Raises:
            StateError: the store cannot read.
        """
        try:
            changes = self._store.changes(revision - 1, 1, 1)
        except RevisionCompacted:
            return None
        return changes[0] if changes else None

    def committed(self, changes: Sequence[Change], now_ms: int) -> Iterator[Follower]:
        """Tell the live followers of new changes; yields those that have something to start.

        Not re-entrant. When very many match, `read_on` goes on with the rest.
        """
        self.head = max(self.head, changes[-1].revision)
        if not len(self._live.members):
            self._live.position = self.head
            return
        yield from self._advance(self._live, changes, now_ms)

    def committed_unseen(self, changes: Sequence[Change]) -> None:
        """Let new changes pass without telling anybody, now or later."""
        self.head = self._live.position = changes[-1].revision
        self.skip()

    def read_on(self, now_ms: int) -> Iterator[Follower]:
        """Read one slice for the cohort whose turn it is; yields as `committed` does.

        Raises:
            StateError: the store cannot read; nothing moved, and it is the next cohort's turn.
        """
        position, cohort = next(iter(self._behind.items()))
        if position < self._floor:
            cohort.position = self._floor
            changes: Sequence[Change] = ()
        else:
            # Slices end at round revisions, so that cohorts that are close meet and become one.
            limit = SLICE_CHANGES_MAX - position % SLICE_CHANGES_MAX
            try:
                changes = self._store.changes(position, limit, SLICE_BYTES_MAX)
            except RevisionCompacted:
                changes = ()
                self._lose(cohort)
            except StateError:
                del self._behind[position]
                self._behind[position] = cohort
                raise
        del self._behind[position]
        yield from self._advance(cohort, changes, now_ms)

    def _advance(
        self, cohort: Cohort, changes: Sequence[Change], now_ms: int
    ) -> Iterator[Follower]:
        matched = 0
        try:
            for change in changes:
                if change.revision > self.head or matched >= MATCHES_PER_TURN_MAX:
                    return
                for follower in cohort.members.match(change):
                    if follower.cohort is not cohort:
                        continue
                    if follower.deliveries.offer(change, now_ms):
                        matched += 1
                        yield follower
                    else:
                        follower.deliveries.pass_over(change.revision - 1)
                        self._part(follower, cohort)
                cohort.position = change.revision
        finally:
            self._settle(cohort)

    def _settle(self, cohort: Cohort) -> None:
        """Put a cohort to those of its position, or among them."""
        if cohort is self._live:
            if cohort.position >= self.head:
                return
            self._live = Cohort(self.head)
        is_live = cohort.position >= self.head
        other = self._live if is_live else self._behind.get(cohort.position)
        if other is not None:
            if len(other.members) > len(cohort.members):
                other, cohort = cohort, other
            for follower in other.members:
                cohort.admit(follower)
        if is_live:
            self._live = cohort
        elif len(cohort.members):
            self._behind[cohort.position] = cohort

    def _part(self, follower: Follower, cohort: Cohort) -> None:
        cohort.members.remove(follower.place)
        follower.cohort = None
        if not len(cohort.members) and self._behind.get(cohort.position) is cohort:
            del self._behind[cohort.position]

    def _lose(self, cohort: Cohort) -> None:
        """Move a cohort over what is no longer kept."""
        oldest = self._store.oldest_revision
        members = list(cohort.members)
        for follower in members:
            follower.deliveries.pass_over(cohort.position)
            follower.deliveries.lose(oldest)
        log.warning(
            "%d bindings lost the changes %d to %d, which are no longer kept: %s%s. Keep more "
            "with `history_bytes`, or make their functions faster",
            len(members),
            cohort.position + 1,
            oldest,
            ", ".join(follower.binding.id for follower in members[:_NAMED_MAX]),
            ", ..." if len(members) > _NAMED_MAX else "",
        )
        cohort.position = oldest
