"""The disk store: durable, in one directory. `docs/storage.md` specifies its files."""

from iii_state.stores.disk.inspection import (
    DumpedEntry,
    FileReport,
    StoreReport,
    check_store,
    dump_store,
)
from iii_state.stores.disk.salvage import Damage
from iii_state.stores.disk.store import DiskStore

__all__ = [
    "Damage",
    "DiskStore",
    "DumpedEntry",
    "FileReport",
    "StoreReport",
    "check_store",
    "dump_store",
]
