"""The disk store: durable, in one directory. `docs/storage.md` specifies its files."""

from iii_state.stores.disk.store import DiskStore

__all__ = ["DiskStore"]
