"""The disk store: durable, in one directory. `docs/storage.md` specifies its files.

`store.py` has the store, `inspection.py` what reads one that is not running. Importing this package
does nothing else: the compactor's process needs only a part of it.
"""
