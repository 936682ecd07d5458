"""Every file operation of the disk store, in one small class.

The store touches the file system through `Files` only, so that a subclass
(`iii_state.testing.faulty_files`) can drop or tear what was not synced, fail syncs or run out of
room. Errors are plain `OSError`: what they mean is decided by the caller.
"""

from __future__ import annotations

import errno
import fcntl
import os
import sys
from pathlib import Path

_FULL_SYNC = getattr(fcntl, "F_FULLFSYNC", None) if sys.platform == "darwin" else None

_SYNCED = getattr(os, "RWF_DSYNC", 0)
"""Linux writes and syncs in one call."""


class Files:
    """The file system as the store needs it. Safe to use from several threads.

    A descriptor is an int from `open`. Nothing is durable before `sync` (a file's contents and
    length) or `sync_directory` (its name) has returned.
    """

    shared = True
    """Whether another process sees the same files, so that compaction can run in one."""

    def make_directory(self, directory: Path) -> None:
        """Create a directory and its parents, unless it is there."""
        directory.mkdir(parents=True, exist_ok=True)

    def names(self, directory: Path) -> list[str]:
        """The names in a directory, ascending; empty when it does not exist."""
        try:
            return sorted(os.listdir(directory))
        except FileNotFoundError:
            return []

    def open(self, path: Path, *, create: bool = False, write: bool = True) -> int:
        """Open a file to read and, unless told otherwise, to write."""
        flags = os.O_CLOEXEC | (os.O_RDWR if write else os.O_RDONLY)
        return os.open(path, flags | (os.O_CREAT if create else 0), 0o640)

    def close(self, fd: int) -> None:
        """Let go of a descriptor, and of its lock."""
        os.close(fd)

    def read(self, fd: int, size: int, offset: int) -> bytes:
        """At most `size` bytes from `offset`; fewer only where the file ends."""
        data = os.pread(fd, size, offset)
        while data and len(data) < size:
            more = os.pread(fd, size - len(data), offset + len(data))
            if not more:
                break
            data += more
        return data

    def write(self, fd: int, data: bytes, offset: int) -> None:
        """Write all of `data` at `offset`."""
        written = os.pwrite(fd, data, offset)
        if written == len(data):
            return
        rest = memoryview(data)
        while written < len(data):
            more = os.pwrite(fd, rest[written:], offset + written)
            if not more:
                raise OSError(errno.EIO, "the device took no more bytes")
            written += more

    def write_synced(self, fd: int, data: bytes, offset: int) -> None:
        """Write all of `data` at `offset`, and return once it is on the device."""
        written = 0
        if _SYNCED:
            written = os.pwritev(fd, [data], offset, _SYNCED)
        if written < len(data):
            self.write(fd, data[written:], offset + written)
            self.sync(fd)

    def sync(self, fd: int) -> None:
        """Return once the file's contents and length are on the device."""
        if _FULL_SYNC is not None:
            fcntl.fcntl(fd, _FULL_SYNC)
        else:
            os.fdatasync(fd)

    def truncate(self, fd: int, size: int) -> None:
        """Cut the file to `size` bytes, or fill it up with zeros."""
        os.ftruncate(fd, size)

    def size(self, fd: int) -> int:
        """The file's length in bytes."""
        return os.fstat(fd).st_size

    def is_linked(self, fd: int) -> bool:
        """Whether the file still has a name somewhere."""
        return os.fstat(fd).st_nlink > 0

    def is_at(self, fd: int, path: Path) -> bool:
        """Whether a path leads to an open file."""
        try:
            found = path.stat()
        except FileNotFoundError:
            return False
        held = os.fstat(fd)
        return (found.st_dev, found.st_ino) == (held.st_dev, held.st_ino)

    def rename(self, old: Path, new: Path) -> None:
        """Give a file another name, replacing what had it."""
        os.rename(old, new)

    def unlink(self, path: Path) -> None:
        """Remove a name; no error when it is gone already."""
        path.unlink(missing_ok=True)

    def sync_directory(self, directory: Path) -> None:
        """Return once created, renamed and removed names are on the device."""
        fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)

    def lock(self, fd: int) -> bool:
        """Take the file's exclusive lock; false when somebody else has it."""
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def read_file(self, path: Path) -> bytes:
        """All of a small file."""
        fd = self.open(path, write=False)
        try:
            return self.read(fd, self.size(fd), 0)
        finally:
            self.close(fd)

    def write_file(self, path: Path, data: bytes) -> None:
        """Replace a small file, durably: it holds either the old or the new contents."""
        temporary = path.with_name(path.name + ".tmp")
        fd = self.open(temporary, create=True)
        try:
            self.truncate(fd, 0)
            self.write(fd, data, 0)
            self.sync(fd)
        finally:
            self.close(fd)
        self.rename(temporary, path)
        self.sync_directory(path.parent)
