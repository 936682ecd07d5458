"""Reading a segment that may be damaged: every block and record that still checks, and what not."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec
from isal.isal_zlib import crc32

from iii_state.stores.disk.blocks import (
    Block,
    find_block,
    read_columns,
    written_bytes,
)
from iii_state.stores.disk.files import Files
from iii_state.stores.disk.format import (
    BLOCK_HEADER_BYTES,
    RECORDS,
    SEGMENT_HEADER_BYTES,
    BlockHeader,
    decode_block_header,
    decode_record,
)
from iii_state.stores.disk.segment import Segment


class Damage(msgspec.Struct, frozen=True):
    """Bytes of a file that do not check. With `is_harmless`, nothing is lost with them."""

    file: str
    offset: int
    length: int
    what: str
    is_harmless: bool = False


class Tail(msgspec.Struct, frozen=True):
    """What follows the last block and is more than zeros: a torn write, or damage."""

    offset: int
    length: int


class Seal(msgspec.Struct, frozen=True):
    """The block that ends a segment."""

    offset: int
    header: BlockHeader


Piece = Block | Seal | Damage | Tail


def salvage(files: Files, segment: Segment, *, may_be_torn: bool) -> Iterator[Piece]:
    """The pieces of a segment file, in order of offset.

    A `Block` has columns that check; its records need not (`bad_records`). With `may_be_torn`, a
    last block that does not check as a whole counts as `Tail`: it was never acknowledged.
    """
    offset, sequence = SEGMENT_HEADER_BYTES, segment.header.first_sequence - 1
    end, segment_id = segment.file_bytes, segment.header.first_id
    while offset < end:
        header = decode_block_header(files.read(segment.fd, BLOCK_HEADER_BYTES, offset))
        if header is not None and header.segment_id == segment_id and header.sequence > sequence:
            piece = _piece(files, segment, offset, header)
            if may_be_torn and not _is_whole(piece) and _ends_at(files, segment, offset, header):
                yield Tail(offset, written_bytes(files, segment.fd, offset, end))
                return
            yield piece
            sequence = header.sequence
            offset += header.block_bytes
            continue
        found = next(find_block(files, segment.fd, offset + 1, end, segment_id, sequence), None)
        if found is None:
            written = written_bytes(files, segment.fd, offset, end)
            if written:
                yield Tail(offset, written)
            return
        yield Damage(segment.path.name, offset, found[0] - offset, "no block can be read there")
        offset = found[0]


def _ends_at(files: Files, segment: Segment, offset: int, header: BlockHeader) -> bool:
    """Whether nothing but zeros follows the block at an offset."""
    following = offset + header.block_bytes
    return not written_bytes(files, segment.fd, following, segment.file_bytes)


def _is_whole(piece: Piece) -> bool:
    if isinstance(piece, Block):
        return crc32(piece.body) == piece.header.body_crc
    return isinstance(piece, Seal)


def _piece(files: Files, segment: Segment, offset: int, header: BlockHeader) -> Piece:
    if header.kind != RECORDS:
        return Seal(offset, header)
    start = offset + BLOCK_HEADER_BYTES
    columns = read_columns(header, files.read(segment.fd, header.meta_bytes, start), segment.path)
    if columns is None:
        what = f"the names of {header.record_count} records are damaged, which are lost"
        return Damage(segment.path.name, offset, header.block_bytes, what)
    body = files.read(segment.fd, header.body_bytes, start + header.meta_bytes)
    return Block(offset, header, columns, body)


def bad_records(block: Block, path: Path) -> dict[int, Damage]:
    """The records of a block that do not check, by their number in it."""
    bad: dict[int, Damage] = {}
    columns = block.columns
    offsets = columns.offsets()
    revisions = columns.revision_list(block.header.first_revision)
    scopes = columns.spread(columns.scopes, "")
    for at, key in enumerate(columns.keys):
        entry = decode_record(block.body, offsets[at])
        if entry is None or entry.revision != revisions[at]:
            what = f"the value of key {key!r} in scope {scopes[at]!r} at revision {revisions[at]}"
            start, end = block.body_offset + offsets[at], block.body_offset + offsets[at + 1]
            bad[at] = Damage(path.name, start, end - start, f"{what} is damaged")
    return bad
