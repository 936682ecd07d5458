"""The in-memory store keeps the contract."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from iii_state.core.store import Store
from iii_state.stores.memory import MemoryStore
from iii_state.testing.clocks import FakeClock
from iii_state.testing.store_contract import StoreContract


class TestMemoryStore(StoreContract):
    @asynccontextmanager
    async def open(
        self, place: Path, clock: FakeClock, *, short_history: bool = False
    ) -> AsyncIterator[Store]:
        store = MemoryStore(clock, history_bytes=(64 if short_history else 65_536) << 10)
        try:
            yield store
        finally:
            await store.close()
