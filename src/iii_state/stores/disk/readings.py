"""What is read for commands about more than one key: fixed in the loop, read in any thread."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterable
from heapq import merge
from operator import itemgetter
from typing import Any, NamedTuple, Protocol, TypeVar

from iii_state.core.changes import Change, Entry
from iii_state.core.commands import GetMany, ListKeys, ListValues
from iii_state.core.names import quoted
from iii_state.core.values import encode_text
from iii_state.errors import LimitExceeded, StorageError
from iii_state.stores.disk.files import Files
from iii_state.stores.disk.format import RECORD_PREFIX, RECORD_PREFIX_BYTES
from iii_state.stores.disk.index import Resident, ScopeIndex, offset_of, slot_of
from iii_state.stores.disk.segment import Segment, Segments, damaged, read_entry
from iii_state.stores.orders import in_order

T = TypeVar("T")
Run = tuple["array[int]", list[str]]
"""Revisions, ascending, and the keys that they made."""

INLINE_KEYS_MAX = 1000
INLINE_BYTES_MAX = 256 << 10
INLINE_READS_MAX = 100
"""What has more keys, or bytes, or is read from disk more often, is read in a thread."""

SLICE = 8192
"""Items sorted at once: sorting more of them would hold up the event loop from a thread, too."""


class Reading(Protocol):
    """What is read in one go, fixed when it was asked for."""

    is_large: bool
    """Whether it would hold up the event loop."""

    def read(self) -> Any:
        """Read it. May be called from any thread.

        Raises:
            StoreDamaged, StorageError: a part of it cannot be read.
            LimitExceeded: it is more than the caller takes.
        """

    def release(self) -> None:
        """Let go of what is held for it."""


class Held:
    """The segments that some places are in, held so that compaction cannot delete them."""

    def __init__(self, segments: Segments, places: Iterable[int]) -> None:
        self.files = segments.files
        slots = {place >> 32 for place in places}
        self._segments: dict[int, Segment] = {slot: segments.at(slot) for slot in slots}
        for segment in self._segments.values():
            segment.references += 1

    def at(self, place: int) -> tuple[Segment, int]:
        """The segment and the offset of a place."""
        return self._segments[slot_of(place)], offset_of(place)

    def release(self) -> None:
        """Let go of them."""
        for segment in self._segments.values():
            segment.references -= 1


class NamesReading:
    """One list of names, with their bound for a list of keys."""

    def __init__(self, names: list[str], command: ListKeys | None) -> None:
        self._names = names
        self._command = command
        self.is_large = len(names) > INLINE_KEYS_MAX

    def read(self) -> list[bytes]:
        """The names, as JSON texts ascending by code point. See `Reading.read`."""
        names, command = self._names, self._command
        if command is not None:
            after, prefix = command.after, command.prefix
            if after is not None or prefix:
                names = [n for n in names if n.startswith(prefix) and (after is None or n > after)]
            require_bound(command, sum([len(name) + 2 for name in names]))
        texts = [encode_text(name) for name in sorted_in_slices(names, str)]
        if command is not None:
            require_bound(command, sum([len(text) for text in texts]))
        return texts

    def release(self) -> None:
        """Nothing is held."""


class ValuesReading:
    """One list of values: what to read, fixed when the list was asked for."""

    def __init__(
        self,
        scope: ScopeIndex | None,
        pending: dict[str, Change] | None,
        segments: Segments,
        *,
        is_large: bool,
    ) -> None:
        self.is_large = is_large
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
        self._held = Held(segments, self._places)

    def read(self) -> list[bytes]:
        """The values, in order of creation. See `Reading.read`."""
        entries = self._entries
        for place in sorted(self._places):
            entries.append(read_entry(self._held.files, *self._held.at(place)))
        return [entry.value for entry in sorted_in_slices(entries, _created)]

    def release(self) -> None:
        """Let go of the segments."""
        self._held.release()


class EntriesReading:
    """The entries at some places, in turn, until their values have more than `bytes_max` bytes."""

    def __init__(
        self, places: list[int], segments: Segments, bytes_expected: int, bytes_max: int
    ) -> None:
        self.is_large = len(places) > INLINE_READS_MAX or bytes_expected > INLINE_BYTES_MAX
        self._places = places
        self._bytes_max = bytes_max
        self._held = Held(segments, places)

    def read(self) -> dict[int, Entry]:
        """The entries, by place, with the one that is too much. See `Reading.read`."""
        entries: dict[int, Entry] = {}
        left = self._bytes_max
        for place in self._places:
            entry = entries[place] = read_entry(self._held.files, *self._held.at(place))
            left -= len(entry.value)
            if left < 0:
                break
        return entries

    def release(self) -> None:
        """Let go of the segments."""
        self._held.release()


class HeadsReading:
    """The heads of the records at some places, by which they are ordered or counted.

    A head alone cannot be checked. What matters of it is checked with the record, which is read
    before anything of it is shown.
    """

    def __init__(self, places: list[int], segments: Segments) -> None:
        self.is_large = len(places) > INLINE_READS_MAX
        self._places = places
        self._held = Held(segments, places)

    def read(self) -> dict[int, RecordHead]:
        """The heads, by place. See `Reading.read`."""
        held = self._held
        return {place: read_head(held.files, *held.at(place)) for place in sorted(self._places)}

    def release(self) -> None:
        """Let go of the segments."""
        self._held.release()


class CreatedReading:
    """Keys made after a revision, up to another, with what they lead to: when they were made."""

    def __init__(
        self, found: list[tuple[str, int | Resident]], segments: Segments, after: int, last: int
    ) -> None:
        self._pairs: list[tuple[int, str]] = []
        self._cold: list[tuple[int, str]] = []
        for key, item in found:
            if isinstance(item, int):
                self._cold.append((item, key))
            elif item.entry is not None:
                self._pairs.append((item.entry.created_revision, key))
        self._after = after
        self._last = last
        self._heads = HeadsReading([place for place, _ in self._cold], segments)
        self.is_large = self._heads.is_large or len(found) > INLINE_KEYS_MAX

    def read(self) -> Run:
        """The revisions, ascending, and the keys. See `Reading.read`."""
        heads = self._heads.read()
        pairs = self._pairs + [(heads[place].created_revision, key) for place, key in self._cold]
        pairs = [pair for pair in pairs if self._after < pair[0] <= self._last]
        pairs = sorted_in_slices(pairs, itemgetter(0))
        return array("Q", [created for created, _ in pairs]), [key for _, key in pairs]

    def release(self) -> None:
        """Let go of the segments."""
        self._heads.release()


class MergeReading:
    """Keys in several sorted runs, merged to one; no file is read."""

    def __init__(self, runs: list[Run]) -> None:
        self._runs = runs
        self.is_large = sum([len(keys) for _, keys in runs]) > INLINE_KEYS_MAX

    def read(self) -> Run:
        """The revisions, ascending, and the keys."""
        return self._runs[0] if len(self._runs) == 1 else in_order(self._runs)

    def release(self) -> None:
        """Nothing is held."""


class SortReading:
    """Keys to be sorted by code point; no file is read."""

    def __init__(self, names: list[str]) -> None:
        self._names = names
        self.is_large = len(names) > INLINE_KEYS_MAX

    def read(self) -> list[str]:
        """The keys, ascending."""
        return sorted_in_slices(self._names, str)

    def release(self) -> None:
        """Nothing is held."""


class RecordHead(NamedTuple):
    """What the head of a record says of it: the bytes of its value, and when its key was made."""

    value_bytes: int
    created_revision: int


def read_head(files: Files, segment: Segment, offset: int) -> RecordHead:
    """Read the head of the record at an offset of a segment.

    Raises:
        StoreDamaged: it is cut off.
        StorageError: the device does not give it.
    """
    try:
        data = files.read(segment.fd, RECORD_PREFIX_BYTES, offset)
    except OSError as error:
        raise StorageError(
            f"{segment.path} cannot be read at offset {offset}: {error.strerror}"
        ) from error
    if len(data) < RECORD_PREFIX_BYTES:
        raise damaged(segment.path, offset, "the record there", "every other record that checks")
    _, length, _, created, *_ = RECORD_PREFIX.unpack(data)
    return RecordHead(length, created)


def _created(entry: Entry) -> int:
    return entry.created_revision


def sorted_in_slices(items: list[T], key: Callable[[T], Any]) -> list[T]:
    """Sort without holding up other threads for long."""
    if len(items) <= SLICE:
        return sorted(items, key=key)
    slices = [sorted(items[at : at + SLICE], key=key) for at in range(0, len(items), SLICE)]
    return list(merge(*slices, key=key))


def require_bound(command: ListValues | ListKeys | GetMany, size: int) -> None:
    """Refuse an answer that has more bytes than its caller takes.

    Raises:
        LimitExceeded: with the code that callers know from too large answers.
    """
    if size > command.bytes_max:
        if isinstance(command, GetMany):
            what = f"What the {len(command.places)} keys hold has"
        else:
            what = f"The list of scope {quoted(command.scope)} has"
        raise LimitExceeded(
            f"{what} {size} bytes, more than the {command.bytes_max} that this caller can take in "
            f"one answer",
            code="payload_too_large",
            limit="bytes_max",
            actual=size,
            bound=command.bytes_max,
        )
