"""The change feed as far back as the log reaches: changes read from the segments."""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from collections import OrderedDict
from collections.abc import Iterator

import msgspec

from iii_state.core.changes import ANONYMOUS, Change, Entry, Origin
from iii_state.errors import StorageError
from iii_state.stores.disk.blocks import Block, read_block, read_columns
from iii_state.stores.disk.format import (
    BLOCK_HEADER_BYTES,
    DELETE,
    RECORDS,
    BlockHeader,
    Columns,
    decode_block_header,
    decode_record,
)
from iii_state.stores.disk.segment import Segment, Segments, damaged, read_entry

BLOCKS_KEPT = 2
"""Blocks read last that are kept: the feed is read in slices that end inside a block."""

PLACES_KEPT = 1 << 20
"""Records of which it is kept where they are: the values before a change are anywhere."""

NO_VALUE = 0xFFFFFFFF


class BlockRecords(msgspec.Struct, frozen=True, gc=False):
    """Where the records of one block are in their file, in some four bytes a record.

    `starts` are relative to `origin`; a delete has none, which is said with `NO_VALUE`. `revisions`
    is None while they follow each other. `end` is where the next block begins.
    """

    end: int
    last_revision: int
    first_revision: int
    origin: int
    starts: array[int]
    revisions: array[int] | None

    @classmethod
    def of(cls, header: BlockHeader, columns: Columns, offset: int) -> BlockRecords:
        """The records of a block at an offset."""
        starts = array("I", columns.offsets()[:-1])
        for at, kind in enumerate(columns.kinds or b""):
            if kind == DELETE:
                starts[at] = NO_VALUE
        revisions = array("Q", columns.revisions) if columns.revisions is not None else None
        return cls(
            offset + header.block_bytes,
            header.last_revision,
            header.first_revision,
            offset + BLOCK_HEADER_BYTES + header.meta_bytes,
            starts,
            revisions,
        )

    @classmethod
    def of_none(cls, end: int) -> BlockRecords:
        """Those of a seal."""
        return cls(end, 0, 0, 0, array("I"), None)

    def find(self, revision: int) -> int | None:
        """The file offset of the record with a revision; -1 for a delete, None if not here."""
        if self.revisions is None:
            at = revision - self.first_revision
        else:
            at = bisect_left(self.revisions, revision)
            if at < len(self.revisions) and self.revisions[at] != revision:
                return None
        if not 0 <= at < len(self.starts):
            return None
        return self.origin + self.starts[at] if self.starts[at] != NO_VALUE else -1


class History:
    """Changes read back from the segments."""

    def __init__(self, segments: Segments) -> None:
        self._segments = segments
        self._blocks: OrderedDict[tuple[int, int], Block] = OrderedDict()
        self._places: OrderedDict[tuple[int, int], BlockRecords] = OrderedDict()
        self._places_kept = 0

    def since(self, after: int) -> Iterator[Change]:
        """Changes above a revision, ascending, as far as the segments go.

        Raises:
            StoreDamaged, StorageError: a block cannot be read.
        """
        for segment in self._segments.ordered:
            if segment.last_revision <= after:
                continue
            offset = segment.signposts.before(after + 1)
            while offset < segment.end:
                block, offset = self._read(segment, offset, after)
                if block is not None:
                    yield from self._changes(block, after)

    def entry_at(self, revision: int) -> Entry | None:
        """What the change with that revision left; None when it deleted.

        Raises:
            StoreDamaged, StorageError: it cannot be read.
        """
        for segment in self._segments.ordered:
            if segment.first_revision <= revision <= segment.last_revision:
                return self._entry_in(segment, revision)
        raise StorageError(f"the value written at revision {revision} is no longer kept")

    def _entry_in(self, segment: Segment, revision: int) -> Entry | None:
        offset = segment.signposts.before(revision)
        while offset < segment.end:
            records = self._records(segment, offset)
            offset = records.end
            if records.last_revision >= revision:
                at = records.find(revision)
                if at is None:
                    break
                if at < 0:
                    return None
                return read_entry(self._segments.files, segment, at)
        raise StorageError(f"the value written at revision {revision} is no longer kept")

    def _records(self, segment: Segment, offset: int) -> BlockRecords:
        """Where the records of the block at an offset are.

        Each of these has a checksum of its own: what else is damaged in the block is of no concern.
        """
        place = segment.slot, offset
        records = self._places.get(place)
        if records is None:
            records = self._read_places(segment, offset)
            self._places[place] = records
            self._places_kept += len(records.starts)
            while self._places_kept > PLACES_KEPT and len(self._places) > 1:
                _, oldest = self._places.popitem(last=False)
                self._places_kept -= len(oldest.starts)
        return records

    def _read_places(self, segment: Segment, offset: int) -> BlockRecords:
        header = self._header(segment, offset)
        if header.kind != RECORDS:
            return BlockRecords.of_none(offset + header.block_bytes)
        meta = self._bytes(segment, header.meta_bytes, offset + BLOCK_HEADER_BYTES)
        columns = read_columns(header, meta, segment.path)
        if columns is None:
            raise damaged(segment.path, offset, "the block there", "the other blocks")
        return BlockRecords.of(header, columns, offset)

    def _read(self, segment: Segment, offset: int, after: int) -> tuple[Block | None, int]:
        """The block at an offset, and where the next one begins.

        None for a seal, and for one without changes above a revision: it may be damaged.
        """
        kept = self._blocks.get((segment.slot, offset))
        if kept is not None:
            self._blocks.move_to_end((segment.slot, offset))
            return kept, offset + kept.header.block_bytes
        header = self._header(segment, offset)
        if header.kind != RECORDS or header.last_revision <= after:
            return None, offset + header.block_bytes
        size = header.meta_bytes + header.body_bytes
        payload = self._bytes(segment, size, offset + BLOCK_HEADER_BYTES)
        block = read_block(header, payload, offset, segment.path)
        if not isinstance(block, Block):
            raise damaged(segment.path, offset, "the block there", "the other blocks")
        self._blocks[segment.slot, offset] = block
        if len(self._blocks) > BLOCKS_KEPT:
            self._blocks.popitem(last=False)
        return block, offset + header.block_bytes

    def _header(self, segment: Segment, offset: int) -> BlockHeader:
        header = decode_block_header(self._bytes(segment, BLOCK_HEADER_BYTES, offset))
        if header is None:
            raise damaged(segment.path, offset, "the block there", "the other blocks")
        return header

    def _bytes(self, segment: Segment, size: int, offset: int) -> bytes:
        try:
            return self._segments.files.read(segment.fd, size, offset)
        except OSError as error:
            raise StorageError(
                f"{segment.path} cannot be read at offset {offset}: {error.strerror}"
            ) from error

    def _changes(self, block: Block, after: int) -> Iterator[Change]:
        columns = block.columns
        revisions = columns.revision_list(block.header.first_revision)
        scopes = columns.spread(columns.scopes, "")
        causes = columns.spread(columns.causes, "")
        origins = _origins(columns)
        kinds = block.kinds()
        offset = columns.offsets()
        for at in range(bisect_right(revisions, after), len(revisions)):
            entry = decode_record(block.body, offset[at])
            assert entry is not None, "the block's checksum held"
            previous = columns.previous[at]
            yield Change(
                revisions[at],
                scopes[at],
                columns.keys[at],
                self.entry_at(previous) if previous else None,
                None if kinds[at] == DELETE else entry,
                entry.updated_at_ms,
                origins[at],
                causes[at],
            )

    def forget(self, segment: Segment) -> None:
        """Let go of what was read from a segment."""
        for place in [place for place in self._blocks if place[0] == segment.slot]:
            del self._blocks[place]
        for place in [place for place in self._places if place[0] == segment.slot]:
            self._places_kept -= len(self._places.pop(place).starts)


def _origins(columns: Columns) -> list[Origin]:
    if columns.workers is None:
        return [ANONYMOUS] * len(columns.keys)
    return [
        Origin(worker, function, depth)
        for worker, function, depth in zip(
            columns.spread(columns.workers, ""),
            columns.spread(columns.functions, ""),
            columns.spread(columns.depths, 0),
            strict=True,
        )
    ]
