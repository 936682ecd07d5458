"""The lock of a store's directory: one process at a time, whatever becomes of the file `LOCK`.

That file is locked and names its holder, for those who are refused. It can be removed; so the
directory itself is locked as well. Both locks end with their descriptors, also when a process is
killed.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from iii_state.errors import StoreLocked
from iii_state.stores.disk.files import Files

LOCK = "LOCK"


class Lock:
    """Held on a directory by this process until `release`."""

    def __init__(self, held: ExitStack) -> None:
        self._held = held

    def release(self) -> None:
        """Let another process have the directory."""
        self._held.close()


def take_lock(directory: Path, files: Files) -> Lock:
    """Lock the directory for this process.

    The lock also keeps the directory: should that be moved away, its files are still those that are
    written, and never those of a store that is begun at its path.

    Raises:
        StoreLocked: another process holds it.
        OSError: the files are refused.
    """
    with ExitStack() as held:
        fd = files.enter(directory, LOCK)
        held.callback(files.close, fd)
        if not files.lock(fd):
            raise _in_use(directory, files, fd)
        _lock_directory(directory, files, held)
        files.truncate(fd, 0)
        files.write(fd, f"{os.getpid()}\n".encode(), 0)
        return Lock(held.pop_all())


@contextmanager
def locked(directory: Path, files: Files) -> Iterator[None]:
    """Hold the lock without writing anything.

    Raises:
        StoreLocked: a server holds it.
        OSError: the files are refused.
    """
    with ExitStack() as held:
        if LOCK in files.names(directory):
            fd = files.open(directory / LOCK, write=False)
            held.callback(files.close, fd)
            if not files.lock(fd):
                raise _in_use(directory, files, fd)
        _lock_directory(directory, files, held)
        yield


def _lock_directory(directory: Path, files: Files, held: ExitStack) -> None:
    fd = files.lock_directory(directory)
    if fd is None:
        raise _in_use(directory, files, None)
    held.callback(files.close, fd)


def _in_use(directory: Path, files: Files, fd: int | None) -> StoreLocked:
    """The error for a directory that another process has; `fd` is the file that names it."""
    text = files.read(fd, 20, 0).decode("ascii", "replace").strip() if fd is not None else ""
    holder = f"process {text}" if text else "another process"
    return StoreLocked(
        f"{directory} is in use by {holder}; stop it, or name another data directory",
        directory=str(directory),
        pid=int(text) if text.isdigit() else 0,
    )
