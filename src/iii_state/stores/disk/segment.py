"""Segment files as this process knows them, and reading from them."""

from __future__ import annotations

from bisect import bisect_right
from itertools import count
from pathlib import Path

from iii_state.core.changes import Entry
from iii_state.errors import StorageError, StoreDamaged
from iii_state.stores.disk.files import Files
from iii_state.stores.disk.format import (
    CHECKSUM,
    RECORD_PREFIX_BYTES,
    RECORDS,
    SEGMENT_HEADER_BYTES,
    BlockHeader,
    SegmentHeader,
    decode_record,
)
from iii_state.stores.disk.index import offset_of, slot_of

READ_BYTES = 2048
"""What a cold read takes at once: most records whole, in one call."""

SIGNPOST_BYTES = 64 << 10
"""A block is found by its revision within this many bytes of a known one."""


class Signposts:
    """Some blocks of a segment, by their first revision: where a search begins."""

    __slots__ = ("offsets", "revisions")

    def __init__(self) -> None:
        self.revisions: list[int] = []
        self.offsets: list[int] = []

    def note(self, first_revision: int, offset: int) -> None:
        """Remember a block, unless it is close behind the last one remembered."""
        if not self.offsets or offset - self.offsets[-1] >= SIGNPOST_BYTES:
            self.revisions.append(first_revision)
            self.offsets.append(offset)

    def before(self, revision: int) -> int:
        """Where to start reading to meet a revision."""
        at = bisect_right(self.revisions, revision) - 1
        return self.offsets[at] if at >= 0 else SEGMENT_HEADER_BYTES

    def at(self, offset: int) -> int:
        """Where to start reading to meet the block that an offset is in."""
        at = bisect_right(self.offsets, offset) - 1
        return self.offsets[at] if at >= 0 else SEGMENT_HEADER_BYTES


class Segment:
    """One segment file, open.

    `end` is where its blocks end, `file_bytes` what the file takes. `record_bytes` counts all its
    records, `dead_bytes` those superseded at or below the trim point. `kills` says how many bytes
    of which slots its own records superseded: they become dead when this segment joins the base.
    """

    def __init__(self, slot: int, path: Path, fd: int, header: SegmentHeader) -> None:
        self.slot = slot
        self.path = path
        self.fd = fd
        self.header = header
        self.end = SEGMENT_HEADER_BYTES
        self.file_bytes = 0
        self.first_revision = 0
        self.last_revision = 0
        self.last_sequence = header.first_sequence - 1
        self.record_bytes = 0
        self.dead_bytes = 0
        self.tombstone_bytes = 0
        self.kills: dict[int, int] = {}
        self.signposts = Signposts()
        self.is_sealed = False
        self.references = 0

    @property
    def newest_revision(self) -> int:
        """The newest revision that it tells of.

        A merge drops deletes, the newest change of all too; its header says up to where it went.
        """
        return max(self.last_revision, self.header.base_revision)

    def note_block(self, header: BlockHeader, offset: int) -> None:
        """Take a block that is in the file into account."""
        self.end = offset + header.block_bytes
        self.last_sequence = header.sequence
        if header.kind != RECORDS:
            self.is_sealed = True
            return
        if not self.first_revision:
            self.first_revision = header.first_revision
        self.last_revision = header.last_revision
        self.record_bytes += header.body_bytes
        self.signposts.note(header.first_revision, offset)


class Segments:
    """The segments of a store, by slot and in order of their ids."""

    def __init__(self, files: Files) -> None:
        self.files = files
        self.ordered: list[Segment] = []
        self._by_slot: dict[int, Segment] = {}
        self._slots = count(1)

    def open(self, path: Path, fd: int, header: SegmentHeader) -> Segment:
        """Give an open file a slot, without a place in the order yet."""
        # Commits and merges open segments in threads: `next` gives no slot twice.
        segment = Segment(next(self._slots), path, fd, header)
        self._by_slot[segment.slot] = segment
        return segment

    def at(self, slot: int) -> Segment:
        """The segment with a slot."""
        return self._by_slot[slot]

    def forget(self, segment: Segment) -> None:
        """Give up a slot. Its file is left open."""
        del self._by_slot[segment.slot]

    def close(self) -> None:
        """Close every file."""
        for segment in list(self._by_slot.values()):
            self.forget(segment)
            self.files.close(segment.fd)

    def entry(self, place: int) -> Entry:
        """Read the entry at a place.

        Raises:
            StoreDamaged: its checksum does not hold.
            StorageError: the device does not give it.
        """
        return read_entry(self.files, self._by_slot[slot_of(place)], offset_of(place))


def read_entry(files: Files, segment: Segment, offset: int) -> Entry:
    """Read the record at an offset of a segment. May be called from any thread."""
    try:
        data = files.read(segment.fd, READ_BYTES, offset)
        if len(data) >= RECORD_PREFIX_BYTES:
            size = RECORD_PREFIX_BYTES + CHECKSUM.unpack_from(data, 4)[0]
            if size > len(data) and offset + size <= segment.end:
                data = files.read(segment.fd, size, offset)
    except OSError as error:
        raise StorageError(
            f"{segment.path} cannot be read at offset {offset}: {error.strerror}"
        ) from error
    entry = decode_record(data)
    if entry is None:
        raise damaged(segment.path, offset, "the record there", "every other record that checks")
    return entry


def damaged(path: Path, offset: int, what: str, readable: str) -> StoreDamaged:
    """The error for bytes that do not check."""
    return StoreDamaged(
        f"{path} is damaged at offset {offset}: {what} does not match its checksum; "
        f"`iii-state check {path.parent}` lists all damage, `iii-state dump {path.parent}` saves "
        f"what can be read",
        file=str(path),
        offset=offset,
        readable=readable,
    )
