"""The disk store: the port of `core/store.py` over the log, the index and the overlay.

Commands run against overlay and index; `commit` writes what they staged as one block per batch,
and only then moves the index. `docs/storage.md` has the files.
"""

from __future__ import annotations

import asyncio
import gc
import logging
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from itertools import takewhile
from pathlib import Path

from iii_state.core.changes import Change, Entry
from iii_state.core.commands import (
    WRITES,
    Command,
    Get,
    Guard,
    Outcome,
    Read,
    Result,
    Transact,
    Write,
    change_of,
    failed_guards,
    results_of,
)
from iii_state.core.store import Durability, StoreInfo
from iii_state.errors import (
    DiskFull,
    InvalidRequest,
    LimitExceeded,
    RevisionCompacted,
    StateError,
    Stopped,
    StoreDamaged,
    StoreReadOnly,
    TooManyFiles,
)
from iii_state.stores.disk.feed import History
from iii_state.stores.disk.files import Files
from iii_state.stores.disk.format import RECORD_PREFIX_BYTES
from iii_state.stores.disk.index import place_at
from iii_state.stores.disk.lists import Lists
from iii_state.stores.disk.lock import Lock
from iii_state.stores.disk.log import Log
from iii_state.stores.disk.losses import Loss, losses_of
from iii_state.stores.disk.maintenance import Maintenance
from iii_state.stores.disk.notes import Notes
from iii_state.stores.disk.opening import Opened, open_directory
from iii_state.stores.disk.overlay import CHANGE_BYTES, Batch, Overlay
from iii_state.stores.disk.recovery import Recovery
from iii_state.stores.disk.refusals import disk_full, read_only
from iii_state.stores.disk.retention import Retention
from iii_state.stores.disk.segment import Segment
from iii_state.stores.disk.writer import Writer
from iii_state.stores.recent import RecentChanges, bounded

log = logging.getLogger("iii_state.stores.disk")

VALUE_BYTES_MAX = 1 << 30
"""No value may have more bytes, so that a block stays below 4 GiB."""

RECENT_BYTES_MAX = 16 << 20
"""Changes kept in memory while somebody reads the feed, counted with their overhead."""

FREEZE_ABOVE_KEYS = 100_000
"""With more keys at the start, the garbage collector is told not to walk over them again."""

BACKGROUND_THREADS = 3
"""One waits for a merge, one writes zeros, one reads a long list."""


class DiskStore:
    """Keys in memory, values on disk, one log of changes as the truth. See `Store`.

    Made by `DiskStore.open`.
    """

    def __init__(
        self,
        directory: Path,
        lock: Lock,
        recovery: Recovery,
        log: Log,
        retention: Retention,
        *,
        clock_ms: Callable[[], int],
        durability: Durability,
        cache_bytes: int,
        executor: Callable[[int], Executor],
    ) -> None:
        self._directory = directory
        self._lock = lock
        self._clock_ms = clock_ms
        self._durability: Durability = durability
        self._segments = recovery.segments
        self._index = recovery.index
        self._index.resident_bytes_max = cache_bytes
        self._overlay = Overlay()
        self._notes = Notes(recovery.notes)
        self._staged: list[Batch] = [Batch()]
        self._flying: list[Batch] = []
        self._revision = recovery.revision
        self._next_revision = recovery.next_revision
        self._skipped_to = recovery.next_revision - 1
        self._recent = RecentChanges(RECENT_BYTES_MAX, keeps_unread=False)
        self._history = History(self._segments)
        self._retention = retention
        self._log = log
        self._writer = Writer(log, durability, executor(1))
        self._background = executor(BACKGROUND_THREADS)
        self._lists = Lists(
            self._index,
            self._overlay,
            self._segments,
            lambda: (*self._flying, *self._staged),
            self._background,
        )
        self._maintenance = Maintenance(
            directory,
            self._index,
            self._segments,
            log,
            retention,
            self._notes,
            clock_ms,
            self._background,
            self._history.forget,
        )
        self._lists.released = self._maintenance.release
        self._is_closed = False

    @classmethod
    async def open(
        cls,
        directory: Path,
        *,
        clock_ms: Callable[[], int],
        durability: Durability = "commit",
        sync_interval_ms: int = 1000,
        cache_bytes: int = 64 << 20,
        segment_bytes: int = 64 << 20,
        history_bytes: int = 256 << 20,
        files: Files | None = None,
        executor: Callable[[int], Executor] = ThreadPoolExecutor,
    ) -> DiskStore:
        """Open the store in a directory, as a new one if it is empty or absent.

        `durability` says when a write is acknowledged: `commit`, once it is on the device;
        `interval` and `none`, once it is written, with a sync every `sync_interval_ms` or none.

        Raises:
            StoreUnusable: what is wrong with the directory; nothing in it was touched.
            TooManyFiles, DiskFull: what the system is short of.
        """
        files = files or Files()
        directory = directory.absolute()  # noqa: ASYNC240 (reads no disk)
        background = executor(1)

        def read() -> Opened:
            return open_directory(
                directory,
                files,
                clock_ms,
                segment_bytes=segment_bytes,
                history_bytes=history_bytes,
            )

        try:
            opened = await asyncio.wrap_future(background.submit(read))
        finally:
            background.shutdown()
        store = cls(
            directory,
            *opened,
            clock_ms=clock_ms,
            durability=durability,
            cache_bytes=cache_bytes,
            executor=executor,
        )
        if durability == "interval":
            store._writer.start_syncing(sync_interval_ms / 1000)
        store._maintenance.start()
        if store._index.keys > FREEZE_ABOVE_KEYS:
            gc.freeze()
        return store

    async def compact(self) -> None:
        """Work off what compaction is due. It also runs by itself."""
        await self._maintenance.compact()

    @property
    def cached_bytes(self) -> int:
        """What the values in memory take, with their overhead; at most `cache_bytes`."""
        return self._index.resident_bytes

    # -- commands -------------------------------------------------------------------------------

    def execute(self, command: Command) -> Outcome:
        """See `Store.execute`.

        Raises:
            StoreDamaged, StorageError: the record that the command needs cannot be read. A set or
                a delete of a damaged one is carried out, as if the key had been absent.
            InvalidRequest: a name that is no valid Unicode text.
        """
        if not isinstance(command, WRITES):
            return self._transact(command) if isinstance(command, Transact) else self._read(command)
        scope, key = command.scope, command.key
        pending = self._overlay.scopes.get(scope)
        earlier = pending.get(key) if pending is not None else None
        resident = None
        if earlier is not None:
            before = earlier.entry
        else:
            found = self._index.get(scope, key)
            if found is None:
                _require_text(scope, key)
                before = None
            elif isinstance(found, int):
                try:
                    before = self._load(scope, key, found)
                except StoreDamaged:
                    return self._write_over(command)
            else:
                resident, before = found, found.entry
        batch = self._staged[-1]
        if not batch.changes or batch.room <= 0:
            batch = self._open_batch()
        change, errors = change_of(command, before, self._next_revision, batch.timestamp_ms)
        value_bytes = len(change.entry.value) if change.entry is not None else 0
        if self._log.is_hindered or value_bytes > VALUE_BYTES_MAX:
            self._require_writable(value_bytes)
        self._next_revision += 1
        if pending is None:
            self._overlay.scopes[scope] = {key: change}
        else:
            pending[key] = change
        outcome = Outcome(False, change, errors)
        batch.changes.append(change)
        batch.residents.append(resident)
        batch.outcomes.append(outcome)
        batch.room -= value_bytes + CHANGE_BYTES
        return outcome

    def _write_over(self, command: Write) -> Outcome:
        """Carry out a write of a key whose value is damaged.

        Raises:
            StoreDamaged: it depends on that value.
        """
        outcome = self._transact(Transact((), (command,)))
        outcome.results = ()
        return outcome

    def _open_batch(self) -> Batch:
        """The batch that the next change goes into."""
        batch = self._staged[-1]
        if batch.room <= 0:
            batch = Batch()
            self._staged.append(batch)
        if not batch.changes:
            batch.timestamp_ms = self._clock_ms()
        return batch

    def _transact(self, command: Transact) -> Outcome:
        failed = failed_guards(command.guards, self._entry)
        if failed:
            outcome = Outcome(True, failed=failed)
            newest = max(self._pending_revision(command.guards[index]) for index, _ in failed)
            if newest:
                outcome.settled = False
                self._await(outcome, command, newest)
            return outcome
        for write in command.writes:
            _require_text(write.scope, write.key)
        batch = self._open_batch()
        results, losses = self._results(command.writes, batch.timestamp_ms)
        outcome = Outcome(False, results=results)
        if not results:
            outcome.settled = True
            return outcome
        entries = [change.entry for change, _ in results]
        sizes = [len(entry.value) if entry is not None else 0 for entry in entries]
        if self._log.is_hindered or max(sizes) > VALUE_BYTES_MAX:
            self._require_writable(sum(sizes))
        for change, _ in results:
            self._overlay.scopes.setdefault(change.scope, {})[change.key] = change
            batch.changes.append(change)
            batch.residents.append(None)
        self._next_revision += len(results)
        batch.losses += losses
        outcome.change = results[-1][0]
        batch.outcomes.append(outcome)
        batch.room -= sum(sizes) + len(sizes) * CHANGE_BYTES
        return outcome

    def _results(
        self, writes: Sequence[Write], now_ms: int
    ) -> tuple[Sequence[Result], Sequence[Loss]]:
        """What writes do, and what they go over without its being readable."""
        try:
            return results_of(writes, self._entry, self._next_revision, now_ms), ()
        except StoreDamaged:
            losses = losses_of(writes, self._entry, self._index, self._segments)
        lost = {(loss.scope, loss.key) for loss in losses}

        def read(scope: str, key: str) -> Entry | None:
            return None if (scope, key) in lost else self._entry(scope, key)

        return results_of(writes, read, self._next_revision, now_ms), losses

    def _entry(self, scope: str, key: str) -> Entry | None:
        change = self._overlay.get(scope, key)
        return change.entry if change is not None else self._durable(scope, key)

    def _pending_revision(self, guard: Guard) -> int:
        """That of the change which a guard saw before it is durable; 0 if it saw none."""
        change = self._overlay.get(guard.scope, guard.key)
        return change.revision if change is not None else 0

    def note(
        self, kind: int, name: str, payload: bytes | None, *, is_tied: bool = False
    ) -> Outcome:
        """See `Store.note`."""
        self._notes.show((kind, name), payload)
        batch = self._staged[-1]
        if batch.is_empty:
            batch.timestamp_ms = self._clock_ms()
        batch.notes[kind, name] = payload
        if is_tied:
            batch.tied.add((kind, name))
        outcome = Outcome()
        batch.outcomes.append(outcome)
        return outcome

    def notes(self, kind: int) -> Mapping[str, bytes]:
        """See `Store.notes`."""
        return self._notes.of(kind)

    def _read(self, command: Read) -> Outcome:
        if isinstance(command, Get):
            change = self._overlay.get(command.scope, command.key)
            if change is None:
                return Outcome(True, entry=self._durable(command.scope, command.key))
            return self._await(Outcome(False, entry=change.entry), command, change.revision)
        outcome = self._lists.read(command, self._revision)
        return self._await(outcome, command, self._next_revision - 1)

    def _durable(self, scope: str, key: str) -> Entry | None:
        found = self._index.get(scope, key)
        if isinstance(found, int):
            return self._load(scope, key, found)
        if found is None:
            return None
        found.is_used = True
        return found.entry

    def _load(self, scope: str, key: str, place: int) -> Entry:
        entry = self._segments.entry(place)
        self._index.warm(scope, key, entry)
        return entry

    def _await(self, outcome: Outcome, command: Read | Transact, revision: int) -> Outcome:
        """Let a read that saw a pending change wait for the batch that holds it."""
        if not outcome.settled:
            for batch in (*self._flying, *self._staged):
                if batch.changes and batch.changes[-1].revision >= revision:
                    batch.reads.append((outcome, command))
                    break
        return outcome

    def _require_writable(self, value_bytes: int) -> None:
        if self._log.failure is not None:
            raise read_only(self._log.failure)
        if value_bytes > VALUE_BYTES_MAX:
            raise LimitExceeded(
                f"The value has {value_bytes} bytes, more than the {VALUE_BYTES_MAX} that the disk "
                f"store takes",
                code="VALUE_TOO_LARGE",
                limit="value_bytes_max",
                actual=value_bytes,
                bound=VALUE_BYTES_MAX,
            )
        staged = sum(
            batch.value_bytes + len(batch.changes) * 4 * RECORD_PREFIX_BYTES
            for batch in (*self._flying, *self._staged)
        )
        if not self._log.find_room(staged + value_bytes + 8 * RECORD_PREFIX_BYTES):
            raise self._log.shortage or disk_full(self._directory)

    def hold(self, after: Callable[[], int | None]) -> None:
        """See `Store.hold`."""
        self._retention.held = after

    # -- commit ---------------------------------------------------------------------------------

    async def commit(self) -> Sequence[Change]:
        """See `Store.commit`. One block and one sync for each batch, in order."""
        if self._staged[0].is_empty:
            return []
        self._flying = [batch for batch in self._staged if not batch.is_empty]
        self._staged = [Batch()]
        durable: list[Change] = []
        while self._flying:
            batch = self._flying[0]
            try:
                segment, offset, lengths = await self._writer.write(
                    batch, self._notes.durable, self._revision
                )
                self._apply(batch, segment, offset, lengths)
            except StateError as failure:
                self._fail(failure)
                break
            except Exception as error:
                log.critical("a commit failed as it should not", exc_info=True)
                self._fail(self._log.give_up(error))
                break
            except asyncio.CancelledError:
                self._fail(Stopped("The store stopped while this write waited for the disk"))
                raise
            del self._flying[0]
            durable += batch.changes
        self._maintenance.tend()
        return durable

    def _apply(self, batch: Batch, segment: Segment, offset: int, lengths: list[int]) -> None:
        """Move what is durable from the overlay into index, cache and feed; settle outcomes."""
        kills = segment.kills
        for loss in batch.losses:
            # A change that tells of no value before makes its key anew, at the end of all lists.
            former = self._index.pop(loss.scope, loss.key, loss.value_bytes)
            slot = former >> 32
            kills[slot] = kills.get(slot, 0) + RECORD_PREFIX_BYTES + loss.value_bytes
            loss.tell()
        self._notes.settle(batch)
        if batch.changes:
            place = place_at(segment.slot, offset)
            replaced_bytes = self._index.follow(
                batch.changes, batch.residents, lengths, place, kills
            )
            segment.tombstone_bytes += RECORD_PREFIX_BYTES * lengths.count(0)
            self._revision = batch.changes[-1].revision
            self._recent.add(batch.changes, batch.value_bytes + replaced_bytes)
        is_all = len(self._flying) == 1 and not self._staged[0].changes
        self._overlay.settle(batch.changes, is_all=is_all)
        for outcome in batch.outcomes:
            outcome.settled = True
        for outcome, _ in batch.reads:
            outcome.settled = True

    def _fail(self, failure: StateError) -> None:
        """Settle all that is pending as failed: nothing of it is applied, and it is forgotten.

        What was executed on top of a batch that failed saw values that will never be. Reads are
        run again over what is durable.
        """
        is_known = isinstance(failure, DiskFull | Stopped | StoreReadOnly | TooManyFiles)
        later = failure if is_known else read_only(failure)
        batches, self._flying = [*self._flying, *self._staged], []
        self._staged = [Batch()]
        self._staged[0].notes = self._notes.fail(batches)
        self._overlay.scopes.clear()
        self._next_revision = max(self._revision, self._skipped_to) + 1
        for batch in batches:
            for outcome in batch.outcomes:
                outcome.change, outcome.errors, outcome.results = None, (), ()
                outcome.failure = failure
                outcome.settled = True
            failure = later
        for batch in batches:
            for outcome, command in batch.reads:
                self._read_again(outcome, command, later)

    def _read_again(self, outcome: Outcome, command: Read | Transact, failure: StateError) -> None:
        if isinstance(command, Transact):
            outcome.failure, outcome.failed, outcome.settled = failure, (), True
            return
        outcome.reading = None
        try:
            if isinstance(command, Get):
                outcome.entry = self._durable(command.scope, command.key)
            else:
                self._lists.read_into(outcome, command, self._revision)
        except StateError as error:
            outcome.failure = error
        outcome.settled = True

    # -- feed and figures -----------------------------------------------------------------------

    @property
    def revision(self) -> int:
        """See `Store.revision`."""
        return self._revision

    @property
    def executed_revision(self) -> int:
        """See `Store.executed_revision`."""
        return self._next_revision - 1

    @property
    def oldest_revision(self) -> int:
        """See `Store.oldest_revision`."""
        return self._retention.revision

    def changes(self, after: int, limit: int, bytes_max: int) -> Sequence[Change]:
        """See `Store.changes`. Reads files when `after` is further back than memory reaches.

        Raises:
            StoreDamaged, StorageError: a part of the log cannot be read.
        """
        if after < self.oldest_revision:
            raise RevisionCompacted(
                f"changes after revision {after} are no longer kept; the oldest that can be asked "
                f"for is {self.oldest_revision}",
                oldest_revision=self.oldest_revision,
            )
        source = (self._recent if self._recent.reach(after) else self._history).since(after)
        durable = takewhile(lambda change: change.revision <= self._revision, source)
        return bounded(durable, limit, bytes_max)

    def info(self) -> StoreInfo:
        """See `Store.info`."""
        problem = ""
        if self._log.failure is not None:
            problem = self._log.failure.message
        elif self._log.shortage is not None:
            problem = self._log.shortage.message
        return StoreInfo(
            adapter="disk",
            durability=self._durability,
            revision=self._revision,
            oldest_revision=self.oldest_revision,
            scopes=len(self._index.scopes),
            keys=self._index.keys,
            bytes=self._index.value_bytes,
            disk_bytes=sum(segment.file_bytes for segment in self._segments.ordered[:-1])
            + self._log.file_bytes,
            directory=str(self._directory),
            healthy=not problem,
            problem=problem,
        )

    async def close(self) -> None:
        """See `Store.close`. The next start finds the log closed in order."""
        if self._is_closed:
            return
        self._is_closed = True
        await self.commit()
        await self._writer.close()
        await self._maintenance.close()
        self._background.shutdown()
        try:
            self._log.close(self._revision, self._next_revision)
        finally:
            self._segments.close()
            self._lock.release()


def _require_text(scope: str, key: str) -> None:
    for name in (scope, key):
        if not name.isascii():
            try:
                name.encode()
            except UnicodeEncodeError as error:
                raise InvalidRequest(f"{name!r} is not valid Unicode text") from error
