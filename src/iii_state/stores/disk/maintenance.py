"""What the store does beside serving: zeros ahead of the log, hints, trimming, compaction."""

from __future__ import annotations

import asyncio
import logging
import secrets
import sys
from collections.abc import Callable
from concurrent.futures import Executor
from contextlib import ExitStack
from pathlib import Path
from typing import TypeVar

from iii_state.errors import StateError, StorageError
from iii_state.stores.disk.compaction import Job, perform
from iii_state.stores.disk.compactor import Compactor
from iii_state.stores.disk.directory import TEMPORARY_SUFFIX, segment_name
from iii_state.stores.disk.files import SyncFailed
from iii_state.stores.disk.format import SEGMENT_HEADER_BYTES, decode_segment_header
from iii_state.stores.disk.hints import HINT_SUFFIX, Group, Hint, apply_head, decode_hint
from iii_state.stores.disk.index import Index, place_at
from iii_state.stores.disk.log import Log
from iii_state.stores.disk.notes import Notes
from iii_state.stores.disk.retention import Retention
from iii_state.stores.disk.segment import Segment, Segments

log = logging.getLogger("iii_state.stores.disk")

T = TypeVar("T")

DEAD_SHARE = 0.4
"""A run is merged when that part of it is superseded."""

SMALL_RUN = 8
"""So many neighbours that fit into one segment are merged even when nothing in them is dead."""

RUN_SHARE = 32
"""A merged segment may grow to that part of the base, so that their number stays bounded."""

RUN_BYTES_MAX = 1 << 30

MOVE_PAUSE_S = 0.002
"""Between two chunks of keys that are moved to a merged segment; a chunk takes less than that."""

HERE_BYTES_MAX = 1 << 20
"""Fewer bytes are read and written in a thread: that takes less than starting a process."""

NICE, NICE_BEHIND = 19, 10
"""How the other process stands back, on a processor that it shares with the server: by weight a
seventieth beside it, a tenth while more than `BEHIND_MAX` waits; and all while the server waits."""

BEHIND_MAX = 4
"""In segments: those without their hints, and the dead bytes of the base."""

IDLE_S = 10
"""The other process ends when nothing was due for so long."""


class Maintenance:
    """Keeps the directory in shape. `tend` is called after every commit and costs next to nothing.

    One piece of work runs at a time, in a thread or another process; only its result is taken in
    by the event loop, in slices.
    """

    def __init__(
        self,
        directory: Path,
        index: Index,
        segments: Segments,
        log_: Log,
        retention: Retention,
        notes: Notes,
        clock_ms: Callable[[], int],
        executor: Executor,
        forget: Callable[[Segment], None],
    ) -> None:
        self._directory = directory
        self._index = index
        self._segments = segments
        self._files = segments.files
        self._log = log_
        self._retention = retention
        self._notes = notes
        self._clock_ms = clock_ms
        self._executor = executor
        self._forget = forget
        self._chore: asyncio.Future[None] | None = None
        self._work: asyncio.Task[None] | None = None
        self._compactor = Compactor(directory, self._files)
        self._idleness: asyncio.TimerHandle | None = None
        self._retired: list[Segment] = []
        self._unfinished: list[Segment] = []
        self._replaced: list[Segment] = []
        self._is_put_off = False
        self._is_damaged = False
        self._is_closing = False

    def tend(self) -> None:
        """Start what is due."""
        if self._chore is None and self._log.has_chores:
            self._chore = asyncio.wrap_future(self._executor.submit(self._log.do_chores))
            self._chore.add_done_callback(self._chore_done)
        if self._log.retired:
            self._retired += self._unfinished + self._log.retired
            self._unfinished.clear()
            self._log.retired.clear()
            self._retention.trim(self._retention.held())
            self._log.base_revision = self._retention.revision
            self.start()
        elif self._is_put_off and not self._log.is_empty:
            self.start()

    def _chore_done(self, chore: asyncio.Future[None]) -> None:
        self._chore = None

    def start(self) -> None:
        """Work off what is due, unless that is going on."""
        if self._work is None and not self._is_closing:
            self._end_idleness()
            self._work = asyncio.create_task(self._run(), name="disk-maintenance")

    async def _run(self) -> None:
        try:
            while not self._is_closing and not self._is_damaged:
                if self._retired:
                    await self._try_to_finish(self._retired.pop(0))
                elif (run := self._next_run()) is not None:
                    await self._compact(run)
                else:
                    return
        except StateError as error:
            # It would be met again: the segment stays as it is until somebody looks at it.
            self._is_damaged = True
            log.error("No more compaction, space is not given back: %s", error.message)
        except OSError as error:
            if not self._is_closing:
                log.warning("A merge was given up, and is tried again later: %s", error)
        finally:
            self._work = None
            if not self._is_closing:
                loop, submit = asyncio.get_running_loop(), self._executor.submit
                self._idleness = loop.call_later(IDLE_S, submit, self._compactor.end)

    def _end_idleness(self) -> None:
        if self._idleness is not None:
            self._idleness.cancel()

    async def compact(self) -> None:
        """Work off all that is due now, and return when it is done."""
        self.start()
        if self._work is not None:
            await self._work

    # -- sealed segments ------------------------------------------------------------------------

    async def _try_to_finish(self, segment: Segment) -> None:
        """Finish a segment now, or when the next one is sealed; unless it was merged meanwhile."""
        if segment not in self._segments.ordered:
            return
        try:
            await self._finish_retired(segment)
        except OSError as error:
            if not self._is_closing:
                log.warning("The hint of %s is written later: %s", segment.path, error)
            self._unfinished.append(segment)

    async def _finish_retired(self, segment: Segment) -> None:
        """Give back the zeros behind a seal, and write the hint."""
        await self._in_thread(lambda: self._files.truncate(segment.fd, segment.end))
        hint = segment.path.with_suffix(HINT_SUFFIX)
        temporary = _temporary(hint)
        job = Job(
            str(self._directory),
            run=[],
            later=[],
            base_revision=0,
            created_at_ms=0,
            tag=0,
            target=segment.path.name,
            hint=temporary.name,
        )
        await self._perform(job, segment.end)
        await self._in_thread(lambda: self._name_hint(temporary, hint))

    def _name_hint(self, temporary: Path, hint: Path) -> None:
        self._log.require_home()
        self._files.rename(temporary, hint)

    # -- compaction -----------------------------------------------------------------------------

    def _next_run(self) -> list[Segment] | None:
        # Only the first block of a segment has the notes; merging drops them from earlier ones.
        self._is_put_off = self._log.is_empty and bool(self._notes.durable)
        if self._is_put_off:
            return None
        base = self._retention.base
        total = sum(segment.end for segment in base)
        run_bytes_max = max(self._log.segment_bytes, min(total // RUN_SHARE, RUN_BYTES_MAX))
        return choose_run(base, run_bytes_max)

    async def _compact(self, run: list[Segment]) -> None:
        """Merge a run, and put the merged segment into its place."""
        base = self._retention.base
        later = base[base.index(run[-1]) + 1 :]
        name = segment_name(run[0].header.first_id, run[-1].header.last_id)
        path = self._directory / name
        job = Job(
            str(self._directory),
            run=[segment.path.name for segment in run],
            later=[segment.path.name for segment in later],
            base_revision=self._retention.revision,
            created_at_ms=self._clock_ms(),
            tag=secrets.randbits(32),
            target=_temporary(path).name,
            hint=_temporary(path.with_suffix(HINT_SUFFIX)).name,
        )
        dead_before = sum(segment.dead_bytes for segment in run)
        job_bytes = sum(segment.end for segment in run)
        await self._perform(job, job_bytes)
        merged, hint = await self._in_thread(lambda: self._install(job, path))
        self._retention.replace(run, merged)
        await self._move(hint, {segment.slot for segment in run}, merged.slot)
        self._retention.inherit(run, merged, dead_before)
        self._replaced += run
        try:
            await self._in_thread(lambda: self._remove_files(run, merged))
        finally:
            self.release()

    def _install(self, job: Job, path: Path) -> tuple[Segment, Hint]:
        """Give the files of a finished merge their names. A crash at any point leaves one truth.

        Once the merged file has its name the merge must be gone through with: given up then, a
        later merge of other segments could overlap with the file.

        Raises:
            OSError: before that. What the merge has written is removed.
        """
        files = self._files
        target, hint_target = self._directory / job.target, self._directory / job.hint
        hint_path = path.with_suffix(HINT_SUFFIX)
        with ExitStack() as undo:
            undo.callback(files.unlink, hint_target)
            undo.callback(files.unlink, target)
            self._log.require_home()
            fd = files.open(target)
            undo.callback(files.close, fd)
            file_bytes = files.size(fd)
            header = decode_segment_header(files.read(fd, SEGMENT_HEADER_BYTES, 0))
            hint = None
            if header is not None:
                hint = decode_hint(files.read_file(hint_target), header, file_bytes)
            if header is None or hint is None:
                raise OSError(f"{target} does not hold what compaction wrote")
            # A hint of this name, if any, belongs to the file that is replaced.
            files.unlink(hint_path)
            files.rename(target, path)
            undo.pop_all()
        try:
            files.rename(hint_target, hint_path)
        except OSError as error:
            log.warning("The hint %s was not written (%s); starts are slower", hint_path, error)
        segment = self._segments.open(path, fd, header)
        segment.file_bytes = file_bytes
        apply_head(segment, hint.head)
        return segment, hint

    async def _move(self, hint: Hint, from_slots: set[int], slot: int) -> None:
        """Let the index lead to the merged segment, a chunk in each turn of the loop."""
        for chunk in hint.chunks():
            for group in chunk:
                self._move_group(group, from_slots, slot)
            # Not back to back: a commit in its thread waits for the GIL meanwhile.
            await asyncio.sleep(MOVE_PAUSE_S)

    def _move_group(self, group: Group, from_slots: set[int], slot: int) -> None:
        move, scope = self._index.move, group.scope
        for key, offset in zip(group.keys, group.offsets, strict=True):
            move(scope, key, from_slots, place_at(slot, offset))

    def _remove_files(self, run: list[Segment], merged: Segment) -> None:
        """Remove what is superseded, or leave it to the next start.

        Raises:
            OSError: not all of it was removed.
            StorageError: the merged file may not be durable; nothing may be removed any more.
        """
        self._log.require_home()
        try:
            self._files.sync_directory(self._directory)
        except SyncFailed as error:
            raise StorageError(f"{self._directory} cannot be synced: {error.strerror}") from error
        for segment in run:
            if segment.path != merged.path:
                self._files.unlink(segment.path)
                self._files.unlink(segment.path.with_suffix(HINT_SUFFIX))

    def release(self) -> None:
        """Close replaced segments that no list is being read from any more."""
        for segment in [segment for segment in self._replaced if not segment.references]:
            self._replaced.remove(segment)
            self._forget(segment)
            self._segments.forget(segment)
            # In a thread: with its last descriptor a removed file gives its space back.
            self._executor.submit(self._files.close, segment.fd)

    # -- threads and processes ------------------------------------------------------------------

    async def _in_thread(self, work: Callable[[], T]) -> T:
        return await asyncio.wrap_future(self._executor.submit(work))

    async def _perform(self, job: Job, job_bytes: int) -> None:
        """Run a job: a small one in a thread, any other in the other process.

        Raises:
            OSError, StateError: it failed; what it has written is removed.
        """
        niceness = self._niceness
        await self._in_thread(lambda: self._perform_in_thread(job, job_bytes, niceness))

    @property
    def _niceness(self) -> int:
        dead_bytes = sum(segment.dead_bytes for segment in self._retention.base)
        behind = len(self._retired) + dead_bytes / self._log.segment_bytes
        return NICE if behind <= BEHIND_MAX else NICE_BEHIND

    def _perform_in_thread(self, job: Job, job_bytes: int, niceness: int) -> None:
        try:
            if job_bytes <= HERE_BYTES_MAX or not (self._files.shared and sys.executable):
                perform(job, self._files)
            else:
                self._compactor.perform(job, niceness)
        except (OSError, StateError):
            self._files.unlink(self._directory / job.hint)
            if job.run:
                self._files.unlink(self._directory / job.target)
            raise

    async def close(self) -> None:
        """Stop what is going on. What a merge has not finished is removed by the next start."""
        self._is_closing = True
        self._end_idleness()
        self._compactor.close()
        if self._work is not None:
            await asyncio.wait([self._work])
        await self._in_thread(self._compactor.end)
        if self._chore is not None:
            await asyncio.wait([self._chore])


def choose_run(base: list[Segment], run_bytes_max: int) -> list[Segment] | None:
    """The run of neighbours whose merge gives back most for what it copies; None if none is due."""
    best: list[Segment] | None = None
    best_gain = 0.0
    for start in range(len(base)):
        live = dead = 0
        for end in range(start, len(base)):
            segment = base[end]
            lost = segment.dead_bytes + (segment.tombstone_bytes if start == 0 else 0)
            dead += min(lost, segment.record_bytes)
            live += segment.record_bytes - min(lost, segment.record_bytes)
            if live > run_bytes_max and end > start:
                break
            count = end - start + 1
            is_due = dead and dead >= DEAD_SHARE * (dead + live)
            if not is_due and count < SMALL_RUN:
                continue
            gain = (dead + count) / (live + 1)
            if gain > best_gain:
                best, best_gain = base[start : end + 1], gain
    return best


def _temporary(path: Path) -> Path:
    return path.with_name(f"{path.name}.{secrets.token_hex(4)}{TEMPORARY_SUFFIX}")
