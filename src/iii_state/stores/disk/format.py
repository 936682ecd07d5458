"""The bytes of format version 1: segment headers, blocks and records. Pure.

`docs/storage.md` specifies them byte by byte. Integers are little-endian, checksums CRC-32 (that
of zlib), columns msgpack, values the caller's own JSON text.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Sequence
from itertools import accumulate
from operator import attrgetter
from typing import TypeVar

import msgspec
from isal.isal_zlib import crc32

from iii_state.core.changes import ANONYMOUS, Change, Entry, Origin

T = TypeVar("T")

FORMAT_VERSION = 1

SEGMENT_MAGIC = b"iiiSEG\r\n"
SEGMENT_HEADER = struct.Struct("<8sHHIQQQQQ16sI")
SEGMENT_HEADER_BYTES = 80

BLOCK_MAGIC = b"\xffiB\n"
"""Begins with a byte that UTF-8 never has, so that no key and no value can look like a block."""
BLOCK_HEADER = struct.Struct("<4sHBBQQQQQQIIIII")
BLOCK_HEADER_BYTES = 80

MERGED = 1
"""Flag of a segment: written by compaction, so that revisions and sequences may be missing."""

RECORDS, SEAL = 1, 2
"""Kinds of blocks."""

SET, DELETE = 0, 1
"""Kinds of records that take a revision."""


RECORD_TAIL = struct.Struct("<IQQQQQ")
RECORD_PREFIX = struct.Struct("<IIQQQQQ")
RECORD_PREFIX_BYTES = 48
CHECKSUM = struct.Struct("<I")


class SegmentHeader(msgspec.Struct, frozen=True, gc=False):
    """What stands at the start of a segment file.

    `first_id` and `last_id` are the range of segments it covers: the same for one as it was
    written, a run for a merged one. `base_revision` is the revision at and below which superseded
    records may be missing. `tag` is random: it ties a hint to this file and no other of its name.
    """

    version: int
    flags: int
    tag: int
    first_id: int
    last_id: int
    base_revision: int
    first_sequence: int
    created_at_ms: int
    store_id: bytes

    @property
    def is_merged(self) -> bool:
        """Whether compaction wrote it."""
        return bool(self.flags & MERGED)

    def encode(self) -> bytes:
        """The header's 80 bytes."""
        head = SEGMENT_HEADER.pack(
            SEGMENT_MAGIC,
            self.version,
            self.flags,
            self.tag,
            self.first_id,
            self.last_id,
            self.base_revision,
            self.first_sequence,
            self.created_at_ms,
            self.store_id,
            0,
        )
        return head + CHECKSUM.pack(crc32(head))


def decode_segment_header(data: bytes) -> SegmentHeader | None:
    """The header in the first bytes of a segment file; None when it is not intact."""
    head = data[: SEGMENT_HEADER_BYTES - 4]
    if len(data) < SEGMENT_HEADER_BYTES or head[:8] != SEGMENT_MAGIC:
        return None
    if CHECKSUM.unpack_from(data, SEGMENT_HEADER_BYTES - 4)[0] != crc32(head):
        return None
    return SegmentHeader(*SEGMENT_HEADER.unpack(head)[1:-1])


class BlockHeader(msgspec.Struct, frozen=True, gc=False):
    """What stands in front of a block's columns and records.

    `durable_sequence` is the newest sequence that was known to be synced when the block was
    written: a block at or below it that does not check is damage, never a torn write.
    `first_revision` and `last_revision` are those of its records.
    """

    version: int
    kind: int
    flags: int
    segment_id: int
    sequence: int
    durable_sequence: int
    first_revision: int
    last_revision: int
    time_ms: int
    record_count: int
    meta_bytes: int
    body_bytes: int
    meta_crc: int
    body_crc: int

    @property
    def block_bytes(self) -> int:
        """The length of the whole block."""
        return BLOCK_HEADER_BYTES + self.meta_bytes + self.body_bytes

    def encode(self) -> bytes:
        """The header's 80 bytes."""
        head = BLOCK_HEADER.pack(
            BLOCK_MAGIC,
            self.version,
            self.kind,
            self.flags,
            self.segment_id,
            self.sequence,
            self.durable_sequence,
            self.first_revision,
            self.last_revision,
            self.time_ms,
            self.record_count,
            self.meta_bytes,
            self.body_bytes,
            self.meta_crc,
            self.body_crc,
        )
        return head + CHECKSUM.pack(crc32(head))


def decode_block_header(data: bytes | memoryview, offset: int = 0) -> BlockHeader | None:
    """The header at `offset` of `data`; None when there is no intact one."""
    end = offset + BLOCK_HEADER_BYTES
    if len(data) < end or data[offset : offset + 4] != BLOCK_MAGIC:
        return None
    if CHECKSUM.unpack_from(data, end - 4)[0] != crc32(data[offset : end - 4]):
        return None
    return BlockHeader(*BLOCK_HEADER.unpack_from(data, offset)[1:])


NoteItem = tuple[int, str, bytes | None]
"""Kind, name, and what is kept under them; None forgets it."""


class Columns(msgspec.Struct, array_like=True, gc=False):
    """What a block says about its records, one list per member.

    `scopes`, `workers`, `functions`, `depths` and `causes` may hold one item that stands for all.
    None stands for: all set (`kinds`), `first_revision` and counting (`revisions`), empty (others).
    `notes` are no records: what is kept beside the data, all of it in a segment's first block.
    """

    keys: list[str]
    scopes: list[str]
    lengths: list[int]
    previous: list[int]
    kinds: bytes | None = None
    revisions: list[int] | None = None
    workers: list[str] | None = None
    functions: list[str] | None = None
    depths: list[int] | None = None
    causes: list[str] | None = None
    idempotency_keys: list[str | None] | None = None
    idempotency_hashes: list[bytes | None] | None = None
    notes: list[NoteItem] | None = None

    def revision_list(self, first_revision: int) -> Sequence[int]:
        """The revision of each record."""
        if self.revisions is not None:
            return self.revisions
        return range(first_revision, first_revision + len(self.keys))

    def offsets(self) -> list[int]:
        """Where each record begins in the body; one more item says where the last one ends."""
        sizes = [length + RECORD_PREFIX_BYTES for length in self.lengths]
        return list(accumulate(sizes, initial=0))

    def spread(self, column: list[T] | None, default: T) -> list[T]:
        """One item per record, whatever the column was shortened to."""
        if column is None:
            return [default] * len(self.keys)
        return column * len(self.keys) if len(column) == 1 else column


class Payload(msgspec.Struct, frozen=True, gc=False):
    """A block without its header: what the log needs to place it."""

    meta: bytes
    body: bytes
    record_count: int
    first_revision: int
    last_revision: int
    time_ms: int

    @property
    def block_bytes(self) -> int:
        """The length of the whole block."""
        return BLOCK_HEADER_BYTES + len(self.meta) + len(self.body)


_WORKER, _FUNCTION, _DEPTH = map(attrgetter, ("worker", "function", "depth"))

_encode = msgspec.msgpack.Encoder().encode
_decode_columns = msgspec.msgpack.Decoder(Columns).decode


def encode_notes(notes: list[NoteItem], revision: int, time_ms: int) -> Payload:
    """A block of notes alone, behind the change with a revision."""
    meta = _encode(Columns([], [], [], [], notes=notes))
    return Payload(meta, b"", 0, revision + 1, revision, time_ms)


def encode_changes(
    changes: Sequence[Change], notes: list[NoteItem] | None = None
) -> tuple[Payload, list[int]]:
    """A batch as the payload of one block, and the lengths of its records' values."""
    columns = Columns([], [], [], [], notes=notes or None)
    keys, lengths, previous = columns.keys, columns.lengths, columns.previous
    scopes: list[str] = []
    origins: list[Origin] = []
    parts: list[bytes] = []
    pack, checksum = RECORD_TAIL.pack, CHECKSUM.pack
    for change in changes:
        entry, replaced = change.entry or _gravestone(change), change.replaced
        value = entry.value
        length = len(value)
        tail = pack(
            length,
            entry.revision,
            entry.created_revision,
            entry.created_at_ms,
            entry.updated_at_ms,
            entry.expires_at_ms,
        )
        parts += (checksum(crc32(value, crc32(tail))), tail, value)
        keys.append(change.key)
        scopes.append(change.scope)
        lengths.append(length)
        previous.append(0 if replaced is None else replaced.revision)
        origins.append(change.origin)
    columns.scopes = shortened(scopes)
    if 0 in lengths:  # no JSON text is empty
        _tell_deletes(columns, changes)
    _tell_origins(columns, origins)
    first, last = changes[0], changes[-1]
    payload = Payload(
        _encode(columns),
        b"".join(parts),
        len(lengths),
        first.revision,
        last.revision,
        last.timestamp_ms,
    )
    return payload, lengths


def _gravestone(change: Change) -> Entry:
    """What stands in the record of a delete: when the key that it ended was made, if there was."""
    replaced, now_ms = change.replaced, change.timestamp_ms
    if replaced is None:
        return Entry(b"", change.revision, 0, 0, now_ms)
    return Entry(b"", change.revision, replaced.created_revision, replaced.created_at_ms, now_ms)


def _tell_deletes(columns: Columns, changes: Sequence[Change]) -> None:
    """Say which records are deletes, and what caused them: nothing else has a cause."""
    kinds = bytes([DELETE if change.entry is None else SET for change in changes])
    columns.kinds = kinds if any(kinds) else None
    causes = [change.cause for change in changes]
    columns.causes = shortened(causes) if any(causes) else None


def _tell_origins(columns: Columns, origins: list[Origin]) -> None:
    """Say who asked for the records: few workers in most blocks, each with one origin for all."""
    distinct = dict(zip(map(id, origins), origins, strict=True))
    if len(distinct) > 1:
        columns.workers = _of_origins(_WORKER, origins, distinct.values())
        columns.functions = _of_origins(_FUNCTION, origins, distinct.values())
        columns.depths = _of_origins(_DEPTH, origins, distinct.values())
    elif (origin := origins[0]) != ANONYMOUS:
        columns.workers = [origin.worker]
        columns.functions = [origin.function]
        columns.depths = [origin.depth]


def _of_origins(
    member: Callable[[Origin], T], origins: list[Origin], distinct: Iterable[Origin]
) -> list[T]:
    """One member of many origins, of which few are distinct."""
    column = shortened(list(map(member, distinct)))
    return column if len(column) == 1 else list(map(member, origins))


def shortened(column: list[T]) -> list[T]:
    """One item, if it stands for all; else the column itself."""
    first = column[0]
    return [first] if column.count(first) == len(column) else column


def encode_columns(columns: Columns) -> bytes:
    """The columns as they stand in a block."""
    return _encode(columns)


def decode_columns(data: bytes | memoryview) -> Columns | None:
    """The columns of a block; None when they are not what this version writes."""
    try:
        columns = _decode_columns(data)
    except msgspec.MsgspecError:
        return None
    count = len(columns.keys)
    per_record = (columns.lengths, columns.previous, columns.kinds, columns.revisions)
    if any(column is not None and len(column) != count for column in per_record):
        return None
    return columns


def record_bytes(value_bytes: int) -> int:
    """What a record with a value of that length takes in a block's body."""
    return RECORD_PREFIX_BYTES + value_bytes


def decode_record(data: bytes | memoryview, offset: int = 0) -> Entry | None:
    """The entry whose record begins at `offset`; None when it is cut off or does not check."""
    start = offset + RECORD_PREFIX_BYTES
    if len(data) < start:
        return None
    crc, length, revision, created, created_at, updated_at, expires_at = RECORD_PREFIX.unpack_from(
        data, offset
    )
    value = bytes(data[start : start + length])
    if len(value) != length or crc != crc32(value, crc32(data[offset + 4 : start])):
        return None
    return Entry(value, revision, created, created_at, updated_at, expires_at)
