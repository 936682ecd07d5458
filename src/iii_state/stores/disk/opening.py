"""Opening a directory: from a path to all that a store is made of."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

from iii_state.stores.disk.directory import claim
from iii_state.stores.disk.files import Files
from iii_state.stores.disk.lock import Lock
from iii_state.stores.disk.log import Log
from iii_state.stores.disk.recovery import Recovery
from iii_state.stores.disk.refusals import not_opened, require_text
from iii_state.stores.disk.retention import Retention


class Opened(NamedTuple):
    """The parts of a store, as its directory has them."""

    lock: Lock
    recovery: Recovery
    log: Log
    retention: Retention


def open_directory(
    directory: Path,
    files: Files,
    clock_ms: Callable[[], int],
    *,
    segment_bytes: int,
    history_bytes: int,
) -> Opened:
    """Lock a directory and recover what is in it, or begin a new store there. Reads the disk.

    Raises:
        StoreUnusable: what is wrong with the directory; nothing in it was touched, nothing is open.
        TooManyFiles, DiskFull: what the system is short of.
    """
    require_text(directory)
    try:
        with ExitStack() as opened:
            lock, store_id = claim(directory, files, clock_ms())
            opened.callback(lock.release)
            recovery = Recovery(directory, files, store_id)
            recovery.run()
            opened.callback(recovery.segments.close)
            retention = Retention(recovery.segments, history_bytes)
            log = Log(directory, recovery.segments, store_id, clock_ms, segment_bytes)
            opened.callback(log.release)
            log.base_revision = retention.revision
            log.is_stopped = recovery.stopped is not None
            log.resume(recovery.sequence)
            retention.trim(held=0)  # who needs what is not known before the store is open
            opened.pop_all()
            return Opened(lock, recovery, log, retention)
    except OSError as error:
        raise not_opened(directory, error) from error
