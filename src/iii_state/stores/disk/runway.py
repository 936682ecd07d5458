"""Zeros written ahead of the log's end, so that a commit overwrites and does not grow the file.

Overwriting saves the file system's own journal commit: a sync of a small block then takes 60 % of
the time. The zeros cost the device as much as the blocks, so they are worth it for small ones only.
"""

from __future__ import annotations

import threading
from pathlib import Path

from iii_state.stores.disk.files import Files

SLICE_BYTES = 128 << 10
"""Zeros written and synced at once: a commit's sync never has to carry more of them."""

ZEROS = bytes(SLICE_BYTES)

BLOCK_BYTES_MAX = 32 << 10
"""Blocks that are larger on average are appended without zeros ahead of them."""

CHUNK_BYTES_MIN, CHUNK_BYTES_MAX = 1 << 20, 16 << 20
"""A runway grows by chunks that double, so that a small store stays small on disk."""


class Runway:
    """The zero-filled end of one file. It has its own descriptor.

    The device reports a failed write once per descriptor: were it shared, the report could go to a
    sync of zeros and the commit beside it be taken for durable.
    """

    def __init__(self, files: Files, path: Path, end: int, *, create: bool = False) -> None:
        self.lock = threading.Lock()
        """Held while the file is written past `end`."""
        self.is_wanted = False
        """Set by whoever waits for the lock: the zeros can wait, a commit cannot."""
        self.end = end
        self.chunk_bytes = CHUNK_BYTES_MIN
        self._files = files
        self._fd = files.open(path, create=create)
        self._is_closed = False

    def extend(self, end: int) -> None:
        """Write zeros up to `end`, slice by slice, until the lock is wanted.

        Raises:
            OSError: no room, or the device fails; what was reached stays.
        """
        while self._extend_by_slice(end):
            pass

    def _extend_by_slice(self, end: int) -> bool:
        with self.lock:
            if self._is_closed or self.is_wanted or self.end >= end:
                return False
            to = min(self.end + SLICE_BYTES, end)
            try:
                self._files.write(self._fd, ZEROS[: to - self.end], self.end)
                self._files.sync(self._fd)
            except OSError:
                self._files.truncate(self._fd, self.end)
                raise
            self.end = to
            return True

    def extend_by_chunk(self, end_max: int) -> None:
        """Write one more chunk of zeros; the next one will be larger."""
        self.extend(min(self.end + self.chunk_bytes, end_max))
        self.chunk_bytes = min(self.chunk_bytes * 2, CHUNK_BYTES_MAX)

    def close(self) -> None:
        """Stop extending."""
        with self.lock:
            if not self._is_closed:
                self._is_closed = True
                self._files.close(self._fd)
