"""What the system's refusals of a file or of room are to whoever wanted to open, or to write."""

from __future__ import annotations

import errno
from pathlib import Path

from iii_state.errors import (
    DiskFull,
    StateError,
    StoreHindered,
    StoreNotWritable,
    StoreReadOnly,
    StoreUnusable,
    TooManyFiles,
)

NO_ROOM = (errno.ENOSPC, errno.EDQUOT)
NO_DESCRIPTORS = (errno.EMFILE, errno.ENFILE)
REMEDIES = {
    errno.ENOMEM: "free some memory",
    errno.EACCES: "let this user write in the directory",
    errno.EPERM: "let this user write in the directory",
}
"""What to do when a file is not opened, made or renamed for another reason that can pass."""


def require_text(directory: Path) -> None:
    """Refuse a path that no message could name: whatever told of it would fail for that.

    Raises:
        StoreUnusable: it is not UTF-8.
    """
    shown = str(directory).encode(errors="backslashreplace").decode()
    if shown != str(directory):
        raise StoreUnusable(
            f"the path of the data directory {shown} is not UTF-8: rename it, or name another one",
            directory=shown,
        )


def not_opened(directory: Path, error: OSError) -> StateError:
    """The error for a store whose files the system refuses at the start."""
    where = {"directory": str(directory)}
    if error.errno in NO_DESCRIPTORS:
        return TooManyFiles(
            f"{directory} cannot be opened, the process may open no more files: close some, or "
            f"raise the limit (`ulimit -n`), and start again",
            **where,
        )
    if error.errno in NO_ROOM:
        return DiskFull(
            f"{directory} cannot be opened, there is no room on the disk that holds it: free some "
            f"space and start again",
            **where,
        )
    where["reason"] = str(error.strerror)
    if error.errno == errno.EIO:
        return StoreUnusable(
            f"{directory} cannot be opened, the disk that holds it fails ({error.strerror}): look "
            f"at the disk, then start again",
            **where,
        )
    return StoreNotWritable(
        f"the data directory {directory} cannot be used: {error.strerror}; make it writable for "
        f"this user, or name another one",
        **where,
    )


def disk_full(directory: Path) -> DiskFull:
    """The error for a write that finds no room."""
    return DiskFull(
        f"no room on the disk that holds {directory}: the write was not taken; free some space, "
        f"writes are taken again by themselves",
        directory=str(directory),
    )


def too_many_files(directory: Path) -> TooManyFiles:
    """The error for a write that finds no descriptor for the next file."""
    return TooManyFiles(
        f"the log in {directory} needs another file, but the process may open no more: the write "
        f"was not taken; close some files or raise the limit (`ulimit -n`), writes are taken again "
        f"by themselves",
        directory=str(directory),
    )


def hindered(directory: Path, error: OSError, remedy: str) -> StoreHindered:
    """The error for a write for which the system refuses a file."""
    return StoreHindered(
        f"the system refuses a file in {directory} ({error.strerror}): the write was not taken; "
        f"{remedy}, writes are taken again by themselves",
        directory=str(directory),
        reason=str(error.strerror),
    )


def read_only(failure: StateError) -> StoreReadOnly:
    """The error for a write after the device failed."""
    return StoreReadOnly(
        f"Writes are refused since an earlier one failed: {failure.message}. Restart once the "
        f"disk is well; nothing changed",
    )
