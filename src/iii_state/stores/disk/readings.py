"""Reading whole scopes: values in order of creation, names by code point. In any thread."""

from __future__ import annotations

from collections.abc import Callable
from heapq import merge
from typing import Any, Protocol, TypeVar

from iii_state.core.changes import Change, Entry
from iii_state.core.commands import ListKeys, ListValues
from iii_state.core.values import encode_text
from iii_state.errors import LimitExceeded
from iii_state.stores.disk.index import ScopeIndex, offset_of, slot_of
from iii_state.stores.disk.segment import Segment, Segments, read_entry

T = TypeVar("T")

SLICE = 8192
"""Items sorted at once: sorting more of them would hold up the event loop from a thread, too."""


class Reading(Protocol):
    """What a list reads, fixed when it was asked for."""

    def read(self) -> list[bytes]:
        """The values: JSON texts, in the list's order."""

    def release(self) -> None:
        """Let go of what is held for it."""


class NamesReading:
    """One list of names, with their bound for a list of keys."""

    def __init__(self, names: list[str], command: ListKeys | None) -> None:
        self._names = names
        self._command = command

    def read(self) -> list[bytes]:
        """The names, ascending by code point.

        Raises:
            LimitExceeded: more bytes than the caller takes.
        """
        command = self._command
        if command is not None:
            require_bound(command, sum([len(name) + 2 for name in self._names]))
        texts = [encode_text(name) for name in sorted_in_slices(self._names, str)]
        if command is not None:
            require_bound(command, sum([len(text) for text in texts]))
        return texts

    def release(self) -> None:
        """Nothing is held."""


class ValuesReading:
    """One list of values: what to read, fixed when the list was asked for.

    The segments it reads from are held until `release`, so that compaction cannot delete them.
    """

    def __init__(
        self, scope: ScopeIndex | None, pending: dict[str, Change] | None, segments: Segments
    ) -> None:
        self._files = segments.files
        self._entries: list[Entry] = []
        self._places: list[int] = []
        found = scope.found() if scope is not None else []
        if pending is not None:
            self._entries = [e for e in (c.entry for c in pending.values()) if e is not None]
            if scope is not None:
                hidden = {id(scope.get(key)) for key in pending}
                found = [item for item in found if id(item) not in hidden]
        for item in found:
            if isinstance(item, int):
                self._places.append(item)
            elif item.entry is not None:
                self._entries.append(item.entry)
        self._segments: dict[int, Segment] = {
            slot: segments.at(slot) for slot in set(map(slot_of, self._places))
        }
        for segment in self._segments.values():
            segment.references += 1

    def read(self) -> list[bytes]:
        """The values, in order of creation. May be called from any thread.

        Raises:
            StoreDamaged, StorageError: one of them cannot be read.
        """
        entries = self._entries
        for place in sorted(self._places):
            segment = self._segments[slot_of(place)]
            entries.append(read_entry(self._files, segment, offset_of(place)))
        return [entry.value for entry in sorted_in_slices(entries, _created)]

    def release(self) -> None:
        """Let go of the segments."""
        for segment in self._segments.values():
            segment.references -= 1


def _created(entry: Entry) -> int:
    return entry.created_revision


def sorted_in_slices(items: list[T], key: Callable[[T], Any]) -> list[T]:
    """Sort without holding up other threads for long."""
    if len(items) <= SLICE:
        return sorted(items, key=key)
    slices = [sorted(items[at : at + SLICE], key=key) for at in range(0, len(items), SLICE)]
    return list(merge(*slices, key=key))


def require_bound(command: ListValues | ListKeys, size: int) -> None:
    """Refuse a list that has more bytes than its caller takes.

    Raises:
        LimitExceeded: with the code that callers know from too large answers.
    """
    if size > command.bytes_max:
        raise LimitExceeded(
            f"The list of scope {command.scope!r} has {size} bytes, more than the "
            f"{command.bytes_max} that this caller can take in one answer",
            code="payload_too_large",
            limit="bytes_max",
            actual=size,
            bound=command.bytes_max,
        )
