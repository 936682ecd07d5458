"""One event on its way to one binding's function, how that can end, and how often it did."""

from __future__ import annotations

from enum import Enum

import msgspec

from iii_state.core.changes import Change


class Result(Enum):
    """How a delivery ended."""

    DELIVERED = "delivered"
    SKIPPED = "skipped"
    """The condition said no."""
    FAILED = "failed"
    """The function, or the condition, failed or took too long."""
    INTERRUPTED = "interrupted"
    """Whoever ran it went away; it may have been carried out or not."""
    ABSENT = "absent"
    """Nobody runs the function."""
    REFUSED = "refused"
    """It was not made, and will not be."""


class Delivery(msgspec.Struct, frozen=True, gc=False):
    """One change on its way to a binding's function, for the `attempt`-th time, from 1.

    `failures` and `interruptions` are how the attempts ended that count against the policy. A
    `redriven` one was a dead letter. Where `since` is not 0, it stands for the changes of its key
    since that revision too.
    """

    change: Change
    attempt: int = 1
    failures: int = 0
    interruptions: int = 0
    redriven: bool = False
    since: int = 0

    @property
    def first(self) -> int:
        """The lowest revision that it stands for."""
        return self.since or self.change.revision


class GivenUp(msgspec.Struct, frozen=True, gc=False):
    """A delivery that will not be made again. `attempts` is how often it was made."""

    change: Change
    attempts: int


class Counters(msgspec.Struct):
    """What became of the changes of one binding, since it was made or taken up again.

    `matched` and `redriven` (dead letters sent again) are together the sum of the next four and of
    what is waiting or in flight. `coalesced` ones were replaced by a newer one of their key.
    `retried` counts failures that were not the last. `lost` counts the revisions that the feed no
    longer had when the binding came to them, matching or not.
    """

    matched: int = 0
    delivered: int = 0
    skipped: int = 0
    failed: int = 0
    coalesced: int = 0
    retried: int = 0
    redriven: int = 0
    lost: int = 0
