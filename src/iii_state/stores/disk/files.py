"""Every file operation of the disk store, in one small class.

The store touches the file system through `Files` only, so that a subclass
(`iii_state.testing.faulty_files`) can drop or tear what was not synced, fail syncs or run out of
room. Errors are plain `OSError`, `SyncFailed` among them: what they mean is decided by the caller.
"""

from __future__ import annotations

import errno
import fcntl
import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

_FULL_SYNC = getattr(fcntl, "F_FULLFSYNC", None) if sys.platform == "darwin" else None

_SYNCED = getattr(os, "RWF_DSYNC", 0)
"""Linux writes and syncs in one call."""

_REMOVED = " (deleted)"
"""Linux adds it to the path of an open file without a name. No file of a store is called so."""

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC


class SyncFailed(OSError):
    """What was written or renamed before may be lost. Trying again would prove nothing."""


class Files:
    """The file system as the store needs it. Safe to use from several threads.

    A descriptor is an int from `open`. Nothing is durable before `sync` (a file's contents and
    length) or `sync_directory` (its name) has returned.
    """

    shared = True
    """Whether another process sees the same files, so that compaction can run in one."""

    def __init__(self) -> None:
        self._entered: dict[Path, int] = {}
        self._kept: dict[int, tuple[Path, int]] = {}

    def enter(self, directory: Path, name: str) -> int:
        """Open a file of a directory, made if need be, and keep the directory open with it.

        While the file is open, names in that directory are looked up in the directory itself: when
        it is moved away they go with it, and nothing touches what takes its path. `sync_directory`
        needs no descriptor then.
        """
        within = os.open(directory, _DIRECTORY)
        try:
            fd = os.open(name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640, dir_fd=within)
        except OSError:
            os.close(within)
            raise
        self._kept[fd] = (directory, within)
        self._entered.setdefault(directory, within)
        return fd

    def take_over(self, directory: Path, within: int) -> None:
        """Look names in a directory up in an open one, as `enter` does."""
        self._entered[directory] = within

    def entered(self, directory: Path) -> int | None:
        """The descriptor of a directory that was entered."""
        return self._entered.get(directory)

    def _at(self, path: Path) -> tuple[Path | str, int | None]:
        """A path, or a name and the directory that it is in."""
        within = self._entered.get(path.parent)
        return (path, None) if within is None else (path.name, within)

    def make_directory(self, directory: Path) -> None:
        """Create a directory and its parents, unless it is there."""
        directory.mkdir(parents=True, exist_ok=True)

    def names(self, directory: Path) -> list[str]:
        """The names in a directory, ascending; empty when it does not exist."""
        within = self._entered.get(directory)
        try:
            return sorted(os.listdir(directory if within is None else within))
        except FileNotFoundError:
            return []

    def open(self, path: Path, *, create: bool = False, write: bool = True) -> int:
        """Open a file to read and, unless told otherwise, to write."""
        flags = os.O_CLOEXEC | (os.O_RDWR if write else os.O_RDONLY)
        name, within = self._at(path)
        return os.open(name, flags | (os.O_CREAT if create else 0), 0o640, dir_fd=within)

    def close(self, fd: int) -> None:
        """Let go of a descriptor, of its lock, and of the directory that was entered with it."""
        kept = self._kept.pop(fd, None)
        os.close(fd)
        if kept is not None:
            directory, within = kept
            if self._entered.get(directory) == within:
                del self._entered[directory]
            os.close(within)

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

    def write_pieces(self, fd: int, pieces: Sequence[bytes], offset: int) -> None:
        """Write all of some pieces at `offset`, one behind the other."""
        self._write_on(fd, pieces, offset, os.pwritev(fd, pieces, offset))

    def write_synced(self, fd: int, pieces: Sequence[bytes], offset: int) -> None:
        """The same, but return once they are on the device."""
        written = os.pwritev(fd, pieces, offset, _SYNCED) if _SYNCED else 0
        if self._write_on(fd, pieces, offset, written):
            self.sync(fd)

    def _write_on(self, fd: int, pieces: Sequence[bytes], offset: int, written: int) -> bool:
        """Write what is missing behind the first bytes of some pieces; says whether there was."""
        if written == sum(map(len, pieces)):
            return False
        self.write(fd, b"".join(pieces)[written:], offset + written)
        return True

    def sync(self, fd: int) -> None:
        """Return once the file's contents and length are on the device.

        Raises:
            SyncFailed: they may never be.
        """
        try:
            if _FULL_SYNC is not None:
                fcntl.fcntl(fd, _FULL_SYNC)
            else:
                os.fdatasync(fd)
        except OSError as error:
            raise SyncFailed(*error.args) from error

    def truncate(self, fd: int, size: int) -> None:
        """Cut the file to `size` bytes, or fill it up with zeros."""
        os.ftruncate(fd, size)

    def size(self, fd: int) -> int:
        """The file's length in bytes."""
        return os.fstat(fd).st_size

    def is_linked(self, fd: int) -> bool:
        """Whether the file still has its name.

        Linux is not asked with `fstat`: a file whose times were asked for gets a finer one with its
        next write, so that every sync would have its inode to write as well.
        """
        try:
            return not os.readlink(f"/proc/self/fd/{fd}").endswith(_REMOVED)
        except OSError:  # another system, or one that does not show `/proc`
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
        old_name, old_within = self._at(old)
        new_name, new_within = self._at(new)
        os.rename(old_name, new_name, src_dir_fd=old_within, dst_dir_fd=new_within)

    def unlink(self, path: Path) -> None:
        """Remove a name; no error when it is gone already."""
        name, within = self._at(path)
        with suppress(FileNotFoundError):
            os.unlink(name, dir_fd=within)

    def sync_directory(self, directory: Path) -> None:
        """Return once created, renamed and removed names are on the device.

        Raises:
            SyncFailed: they may never be.
        """
        within = self._entered.get(directory)
        fd = os.open(directory, _DIRECTORY) if within is None else within
        try:
            os.fsync(fd)
        except OSError as error:
            raise SyncFailed(*error.args) from error
        finally:
            if within is None:
                os.close(fd)

    def lock(self, fd: int) -> bool:
        """Take the file's exclusive lock; false when somebody else has it."""
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def lock_directory(self, directory: Path) -> int | None:
        """Take the exclusive lock of a directory; None when somebody else has it.

        Returns the descriptor that holds it. It is one of its own: whoever is handed another one of
        the directory must not hold the lock with it. Where the file system has no such locks, it
        holds nothing.
        """
        within = self._entered.get(directory)
        fd = os.open(directory if within is None else ".", _DIRECTORY, dir_fd=within)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(fd)
            return None
        except OSError:
            pass
        return fd

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
