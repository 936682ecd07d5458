"""Merging segments of the base: a run of neighbours becomes one file without superseded records.

A function of files only: it writes temporary files, the server gives them their names. It runs in
a process of its own (`compactor.py`), so that it costs the event loop nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from itertools import chain
from pathlib import Path
from typing import Literal, TypeVar

import msgspec
from isal.isal_zlib import crc32

from iii_state.stores.disk.blocks import Block, walk
from iii_state.stores.disk.files import Files
from iii_state.stores.disk.format import (
    DELETE,
    FORMAT_VERSION,
    MERGED,
    RECORDS,
    SEAL,
    SEGMENT_HEADER_BYTES,
    BlockHeader,
    Columns,
    SegmentHeader,
    decode_segment_header,
    encode_columns,
    shortened,
)
from iii_state.stores.disk.hints import HINT_SUFFIX, Digest, Group, decode_hint, encode_hint, scan
from iii_state.stores.disk.index import place_at
from iii_state.stores.disk.segment import Segment, damaged

T = TypeVar("T")

BLOCK_BYTES = 1 << 20
BLOCK_RECORDS = 4096
"""A merged block is written once it has that many bytes or records."""

SYNC_BYTES = 4 << 20
"""A merge syncs that often, so that no commit beside it waits for much of its output."""


class Job(msgspec.Struct, frozen=True):
    """One merge: the run, the base segments behind it, and the names of the two files to write.

    Without a run, only the hint of `target` is written.
    """

    directory: str
    run: list[str]
    later: list[str]
    base_revision: int
    created_at_ms: int
    tag: int
    target: str
    hint: str


class Answer(msgspec.Struct, frozen=True):
    """What became of a job in the other process, and what was wrong if it was not done.

    `damaged` is a segment that cannot be read; what else failed may go well another time.
    """

    outcome: Literal["done", "failed", "damaged"]
    message: str = ""


def perform(job: Job, files: Files) -> None:
    """Write the files that a job asks for, durably, under their temporary names.

    Raises:
        OSError, StateError: they cannot be written, or a segment cannot be read.
    """
    directory = Path(job.directory)
    if not job.run:
        with _Source(files, directory / job.target) as source:
            digest = source.digest()
            _write_hint(files, directory / job.hint, encode_hint(source.segment, digest))
        return
    with ExitStack() as opened:
        sources = [
            opened.enter_context(_Source(files, directory / name, slot))
            for slot, name in enumerate(job.run)
        ]
        newest = _newest(sources)
        for name in job.later:
            _drop_superseded(newest, files, directory / name)
        _Merge(files, job, sources).write(newest)


class _Source:
    """A sealed segment, opened to be read."""

    def __init__(self, files: Files, path: Path, slot: int = 0) -> None:
        self._files = files
        with ExitStack() as undo:
            fd = files.open(path, write=False)
            undo.callback(files.close, fd)
            header = decode_segment_header(files.read(fd, SEGMENT_HEADER_BYTES, 0))
            if header is None:
                raise damaged(path, 0, "the header of the segment", "the other segments")
            self.segment = Segment(slot, path, fd, header)
            self.segment.file_bytes = files.size(fd)
            undo.pop_all()

    def blocks(self) -> Iterator[Block]:
        """All blocks with records.

        Raises:
            StoreDamaged: not all of them can be read.
        """
        segment = self.segment
        at = SEGMENT_HEADER_BYTES
        for block in walk(
            self._files, segment.fd, segment.path, at, segment.file_bytes, segment.header.first_id
        ):
            if isinstance(block, BlockHeader):
                segment.last_sequence = block.sequence
                segment.is_sealed = True
                return
            at = block.offset + block.header.block_bytes
            yield block
        raise damaged(segment.path, at, "the block there", "the blocks before it")

    def groups(self) -> Iterator[Group]:
        """The newest record of every key: from the hint, or the segment itself if that is missing.

        Raises:
            StoreDamaged: there is no hint, and the segment cannot be read.
        """
        segment = self.segment
        try:
            data = self._files.read_file(segment.path.with_suffix(HINT_SUFFIX))
        except OSError:
            data = b""
        hint = decode_hint(data, segment.header, segment.file_bytes)
        chunks = hint.chunks() if hint is not None else self.digest().chunks()
        return chain.from_iterable(chunks)

    def digest(self) -> Digest:
        """The newest record of every key, from the segment itself.

        Raises:
            StoreDamaged: not all of it can be read.
        """
        digest = scan(self._files, self.segment)
        self.require_whole()
        return digest

    def require_whole(self) -> None:
        """Refuse a segment that does not end with its seal."""
        if not self.segment.is_sealed:
            raise damaged(self.segment.path, self.segment.end, "the block there", "those before")

    def close(self) -> None:
        """Close the file."""
        self._files.close(self.segment.fd)

    def __enter__(self) -> _Source:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


Newest = dict[str, dict[str, int]]
"""The place of the newest record of each key, by scope; the slot is the segment's in the run."""


def _newest(sources: list[_Source]) -> Newest:
    """Where the newest record of each key of a run is."""
    newest: Newest = {}
    for source in sources:
        slot = source.segment.slot
        for group in source.groups():
            places = [place_at(slot, offset) for offset in group.offsets]
            newest.setdefault(group.scope, {}).update(zip(group.keys, places, strict=True))
    return newest


def _drop_superseded(newest: Newest, files: Files, path: Path) -> None:
    """Drop the keys that a later segment of the base has a record of."""
    with _Source(files, path) as source:
        for group in source.groups():
            keys = newest.get(group.scope)
            if keys:
                for key in group.keys:
                    keys.pop(key, None)


class _Merge:
    """The file that a run becomes, while it is written."""

    def __init__(self, files: Files, job: Job, sources: list[_Source]) -> None:
        self._files = files
        self._job = job
        self._sources = sources
        self._path = Path(job.directory) / job.target
        self._pending: list[tuple[Block, list[int]]] = []
        self._pending_bytes = 0
        self._pending_records = 0
        self._unsynced = 0
        self._digest = Digest()
        first, last = sources[0].segment.header, sources[-1].segment.header
        self._header = SegmentHeader(
            FORMAT_VERSION,
            MERGED,
            job.tag,
            first.first_id,
            last.last_id,
            job.base_revision,
            first.first_sequence,
            job.created_at_ms,
            first.store_id,
        )

    def write(self, newest: Newest) -> None:
        """Copy what survives, seal the file, and write its hint beside it."""
        fd = self._files.open(self._path, create=True)
        try:
            self._segment = Segment(0, self._path, fd, self._header)
            self._files.truncate(fd, 0)
            self._files.write(fd, self._header.encode(), 0)
            keeps_deletes = self._header.first_id > 1
            for source in self._sources:
                slot = source.segment.slot
                for block in source.blocks():
                    self._add(block, _surviving(block, slot, newest, keeps_deletes))
            self._flush()
            last = self._sources[-1].segment.last_sequence
            self._write_block(SEAL, last, 0, 0, 0, 0, b"", b"")
            self._files.sync(fd)
        finally:
            self._files.close(fd)
        hint = encode_hint(self._segment, self._digest)
        _write_hint(self._files, Path(self._job.directory) / self._job.hint, hint)

    def _add(self, block: Block, survivors: list[int]) -> None:
        if not survivors:
            return
        self._pending.append((block, survivors))
        self._pending_records += len(survivors)
        self._pending_bytes += block.header.body_bytes
        if self._pending_bytes >= BLOCK_BYTES or self._pending_records >= BLOCK_RECORDS:
            self._flush()

    def _flush(self) -> None:
        """Write the survivors gathered so far as one block."""
        if not self._pending:
            return
        columns = _joined(self._pending)
        parts = []
        for block, survivors in self._pending:
            offsets = block.columns.offsets()
            parts += [block.body[offsets[at] : offsets[at + 1]] for at in survivors]
        body = b"".join(parts)
        revisions = columns.revisions
        assert revisions is not None, "a merged block names its revisions"
        newest = self._pending[-1][0].header
        header = self._write_block(
            RECORDS,
            newest.sequence,
            revisions[0],
            revisions[-1],
            newest.time_ms,
            len(revisions),
            encode_columns(columns),
            body,
        )
        self._digest.add(Block(self._segment.end - header.block_bytes, header, columns, body))
        self._pending = []
        self._pending_bytes = self._pending_records = 0

    def _write_block(
        self,
        kind: int,
        sequence: int,
        first_revision: int,
        last_revision: int,
        time_ms: int,
        record_count: int,
        meta: bytes,
        body: bytes,
    ) -> BlockHeader:
        header = BlockHeader(
            FORMAT_VERSION,
            kind,
            0,
            self._header.first_id,
            sequence,
            0,
            first_revision,
            last_revision,
            time_ms,
            record_count,
            len(meta),
            len(body),
            crc32(meta),
            crc32(body),
        )
        segment = self._segment
        self._files.write(segment.fd, header.encode() + meta + body, segment.end)
        segment.note_block(header, segment.end)
        self._unsynced += header.block_bytes
        if self._unsynced >= SYNC_BYTES:
            self._files.sync(segment.fd)
            self._unsynced = 0
        return header


def _surviving(block: Block, slot: int, newest: Newest, keeps_deletes: bool) -> list[int]:
    columns = block.columns
    scopes = columns.spread(columns.scopes, "")
    kinds = block.kinds()
    start = place_at(slot, block.body_offset)
    offsets = columns.offsets()[:-1]
    return [
        at
        for at, (scope, key, offset) in enumerate(zip(scopes, columns.keys, offsets, strict=True))
        if newest[scope].get(key) == start + offset and (keeps_deletes or kinds[at] != DELETE)
    ]


def _joined(pending: list[tuple[Block, list[int]]]) -> Columns:
    """The columns of the records that survive, one behind the other."""
    scopes = _gathered(pending, lambda columns: columns.scopes, "")
    assert scopes is not None, "every block names its scopes"
    kinds = bytes([block.kinds()[at] for block, survivors in pending for at in survivors])
    return Columns(
        [block.columns.keys[at] for block, survivors in pending for at in survivors],
        scopes,
        [block.columns.lengths[at] for block, survivors in pending for at in survivors],
        [block.columns.previous[at] for block, survivors in pending for at in survivors],
        kinds if any(kinds) else None,
        [revision for block, survivors in pending for revision in _revisions(block, survivors)],
        _gathered(pending, lambda columns: columns.workers, ""),
        _gathered(pending, lambda columns: columns.functions, ""),
        _gathered(pending, lambda columns: columns.depths, 0),
        _gathered(pending, lambda columns: columns.causes, ""),
        _gathered(pending, lambda columns: columns.idempotency_keys, None),
        _gathered(pending, lambda columns: columns.idempotency_hashes, None),
    )


def _revisions(block: Block, survivors: list[int]) -> list[int]:
    revisions = block.columns.revision_list(block.header.first_revision)
    return [revisions[at] for at in survivors]


def _gathered(
    pending: list[tuple[Block, list[int]]],
    column: Callable[[Columns], list[T] | None],
    default: T,
) -> list[T] | None:
    if all(column(block.columns) is None for block, _ in pending):
        return None
    gathered: list[T] = []
    for block, survivors in pending:
        items = block.columns.spread(column(block.columns), default)
        gathered += [items[at] for at in survivors]
    return shortened(gathered)


def _write_hint(files: Files, path: Path, data: bytes) -> None:
    fd = files.open(path, create=True)
    try:
        files.truncate(fd, 0)
        files.write(fd, data, 0)
        files.sync(fd)
    finally:
        files.close(fd)
