"""Reading blocks back from a segment file: one behind the other, or whatever is left of them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec
from isal.isal_zlib import crc32

from iii_state.errors import StoreTooNew
from iii_state.stores.disk.files import Files
from iii_state.stores.disk.format import (
    BLOCK_HEADER_BYTES,
    BLOCK_MAGIC,
    DELETE,
    FORMAT_VERSION,
    RECORD_PREFIX_BYTES,
    RECORDS,
    BlockHeader,
    Columns,
    decode_block_header,
    decode_columns,
)

WINDOW_BYTES = 1 << 20
"""What a walk over a file reads at once."""


class Block(msgspec.Struct, gc=False):
    """A block as read: its place in the file, and its records."""

    offset: int
    header: BlockHeader
    columns: Columns
    body: bytes

    @property
    def body_offset(self) -> int:
        """Where the records begin in the file."""
        return self.offset + BLOCK_HEADER_BYTES + self.header.meta_bytes

    def kinds(self) -> bytes:
        """The kind of each record."""
        return self.columns.kinds or bytes(len(self.columns.keys))


class Window:
    """A file read in large pieces, in order of offset."""

    def __init__(self, files: Files, fd: int, end: int) -> None:
        self._files = files
        self._fd = fd
        self._end = end
        self._start = 0
        self._data = b""

    def read(self, size: int, offset: int) -> bytes:
        """Up to `size` bytes at `offset`, fewer only at the end."""
        at = offset - self._start
        if at < 0 or at + size > len(self._data):
            wanted = min(max(size, WINDOW_BYTES), max(self._end - offset, 0))
            self._data = self._files.read(self._fd, wanted, offset)
            self._start, at = offset, 0
        return self._data[at : at + size]


def walk(
    files: Files, fd: int, path: Path, start: int, end: int, segment_id: int
) -> Iterator[Block | BlockHeader]:
    """The blocks of a file from `start`, up to the first that does not check, or the end.

    Yields a `Block` for one with records, the bare header for a seal.
    """
    window = Window(files, fd, end)
    offset = start
    while True:
        header = decode_block_header(window.read(BLOCK_HEADER_BYTES, offset))
        if header is None or header.segment_id != segment_id:
            return
        payload = window.read(header.block_bytes - BLOCK_HEADER_BYTES, offset + BLOCK_HEADER_BYTES)
        block = read_block(header, payload, offset, path)
        if block is None:
            return
        yield block
        offset += header.block_bytes


def read_block(
    header: BlockHeader, payload: bytes, offset: int, path: Path
) -> Block | BlockHeader | None:
    """A block from its header and what follows it; None when it does not check.

    Raises:
        StoreTooNew: it holds what this version does not know.
    """
    if len(payload) != header.meta_bytes + header.body_bytes:
        return None
    if crc32(memoryview(payload)[header.meta_bytes :]) != header.body_crc:
        return None
    if header.kind != RECORDS:
        return header
    columns = read_columns(header, payload[: header.meta_bytes], path)
    if columns is None:
        return None
    return Block(offset, header, columns, payload[header.meta_bytes :])


def read_columns(header: BlockHeader, meta: bytes, path: Path) -> Columns | None:
    """The columns of a block; None when they do not check.

    Raises:
        StoreTooNew: they hold what this version does not know.
    """
    if header.version > FORMAT_VERSION:
        raise _too_new(path, f"a block in format {header.version}", header.version)
    if crc32(meta) != header.meta_crc:
        return None
    columns = decode_columns(meta)
    if columns is None or len(columns.keys) != header.record_count:
        return None
    if sum(columns.lengths) + RECORD_PREFIX_BYTES * header.record_count != header.body_bytes:
        return None
    kind = max(columns.kinds, default=0) if columns.kinds is not None else 0
    if kind > DELETE:
        raise _too_new(path, f"records of kind {kind}", kind)
    return columns


def find_block(
    files: Files, fd: int, start: int, end: int, segment_id: int, above_sequence: int
) -> Iterator[tuple[int, BlockHeader]]:
    """Intact block headers anywhere between two offsets, with theirs: what follows damage."""
    offset = start
    while offset < end:
        # One header more than a window, so that none is cut in two.
        data = files.read(fd, WINDOW_BYTES + BLOCK_HEADER_BYTES - 1, offset)
        at = data.find(BLOCK_MAGIC)
        while 0 <= at < WINDOW_BYTES:
            header = decode_block_header(data, at)
            if (
                header is not None
                and header.segment_id == segment_id
                and header.sequence > above_sequence
                and offset + at + header.block_bytes <= end
            ):
                yield offset + at, header
            at = data.find(BLOCK_MAGIC, at + 1)
        offset += WINDOW_BYTES


def written_bytes(files: Files, fd: int, start: int, end: int) -> int:
    """How much of what follows `start` is more than zeros written ahead."""
    written = 0
    for offset in range(start, end, WINDOW_BYTES):
        used = len(files.read(fd, WINDOW_BYTES, offset).rstrip(b"\0"))
        if used:
            written = offset + used - start
    return written


def _too_new(path: Path, what: str, found: int) -> StoreTooNew:
    return StoreTooNew(
        f"{path} holds {what}, which a newer version wrote; install that version",
        found=found,
        supported=FORMAT_VERSION,
    )
