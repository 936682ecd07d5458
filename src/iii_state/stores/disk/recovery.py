"""Opening: from the files of a directory to segments, index and the log's end.

Sealed segments give their keys through hints; the last one is read whole. A block that does not
check is damage when a later one does, or when the last stop was orderly; otherwise it was torn by
a crash: its bytes are kept aside in a `.torn` file and the log goes on before it.
"""

from __future__ import annotations

import logging
from itertools import pairwise
from pathlib import Path

from iii_state.errors import StoreDamaged
from iii_state.stores.disk.blocks import Block, find_block, walk, written_bytes
from iii_state.stores.disk.directory import (
    RELAXED,
    SEGMENT_SUFFIX,
    STOPPED,
    TEMPORARY_SUFFIX,
    TORN_SUFFIX,
    Stopped,
    read_stopped,
    require_version,
    segment_name,
    segment_range,
)
from iii_state.stores.disk.files import Files
from iii_state.stores.disk.format import (
    RECORD_PREFIX_BYTES,
    SEGMENT_HEADER_BYTES,
    decode_segment_header,
    record_bytes,
)
from iii_state.stores.disk.hints import (
    DELETED,
    HINT_SUFFIX,
    Digest,
    Group,
    Hint,
    apply_head,
    decode_hint,
    encode_hint,
    note,
    scan,
)
from iii_state.stores.disk.index import SHARDS, Index, ScopeIndex, slot_of
from iii_state.stores.disk.segment import Segment, Segments, damaged

log = logging.getLogger("iii_state.stores.disk")

RELAXED_GAP = 1 << 20
"""Revisions skipped after a crash of a store that does not wait for syncs.

Changes acknowledged but lost had revisions that somebody may have seen. No more than half as many
are ever appended without a sync in between.
"""


class Recovery:
    """One opening. After `run`: the segments in order, the index, where revisions go on."""

    def __init__(self, directory: Path, files: Files, store_id: bytes) -> None:
        self.segments = Segments(files)
        self.index = Index()
        self.revision = 0
        self.next_revision = 1
        self.sequence = 0
        self.notes: dict[tuple[int, str], bytes] = {}
        self.stopped: Stopped | None = None
        self._directory = directory
        self._files = files
        self._store_id = store_id
        self._deleted: dict[str, dict[str, int]] = {}

    def run(self) -> None:
        """Read the directory.

        Raises:
            StoreDamaged: it is not what was written.
            StoreTooNew: a newer version wrote a part of it.
        """
        names = self._files.names(self._directory)
        ranges = surviving_ranges(self._directory, names)
        self.stopped = read_stopped(self._directory, self._files) if STOPPED in names else None
        try:
            sources = [self._open(first, last) for first, last in ranges]
            self._finish_order(names)
            for segment, source in zip(
                reversed(self.segments.ordered), reversed(sources), strict=True
            ):
                self._take_in(segment, source)
            self._read_notes(sources)
            self._remove_leftovers(names, ranges)
        except BaseException:
            self.segments.close()
            raise
        self._deleted.clear()

    def _remove_leftovers(self, names: list[str], ranges: list[tuple[int, int]]) -> None:
        """Delete what compaction or a crash left: superseded and temporary files."""
        last = ranges[-1][1] if ranges else 0
        kept = {segment_name(*span) for span in ranges}
        following = segment_name(last + 1, last + 1) + TEMPORARY_SUFFIX
        for name in names:
            is_superseded = segment_range(name) is not None and name not in kept
            is_lone_hint = (
                segment_range(name, HINT_SUFFIX) is not None
                and name.removesuffix(HINT_SUFFIX) + SEGMENT_SUFFIX not in kept
            )
            is_temporary = name.endswith(TEMPORARY_SUFFIX) and name != following
            if is_superseded or is_lone_hint or is_temporary:
                self._files.unlink(self._directory / name)

    # -- one segment ----------------------------------------------------------------------------

    def _open(self, first: int, last: int) -> Hint | Digest:
        path = self._directory / segment_name(first, last)
        fd = self._files.open(path)
        file_bytes = self._files.size(fd)
        header = decode_segment_header(self._files.read(fd, SEGMENT_HEADER_BYTES, 0))
        if header is None or (header.first_id, header.last_id) != (first, last):
            self._files.close(fd)
            raise damaged(path, 0, "the header of the segment", "the other segments")
        segment = self.segments.open(path, fd, header)
        require_version(header.version, path)
        if header.store_id != self._store_id:
            raise StoreDamaged(
                f"{path} belongs to another store; put back the file of this one",
                file=str(path),
                offset=0,
                readable="the other segments",
            )
        segment.file_bytes = file_bytes
        self.segments.ordered.append(segment)
        hint = self._read_hint(segment)
        if hint is not None:
            apply_head(segment, hint.head)
            return hint
        return scan(self._files, segment)

    def _read_hint(self, segment: Segment) -> Hint | None:
        try:
            data = self._files.read_file(segment.path.with_suffix(HINT_SUFFIX))
        except OSError:
            return None
        return decode_hint(data, segment.header, segment.file_bytes)

    # -- the order of segments ------------------------------------------------------------------

    def _finish_order(self, names: list[str]) -> None:
        ordered = self.segments.ordered
        for former, segment in pairwise(ordered):
            if not former.is_sealed:
                raise damaged(former.path, former.end, "the block there", _readable(former))
            if segment.header.first_sequence != former.last_sequence + 1:
                raise damaged(former.path, former.end, "the number of blocks", _readable(former))
        if not ordered or ordered[-1].is_sealed:
            self._require_next(names)
        else:
            self._finish_last(ordered[-1])
        if ordered:
            self.sequence = ordered[-1].last_sequence
            self.revision = max(segment.newest_revision for segment in ordered)
        self.next_revision = self.revision + 1
        if self.stopped is not None:
            self.next_revision = max(self.next_revision, self.stopped.next_revision)
        elif RELAXED in names:
            self.next_revision += RELAXED_GAP

    def _require_next(self, names: list[str]) -> None:
        """A sealed segment is followed by another one, unless the crash came just then."""
        last = self.segments.ordered[-1].header.last_id if self.segments.ordered else 0
        name = segment_name(last + 1, last + 1)
        if name + TEMPORARY_SUFFIX not in names:
            raise missing(self._directory / name)

    def _finish_last(self, segment: Segment) -> None:
        stopped = self.stopped
        if stopped is not None:
            is_whole = (
                (segment.path.name, segment.end, segment.last_sequence)
                == (stopped.segment, stopped.length, stopped.sequence)
            ) and segment.file_bytes == segment.end
            if not is_whole:
                raise damaged(segment.path, segment.end, "the end of the log", _readable(segment))
            return
        written = written_bytes(self._files, segment.fd, segment.end, segment.file_bytes)
        if not written:
            return
        for _, later in find_block(
            self._files,
            segment.fd,
            segment.end + 1,
            segment.file_bytes,
            segment.header.first_id,
            segment.last_sequence,
        ):
            # Written after the missing block was known to be on the device.
            if later.durable_sequence > segment.last_sequence:
                raise damaged(segment.path, segment.end, "the block there", _readable(segment))
        self._set_aside(segment, written)

    def _set_aside(self, segment: Segment, written: int) -> None:
        """Keep what a crash tore, and cut it off the log."""
        aside = segment.path.with_name(f"{segment.path.stem}-{segment.end}{TORN_SUFFIX}")
        self._files.write_file(aside, self._files.read(segment.fd, written, segment.end))
        self._files.truncate(segment.fd, segment.end)
        self._files.sync(segment.fd)
        segment.file_bytes = segment.end
        log.warning(
            "The last write before the crash was not complete, and was never acknowledged: its "
            "%d bytes at offset %d of %s were moved to %s",
            written,
            segment.end,
            segment.path,
            aside.name,
        )

    def _read_notes(self, sources: list[Hint | Digest]) -> None:
        """Take the notes from the newest segment that has a block: its first one holds them all."""
        for segment, source in zip(reversed(self.segments.ordered), reversed(sources), strict=True):
            if isinstance(source, Digest):
                self.notes = source.notes
            elif segment.end > SEGMENT_HEADER_BYTES:
                start, end = SEGMENT_HEADER_BYTES, segment.end
                blocks = walk(
                    self._files, segment.fd, segment.path, start, end, segment.header.first_id
                )
                for block in blocks:
                    if isinstance(block, Block):
                        note(self.notes, block.columns)
            if segment.end > SEGMENT_HEADER_BYTES:
                return

    # -- the index ------------------------------------------------------------------------------

    def _take_in(self, segment: Segment, source: Hint | Digest) -> None:
        """Add a segment's keys to the index, newest segment first: a key that is there is newer."""
        kept = segment.tombstone_bytes = 0
        for chunk in source.chunks():
            for group in chunk:
                kept += self._take_group(segment, group)
        # Superseded within the segment itself.
        if segment.record_bytes > kept:
            segment.kills[segment.slot] = segment.record_bytes - kept
        if segment.is_sealed and segment.file_bytes > segment.end:
            self._files.truncate(segment.fd, segment.end)
            segment.file_bytes = segment.end
        if segment.is_sealed and isinstance(source, Digest):
            self._write_hint(segment, source)

    def _write_hint(self, segment: Segment, digest: Digest) -> None:
        path = segment.path.with_suffix(HINT_SUFFIX)
        try:
            self._files.write_file(path, encode_hint(segment, digest))
        except OSError as error:
            log.warning("The hint %s was not written (%s); starts are slower", path, error.strerror)

    def _take_group(self, segment: Segment, group: Group) -> int:
        """Add keys that are not known yet; returns what the records of all of them take."""
        scope = self.index.scopes.get(group.scope) or ScopeIndex()
        deleted = self._deleted.get(group.scope) or {}
        scope.expect(len(group.keys))
        one, shards, base = scope.one, scope.shards, segment.slot << 32
        size = live = tombstones = 0
        for key, offset, length in zip(group.keys, group.offsets, group.lengths, strict=True):
            table = one if shards is None else shards[hash(key) % SHARDS]
            if length == DELETED or key in deleted:
                newer = table.get(key)
                slot = slot_of(newer) if isinstance(newer, int) else deleted.get(key)
                if slot is None:
                    deleted[key] = segment.slot
                    tombstones += 1
                    continue
            else:
                place = base | offset
                newer = table.setdefault(key, place)
                if newer is place:
                    live += 1
                    size += length
                    continue
                assert isinstance(newer, int), "nothing is resident before the start"
                slot = slot_of(newer)
            kills = self.segments.at(slot).kills
            kills[segment.slot] = kills.get(segment.slot, 0) + record_bytes(max(length, 0))
        segment.tombstone_bytes += tombstones * RECORD_PREFIX_BYTES
        if live:
            self.index.scopes[group.scope] = scope
            scope.keys += live
            scope.value_bytes += size
            self.index.keys += live
            self.index.value_bytes += size
        if deleted:
            self._deleted[group.scope] = deleted
        deletes = group.lengths.count(DELETED)
        return sum(group.lengths) + deletes + len(group.lengths) * RECORD_PREFIX_BYTES


def surviving_ranges(directory: Path, names: list[str]) -> list[tuple[int, int]]:
    """The ranges of the segment files that count, in order: without those that a merged one holds.

    Raises:
        StoreDamaged: a segment is missing.
    """
    spans = sorted(
        (span for span in map(segment_range, names) if span is not None),
        key=lambda span: (span[0], -span[1]),
    )
    ranges: list[tuple[int, int]] = []
    for first, last in spans:
        expected = ranges[-1][1] + 1 if ranges else 1
        if last < expected:
            continue
        if first != expected:
            raise missing(directory / segment_name(expected, expected))
        ranges.append((first, last))
    return ranges


def missing(path: Path) -> StoreDamaged:
    """The error for a segment that is not there."""
    return StoreDamaged(
        f"{path} is missing; put it back from a backup, or save what can be read with "
        f"`iii-state dump {path.parent}`",
        file=str(path),
        offset=0,
        readable="the other segments",
    )


def _readable(segment: Segment) -> str:
    return f"everything up to revision {segment.last_revision}"
