"""Pages of large scopes on disk: what they cost, and that they miss nothing meanwhile."""

from __future__ import annotations

import asyncio
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from iii_state.core.changes import Entry
from iii_state.core.commands import (
    Command,
    Count,
    Delete,
    Get,
    GetMany,
    ListEntries,
    ListKeys,
    Outcome,
    Set,
)
from iii_state.errors import LimitExceeded, StorageError, StoreDamaged
from iii_state.stores.disk.files import Files
from iii_state.stores.disk.store import DiskStore
from iii_state.testing.clocks import FakeClock

UNBOUNDED = 1 << 40
SHARDED = 6000
"""More keys than one table of the index takes."""


class CountingFiles(Files):
    """Files that count how often they are read from, and may refuse it, or give too little."""

    reads = 0
    is_failing = False
    bytes_max = UNBOUNDED

    def read(self, fd: int, size: int, offset: int) -> bytes:
        self.reads += 1
        if self.is_failing:
            raise OSError(5, "Input/output error")
        return super().read(fd, size, offset)[: self.bytes_max]


class CountingExecutor(ThreadPoolExecutor):
    """Threads that count what they are given."""

    tasks = 0

    def submit(self, *args: Any, **kwargs: Any) -> Future[Any]:
        CountingExecutor.tasks += 1
        return super().submit(*args, **kwargs)


async def open_store(
    directory: Path,
    *,
    cache_bytes: int = 0,
    files: Files | None = None,
    segment_bytes: int = 1 << 20,
    executor: Any = ThreadPoolExecutor,
) -> DiskStore:
    return await DiskStore.open(
        directory,
        clock_ms=FakeClock(),
        durability="none",
        cache_bytes=cache_bytes,
        segment_bytes=segment_bytes,
        history_bytes=0,
        files=files,
        executor=executor,
    )


async def write(store: DiskStore, *commands: Set | Delete) -> None:
    for command in commands:
        store.execute(command)
    await store.commit()


async def fill(store: DiskStore, keys: int, size: int = 1) -> None:
    await write(store, *(Set("s", f"{n}", b"1" * size) for n in range(keys)))


async def finish(outcome: Outcome) -> list[Any]:
    if outcome.reading is not None:
        await outcome.reading
    if outcome.failure is not None:
        raise outcome.failure
    assert outcome.settled
    return list(outcome.values)


def keys_of(entries: list[tuple[str, Entry]]) -> list[str]:
    return [key for key, _ in entries]


@pytest.mark.parametrize("cache_bytes", [0, 1 << 24])
async def test_the_first_page_of_a_large_scope_is_prepared_off_the_loop(
    tmp_path: Path, cache_bytes: int
) -> None:
    store = await open_store(tmp_path, cache_bytes=cache_bytes)
    await fill(store, SHARDED)

    commands: list[Command] = [
        ListEntries("s", 0, 10, UNBOUNDED),
        ListKeys("s", UNBOUNDED, limit=10),
        Count("s", "1"),
    ]
    first = [store.execute(command) for command in commands]
    assert all(outcome.reading is not None for outcome in first)
    expected = [await finish(outcome) for outcome in first]
    again = [store.execute(command) for command in commands[:2]]

    assert all(outcome.reading is None for outcome in again)
    assert [list(outcome.values) for outcome in again] == expected[:2]
    assert keys_of(expected[0]) == [f"{n}" for n in range(10)]
    assert expected[2] == [1111, 1111]
    await store.close()


async def test_a_later_page_reads_what_it_shows_and_little_more(tmp_path: Path) -> None:
    files = CountingFiles()
    store = await open_store(tmp_path, files=files)
    await fill(store, SHARDED)
    await finish(store.execute(ListEntries("s", 0, 10, UNBOUNDED)))
    await write(store, *(Set("s", f"new {n}", b"1") for n in range(20)))

    files.reads = 0
    page = await finish(store.execute(ListEntries("s", 3000, 10, UNBOUNDED)))
    after_writes, files.reads = files.reads, 0
    await finish(store.execute(ListEntries("s", 4000, 10, UNBOUNDED)))

    assert keys_of(page) == [f"{n}" for n in range(3000, 3010)]
    assert after_writes < 250  # the ends of 61 tables, and some keys there
    assert files.reads == 10
    await store.close()


async def test_those_who_ask_together_wait_for_one_preparation(tmp_path: Path) -> None:
    CountingExecutor.tasks = 0
    store = await open_store(tmp_path, executor=CountingExecutor)
    await fill(store, SHARDED)
    before = CountingExecutor.tasks
    alone = await finish(store.execute(ListEntries("s", 0, 5, UNBOUNDED)))
    cost = CountingExecutor.tasks - before
    await write(store, *(Set("t", f"{n}", b"1") for n in range(SHARDED)))

    before = CountingExecutor.tasks
    outcomes = [store.execute(ListEntries("t", 0, 5, UNBOUNDED)) for _ in range(20)]
    pages = [await finish(outcome) for outcome in outcomes]

    assert CountingExecutor.tasks - before <= cost + 5  # twenty would cost twenty times as much
    assert all(keys_of(page) == keys_of(alone) for page in pages)
    await store.close()


async def test_a_page_that_is_prepared_misses_nothing_that_is_written_meanwhile(
    tmp_path: Path,
) -> None:
    store = await open_store(tmp_path)
    await fill(store, SHARDED)
    store.execute(Set("s", "pending", b"1"))
    store.execute(Delete("s", "0"))
    store.execute(Set("s", "1", b"2"))

    read = store.execute(ListEntries("s", 0, UNBOUNDED, UNBOUNDED))
    names = store.execute(ListKeys("s", UNBOUNDED, limit=SHARDED * 2))
    assert not read.settled
    for n in range(100):
        await write(store, Set("s", f"later {n}", b"1"), Delete("s", f"{n * 50 + 7}"))
        await asyncio.sleep(0)
    page, keys = await finish(read), await finish(names)

    gone = {f"{n * 50 + 7}" for n in range(100)}
    steady = [f"{n}" for n in range(1, SHARDED) if f"{n}" not in gone]
    assert [key for key in keys_of(page) if key not in gone] == [*steady, "pending"]
    assert dict(page)["1"].value == b"2"
    assert set(keys) >= {b'"%b"' % key.encode() for key in [*steady, "pending"]}
    follow = await finish(store.execute(ListEntries("s", page[-1][1].created_revision, 999, 9999)))
    assert keys_of(follow) == [f"later {n}" for n in range(100)]
    await store.close()


async def test_keys_that_come_back_again_and_again_are_met_once(tmp_path: Path) -> None:
    store = await open_store(tmp_path)
    await fill(store, 50)
    for round_ in range(60):
        await write(store, *(Delete("s", f"{n}") for n in range(50)))
        await write(store, Set("other", "k", b"1"))
        await write(store, *(Set("s", f"{n}", b"%d" % round_) for n in reversed(range(50))))
        page = await finish(store.execute(ListEntries("s", 0, 7, UNBOUNDED)))
        rest = await finish(
            store.execute(ListEntries("s", page[-1][1].created_revision, 99, UNBOUNDED))
        )
        keys = await finish(store.execute(ListKeys("s", UNBOUNDED, limit=99)))

        assert keys_of([*page, *rest]) == [f"{n}" for n in reversed(range(50))]
        assert keys == sorted(b'"%d"' % n for n in range(50))
    await store.close()


async def test_cold_keys_made_again_do_not_fill_a_page_with_nothing(tmp_path: Path) -> None:
    """An order may know a cold key twice; only its record tells where it belongs."""
    store = await open_store(tmp_path)
    await fill(store, 1000)
    await finish(store.execute(ListEntries("s", 0, 1, UNBOUNDED)))
    for at in range(0, 900, 100):
        keys = [f"{n}" for n in range(at, at + 100)]
        await write(store, *(Delete("s", key) for key in keys))
        await write(store, *(Set("s", key, b"2") for key in keys))
        await finish(store.execute(ListEntries("s", 0, 1, UNBOUNDED)))

    page = await finish(store.execute(ListEntries("s", 0, 150, UNBOUNDED)))

    assert keys_of(page) == [*(f"{n}" for n in range(900, 1000)), *(f"{n}" for n in range(50))]
    await store.close()


async def test_large_keys_made_again_take_no_room_where_they_were(tmp_path: Path) -> None:
    store = await open_store(tmp_path)
    await fill(store, 20)
    await finish(store.execute(ListEntries("s", 0, 1, UNBOUNDED)))
    for n in range(5):
        await write(store, Delete("s", f"{n}"))
        await write(store, Set("s", f"{n}", b"1" * 300_000))

    page = await finish(store.execute(ListEntries("s", 0, 999, 400_000)))

    assert keys_of(page) == [*(f"{n}" for n in range(5, 20)), "0", "1"]
    await store.close()


async def test_very_many_keys_are_counted_and_paged_in_turns(tmp_path: Path) -> None:
    store = await open_store(tmp_path, cache_bytes=1 << 24)
    await fill(store, 10_000)
    await write(store, *(Delete("s", f"{n}") for n in range(5_000, 10_000)))

    assert await finish(store.execute(Count("s", ""))) == [5000, 5000]
    assert await finish(store.execute(Count("s", "1"))) == [1111, 1111]
    keys = await finish(store.execute(ListKeys("s", UNBOUNDED, limit=9999)))
    assert keys == sorted(b'"%d"' % n for n in range(5000))
    read = store.execute(ListKeys("s", UNBOUNDED, limit=9999))
    assert read.reading is not None
    assert len(await finish(read)) == 5000
    await write(store, *(Set("s", f"x {n}", b"1") for n in range(6_000)))
    assert await finish(store.execute(Count("s", "x"))) == [6000, 6000]
    await store.close()


async def test_one_key_in_very_many_is_found_by_its_prefix(tmp_path: Path) -> None:
    store = await open_store(tmp_path)
    await fill(store, 20_000)
    await write(store, Set("s", "needle", b"1"))

    for _ in range(2):
        read = store.execute(ListEntries("s", 0, 5, UNBOUNDED, "needle"))
        assert read.reading is not None
        assert keys_of(await finish(read)) == ["needle"]
    await store.close()


async def test_a_page_ends_at_its_bytes_also_among_unequal_values(tmp_path: Path) -> None:
    store = await open_store(tmp_path)
    await fill(store, 2000)
    await write(store, *(Set("s", f"large {n}", b"1" * 300_000) for n in range(5)))

    page = await finish(store.execute(ListEntries("s", 1995, 999, 700_000)))

    assert [len(entry.value) for _, entry in page] == [1] * 5 + [300_000] * 3
    await store.close()


async def test_compaction_does_not_pull_files_from_under_a_page(tmp_path: Path) -> None:
    store = await open_store(tmp_path, segment_bytes=50_000)
    await fill(store, SHARDED, 100)
    for round_ in range(3):
        for at in range(0, SHARDED, 200):
            await write(
                store, *(Set("s", f"{n}", b"%d" % round_ * 100) for n in range(at, at + 150))
            )
        reads = [
            store.execute(ListEntries("s", 0, UNBOUNDED, UNBOUNDED)),
            store.execute(Count("s", "1")),
        ]
        await store.compact()
        page, count = [await finish(read) for read in reads]
        assert keys_of(page) == [f"{n}" for n in range(SHARDED)]
        assert count == [1111, 111_100]
    await store.close()


async def test_many_cold_keys_are_read_in_a_thread(tmp_path: Path) -> None:
    store = await open_store(tmp_path)
    await fill(store, 500)
    store.execute(Set("s", "3", b"2"))
    places = tuple(("s", f"{n}") for n in (3, 500, *range(499)))

    read = store.execute(GetMany(places, UNBOUNDED))
    await store.commit()
    entries = await finish(read)

    assert [entry and entry.value for entry in entries[:4]] == [b"2", None, b"1", b"1"]
    assert len(entries) == 501
    too_much = store.execute(GetMany(places, 499))
    with pytest.raises(LimitExceeded, match="501 keys"):
        await finish(too_much)
    assert len(await finish(store.execute(GetMany(places, 500)))) == 501
    await store.close()


async def test_keys_in_memory_are_read_at_once(tmp_path: Path) -> None:
    store = await open_store(tmp_path, cache_bytes=1 << 24)
    await fill(store, 500)
    places = tuple(("s", f"{n}") for n in range(500))

    read = store.execute(GetMany(places, UNBOUNDED))

    assert read.reading is None
    assert len(read.values) == 500
    await store.close()


@pytest.mark.parametrize("keys", [50, SHARDED])
async def test_a_disk_that_cannot_be_read_fails_the_page_and_not_the_next(
    tmp_path: Path, keys: int
) -> None:
    files = CountingFiles()
    store = await open_store(tmp_path, files=files)
    await fill(store, keys)

    files.is_failing = True
    for command in (ListEntries("s", 0, 9, UNBOUNDED), Count("s", "1")):
        with pytest.raises(StorageError, match="cannot be read"):
            await finish(store.execute(command))
    files.is_failing = False

    assert len(await finish(store.execute(ListEntries("s", 0, 9, UNBOUNDED)))) == 9
    assert (await finish(store.execute(Count("s", "1"))))[0]
    await store.close()


async def test_a_record_that_is_cut_off_is_damage(tmp_path: Path) -> None:
    files = CountingFiles()
    store = await open_store(tmp_path, files=files)
    await fill(store, 50)

    files.bytes_max = 20
    with pytest.raises(StoreDamaged):
        store.execute(ListEntries("s", 0, 9, UNBOUNDED))
    files.bytes_max = UNBOUNDED
    await store.close()


async def test_a_scope_that_was_emptied_and_made_again_is_listed_anew(tmp_path: Path) -> None:
    store = await open_store(tmp_path)
    for round_ in range(3):
        await fill(store, 100)
        page = await finish(store.execute(ListEntries("s", 0, 999, UNBOUNDED)))
        keys = await finish(store.execute(ListKeys("s", UNBOUNDED, limit=999)))
        assert keys_of(page) == [f"{n}" for n in range(100)]
        assert page[0][1].created_revision == 200 * round_ + 1
        assert len(keys) == 100
        await write(store, *(Delete("s", f"{n}") for n in range(100)))
        assert await finish(store.execute(ListEntries("s", 0, 999, UNBOUNDED))) == []
        assert store.execute(Get("s", "0")).entry is None
    await store.close()


async def test_whoever_gives_up_a_page_leaves_it_to_the_others(tmp_path: Path) -> None:
    store = await open_store(tmp_path)
    await fill(store, SHARDED)
    given_up = store.execute(ListEntries("s", 0, 9, UNBOUNDED))
    waiting = store.execute(ListEntries("s", 0, 9, UNBOUNDED))
    await asyncio.sleep(0)

    assert isinstance(given_up.reading, asyncio.Task)
    given_up.reading.cancel()

    assert len(await finish(waiting)) == 9
    await store.close()
