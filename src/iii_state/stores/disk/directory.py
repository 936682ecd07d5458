"""The directory of a store: its file names, its identity, and whom it belongs to."""

from __future__ import annotations

import json
import re
import uuid
from pathlib import Path
from typing import Any
from zlib import crc32

import msgspec

from iii_state.errors import StoreDamaged, StoreForeign, StoreTooNew
from iii_state.stores.disk.files import Files
from iii_state.stores.disk.format import FORMAT_VERSION
from iii_state.stores.disk.lock import LOCK, Lock, take_lock

IDENTITY = "STORE"
STOPPED = "STOPPED"
RELAXED = "RELAXED"
SEGMENT_SUFFIX = ".seg"
TEMPORARY_SUFFIX = ".tmp"
TORN_SUFFIX = ".torn"

_MAGIC = "iii-state store"
_SEGMENT_NAME = re.compile(r"(\d{10,})-(\d{10,})\.(seg|hint)")


def segment_name(first_id: int, last_id: int) -> str:
    """The name of the file that covers a range of segments."""
    return f"{first_id:010}-{last_id:010}{SEGMENT_SUFFIX}"


FIRST_SEGMENT = segment_name(1, 1)
_OWN_NAMES = {LOCK, IDENTITY + TEMPORARY_SUFFIX, FIRST_SEGMENT + TEMPORARY_SUFFIX, "lost+found"}


def segment_range(name: str, suffix: str = SEGMENT_SUFFIX) -> tuple[int, int] | None:
    """The range of segments that a file covers; None when its name is not such a file's."""
    match = _SEGMENT_NAME.fullmatch(name)
    if match is None or not name.endswith(suffix):
        return None
    return int(match[1]), int(match[2])


class Stopped(msgspec.Struct, frozen=True):
    """Where the log ended when the store was closed in order (file `STOPPED`)."""

    segment: str
    length: int
    sequence: int
    revision: int
    next_revision: int


def encode_note(note: dict[str, Any]) -> bytes:
    """A small file of ours: one line of JSON, and its checksum in a second one."""
    line = json.dumps(note, separators=(",", ":")).encode()
    return line + b"\n" + f"{crc32(line):08x}\n".encode()


def decode_note(data: bytes) -> dict[str, Any] | None:
    """The contents of a small file of ours; None when it is not intact."""
    line, _, rest = data.partition(b"\n")
    if rest != f"{crc32(line):08x}\n".encode():
        return None
    note = json.loads(line)
    return note if isinstance(note, dict) else None


def claim(directory: Path, files: Files, now_ms: int) -> tuple[Lock, bytes]:
    """Take a directory for this process, as a new store if it is empty.

    Returns its lock and the store's id.

    Raises:
        StoreForeign, StoreLocked, StoreDamaged, StoreTooNew: nothing was touched.
        OSError: a file is refused.
    """
    files.make_directory(directory)
    names = files.names(directory)
    if IDENTITY not in names:
        refuse_foreign(directory, names, "name an empty or a new directory")
    lock = take_lock(directory, files)
    try:
        # Again: before the lock was held, another process may have made the store.
        if IDENTITY in files.names(directory):
            return lock, read_identity(directory, files)
        return lock, _write_identity(directory, files, now_ms)
    except BaseException:
        lock.release()
        raise


def refuse_foreign(directory: Path, names: list[str], advice: str) -> None:
    """Refuse a directory without our identity that is not empty; `advice` says what to do."""
    others = [name for name in names if name not in _OWN_NAMES]
    if not others:
        return
    if any(name.endswith(".bin") for name in others):
        raise StoreForeign(
            f"{directory} holds data of the original iii engine ({others[0]}), which was left "
            f"untouched; {advice}. Moving in is "
            f"`iii-state migrate iii {directory} --data-dir NEW`",
            directory=str(directory),
            found=others[0],
        )
    if any(segment_range(name) for name in others):
        raise StoreDamaged(
            f"{directory} holds segments of a store, but its file {IDENTITY} is missing; put it "
            f"back from a backup, or save what can be read with `iii-state dump {directory}`",
            file=str(directory / IDENTITY),
            offset=0,
            readable="the segments",
        )
    raise StoreForeign(
        f"{directory} is not empty and not a store of iii-state (it holds {others[0]}); it was "
        f"left untouched; {advice}",
        directory=str(directory),
        found=others[0],
    )


def read_identity(directory: Path, files: Files) -> bytes:
    """The id of the store in a directory.

    Raises:
        StoreDamaged, StoreTooNew: it cannot be told, or a newer version wrote it.
    """
    note = decode_note(files.read_file(directory / IDENTITY))
    if note is None or note.get("magic") != _MAGIC:
        raise StoreDamaged(
            f"{directory / IDENTITY} is damaged; put it back from a backup, or save what can be "
            f"read with `iii-state dump {directory}`",
            file=str(directory / IDENTITY),
            offset=0,
            readable="the segments",
        )
    require_version(int(note["format"]), directory)
    return bytes.fromhex(note["store_id"])


def require_version(found: int, where: Path) -> None:
    """Refuse what a newer version wrote."""
    if found > FORMAT_VERSION:
        raise StoreTooNew(
            f"{where} was written in format {found}, this version reads up to {FORMAT_VERSION}; "
            f"install the newer version that wrote it",
            found=found,
            supported=FORMAT_VERSION,
        )


def _write_identity(directory: Path, files: Files, now_ms: int) -> bytes:
    store_id = uuid.uuid4()
    note = {
        "magic": _MAGIC,
        "format": FORMAT_VERSION,
        "store_id": store_id.hex,
        "created_at_ms": now_ms,
    }
    # First the file that the log begins in: a store without one has lost it.
    files.close(files.open(directory / (FIRST_SEGMENT + TEMPORARY_SUFFIX), create=True))
    files.sync_directory(directory)
    files.write_file(directory / IDENTITY, encode_note(note))
    files.sync_directory(directory.parent)
    return store_id.bytes


def read_stopped(directory: Path, files: Files) -> Stopped | None:
    """Where the log ended at the last orderly stop; None after any other."""
    try:
        note = decode_note(files.read_file(directory / STOPPED))
    except FileNotFoundError:
        return None
    return msgspec.convert(note, Stopped) if note is not None else None


def write_stopped(directory: Path, files: Files, stopped: Stopped) -> None:
    """Record where the log ends, when the store is closed."""
    files.write_file(directory / STOPPED, encode_note(msgspec.to_builtins(stopped)))


def forget_stopped(directory: Path, files: Files) -> None:
    """Take the record back, durably, before the log grows."""
    files.unlink(directory / STOPPED)
    files.sync_directory(directory)


def note_relaxed(directory: Path, files: Files) -> None:
    """Record that changes are acknowledged before they are durable (file `RELAXED`).

    After a crash, revisions that were lost may have been seen: the next start skips some. Written
    even when it is there: its name may never have become durable.
    """
    files.write_file(directory / RELAXED, encode_note({"acknowledged": "before the sync"}))
