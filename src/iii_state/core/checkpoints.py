"""Checkpoints: how far a durable binding has got, in the form in which it is written down."""

from __future__ import annotations

from collections.abc import Iterable
from operator import attrgetter

import msgspec


class Pending(msgspec.Struct, frozen=True, gc=False, array_like=True, omit_defaults=True):
    """An event that is still to be delivered, and what it went through.

    It is at or below the cursor, or `since` is, from where on it stands for those of its key.
    `attempt` is the number of the next delivery. See `Delivery` for the others.
    """

    revision: int
    attempt: int = 1
    failures: int = 0
    interruptions: int = 0
    redriven: bool = False
    since: int = 0

    @property
    def first(self) -> int:
        """The lowest revision that it stands for."""
        return self.since or self.revision

    @property
    def was_tried(self) -> bool:
        """Whether it has a history of its own, and is not just what the feed says."""
        return self.attempt > 1 or self.redriven


class Checkpoint(msgspec.Struct, frozen=True, gc=False):
    """Everything up to `cursor` is done, given up or `pending`; nothing above it was tried yet.

    Read anew from here, only what ended since it was made is delivered twice. `pending` ascends.
    """

    cursor: int
    pending: tuple[Pending, ...] = ()
    paused: bool = False

    @classmethod
    def of(
        cls, unfinished: Iterable[Pending], done_up_to: int, read_up_to: int, paused: bool
    ) -> Checkpoint:
        """The highest cursor under which only what was touched has to be named, and that.

        `done_up_to` is the highest revision that is done.
        """
        unfinished = sorted(unfinished, key=attrgetter("revision"))
        tried = (pending.revision for pending in unfinished if pending.was_tried)
        touched = max(max(tried, default=0), done_up_to)
        above = (pending.first for pending in unfinished if pending.first > touched)
        cursor = min(above, default=read_up_to + 1) - 1
        return cls(cursor, tuple(p for p in unfinished if p.first <= cursor), paused)
