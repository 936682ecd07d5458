"""A data directory that is moved away while it is used, with another store begun at its path.

The check before a roll (`test_disk_roll.py`) can come too early: what is shown here is that a step
that was not checked reaches the directory that was entered all the same, and never the other one.
"""

from __future__ import annotations

import errno
import os
from pathlib import Path
from random import Random

import pytest

from iii_state.core.commands import Get, Set
from iii_state.core.store import Durability
from iii_state.stores.disk.directory import STOPPED
from iii_state.stores.disk.files import Files, SyncFailed
from iii_state.stores.disk.inspection import check_store
from iii_state.stores.disk.lock import LOCK
from iii_state.stores.disk.store import DiskStore
from iii_state.testing.clocks import FakeClock

KEYS = 40
VALUE_BYTES = 20_000


class Unchecked(Files):
    """Never finds out that the directory was moved."""

    def is_at(self, fd: int, path: Path) -> bool:
        """See `Files`."""
        return True


async def open_store(directory: Path, durability: Durability = "commit") -> DiskStore:
    return await DiskStore.open(
        directory,
        clock_ms=FakeClock(),
        durability=durability,
        sync_interval_ms=3_600_000,
        segment_bytes=600_000,
        history_bytes=1_000_000,
        files=Unchecked(),
    )


async def write(store: DiskStore, random: Random, rounds: int) -> dict[str, bytes]:
    """So many random writes; the last value of each key."""
    written = {}
    for _ in range(rounds):
        key = f"key {random.randrange(KEYS)}"
        written[key] = b'"%b"' % (random.choice([b"x", b"y"]) * random.randrange(VALUE_BYTES))
        outcome = store.execute(Set("s", key, written[key]))
        await store.commit()
        assert outcome.failure is None
    return written


def contents(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.iterdir()}


@pytest.mark.parametrize("durability", ["commit", "none"])
@pytest.mark.parametrize("is_stopped_once", [True, False])
async def test_a_store_that_was_moved_never_touches_the_one_at_its_path(
    tmp_path: Path, durability: Durability, is_stopped_once: bool
) -> None:
    home, away, random = tmp_path / "data", tmp_path / "moved", Random(1)
    first = await open_store(home, durability)
    mine = await write(first, random, 30)
    if is_stopped_once:
        await first.close()
        first = await open_store(home, durability)
    home.rename(away)
    second = await open_store(home)
    theirs = await write(second, random, 100)
    await second.close()
    second = await open_store(home)
    await second.compact()
    before = contents(home)
    assert STOPPED in before

    mine |= await write(first, random, 400)
    await first.compact()
    merged = [path for path in away.glob("*.seg") if len({*path.stem.split("-")}) == 2]
    mine |= await write(first, random, 50)
    await first.close()

    found = contents(home)
    assert {**found, LOCK: b""} == {**before, LOCK: b""}
    assert merged, "merges, of more than a process of its own is worth, follow the directory"
    await second.close()
    for directory, values in ((home, theirs), (away, mine)):
        assert check_store(directory).is_intact
        store = await open_store(directory)
        for key, value in values.items():
            entry = store.execute(Get("s", key)).entry
            assert entry is not None
            assert entry.value == value
        await store.close()


async def test_a_directory_is_let_go_of_with_its_lock(tmp_path: Path) -> None:
    before = len(os.listdir("/dev/fd"))
    store = await open_store(tmp_path / "data")
    await write(store, Random(2), 50)
    await store.close()

    assert len(os.listdir("/dev/fd")) == before


def test_a_second_one_who_enters_leaves_the_first_one_its_directory(tmp_path: Path) -> None:
    files, home, away = Files(), tmp_path / "data", tmp_path / "moved"
    home.mkdir()
    held = files.enter(home, LOCK)
    files.close(files.enter(home, LOCK))
    home.rename(away)
    home.mkdir()

    files.write_file(home / "note", b"1")
    names_held = files.names(home)
    files.close(held)

    assert names_held == [LOCK, "note"]
    assert sorted(contents(away)) == [LOCK, "note"]
    assert files.names(home) == [] == list(home.iterdir())


def test_a_directory_that_cannot_be_entered_is_not_kept(tmp_path: Path) -> None:
    files = Files()
    before = len(os.listdir("/dev/fd"))

    with pytest.raises(IsADirectoryError):
        files.enter(tmp_path, ".")
    with pytest.raises(FileNotFoundError):
        files.enter(tmp_path / "absent", LOCK)

    assert files.entered(tmp_path) is None
    assert len(os.listdir("/dev/fd")) == before


def test_a_sync_that_fails_is_told_from_a_file_that_is_refused(tmp_path: Path) -> None:
    reading, writing = os.pipe()

    with pytest.raises(SyncFailed) as failure:
        Files().sync(writing)

    assert failure.value.errno == errno.EINVAL
    os.close(reading)
    os.close(writing)
