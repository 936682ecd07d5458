"""The newest changes, kept in memory for the feed."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice

from iii_state.core.changes import Change

CHANGE_OVERHEAD_BYTES = 320
"""What a kept change costs beyond its values, roughly."""

READER_BATCHES = 1024
"""Whoever read is expected again before so many more batches."""

LET_GO_BYTES = 256 << 10
"""With a batch at most so much more is let go of than it has: all that was kept for readers who are
gone, at once, would hold up the event loop for milliseconds."""

SLACK_BATCHES = 256
"""Empty places at the front of the recent batches that are not worth moving the others for."""


class RecentChanges:
    """The newest changes, bounded by bytes, in the batches that they were committed in.

    Unless it `keeps_unread`, it comes to have only the newest batch while nobody reads: what only
    waits to be freed takes the processor's cache from what is in use.
    """

    def __init__(self, bytes_max: int, *, keeps_unread: bool) -> None:
        self._bytes_max = bytes_max
        self._keeps_unread = keeps_unread
        self._reader_batches = 0
        self._first_revisions: list[int] = []
        self._batches: list[Sequence[Change]] = []
        self._sizes: list[int] = []
        self._start = 0
        self._bytes = 0

    @property
    def after(self) -> int | None:
        """The lowest revision whose successors are all here; None when nothing is."""
        return self._first_revisions[self._start] - 1 if self._batches else None

    def reach(self, after: int) -> bool:
        """Whether all changes above a revision are here; whoever asks is a reader."""
        self._reader_batches = READER_BATCHES
        kept_after = self.after
        return kept_after is not None and after >= kept_after

    def add(self, changes: Sequence[Change], value_bytes: int) -> None:
        """Add a batch, with the bytes of its values, and let go of the oldest."""
        size = value_bytes + len(changes) * CHANGE_OVERHEAD_BYTES
        bytes_max = self._bytes_max
        if self._reader_batches:
            self._reader_batches -= 1
        elif not self._keeps_unread:
            bytes_max = 0
        bytes_max = max(bytes_max, self._bytes - LET_GO_BYTES)
        self._first_revisions.append(changes[0].revision)
        self._batches.append(changes)
        self._sizes.append(size)
        self._bytes += size
        start, last = self._start, len(self._batches) - 1
        while self._bytes > bytes_max and start < last:
            self._bytes -= self._sizes[start]
            self._batches[start] = ()
            start += 1
        if start > SLACK_BATCHES and start * 2 > last:
            for column in (self._first_revisions, self._batches, self._sizes):
                del column[:start]
            start = 0
        self._start = start

    def since(self, after: int) -> Iterator[Change]:
        """Changes above a revision, ascending."""
        at = bisect_right(self._first_revisions, after + 1, lo=self._start)
        for changes in self._batches[max(at - 1, self._start) :]:
            if changes[-1].revision > after:
                yield from changes[bisect_right(changes, after, key=_revision) :]


def _revision(change: Change) -> int:
    return change.revision


def bounded(changes: Iterable[Change], limit: int, bytes_max: int) -> list[Change]:
    """The first changes: at most `limit`, and no more once their values reach `bytes_max`."""
    taken: list[Change] = []
    size = 0
    for change in islice(changes, limit):
        taken.append(change)
        size += change.value_bytes
        if size >= bytes_max:
            break
    return taken
