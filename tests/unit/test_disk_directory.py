"""Who may open a directory, and what every refusal says."""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import stat
from pathlib import Path

import pytest

from iii_state.core.commands import Get, Set
from iii_state.errors import (
    OutcomeUnknown,
    StoreDamaged,
    StoreForeign,
    StoreLocked,
    StoreNotWritable,
    StoreTooNew,
    StoreUnusable,
)
from iii_state.stores.disk.directory import IDENTITY, STOPPED, decode_note, encode_note
from iii_state.stores.disk.files import Files
from iii_state.stores.disk.inspection import check_store, dump_store
from iii_state.stores.disk.lock import LOCK
from iii_state.stores.disk.store import DiskStore
from iii_state.testing.clocks import FakeClock


async def open_store(directory: Path) -> DiskStore:
    return await DiskStore.open(directory, clock_ms=FakeClock())


def contents(directory: Path) -> dict[str, bytes]:
    """What all files hold, but for the lock."""
    return {path.name: path.read_bytes() for path in directory.iterdir() if path.name != LOCK}


async def write_one(directory: Path) -> None:
    store = await open_store(directory)
    store.execute(Set("s", "k", b"1"))
    await store.commit()
    await store.close()


async def test_a_directory_that_does_not_exist_is_made(tmp_path: Path) -> None:
    await write_one(tmp_path / "deep" / "data")

    store = await open_store(tmp_path / "deep" / "data")
    entry = store.execute(Get("s", "k")).entry
    await store.close()

    assert entry is not None
    assert store.info().directory == str(tmp_path / "deep" / "data")


async def test_a_second_opener_is_told_who_has_it(tmp_path: Path) -> None:
    store = await open_store(tmp_path)

    with pytest.raises(StoreLocked) as refusal:
        await open_store(tmp_path)
    with pytest.raises(StoreLocked):
        check_store(tmp_path)
    with pytest.raises(StoreLocked):
        next(dump_store(tmp_path))

    assert refusal.value.details["pid"] == os.getpid()
    assert str(os.getpid()) in refusal.value.message
    await store.close()
    await (await open_store(tmp_path)).close()


async def test_a_removed_lock_file_lets_nobody_in(tmp_path: Path) -> None:
    store = await open_store(tmp_path)
    (tmp_path / LOCK).unlink()

    with pytest.raises(StoreLocked, match="in use by another process"):
        check_store(tmp_path)
    assert not (tmp_path / LOCK).exists()
    for _ in range(2):
        with pytest.raises(StoreLocked, match="in use by another process") as refusal:
            await open_store(tmp_path)
    with pytest.raises(StoreLocked):
        next(dump_store(tmp_path))

    assert refusal.value.details == {"directory": str(tmp_path), "pid": 0}
    await store.close()
    await (await open_store(tmp_path)).close()


async def test_a_process_that_was_handed_the_directory_does_not_hold_its_lock(
    tmp_path: Path,
) -> None:
    """As the one that merges was, which may outlive a killed server for a moment."""
    files = Files()
    store = await DiskStore.open(tmp_path, clock_ms=FakeClock(), files=files)
    within = files.entered(tmp_path)
    assert within is not None
    handed = os.dup(within)

    await store.close()

    await (await open_store(tmp_path)).close()
    os.close(handed)


async def test_a_file_system_that_cannot_lock_directories_still_has_the_lock_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def flock(fd: int, operation: int) -> None:
        if stat.S_ISDIR(os.fstat(fd).st_mode):
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))
        locks(fd, operation)

    locks = fcntl.flock
    monkeypatch.setattr(fcntl, "flock", flock)
    store = await open_store(tmp_path)

    with pytest.raises(StoreLocked, match=str(os.getpid())):
        await open_store(tmp_path)

    await store.close()


async def test_a_refused_opener_leaves_the_first_one_alone(tmp_path: Path) -> None:
    store = await open_store(tmp_path)
    with pytest.raises(StoreLocked):
        await open_store(tmp_path)

    outcome = store.execute(Set("s", "k", b"1"))
    await store.commit()

    assert outcome.failure is None
    with pytest.raises(StoreLocked):
        await open_store(tmp_path)
    await store.close()


async def test_the_data_of_the_original_engine_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "users.bin").write_bytes(b"data")

    with pytest.raises(StoreForeign, match=r"original iii engine .*users\.bin.* untouched"):
        await open_store(tmp_path)
    with pytest.raises(StoreForeign):
        check_store(tmp_path)

    assert contents(tmp_path) == {"users.bin": b"data"}


async def test_a_directory_with_other_files_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")

    with pytest.raises(StoreForeign, match=r"notes\.txt"):
        await open_store(tmp_path)

    assert contents(tmp_path) == {"notes.txt": b"mine"}


async def test_a_place_that_is_no_directory_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    with pytest.raises(StoreNotWritable) as refusal:
        await open_store(tmp_path / "file")
    with pytest.raises(StoreNotWritable):
        await open_store(tmp_path / "file" / "below")

    assert refusal.value.details["directory"] == str(tmp_path / "file")


async def test_a_path_that_no_message_could_name_is_refused(tmp_path: Path) -> None:
    directory = tmp_path / os.fsdecode(b"caf\xe9")

    with pytest.raises(StoreUnusable, match=r"caf\\udce9 is not UTF-8"):
        await open_store(directory)

    assert not directory.exists()


async def test_a_newer_format_is_refused(tmp_path: Path) -> None:
    await write_one(tmp_path)
    note = decode_note((tmp_path / IDENTITY).read_bytes())
    assert note is not None
    (tmp_path / IDENTITY).write_bytes(encode_note({**note, "format": 99}))

    with pytest.raises(StoreTooNew) as refusal:
        await open_store(tmp_path)
    with pytest.raises(StoreTooNew):
        check_store(tmp_path)

    assert refusal.value.details == {"found": 99, "supported": 1}


async def test_segments_of_another_store_are_refused(tmp_path: Path) -> None:
    await write_one(tmp_path / "one")
    await write_one(tmp_path / "two")
    name = "0000000001-0000000001.seg"
    shutil.copy(tmp_path / "two" / name, tmp_path / "one" / name)

    with pytest.raises(StoreDamaged, match="another store"):
        await open_store(tmp_path / "one")


async def test_a_copied_store_is_a_store(tmp_path: Path) -> None:
    await write_one(tmp_path / "one")
    shutil.copytree(tmp_path / "one", tmp_path / "two")

    store = await open_store(tmp_path / "two")

    assert store.execute(Get("s", "k")).entry is not None
    await store.close()


async def test_opening_and_closing_without_a_write_changes_no_file(tmp_path: Path) -> None:
    await write_one(tmp_path)
    before = contents(tmp_path)

    await (await open_store(tmp_path)).close()

    assert contents(tmp_path) == before
    assert STOPPED in before


async def test_a_small_store_stays_small_on_disk(tmp_path: Path) -> None:
    await write_one(tmp_path)

    assert sum(map(len, contents(tmp_path).values())) < 1000


async def test_a_write_into_a_vanished_directory_is_not_acknowledged(tmp_path: Path) -> None:
    store = await open_store(tmp_path / "data")
    shutil.rmtree(tmp_path / "data")

    outcome = store.execute(Set("s", "k", b"1"))
    await store.commit()

    assert isinstance(outcome.failure, OutcomeUnknown)
    assert not store.info().healthy
    await store.close()
