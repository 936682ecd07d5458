"""A disk in memory that keeps only what was synced, for the disk store's fault tests.

Every operation of `Files` works as on a real disk. Beside that the disk remembers what a power cut
could still take back: writes and truncations of a file since its last sync, names since the last
sync of their directory. `after_power_cut` makes the disk that the next start would find: of what
was not synced it keeps, drops or tears each piece, as a random generator decides.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Container, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

from iii_state.stores.disk.files import Files, SyncFailed


@dataclass
class _Inode:
    """One file: what it holds, and how it got there since the last sync."""

    live: bytearray = field(default_factory=bytearray)
    durable: bytes = b""
    pending: list[tuple[int, bytes | None]] = field(default_factory=list)
    is_failing: bool = False

    def write(self, offset: int, data: bytes) -> None:
        _write(self.live, offset, data)
        self.pending.append((offset, data))

    def truncate(self, size: int) -> None:
        _truncate(self.live, size)
        self.pending.append((size, None))

    def sync(self) -> None:
        if not self.is_failing:
            self.durable = bytes(self.live)
            self.pending.clear()

    def survivor(self, random: Random) -> _Inode:
        """The file after a power cut."""
        content = bytearray(self.durable)
        for offset, data in self.pending:
            if random.random() < 0.4:
                continue
            if data is None:
                _truncate(content, offset)
            else:
                start, end = _kept_part(len(data), random)
                _write(content, offset + start, data[start:end])
        return _Inode(content, bytes(content))


Name = tuple[Path, _Inode | None]
"""A change of a directory: a name and the file it leads to from then on."""


class FaultyFiles(Files):
    """A disk in memory. Faults are set as attributes, at any time.

    `cut_at` counts operations that change something (`operations`): the one with that number, and
    all after it, fail as if the power were gone. `failing_sync` is the number of the sync that
    fails (`syncs` counts them). `room_bytes` bounds the length of all files together. Without
    `has_descriptors` nothing more is opened. `refused` are the numbers of requests for a name
    (opening, renaming, removing; `requests` counts them) that fail with `refused_errno`.
    """

    shared = False

    def __init__(self) -> None:
        super().__init__()
        self.operations = 0
        self.syncs = 0
        self.cut_at: int | None = None
        self.failing_sync: int | None = None
        self.room_bytes: int | None = None
        self.is_cut = False
        self.has_descriptors = True
        self.requests = 0
        self.refused: Container[int] = ()
        self.refused_errno = errno.EACCES
        self._names: dict[Path, _Inode] = {}
        self._durable_names: dict[Path, _Inode] = {}
        self._pending_names: list[list[Name]] = []
        self._open: dict[int, _Inode] = {}
        self._locked: dict[int, _Inode] = {}
        self._directories: dict[Path, _Inode] = {}
        self._next_fd = 1000

    # -- faults ---------------------------------------------------------------------------------

    def after_power_cut(self, random: Random) -> FaultyFiles:
        """The disk that is found when the power is back."""
        names = dict(self._durable_names)
        kept = random.randrange(len(self._pending_names) + 1)
        for changes in self._pending_names[:kept]:
            for path, inode in changes:
                if inode is None:
                    names.pop(path, None)
                else:
                    names[path] = inode
        survivors = {id(inode): inode.survivor(random) for inode in names.values()}
        disk = FaultyFiles()
        disk._names = {path: survivors[id(inode)] for path, inode in names.items()}
        disk._durable_names = dict(disk._names)
        return disk

    def paths(self) -> list[Path]:
        """All files, ascending."""
        return sorted(self._names)

    def contents(self, path: Path) -> bytes:
        """What a file holds."""
        return bytes(self._names[path].live)

    def replace(self, path: Path, data: bytes) -> None:
        """Let a file hold something else, durably, behind everybody's back."""
        self._names[path] = self._durable_names[path] = _Inode(bytearray(data), data)

    def rot(self, path: Path, offset: int) -> None:
        """Flip a bit of a file in place: also those see it who have the file open."""
        self._names[path].live[offset] ^= 1

    def remove(self, path: Path) -> None:
        """Remove a file, durably, behind everybody's back."""
        self._names.pop(path)
        self._durable_names.pop(path, None)

    def copy(self) -> FaultyFiles:
        """A disk of its own with the same files, all durable."""
        disk = FaultyFiles()
        for path in self._names:
            disk.replace(path, self.contents(path))
        return disk

    def _change(self) -> None:
        """Count an operation that changes something; called when it is pending already."""
        self._require_power()
        self.operations += 1
        if self.operations == self.cut_at:
            self.is_cut = True
            self._require_power()

    def _request(self) -> None:
        """Count a request for a name; called before anything is changed."""
        self._require_power()
        self.requests += 1
        if self.requests in self.refused:
            raise OSError(self.refused_errno, os.strerror(self.refused_errno))

    @property
    def descriptors(self) -> int:
        """How many are open."""
        return len(self._open)

    def _require_descriptors(self) -> None:
        if not self.has_descriptors:
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    def _require_power(self) -> None:
        if self.is_cut:
            raise OSError(errno.EIO, "the power is cut")

    # -- files ----------------------------------------------------------------------------------

    def make_directory(self, directory: Path) -> None:
        """See `Files`. Directories need not be made."""
        self._require_power()

    def names(self, directory: Path) -> list[str]:
        """See `Files`."""
        self._require_power()
        return sorted(path.name for path in self._names if path.parent == directory)

    def enter(self, directory: Path, name: str) -> int:
        """See `Files`. Nothing else ever takes the path of a directory here."""
        return self.open(directory / name, create=True)

    def open(self, path: Path, *, create: bool = False, write: bool = True) -> int:
        """See `Files`."""
        self._request()
        self._require_descriptors()
        inode = self._names.get(path)
        if inode is None:
            if not create:
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path))
            inode = self._names[path] = _Inode()
            self._pending_names.append([(path, inode)])
            self._change()
        self._next_fd += 1
        self._open[self._next_fd] = inode
        return self._next_fd

    def close(self, fd: int) -> None:
        """See `Files`."""
        del self._open[fd]
        self._locked.pop(fd, None)

    def read(self, fd: int, size: int, offset: int) -> bytes:
        """See `Files`."""
        self._require_power()
        return bytes(self._open[fd].live[offset : offset + size])

    def write(self, fd: int, data: bytes, offset: int) -> None:
        """See `Files`."""
        self._require_power()
        inode = self._open[fd]
        room = self._room_for(inode, offset, len(data))
        inode.write(offset, data[:room])
        self._change()
        if room < len(data):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def _room_for(self, inode: _Inode, offset: int, size: int) -> int:
        if self.room_bytes is None:
            return size
        others = sum(len(other.live) for other in self._names.values() if other is not inode)
        return max(0, min(size, self.room_bytes - others - offset))

    def write_pieces(self, fd: int, pieces: Sequence[bytes], offset: int) -> None:
        """See `Files`."""
        self.write(fd, b"".join(pieces), offset)

    def write_synced(self, fd: int, pieces: Sequence[bytes], offset: int) -> None:
        """See `Files`. The power may be cut, and the sync may fail, in between."""
        self.write_pieces(fd, pieces, offset)
        self.sync(fd)

    def sync(self, fd: int) -> None:
        """See `Files`. After a failed sync the file never becomes durable any more."""
        self._change()
        self.syncs += 1
        inode = self._open[fd]
        if self.syncs == self.failing_sync:
            inode.is_failing = True
            raise SyncFailed(errno.EIO, os.strerror(errno.EIO))
        inode.sync()

    def truncate(self, fd: int, size: int) -> None:
        """See `Files`."""
        self._require_power()
        self._open[fd].truncate(size)
        self._change()

    def size(self, fd: int) -> int:
        """See `Files`."""
        self._require_power()
        return len(self._open[fd].live)

    def is_linked(self, fd: int) -> bool:
        """See `Files`."""
        self._require_power()
        return any(inode is self._open[fd] for inode in self._names.values())

    def is_at(self, fd: int, path: Path) -> bool:
        """See `Files`."""
        self._require_power()
        return self._names.get(path) is self._open[fd]

    def rename(self, old: Path, new: Path) -> None:
        """See `Files`."""
        self._request()
        inode = self._names.pop(old, None)
        if inode is None:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(old))
        self._names[new] = inode
        self._pending_names.append([(old, None), (new, inode)])
        self._change()

    def unlink(self, path: Path) -> None:
        """See `Files`."""
        self._request()
        if self._names.pop(path, None) is not None:
            self._pending_names.append([(path, None)])
            self._change()

    def sync_directory(self, directory: Path) -> None:
        """See `Files`."""
        self._change()
        self._durable_names = dict(self._names)
        self._pending_names.clear()

    def lock(self, fd: int) -> bool:
        """See `Files`."""
        inode = self._open[fd]
        if any(held is inode for held in self._locked.values()):
            return False
        self._locked[fd] = inode
        return True

    def lock_directory(self, directory: Path) -> int | None:
        """See `Files`."""
        self._require_power()
        self._require_descriptors()
        self._next_fd += 1
        self._open[self._next_fd] = self._directories.setdefault(directory, _Inode())
        if self.lock(self._next_fd):
            return self._next_fd
        self.close(self._next_fd)
        return None


def _kept_part(size: int, random: Random) -> tuple[int, int]:
    """Which part of a write survives: all of it, its beginning, or its end."""
    at = random.randrange(size + 1)
    return random.choice([(0, size), (0, size), (0, at), (at, size)])


def _write(content: bytearray, offset: int, data: bytes) -> None:
    if len(content) < offset:
        content.extend(bytes(offset - len(content)))
    content[offset : offset + len(data)] = data


def _truncate(content: bytearray, size: int) -> None:
    if size < len(content):
        del content[size:]
    else:
        content.extend(bytes(size - len(content)))
