"""Getting batches to the disk: in the event loop or in a thread, synced now, later or never."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import Executor
from contextlib import suppress
from typing import TypeVar

from iii_state.core.store import Durability
from iii_state.errors import StateError
from iii_state.stores.disk.format import (
    NoteItem,
    Payload,
    encode_changes,
    encode_notes,
)
from iii_state.stores.disk.log import Log, PlacedBlock
from iii_state.stores.disk.overlay import Batch
from iii_state.stores.disk.recovery import RELAXED_GAP
from iii_state.stores.disk.segment import Segment

T = TypeVar("T")

INLINE_CHANGES_MAX = 128
INLINE_SYNC_S_MAX = 0.000_5
"""A commit of no more changes is synced in the event loop while a sync takes no longer than that;
others in a thread, where handing over costs less than the loop gains."""

SYNCS_KEPT = 8
"""The disk is as fast as the fastest of so many syncs: a slow one among them was held up."""


class Writer:
    """Appends batches to the log in the store's durability mode."""

    def __init__(self, log: Log, durability: Durability, executor: Executor) -> None:
        self._log = log
        self._is_relaxed = durability != "commit"
        self._executor = executor
        self._syncs_s: deque[float] = deque([0.0], SYNCS_KEPT)
        self._synced_revision = 0
        self._syncing: asyncio.Task[None] | None = None

    async def write(
        self, batch: Batch, kept: Mapping[tuple[int, str], bytes], revision: int
    ) -> tuple[Segment, int, list[int]]:
        """Append a batch as one block; in mode `commit`, return when it is on the device.

        `kept` are the notes before it: all of them go into a segment's first block, so that no
        earlier segment is needed for them. `revision` is that of the change before it.
        Returns the segment, where the records begin in it, and the lengths of their values.

        Raises:
            DiskFull: no room; nothing was written.
            OutcomeUnknown: the device failed.
        """
        payload, lengths = encode_batch(batch, batch.notes, revision)
        if (kept or batch.notes) and self._begins_segment(payload):
            payload, lengths = encode_batch(batch, {**kept, **batch.notes}, revision)
        if self._is_relaxed:
            segment, offset = await self._write_relaxed(payload)
        elif not self._log.is_ready(payload):
            segment, offset = await self._in_thread(lambda: self._log.append(payload))
        else:
            block = self._log.place(payload)
            if len(lengths) <= INLINE_CHANGES_MAX and min(self._syncs_s) <= INLINE_SYNC_S_MAX:
                self._put(block)
            else:
                await self._in_thread(lambda: self._put(block))
            segment, offset = self._log.take(block)
        return segment, offset, lengths

    def _begins_segment(self, payload: Payload) -> bool:
        log = self._log
        is_first = log.active.is_sealed or log.is_empty
        return is_first or log.will_roll(payload.block_bytes)

    def _put(self, block: PlacedBlock) -> None:
        started = time.perf_counter()
        self._log.put(block)
        self._syncs_s.append(time.perf_counter() - started)

    async def _write_relaxed(self, payload: Payload) -> tuple[Segment, int]:
        if payload.last_revision - self._synced_revision > RELAXED_GAP // 2:
            await self.sync()
            self._synced_revision = payload.first_revision - 1
        if self._log.will_roll(payload.block_bytes):
            return await self._in_thread(lambda: self._log.append(payload, is_relaxed=True))
        return self._log.append(payload, is_relaxed=True)

    async def _in_thread(self, write: Callable[[], T]) -> T:
        written = asyncio.wrap_future(self._executor.submit(write))
        try:
            return await asyncio.shield(written)
        except asyncio.CancelledError:
            pass
        # The block is on its way to the disk: it must be counted before the task may end.
        while not written.done():
            with suppress(asyncio.CancelledError):
                await asyncio.wait([written])
        task = asyncio.current_task()
        assert task is not None
        task.uncancel()
        task.cancel()
        return written.result()

    async def sync(self) -> None:
        """Put everything that was written on the device.

        Raises:
            OutcomeUnknown: the device failed.
        """
        if self._log.sequence > self._log.durable_sequence:
            await asyncio.wrap_future(self._executor.submit(self._log.sync))

    def start_syncing(self, interval_s: float) -> None:
        """Sync every so often, until `close` or a failure."""
        self._syncing = asyncio.create_task(self._sync_for_ever(interval_s), name="disk-sync")

    async def _sync_for_ever(self, interval_s: float) -> None:
        while True:
            await asyncio.sleep(interval_s)
            try:
                await self.sync()
            except StateError:
                return  # The log knows, and refuses writes from now on.

    async def close(self) -> None:
        """Stop syncing by itself."""
        if self._syncing is not None:
            self._syncing.cancel()
            await asyncio.wait([self._syncing])
        self._executor.shutdown()


def encode_batch(
    batch: Batch, notes: Mapping[tuple[int, str], bytes | None], revision: int
) -> tuple[Payload, list[int]]:
    """A batch as the payload of one block with these notes, and the lengths of its values."""
    items: list[NoteItem] = [(kind, name, payload) for (kind, name), payload in notes.items()]
    if not batch.changes:
        return encode_notes(items, revision, batch.timestamp_ms), []
    return encode_changes(batch.changes, items)
