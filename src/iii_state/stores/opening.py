"""From settings to an open store. For the composition roots."""

from __future__ import annotations

from collections.abc import Callable

from iii_state.core.store import Store
from iii_state.settings import Settings
from iii_state.stores.disk.store import DiskStore
from iii_state.stores.memory import MemoryStore

MEMORY_HISTORY_BYTES_MAX = 16 << 20
"""In memory, a change log that outgrows the processor's caches would cost a third of the rate."""


async def open_store(settings: Settings, clock_ms: Callable[[], int]) -> Store:
    """Open the store that the settings ask for; in memory only when asked for by name.

    Raises:
        StoreUnusable: see its subclasses; nothing was touched.
    """
    if settings.in_memory:
        history_bytes = min(settings.history_bytes, MEMORY_HISTORY_BYTES_MAX)
        return MemoryStore(clock_ms, history_bytes=history_bytes)
    return await DiskStore.open(
        settings.data_dir,
        clock_ms=clock_ms,
        durability=settings.durability,
        sync_interval_ms=settings.sync_interval_ms,
        cache_bytes=settings.cache_bytes,
        segment_bytes=settings.segment_bytes,
        history_bytes=settings.history_bytes,
    )
