"""Which segments are window, and which base: how far back the change log is kept."""

from __future__ import annotations

from collections.abc import Callable

from iii_state.stores.disk.segment import Segment, Segments

HELD_FACTOR = 4
"""What is held may take so many times what is kept anyway."""


class Retention:
    """Moves the trim point, R0, by whole segments.

    Segments whose changes are all at or below R0 are base: of them, only what is superseded at or
    below R0 may be dropped. The others are the window, kept as they were written.
    """

    def __init__(self, segments: Segments, history_bytes: int) -> None:
        self._segments = segments
        self._history_bytes = history_bytes
        self._base_count = 0
        self.held: Callable[[], int | None] = lambda: None
        """The revision after which somebody still needs the changes; None: nobody does."""
        self.revision = max(
            (segment.header.base_revision for segment in segments.ordered), default=0
        )
        self._admit()

    @property
    def base(self) -> list[Segment]:
        """The base segments, in order."""
        return self._segments.ordered[: self._base_count]

    def trim(self, held: int | None) -> None:
        """Turn the oldest of the window into base, while the window is over its bound.

        What somebody still needs, all above `held`, stays longer, but not for ever.
        """
        ordered = self._segments.ordered
        window = ordered[self._base_count :]
        size = sum(segment.end for segment in window)
        for segment in window[:-1]:
            if size <= self._history_bytes or not segment.is_sealed:
                break
            is_held = held is not None and segment.last_revision > held
            if is_held and size <= HELD_FACTOR * self._history_bytes:
                break
            size -= segment.end
            self.revision = max(self.revision, segment.last_revision)
        self._admit()

    def _admit(self) -> None:
        """Count what the segments that became base have superseded as dead."""
        ordered = self._segments.ordered
        while self._base_count < len(ordered) - 1:
            segment = ordered[self._base_count]
            if segment.last_revision > self.revision:
                return
            self._base_count += 1
            for slot, record_bytes in segment.kills.items():
                self._segments.at(slot).dead_bytes += record_bytes
            segment.kills = {}

    def replace(self, run: list[Segment], merged: Segment) -> None:
        """Put a merged segment into the place of a run of the base."""
        ordered = self._segments.ordered
        at = ordered.index(run[0])
        ordered[at : at + len(run)] = [merged]
        self._base_count -= len(run) - 1

    def inherit(self, run: list[Segment], merged: Segment, dead_before: int) -> None:
        """Count for the merged segment what was counted for its run since the merge began.

        Called when nothing leads to the run any more; `dead_before` was dead when it began.
        """
        merged.dead_bytes += sum(segment.dead_bytes for segment in run) - dead_before
        for segment in self._segments.ordered[self._base_count :]:
            kills = segment.kills
            inherited = sum(kills.pop(former.slot, 0) for former in run)
            if inherited:
                kills[merged.slot] = kills.get(merged.slot, 0) + inherited
