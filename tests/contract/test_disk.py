"""The disk store keeps the contract, in segments so small that it rolls and trims a lot."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from iii_state.core.commands import Get, ListValues, Set
from iii_state.core.store import Durability, Store
from iii_state.stores.disk.store import DiskStore
from iii_state.testing.clocks import FakeClock
from iii_state.testing.store_contract import DurableStoreContract, Rig

SEGMENT_BYTES = 64 << 10


class TestDiskStore(DurableStoreContract):
    durability: Durability = "commit"
    cache_bytes = 1 << 20

    @asynccontextmanager
    async def open(
        self, place: Path, clock: FakeClock, *, short_history: bool = False
    ) -> AsyncIterator[Store]:
        store = await DiskStore.open(
            place,
            clock_ms=clock,
            durability=self.durability,
            cache_bytes=self.cache_bytes,
            segment_bytes=SEGMENT_BYTES,
            history_bytes=(64 if short_history else 65_536) << 10,
        )
        try:
            yield store
        finally:
            await store.close()

    async def test_reads_of_what_is_on_disk_are_settled_at_once(self, rig: Rig) -> None:
        await rig.set("k", b"1")
        await rig.write(Set("other", "k", b"1"))
        rig.store.execute(Set("other", "k", b"2"))

        outcomes = [
            rig.store.execute(Get(rig.scope, "k")),
            rig.store.execute(Get(rig.scope, "absent")),
            rig.store.execute(Get("other", "absent")),
            rig.store.execute(ListValues(rig.scope, 100)),
        ]

        assert [outcome.settled for outcome in outcomes] == [True] * 4


class TestDiskStoreThatDoesNotWait(TestDiskStore):
    """Without syncs and without a cache, everything is the same but for power cuts."""

    durability = "none"
    cache_bytes = 0
