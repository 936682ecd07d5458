"""Hint files: which key's newest record in a sealed segment is where, without the values.

A hint is a shortcut, never the truth: one that is missing, damaged or not of this segment is made
again from the segment. It is a magic number, then frames (length, checksum, msgpack): a head, then
chunks of groups of keys, so that it can be taken in by slices.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

import msgspec
from isal.isal_zlib import crc32

from iii_state.stores.disk.blocks import Block, walk
from iii_state.stores.disk.files import Files
from iii_state.stores.disk.format import (
    DELETE,
    RECORD_PREFIX_BYTES,
    Columns,
    SegmentHeader,
)
from iii_state.stores.disk.segment import Segment, Signposts

HINT_SUFFIX = ".hint"
HINT_MAGIC = b"iiiHNT\r\n"
HINT_VERSION = 1
CHUNK_KEYS = 1000
"""Keys in a chunk. A chunk is taken into the index in one turn of the loop."""

DELETED = -1
"""Stands for the length of the value in a record that deletes."""

_FRAME = struct.Struct("<II")


class HintHead(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """What a hint says about its segment."""

    version: int
    segment_header: bytes
    end: int
    last_sequence: int
    first_revision: int
    last_revision: int
    record_bytes: int
    tombstone_bytes: int
    signpost_revisions: list[int]
    signpost_offsets: list[int]
    chunks: int


class Group(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """Keys of one scope: where their newest records are, and how long the values."""

    scope: str
    keys: list[str]
    offsets: list[int]
    lengths: list[int]


class Digest:
    """The newest record of every key in one segment, gathered block by block; and the notes."""

    def __init__(self) -> None:
        self._scopes: dict[str, dict[str, tuple[int, int]]] = {}
        self.notes: dict[tuple[int, str], bytes] = {}

    def add(self, block: Block) -> None:
        """Take in the next block."""
        columns = block.columns
        note(self.notes, columns)
        kinds = block.kinds()
        base = block.body_offset
        scopes = columns.spread(columns.scopes, "")
        former_scope, keys = None, {}
        for scope, key, offset, length, kind in zip(
            scopes, columns.keys, columns.offsets(), columns.lengths, kinds, strict=False
        ):
            if scope != former_scope:
                former_scope = scope
                keys = self._scopes.setdefault(scope, {})
            keys[key] = (base + offset, DELETED if kind == DELETE else length)

    def chunks(self) -> Iterator[list[Group]]:
        """All keys, in chunks."""
        chunk: list[Group] = []
        room = CHUNK_KEYS
        for scope, keys in self._scopes.items():
            names = list(keys)
            places = list(keys.values())
            at = 0
            while at < len(names):
                to = min(at + room, len(names))
                offsets = [offset for offset, _ in places[at:to]]
                lengths = [length for _, length in places[at:to]]
                chunk.append(Group(scope, names[at:to], offsets, lengths))
                room -= to - at
                at = to
                if not room:
                    yield chunk
                    chunk, room = [], CHUNK_KEYS
        if chunk:
            yield chunk


def note(notes: dict[tuple[int, str], bytes], columns: Columns) -> None:
    """Bring notes up to date with a block."""
    for kind, name, payload in columns.notes or ():
        if payload is None:
            notes.pop((kind, name), None)
        else:
            notes[kind, name] = payload


def scan(files: Files, segment: Segment) -> Digest:
    """Read a segment up to its seal, or the first block that does not check, noting its blocks."""
    digest = Digest()
    header = segment.header
    for block in walk(
        files, segment.fd, segment.path, segment.end, segment.file_bytes, header.first_id
    ):
        found = block.header if isinstance(block, Block) else block
        expected = segment.last_sequence + 1
        if segment.is_sealed or found.sequence < expected:
            break
        if found.sequence > expected and not header.is_merged:
            break
        segment.note_block(found, segment.end)
        if isinstance(block, Block):
            digest.add(block)
    return digest


_encode = msgspec.msgpack.Encoder().encode
_decode_head = msgspec.msgpack.Decoder(HintHead).decode
_decode_chunk = msgspec.msgpack.Decoder(list[Group]).decode


def encode_hint(segment: Segment, digest: Digest) -> bytes:
    """The hint of a sealed segment."""
    chunks = list(digest.chunks())
    head = HintHead(
        HINT_VERSION,
        segment.header.encode(),
        segment.end,
        segment.last_sequence,
        segment.first_revision,
        segment.last_revision,
        segment.record_bytes,
        RECORD_PREFIX_BYTES
        * sum(group.lengths.count(DELETED) for chunk in chunks for group in chunk),
        segment.signposts.revisions,
        segment.signposts.offsets,
        len(chunks),
    )
    return HINT_MAGIC + b"".join(map(_framed, [_encode(head), *map(_encode, chunks)]))


def _framed(data: bytes) -> bytes:
    return _FRAME.pack(len(data), crc32(data)) + data


class Hint:
    """A hint as read: its head, and its chunks, decoded one by one."""

    def __init__(self, head: HintHead, frames: list[memoryview]) -> None:
        self.head = head
        self._frames = frames

    def chunks(self) -> Iterator[list[Group]]:
        """Decode chunk after chunk. They were checked before."""
        return map(_decode_chunk, self._frames)


def decode_hint(data: bytes, header: SegmentHeader, file_bytes: int) -> Hint | None:
    """The hint of the segment with that header; None when it is damaged or another's."""
    if data[: len(HINT_MAGIC)] != HINT_MAGIC:
        return None
    frames = _frames(data)
    if not frames:
        return None
    try:
        head = _decode_head(frames[0])
    except msgspec.MsgspecError:
        return None
    if head.version != HINT_VERSION or head.segment_header != header.encode():
        return None
    if head.chunks != len(frames) - 1 or head.end > file_bytes:
        return None
    return Hint(head, frames[1:])


def _frames(data: bytes) -> list[memoryview]:
    view = memoryview(data)
    frames: list[memoryview] = []
    at = len(HINT_MAGIC)
    while at < len(data):
        if at + _FRAME.size > len(data):
            return []
        size, crc = _FRAME.unpack_from(data, at)
        frame = view[at + _FRAME.size : at + _FRAME.size + size]
        if len(frame) != size or crc32(frame) != crc:
            return []
        frames.append(frame)
        at += _FRAME.size + size
    return frames


def apply_head(segment: Segment, head: HintHead) -> None:
    """Take what a hint says about its segment."""
    segment.end = head.end
    segment.last_sequence = head.last_sequence
    segment.first_revision = head.first_revision
    segment.last_revision = head.last_revision
    segment.record_bytes = head.record_bytes
    segment.tombstone_bytes = head.tombstone_bytes
    segment.is_sealed = True
    signposts = Signposts()
    signposts.revisions = head.signpost_revisions
    signposts.offsets = head.signpost_offsets
    segment.signposts = signposts
