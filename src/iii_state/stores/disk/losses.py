"""Values that can no longer be read, but be written over: a damaged key must not be stuck.

A set or a delete needs the value before only to tell it. When that is damaged, the write is carried
out as if the key had been absent, and the log says what was lost. Whatever depends on that value
(an update, a guard, a read) is refused as before.
"""

from __future__ import annotations

import logging
from bisect import bisect_left
from collections.abc import Callable, Sequence

import msgspec

from iii_state.core.changes import Entry
from iii_state.core.commands import Update, Write
from iii_state.errors import StoreDamaged
from iii_state.stores.disk.blocks import read_columns
from iii_state.stores.disk.files import Files
from iii_state.stores.disk.format import BLOCK_HEADER_BYTES, decode_block_header
from iii_state.stores.disk.index import Index, offset_of, slot_of
from iii_state.stores.disk.segment import Segment, Segments

log = logging.getLogger("iii_state.stores.disk")


class Loss(msgspec.Struct, frozen=True):
    """A key whose value is damaged: how many bytes that had, as far as known, and where it is."""

    scope: str
    key: str
    value_bytes: int
    file: str
    offset: int

    def tell(self) -> None:
        """Write it into the log."""
        log.warning(
            "The value of key %r in scope %r is damaged (%s, offset %d) and was written over: what "
            "it was is not known, the change tells of none",
            self.key,
            self.scope,
            self.file,
            self.offset,
        )


def losses_of(
    writes: Sequence[Write],
    read: Callable[[str, str], Entry | None],
    index: Index,
    segments: Segments,
) -> list[Loss]:
    """What writes go over without its being readable; `read` tells what a key holds before them.

    Raises:
        StoreDamaged: one of the writes depends on it.
    """
    losses: list[Loss] = []
    places: set[tuple[str, str]] = set()
    for write in writes:
        place = write.scope, write.key
        if place in places:
            continue
        places.add(place)
        try:
            read(*place)
        except StoreDamaged as damage:
            if isinstance(write, Update):
                raise
            at = index.get(*place)
            assert isinstance(at, int), "what is in memory is not damaged"
            size = value_bytes_at(segments.files, segments.at(slot_of(at)), offset_of(at))
            file, offset = damage.details["file"], damage.details["offset"]
            losses.append(Loss(*place, size or 0, file, offset))
    return losses


def value_bytes_at(files: Files, segment: Segment, offset: int) -> int | None:
    """The bytes of the value in the record at an offset, by the columns of its block.

    They have a checksum of their own. None when they are damaged too.
    """
    at = segment.signposts.at(offset)
    try:
        while at < offset:
            header = decode_block_header(files.read(segment.fd, BLOCK_HEADER_BYTES, at))
            if header is None:
                return None
            if offset < at + header.block_bytes:
                meta = files.read(segment.fd, header.meta_bytes, at + BLOCK_HEADER_BYTES)
                columns = read_columns(header, meta, segment.path)
                if columns is None:
                    return None
                records = at + BLOCK_HEADER_BYTES + header.meta_bytes
                return columns.lengths[bisect_left(columns.offsets(), offset - records)]
            at += header.block_bytes
    except OSError:
        pass
    return None
