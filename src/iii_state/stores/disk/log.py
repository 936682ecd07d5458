"""The end of the log: appending blocks, syncing, and moving on to the next segment."""

from __future__ import annotations

import errno
import logging
import secrets
import threading
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path

import msgspec
from isal.isal_zlib import crc32

from iii_state.errors import OutcomeUnknown, StateError
from iii_state.stores.disk.directory import (
    RELAXED,
    TEMPORARY_SUFFIX,
    Stopped,
    forget_stopped,
    note_relaxed,
    segment_name,
    write_stopped,
)
from iii_state.stores.disk.files import SyncFailed
from iii_state.stores.disk.format import (
    FORMAT_VERSION,
    RECORDS,
    SEAL,
    SEGMENT_HEADER_BYTES,
    BlockHeader,
    Payload,
    SegmentHeader,
)
from iii_state.stores.disk.refusals import (
    NO_DESCRIPTORS,
    NO_ROOM,
    REMEDIES,
    disk_full,
    hindered,
    read_only,
    too_many_files,
)
from iii_state.stores.disk.runway import BLOCK_BYTES_MAX, CHUNK_BYTES_MIN, Runway
from iii_state.stores.disk.segment import Segment, Segments

log = logging.getLogger("iii_state.stores.disk")


class PlacedBlock(msgspec.Struct, frozen=True, gc=False):
    """A block that knows its place: the end of the active segment."""

    header: BlockHeader
    pieces: tuple[bytes, ...]


class NextSegment(msgspec.Struct, frozen=True):
    """The file that follows the active segment, opened before the seal says that it does."""

    runway: Runway
    fd: int


class Log:
    """Blocks go behind one another in the active segment.

    One `append` at a time, from any thread; `sync` and `do_chores` may run beside it. After a
    failed write or sync (`failure`) nothing is written any more. In a `shortage` every step before
    the block itself can be taken again.
    """

    def __init__(
        self,
        directory: Path,
        segments: Segments,
        store_id: bytes,
        clock_ms: Callable[[], int],
        segment_bytes: int,
    ) -> None:
        self.failure: StateError | None = None
        self.shortage: StateError | None = None
        """What is missing for the next write: room, or a file. It may be found again."""
        self.is_hindered = False
        """Whether a write would fail, unless room is found: for either of the two above."""
        self.sequence = 0
        self.durable_sequence = 0
        self.base_revision = 0
        self.retired: list[Segment] = []
        """Sealed since somebody last looked, oldest first."""
        self.is_stopped = False
        """Whether the directory says that the log was closed in order."""
        self.active: Segment
        """The segment that blocks are appended to."""
        self._is_written = False
        self._block_bytes = 0
        self._directory = directory
        self._files = segments.files
        self._segments = segments
        self._store_id = store_id
        self._clock_ms = clock_ms
        self.segment_bytes = segment_bytes
        self._runway: Runway | None = None
        self._next: NextSegment | None = None
        self._next_lock = threading.Lock()

    # -- opening --------------------------------------------------------------------------------

    def resume(self, sequence: int) -> None:
        """Go on behind the newest segment, of which `sequence` is the last block.

        Raises:
            OSError: a file is refused. `release` what was opened.
        """
        self.sequence = self.durable_sequence = sequence
        if self._segments.ordered:
            self.active = self._segments.ordered[-1]
        if not self._segments.ordered or self.active.is_sealed:
            if self.is_stopped:
                forget_stopped(self._directory, self._files)
                self.is_stopped = False
            self._enter_next()
        else:
            self._runway = Runway(self._files, self.active.path, self.active.file_bytes)

    @property
    def position(self) -> int:
        """Where the next block goes."""
        return self.active.end

    @property
    def is_empty(self) -> bool:
        """Whether the active segment has no block yet."""
        return self.active.end == SEGMENT_HEADER_BYTES

    @property
    def file_bytes(self) -> int:
        """What the active segment takes on disk."""
        return self._runway.end if self._runway is not None else self.active.end

    # -- appending ------------------------------------------------------------------------------

    def will_roll(self, block_bytes: int) -> bool:
        """Whether a block of that length goes into a new segment."""
        active = self.active
        if active.is_sealed or self.is_empty:
            return False
        return active.end + block_bytes > self.segment_bytes

    def append(self, payload: Payload, *, is_relaxed: bool = False) -> tuple[Segment, int]:
        """Write one block; unless relaxed, return when it is on the device.

        Returns the segment, and the offset at which the block's records begin. Made of the four
        steps below: only `make_ready` and `put` wait for the device.

        Raises:
            DiskFull, TooManyFiles, StoreHindered: no room, no file. Nothing was written.
            OutcomeUnknown: the device failed. From now on every write fails.
        """
        self.make_ready(payload, is_relaxed=is_relaxed)
        block = self.place(payload)
        self.put(block, is_relaxed=is_relaxed)
        return self.take(block, is_relaxed=is_relaxed)

    def is_ready(self, payload: Payload) -> bool:
        """Whether a block can be placed as things are."""
        is_open = self._is_written and not self.active.is_sealed and self.failure is None
        return is_open and not self.will_roll(payload.block_bytes)

    def make_ready(self, payload: Payload, *, is_relaxed: bool = False) -> None:
        """Enter the segment that a block belongs into.

        Raises:
            DiskFull, TooManyFiles, StoreHindered, OutcomeUnknown: as `append`. Called again, it
                goes on where it was left.
            StoreReadOnly: the device failed before. Nothing was written.
        """
        if self.failure is not None:
            raise read_only(self.failure)
        try:
            if not self._is_written:
                self._begin(is_relaxed)
            if self.will_roll(payload.block_bytes):
                self._seal()
            if self.active.is_sealed:
                self._enter_next()
        except OSError as error:
            raise self._not_ready(error) from error

    def place(self, payload: Payload) -> PlacedBlock:
        """Make the bytes of the next block."""
        header = self._header(RECORDS, payload)
        self._block_bytes += (header.block_bytes - self._block_bytes) // 16
        return PlacedBlock(header, (header.encode(), payload.meta, payload.body))

    def put(self, block: PlacedBlock, *, is_relaxed: bool = False) -> None:
        """Write a placed block: one call to the system, so that a thread needs the GIL but once.

        Raises:
            DiskFull, OutcomeUnknown: as `append`.
        """
        try:
            self._write(block.pieces, block.header.block_bytes, is_relaxed=is_relaxed)
        except OSError as error:
            raise self._failed(error) from error

    def take(self, block: PlacedBlock, *, is_relaxed: bool = False) -> tuple[Segment, int]:
        """Count a block that was put; what `append` returns.

        Raises:
            OutcomeUnknown: the file was removed meanwhile.
        """
        segment, header = self.active, block.header
        if not is_relaxed:
            try:
                self._require_linked()
            except OSError as error:
                raise self._failed(error) from error
            self.durable_sequence = header.sequence
        self.sequence = header.sequence
        segment.note_block(header, segment.end)
        return segment, segment.end - header.body_bytes

    def _begin(self, is_relaxed: bool) -> None:
        """Before the first block: what the directory says about the last stop is over."""
        if is_relaxed:
            note_relaxed(self._directory, self._files)
        if self.is_stopped:
            forget_stopped(self._directory, self._files)
            self.is_stopped = False
        self._is_written = True

    def sync(self) -> None:
        """Put what was appended relaxed on the device.

        Raises:
            OutcomeUnknown: the device failed.
        """
        if self.failure is not None:
            raise self.failure
        sequence = self.sequence
        try:
            self._files.sync(self.active.fd)
            self._require_linked()
        except OSError as error:
            raise self._failed(error) from error
        self.durable_sequence = max(self.durable_sequence, sequence)

    def _header(self, kind: int, payload: Payload) -> BlockHeader:
        return BlockHeader(
            FORMAT_VERSION,
            kind,
            0,
            self.active.header.first_id,
            self.sequence + 1,
            self.durable_sequence,
            payload.first_revision,
            payload.last_revision,
            payload.time_ms,
            payload.record_count,
            len(payload.meta),
            len(payload.body),
            crc32(payload.meta),
            crc32(payload.body),
        )

    def _write(self, pieces: Sequence[bytes], size: int, *, is_relaxed: bool) -> None:
        segment = self.active
        runway = self._runway
        assert runway is not None
        write = self._files.write_pieces if is_relaxed else self._files.write_synced
        end = segment.end + size
        if end <= runway.end:
            write(segment.fd, pieces, segment.end)
            return
        runway.is_wanted = True
        with runway.lock:
            runway.is_wanted = False
            try:
                write(segment.fd, pieces, segment.end)
            except OSError as error:
                if error.errno in NO_ROOM:
                    # A part of the block that stayed could be taken for damage later.
                    self._files.truncate(segment.fd, segment.end)
                    runway.end = segment.end
                raise
            runway.end = max(runway.end, end)

    def _not_ready(self, error: OSError) -> StateError:
        """Note what came in the way of a block of which nothing was written yet."""
        number = error.errno
        if number in NO_DESCRIPTORS:
            self.shortage = too_many_files(self._directory)
        elif number in REMEDIES and not isinstance(error, SyncFailed):
            self.shortage = hindered(self._directory, error, REMEDIES[number])
        else:
            return self._failed(error)
        self.is_hindered = True
        return self.shortage

    def give_up(self, error: Exception) -> StateError:
        """Write nothing more after a fault that nobody foresaw; what it means for what waited."""
        self.is_hindered = True
        self.failure = OutcomeUnknown(
            f"the server failed as it wrote ({type(error).__name__}): whether the last writes "
            f"survive is not known; reads go on, writes are refused until a restart",
            file=str(self.active.path),
        )
        return self.failure

    def _failed(self, error: OSError) -> StateError:
        """Note what came in the way of writing or syncing blocks.

        A sync is not tried again: what it was to make durable may be lost by now.
        """
        self.is_hindered = True
        if error.errno in NO_ROOM and not isinstance(error, SyncFailed):
            self.shortage = disk_full(self._directory)
            return self.shortage
        log.error(
            "Writing to %s failed, writes are refused from now on: %s", self.active.path, error
        )
        self.failure = OutcomeUnknown(
            f"writing to {self.active.path} failed ({error.strerror}): whether the last writes "
            f"survive is not known; reads go on, writes are refused until a restart",
            file=str(self.active.path),
        )
        return self.failure

    def require_home(self) -> None:
        """Refuse to go on when the directory was moved away, or another one is in its place.

        Raises:
            OSError: it was.
        """
        if self._segments.ordered and not self._files.is_at(self.active.fd, self.active.path):
            raise OSError(errno.ENOENT, "the directory was moved away or replaced")

    def _require_linked(self) -> None:
        if not self._files.is_linked(self.active.fd):
            raise OSError(errno.ENOENT, "the file was removed")

    # -- the next segment -----------------------------------------------------------------------

    def _seal(self) -> None:
        """End the active segment.

        The next file exists under its temporary name before the seal says that it follows, so that
        a start can tell a crash in between from a file that was removed.
        """
        self._prepare_next()
        self.require_home()
        former = self.active
        seal = self._header(SEAL, Payload(b"", b"", 0, 0, 0, self._clock_ms()))
        try:
            self._write((seal.encode(),), seal.block_bytes, is_relaxed=True)
            self._files.sync(former.fd)
        except OSError as error:
            raise self._failed(error) from error
        self.sequence = self.durable_sequence = seal.sequence
        former.note_block(seal, former.end)
        former.file_bytes = self.file_bytes
        self.retired.append(former)
        if self._runway is not None:
            self._runway.close()
            self._runway = None

    def _next_path(self) -> Path:
        last = self._segments.ordered[-1].header.last_id if self._segments.ordered else 0
        name = segment_name(last + 1, last + 1)
        return self._directory / (name + TEMPORARY_SUFFIX)

    def _prepare_next(self) -> NextSegment:
        with self._next_lock:
            if self._next is None:
                self.require_home()
                self._next = self._make_next()
            return self._next

    def _make_next(self) -> NextSegment:
        """Make the next file, with room in it. What was left half made is made from its start."""
        path = self._next_path()
        with ExitStack() as opened:
            runway = Runway(self._files, path, 0, create=True)
            opened.callback(runway.close)
            fd = self._files.open(path)
            opened.callback(self._files.close, fd)
            runway.extend(min(CHUNK_BYTES_MIN, self.segment_bytes))
            self._files.sync_directory(self._directory)
            opened.pop_all()
        return NextSegment(runway, fd)

    def _enter_next(self) -> None:
        """Go on in the next file. When its name is refused, all of this can be done again."""
        self.require_home()
        following = self._prepare_next()
        temporary = self._next_path()
        path = temporary.with_suffix("")
        number = int(path.name.partition("-")[0])
        header = SegmentHeader(
            FORMAT_VERSION,
            0,
            secrets.randbits(32),
            number,
            number,
            self.base_revision,
            self.sequence + 1,
            self._clock_ms(),
            self._store_id,
        )
        self._files.write_synced(following.fd, (header.encode(),), 0)
        self._files.rename(temporary, path)
        self._files.sync_directory(self._directory)
        self.active = self._segments.open(path, following.fd, header)
        self._segments.ordered.append(self.active)
        self._runway, self._next = following.runway, None

    # -- room -----------------------------------------------------------------------------------

    @property
    def has_chores(self) -> bool:
        """Whether zeros should be written ahead."""
        runway = self._runway
        if runway is None or self.is_hindered or self._block_bytes > BLOCK_BYTES_MAX:
            return False
        if not self._is_written:
            return False  # The directory may still say where the log ended: it must not grow.
        if runway.end < self.segment_bytes:
            return runway.end - self.position < runway.chunk_bytes // 2
        return self._next is None and self.position > self.segment_bytes // 2

    def do_chores(self) -> None:
        """Write zeros ahead of the log's end, or prepare the next segment. Off the commit path."""
        runway = self._runway
        if runway is None:
            return
        try:
            if runway.end < self.segment_bytes:
                runway.extend_by_chunk(self.segment_bytes)
            else:
                self._prepare_next().runway.extend(self.segment_bytes)
        except OSError as error:
            # Not to be found out by a commit: the device may report a failure only once.
            self._not_ready(error)

    def find_room(self, block_bytes: int) -> bool:
        """Whether a block of that length can be taken, now that there was a shortage before.

        Raises:
            StoreReadOnly: the device failed.
        """
        runway = self._runway
        try:
            if runway is None or self.will_roll(block_bytes):
                self._prepare_next()
            elif self._is_written:
                runway.extend(self.position + block_bytes)
        except OSError as error:
            self._not_ready(error)
            if self.failure is not None:
                raise read_only(self.failure) from error
            return False
        self.shortage = None
        self.is_hindered = self.failure is not None
        return True

    # -- closing --------------------------------------------------------------------------------

    def release(self) -> None:
        """Let go of the files that are not segments."""
        if self._runway is not None:
            self._runway.close()
        if self._next is not None:
            self._next.runway.close()
            self._files.close(self._next.fd)
            self._next = None

    def close(self, revision: int, next_revision: int) -> None:
        """Sync, give back what was written ahead, and record that the stop was orderly.

        When only the record cannot be made that is logged, not raised: nothing is lost, the next
        start is that after a crash.

        Raises:
            DiskFull, OutcomeUnknown: the device failed; the next start is that after a crash.
        """
        self.release()
        if self.failure is not None or self.is_stopped:
            return
        active = self.active
        try:
            self.require_home()
            self._files.truncate(active.fd, active.end)
            self._files.sync(active.fd)
        except OSError as error:
            raise self._failed(error) from error
        stopped = Stopped(active.path.name, active.end, self.sequence, revision, next_revision)
        try:
            if not active.is_sealed:
                self._files.unlink(self._next_path())
            write_stopped(self._directory, self._files, stopped)
            if self._is_written:
                self._files.unlink(self._directory / RELAXED)
        except OSError as error:
            log.warning(
                "That %s was closed in order could not be recorded (%s): the next start is that "
                "after a crash, nothing is lost",
                self._directory,
                error.strerror,
            )
