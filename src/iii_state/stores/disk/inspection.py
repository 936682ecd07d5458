"""Looking into a store offline: check every checksum, or dump what can be read of it.

Nothing is written. The lock is held meanwhile, so that no server changes the files.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import msgspec

from iii_state.errors import StoreDamaged, StoreForeign
from iii_state.stores.disk.blocks import Block
from iii_state.stores.disk.directory import (
    IDENTITY,
    STOPPED,
    TEMPORARY_SUFFIX,
    TORN_SUFFIX,
    Stopped,
    read_identity,
    read_stopped,
    refuse_foreign,
    require_version,
    segment_name,
    segment_range,
)
from iii_state.stores.disk.files import Files
from iii_state.stores.disk.format import (
    DELETE,
    FORMAT_VERSION,
    MERGED,
    RECORD_PREFIX,
    SEGMENT_HEADER_BYTES,
    SegmentHeader,
    decode_segment_header,
)
from iii_state.stores.disk.hints import HINT_SUFFIX, Digest, decode_hint
from iii_state.stores.disk.lock import locked
from iii_state.stores.disk.refusals import not_opened
from iii_state.stores.disk.salvage import Damage, Tail, bad_records, salvage
from iii_state.stores.disk.segment import Segment, read_entry

ADVICE = "name the data directory of a server of iii-state"
"""For whoever wants to look into something else."""


class FileReport(msgspec.Struct):
    """What one file of a store is, and what is wrong with it."""

    name: str
    bytes: int
    blocks: int = 0
    records: int = 0
    notes: list[str] = []
    damage: list[Damage] = []


class StoreReport(msgspec.Struct):
    """The result of `check_store`, file by file."""

    directory: str
    files: list[FileReport]
    revision: int = 0

    @property
    def damage(self) -> list[Damage]:
        """Everything that does not check, in order of files."""
        return [damage for file in self.files for damage in file.damage]

    @property
    def is_intact(self) -> bool:
        """Whether nothing is lost."""
        return all(damage.is_harmless for damage in self.damage)


class DumpedEntry(msgspec.Struct, frozen=True):
    """One key as it is dumped. The value is its JSON text."""

    scope: str
    key: str
    value: msgspec.Raw
    revision: int
    created_revision: int
    created_at_ms: int
    updated_at_ms: int
    expires_at_ms: int


def check_store(directory: Path, files: Files | None = None) -> StoreReport:
    """Verify every checksum of a store that no server is using.

    Raises:
        StoreLocked, StoreForeign, StoreNotWritable: it cannot be looked into.
        TooManyFiles: the system is short of descriptors.
        StoreTooNew: a newer version wrote it.
    """
    files = files or Files()
    with _opened(directory, files) as store:
        reports = [_check_segment(store, segment) for segment in store.segments]
        store.check_end()
        revision = max((segment.newest_revision for segment in store.segments), default=0)
        return StoreReport(str(directory), [*store.reports, *reports], revision)


def dump_store(directory: Path, files: Files | None = None) -> Iterator[DumpedEntry | Damage]:
    """The entries of a store that no server is using, and the damage that was met.

    Damage comes first. Of a key whose newest record is damaged, an older one may be dumped: its
    `revision` tells. Entries come by scope, in order of creation.

    Raises:
        StoreLocked, StoreForeign, StoreNotWritable, StoreTooNew, TooManyFiles: as `check_store`.
    """
    files = files or Files()
    with _opened(directory, files) as store:
        newest = _Newest()
        for segment in store.segments:
            for piece in store.pieces(segment):
                if isinstance(piece, Damage):
                    yield piece
                else:
                    bad = bad_records(piece, segment.path)
                    yield from bad.values()
                    newest.add(segment, piece, bad.keys())
        store.check_end()
        for report in store.reports:
            yield from report.damage
        yield from newest.entries(files)


def _check_segment(store: _Inspected, segment: Segment) -> FileReport:
    """Read a segment whole, and compare its hint with it."""
    report = FileReport(segment.path.name, segment.file_bytes)
    digest = Digest()
    for piece in store.pieces(segment):
        if isinstance(piece, Damage):
            report.damage.append(piece)
        else:
            report.blocks += 1
            report.records += piece.header.record_count
            report.damage += bad_records(piece, segment.path).values()
            digest.add(piece)
    store.check_hint(segment, digest)
    return report


class _Newest:
    """The newest readable record of every key: where it is, never its value."""

    def __init__(self) -> None:
        self._scopes: dict[str, dict[str, tuple[int, int, Segment]]] = {}

    def add(self, segment: Segment, block: Block, bad: Collection[int]) -> None:
        """Take in the next block, but for its bad records."""
        columns, kinds = block.columns, block.kinds()
        scopes = columns.spread(columns.scopes, "")
        offsets = columns.offsets()
        for at, key in enumerate(columns.keys):
            if at in bad:
                continue
            keys = self._scopes.setdefault(scopes[at], {})
            if kinds[at] == DELETE:
                keys.pop(key, None)
            else:
                created = RECORD_PREFIX.unpack_from(block.body, offsets[at])[3]
                keys[key] = (created, block.body_offset + offsets[at], segment)

    def entries(self, files: Files) -> Iterator[DumpedEntry]:
        """All entries, by scope, in order of creation."""
        for scope, keys in sorted(self._scopes.items()):
            places = [(created, offset, key) for key, (created, offset, _) in keys.items()]
            for _, offset, key in sorted(places):
                entry = read_entry(files, keys[key][2], offset)
                yield DumpedEntry(
                    scope,
                    key,
                    msgspec.Raw(entry.value),
                    entry.revision,
                    entry.created_revision,
                    entry.created_at_ms,
                    entry.updated_at_ms,
                    entry.expires_at_ms,
                )


@contextmanager
def _opened(directory: Path, files: Files) -> Iterator[_Inspected]:
    with ExitStack() as stack:
        try:
            names = files.names(directory)
            if IDENTITY not in names and not any(map(segment_range, names)):
                refuse_foreign(directory, names, ADVICE)
                raise StoreForeign(
                    f"{directory} holds no store; {ADVICE}", directory=str(directory), found=""
                )
            stack.enter_context(locked(directory, files))
            yield _Inspected(directory, files, names, stack)
        except OSError as error:
            raise not_opened(directory, error) from error


class _Inspected:
    """The files of a store, opened to be read, as far as they can be.

    `reports` are those of all files but the segments.
    """

    def __init__(self, directory: Path, files: Files, names: list[str], stack: ExitStack) -> None:
        self._directory = directory
        self._files = files
        self._names = names
        self._stack = stack
        self.reports: list[FileReport] = []
        self.segments: list[Segment] = []
        self._stopped: Stopped | None = None
        self._expected_id = 1
        self._check_notes()
        spans = (span for span in map(segment_range, names) if span is not None)
        for first, last in sorted(spans, key=lambda span: (span[0], -span[1])):
            self._open_segment(segment_name(first, last), first, last)

    def _report(self, name: str, *notes: str) -> FileReport:
        report = FileReport(name, self._size(name), notes=list(notes))
        self.reports.append(report)
        return report

    def _size(self, name: str) -> int:
        if name not in self._names:
            return 0
        fd = self._files.open(self._directory / name, write=False)
        try:
            return self._files.size(fd)
        finally:
            self._files.close(fd)

    def _check_notes(self) -> None:
        report = self._report(IDENTITY)
        try:
            read_identity(self._directory, self._files)
        except (OSError, StoreDamaged) as error:
            report.damage.append(Damage(IDENTITY, 0, report.bytes, str(error)))
        if STOPPED in self._names:
            report = self._report(STOPPED)
            self._stopped = read_stopped(self._directory, self._files)
            if self._stopped is None:
                what = "the record of the orderly stop is damaged; the next start does without"
                report.damage.append(Damage(STOPPED, 0, report.bytes, what, is_harmless=True))
        for name in self._names:
            if name.endswith(TORN_SUFFIX):
                self._report(name, "a torn write that a start has set aside")
            elif name.endswith(TEMPORARY_SUFFIX):
                self._report(name, "not finished when the server stopped")

    def _open_segment(self, name: str, first: int, last: int) -> None:
        if last < self._expected_id:
            self._report(name, "superseded by a merged segment; the next start removes it")
            return
        if first != self._expected_id:
            self._miss(first - 1)
        self._expected_id = last + 1
        path = self._directory / name
        fd = self._files.open(path, write=False)
        self._stack.callback(self._files.close, fd)
        header = decode_segment_header(self._files.read(fd, SEGMENT_HEADER_BYTES, 0))
        if header is None or (header.first_id, header.last_id) != (first, last):
            what = "the header of the segment is damaged"
            self._report(name).damage.append(Damage(name, 0, SEGMENT_HEADER_BYTES, what))
            header = SegmentHeader(FORMAT_VERSION, MERGED, 0, first, last, 0, 1, 0, b"")
        require_version(header.version, path)
        segment = Segment(len(self.segments), path, fd, header)
        segment.file_bytes = self._files.size(fd)
        self.segments.append(segment)

    def _miss(self, last_id: int) -> None:
        name = segment_name(self._expected_id, last_id)
        self._report(name).damage.append(Damage(name, 0, 0, "the segment is missing"))

    def pieces(self, segment: Segment) -> Iterator[Block | Damage]:
        """What can be read of a segment, and what not."""
        name, is_last = segment.path.name, segment is self.segments[-1]
        was_damaged = False
        may_be_torn = is_last and self._stopped is None
        for piece in salvage(self._files, segment, may_be_torn=may_be_torn):
            if isinstance(piece, Damage):
                was_damaged = True
                yield piece
            elif isinstance(piece, Tail):
                was_damaged = True
                yield _judged(piece, name, may_be_torn)
            else:
                is_next = piece.header.sequence == segment.last_sequence + 1
                if not is_next and not segment.header.is_merged and not was_damaged:
                    yield Damage(name, segment.end, 0, "blocks are missing there")
                was_damaged = False
                segment.note_block(piece.header, piece.offset)
                if isinstance(piece, Block):
                    yield piece
        if not is_last and not segment.is_sealed and not was_damaged:
            yield Damage(name, segment.end, 0, "the end of the segment is missing")

    def check_end(self) -> None:
        """Judge the end of the log, once all segments were read."""
        following = segment_name(self._expected_id, self._expected_id) + TEMPORARY_SUFFIX
        is_sealed = not self.segments or self.segments[-1].is_sealed
        if is_sealed and following not in self._names:
            self._miss(self._expected_id)
        stopped = self._stopped
        if stopped is not None and self.segments:
            last = self.segments[-1]
            end = (last.path.name, last.end, last.last_sequence)
            if end != (stopped.segment, stopped.length, stopped.sequence):
                what = f"the log ended at {stopped.length} of {stopped.segment} when it was closed"
                self._report(last.path.name).damage.append(
                    Damage(last.path.name, last.end, 0, what)
                )

    def check_hint(self, segment: Segment, digest: Digest) -> None:
        """Compare a segment's hint with what it is a hint of."""
        name = segment.path.with_suffix(HINT_SUFFIX).name
        if name not in self._names:
            return
        report = self._report(name)
        data = self._files.read_file(self._directory / name)
        hint = decode_hint(data, segment.header, segment.file_bytes)
        if hint is None or list(hint.chunks()) != list(digest.chunks()):
            what = "the hint does not match its segment; the next start makes it again"
            report.damage.append(Damage(name, 0, report.bytes, what, is_harmless=True))


def _judged(tail: Tail, name: str, may_be_torn: bool) -> Damage:
    if may_be_torn:
        what = "the last write was torn by a crash; the next start sets it aside"
        return Damage(name, tail.offset, tail.length, what, is_harmless=True)
    return Damage(name, tail.offset, tail.length, "no block can be read there")
