"""The disk store beyond the contract: memory bounds, long lists, modes, stops and crashes."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path

import pytest

from iii_state.core.changes import Change
from iii_state.core.commands import Delete, Get, ListKeys, ListValues, Set
from iii_state.core.store import Durability
from iii_state.errors import InvalidRequest, LimitExceeded, RevisionCompacted
from iii_state.stores.disk.directory import RELAXED, STOPPED
from iii_state.stores.disk.files import Files
from iii_state.stores.disk.index import RESIDENT_OVERHEAD_BYTES
from iii_state.stores.disk.inspection import check_store
from iii_state.stores.disk.recovery import RELAXED_GAP
from iii_state.stores.disk.store import DiskStore
from iii_state.stores.disk.writer import INLINE_CHANGES_MAX
from iii_state.testing.clocks import FakeClock
from iii_state.testing.executors import InlineExecutor
from iii_state.testing.faulty_files import FaultyFiles


async def open_store(
    directory: Path,
    *,
    durability: Durability = "commit",
    cache_bytes: int = 1 << 20,
    segment_bytes: int = 1 << 20,
    history_bytes: int = 1 << 30,
    sync_interval_ms: int = 3_600_000,
    files: Files | None = None,
) -> DiskStore:
    return await DiskStore.open(
        directory,
        clock_ms=FakeClock(),
        durability=durability,
        cache_bytes=cache_bytes,
        segment_bytes=segment_bytes,
        history_bytes=history_bytes,
        sync_interval_ms=sync_interval_ms,
        files=files,
    )


async def write(store: DiskStore, *commands: Set | Delete) -> list[Change]:
    outcomes = [store.execute(command) for command in commands]
    await store.commit()
    changes = [outcome.change for outcome in outcomes if outcome.change is not None]
    assert len(changes) == len(commands)
    return changes


def value(number: int, size: int = 100) -> bytes:
    return b'"%06d%b"' % (number, b"x" * (size - 8))


# -- memory ---------------------------------------------------------------------------------------


async def test_values_beyond_the_cache_are_read_from_disk(tmp_path: Path) -> None:
    room_for_ten = 10 * (100 + RESIDENT_OVERHEAD_BYTES)
    store = await open_store(tmp_path, cache_bytes=room_for_ten)
    await write(store, *(Set("s", f"{n}", value(n)) for n in range(200)))

    entries = [store.execute(Get("s", f"{n}")).entry for n in range(200)]

    assert [entry and entry.value for entry in entries] == [value(n) for n in range(200)]
    assert store.cached_bytes <= room_for_ten
    await store.close()


async def test_a_value_larger_than_the_cache_is_served(tmp_path: Path) -> None:
    store = await open_store(tmp_path, cache_bytes=100)
    large = value(1, 50_000)
    await write(store, Set("s", "k", large))

    entry = store.execute(Get("s", "k")).entry

    assert entry is not None
    assert entry.value == large
    assert store.cached_bytes <= 100
    await store.close()


async def test_deleting_and_making_keys_again_keeps_no_memory(tmp_path: Path) -> None:
    store = await open_store(tmp_path)
    for _ in range(30):
        await write(store, *(Set("s", f"{n}", b"1") for n in range(100)))
        await write(store, *(Delete("s", f"{n}") for n in range(100)))

    assert store.cached_bytes == 0
    assert store.info().scopes == 0
    await store.close()


async def test_a_scope_grows_into_shards_without_losing_a_key(tmp_path: Path) -> None:
    store = await open_store(tmp_path)
    keys = [f"key {n}" for n in range(6000)]
    await write(store, *(Set("s", key, b"1") for key in keys))
    await write(store, *(Delete("s", key) for key in keys[::2]))

    found = [key for key in keys if store.execute(Get("s", key)).entry is not None]

    assert found == keys[1::2]
    assert store.info().keys == 3000
    await store.close()


# -- lists ----------------------------------------------------------------------------------------


async def test_a_long_list_is_read_off_the_loop_and_in_order(tmp_path: Path) -> None:
    store = await open_store(tmp_path, cache_bytes=5000)
    await write(store, *(Set("s", f"{n}", value(n)) for n in range(3000)))
    await write(store, *(Set("s", f"{n}", value(n + 10_000)) for n in range(0, 3000, 7)))
    store.execute(Set("s", "pending", b"1"))
    store.execute(Delete("s", "1"))

    outcome = store.execute(ListValues("s", 1 << 30))

    assert outcome.reading is not None
    assert not outcome.settled
    await store.commit()
    await outcome.reading
    assert outcome.settled
    expected = [value(n + 10_000 if n % 7 == 0 else n) for n in range(3000) if n != 1]
    assert outcome.values == [*expected, b"1"]
    await store.close()


async def test_a_long_list_of_keys_is_sorted_off_the_loop(tmp_path: Path) -> None:
    store = await open_store(tmp_path)
    await write(store, *(Set("s", f"{n:05}", b"1") for n in range(3000)))

    outcome = store.execute(ListKeys("s", 1 << 30))
    assert outcome.reading is not None
    await outcome.reading
    small = store.execute(ListKeys("s", 8000))
    assert small.reading is not None
    await small.reading

    assert outcome.values == [b'"%05d"' % n for n in range(3000)]
    assert isinstance(small.failure, LimitExceeded)
    with pytest.raises(LimitExceeded):
        store.execute(ListKeys("s", 5999))
    await store.close()


async def test_compaction_does_not_pull_files_from_under_a_list(tmp_path: Path) -> None:
    store = await open_store(tmp_path, cache_bytes=0, segment_bytes=50_000, history_bytes=0)
    await write(store, *(Set("s", f"{n}", value(n)) for n in range(2000)))
    for round_ in range(2):
        for n in range(0, 1900, 100):
            await write(store, *(Set("s", f"{n + m}", value(round_)) for m in range(100)))
        before = store.execute(ListValues("s", 1 << 30))
        await store.compact()
        assert before.reading is not None
        await before.reading
        assert before.failure is None
        assert before.values == [value(round_)] * 1900 + [value(n) for n in range(1900, 2000)]
    await store.close()


# -- committing -----------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [1, INLINE_CHANGES_MAX + 1, 20_000])
async def test_a_commit_of_any_size_is_whole(tmp_path: Path, count: int) -> None:
    store = await open_store(tmp_path)
    changes = await write(store, *(Set("s", f"{n}", value(n)) for n in range(count)))
    await store.close()

    store = await open_store(tmp_path)

    assert store.revision == count
    assert list(store.changes(0, count, 1 << 40)) == changes
    await store.close()


async def test_a_commit_that_is_cancelled_still_counts(tmp_path: Path) -> None:
    store = await open_store(tmp_path)
    outcomes = [store.execute(Set("s", f"{n}", b"1")) for n in range(INLINE_CHANGES_MAX * 2)]
    commit = asyncio.ensure_future(store.commit())
    await asyncio.sleep(0)

    commit.cancel()
    await asyncio.wait([commit])

    assert all(outcome.settled for outcome in outcomes)
    assert store.revision == len(outcomes)
    assert all(outcome.failure is None for outcome in outcomes)
    await store.close()


async def test_a_name_that_is_no_text_is_refused_and_harms_nobody(tmp_path: Path) -> None:
    store = await open_store(tmp_path)
    good = store.execute(Set("s", "k", b"1"))

    with pytest.raises(InvalidRequest):
        store.execute(Set("s", "\ud800", b"1"))
    with pytest.raises(InvalidRequest):
        store.execute(Set("\ud800", "k", b"1"))

    await store.commit()
    assert good.failure is None
    await store.close()


# -- modes and stops ------------------------------------------------------------------------------


async def crash(store: DiskStore, files: FaultyFiles) -> FaultyFiles:
    """What a process that is killed leaves; the system has written everything by then."""
    survivor = files.copy()
    await store.close()
    return survivor


async def open_faulty(files: FaultyFiles, durability: Durability = "commit") -> DiskStore:
    return await DiskStore.open(
        Path("/data"),
        clock_ms=FakeClock(),
        durability=durability,
        sync_interval_ms=3_600_000,
        files=files,
        executor=InlineExecutor,
    )


async def test_an_interval_store_syncs_by_itself() -> None:
    files = FaultyFiles()
    store = await DiskStore.open(
        Path("/data"),
        clock_ms=FakeClock(),
        durability="interval",
        sync_interval_ms=1,
        files=files,
        executor=InlineExecutor,
    )
    await write(store, Set("s", "k", b"1"))
    synced = files.syncs
    while files.syncs == synced:
        await asyncio.sleep(0)

    assert store.info().durability == "interval"
    await store.close()


@pytest.mark.parametrize("durability", ["interval", "none"])
async def test_no_revision_is_used_twice_after_a_crash_of_a_weaker_mode(
    durability: Durability,
) -> None:
    files = FaultyFiles()
    store = await open_faulty(files, durability)
    await write(store, Set("s", "k", b"1"), Set("s", "k", b"2"))
    files = await crash(store, files)

    for attempt in range(1, 3):
        store = await open_faulty(files)
        assert store.revision == 2
        assert Path("/data") / RELAXED in files.paths()
        outcome = store.execute(Set("s", "k", b"3"))
        assert outcome.change is not None
        assert outcome.change.revision == 2 + RELAXED_GAP + 1
        if attempt == 1:
            files = await crash(await open_faulty(files.copy()), files)
    await store.commit()
    await store.close()

    store = await open_faulty(files)
    (after,) = await write(store, Set("s", "k", b"4"))
    assert after.revision == 2 + RELAXED_GAP + 2
    assert [c.revision for c in store.changes(0, 10, 1000)] == [
        1,
        2,
        RELAXED_GAP + 3,
        RELAXED_GAP + 4,
    ]
    await store.close()


async def test_an_orderly_stop_of_a_weaker_mode_skips_no_revision(tmp_path: Path) -> None:
    store = await open_store(tmp_path, durability="none")
    await write(store, Set("s", "k", b"1"))
    await store.close()

    store = await open_store(tmp_path)

    assert (await write(store, Set("s", "k", b"2")))[0].revision == 2
    await store.close()


async def test_a_torn_write_is_set_aside_and_reported(caplog: pytest.LogCaptureFixture) -> None:
    files = FaultyFiles()
    store = await open_faulty(files)
    await write(store, Set("s", "k", b"1"))
    files = await crash(store, files)
    segment = Path("/data/0000000001-0000000001.seg")
    data = files.contents(segment)
    end = len(data.rstrip(b"\0"))
    files.replace(segment, data[:end] + b"torn" + data[end + 4 :])
    caplog.set_level(logging.WARNING)

    store = await open_faulty(files)

    (torn,) = [path for path in files.paths() if path.suffix == ".torn"]
    assert files.contents(torn) == b"torn"
    assert torn.name in caplog.text
    assert store.revision == 1
    await write(store, Set("s", "k", b"2"))
    await store.close()
    assert check_store(Path("/data"), files).is_intact


async def test_closing_twice_is_closing_once(tmp_path: Path) -> None:
    store = await open_store(tmp_path)
    store.execute(Set("s", "k", b"1"))

    await store.close()
    await store.close()

    assert (tmp_path / STOPPED).exists()


# -- feed -----------------------------------------------------------------------------------------


async def test_the_feed_goes_on_across_compaction(tmp_path: Path) -> None:
    """Also the values before a change, whose records compaction has moved."""
    store = await open_store(tmp_path, segment_bytes=20_000, history_bytes=60_000)
    made: list[Change] = []
    for n in range(700):
        made += await write(store, Set("s", f"{n % 40}", value(n, 300)))
    await store.compact()
    await store.close()
    store = await open_store(tmp_path, segment_bytes=20_000, history_bytes=60_000)
    oldest = store.oldest_revision
    assert 0 < oldest < 690

    told: list[Change] = []
    while page := store.changes(told[-1].revision if told else oldest, 7, 1500):
        assert len(page) <= 7
        told += page

    assert told == made[oldest:]
    with pytest.raises(RevisionCompacted):
        store.changes(oldest - 1, 1, 1)
    await store.close()


async def test_space_is_given_back_while_serving(tmp_path: Path) -> None:
    store = await open_store(tmp_path, segment_bytes=50_000, history_bytes=50_000)
    for n in range(300):
        await write(store, *(Set("s", f"{m}", value(n + m, 200)) for m in range(20)))
    await store.compact()

    info = store.info()

    assert info.bytes == 20 * 200
    assert info.disk_bytes < 250_000
    entries = [store.execute(Get("s", f"{m}")).entry for m in range(20)]
    assert [entry and entry.value for entry in entries] == [value(299 + m, 200) for m in range(20)]
    await store.close()
    assert check_store(tmp_path).damage == []


async def test_changes_that_somebody_needs_are_held_up_to_a_bound(tmp_path: Path) -> None:
    store = await DiskStore.open(
        tmp_path, clock_ms=FakeClock(), segment_bytes=4096, history_bytes=16384
    )
    needed: list[int | None] = [0]
    store.hold(lambda: needed[0])

    async def write(kilobytes: int) -> None:
        for _ in range(kilobytes):
            store.execute(Set("s", "k", b"1" * 900))
            await store.commit()

    await write(50)
    held = store.oldest_revision
    needed[0] = 30
    await write(6)
    moved = store.oldest_revision
    await write(60)
    given_up = store.oldest_revision
    await store.close()

    assert held == 0
    assert 0 < moved <= 30
    assert given_up > 30


async def test_changes_that_somebody_needs_are_held_over_a_restart(tmp_path: Path) -> None:
    """Although nobody can say that they are needed before the store is open."""
    store = await open_store(tmp_path, segment_bytes=4096, history_bytes=16384)
    store.hold(lambda: 0)
    for _ in range(50):
        await write(store, Set("s", "k", value(0, 900)))
    await store.close()

    store = await open_store(tmp_path, segment_bytes=4096, history_bytes=16384)
    store.hold(lambda: 0)

    assert store.oldest_revision == 0
    assert len(store.changes(0, 100, 1 << 20)) == 50
    await store.close()
