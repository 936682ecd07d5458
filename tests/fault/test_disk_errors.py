"""A disk that fails or is full: what is acknowledged stays true, and writes are refused clearly."""

from __future__ import annotations

from random import Random

import pytest
from disk_story import DIRECTORY, NOTE, Story, model_of, open_store, state_of

from iii_state.core.changes import Change
from iii_state.core.commands import Delete, Get, ListScopes, ListValues, Set
from iii_state.core.store import Durability
from iii_state.errors import DiskFull, OutcomeUnknown, StateError, StoreDamaged, StoreReadOnly
from iii_state.stores.disk.inspection import check_store
from iii_state.stores.disk.recovery import RELAXED_GAP
from iii_state.stores.disk.store import DiskStore
from iii_state.testing.clocks import FakeClock
from iii_state.testing.faulty_files import FaultyFiles


async def opened(durability: Durability = "commit") -> tuple[DiskStore, FaultyFiles]:
    files = FaultyFiles()
    store = await open_store(files, durability)
    store.execute(Set("a", "key 0", b'"kept"'))
    await store.commit()
    return store, files


def fill(files: FaultyFiles) -> None:
    """Leave no room on the disk."""
    files.room_bytes = sum(len(files.contents(path)) for path in files.paths())


async def test_a_failed_sync_leaves_the_outcome_unknown_and_says_so() -> None:
    store, files = await opened()
    files.failing_sync = files.syncs + 1
    write = store.execute(Set("a", "key 0", b'"doubtful"'))

    assert list(await store.commit()) == []

    assert write.settled
    assert isinstance(write.failure, OutcomeUnknown)
    assert write.change is None


async def test_after_a_failed_sync_reads_go_on_and_writes_are_refused() -> None:
    store, files = await opened()
    files.failing_sync = files.syncs + 1
    store.execute(Set("a", "key 0", b'"doubtful"'))
    read = store.execute(Get("a", "key 0"))
    await store.commit()

    with pytest.raises(StoreReadOnly):
        store.execute(Set("a", "key 1", b"1"))
    assert read.settled
    for entry in (read.entry, store.execute(Get("a", "key 0")).entry):
        assert entry is not None
        assert entry.value == b'"kept"'
    assert store.execute(ListValues("a", 100)).values == [b'"kept"']
    assert store.revision == 1
    assert [change.revision for change in store.changes(0, 10, 1000)] == [1]


async def test_a_store_that_refuses_writes_says_why() -> None:
    store, files = await opened()
    assert store.info().healthy
    files.failing_sync = files.syncs + 1
    store.execute(Set("a", "key 0", b"1"))
    await store.commit()

    info = store.info()

    assert not info.healthy
    assert "restart" in info.problem


async def test_what_is_executed_while_a_sync_fails_is_refused_not_lost_in_doubt() -> None:
    """Only what was on its way to the disk is unknown; what waited behind it was not written."""
    store, files = await opened()
    outcomes = [store.execute(Set("a", f"key {n}", b"0" * 200_000)) for n in range(60)]
    files.failing_sync = files.syncs + 1

    await store.commit()

    kinds = [type(outcome.failure) for outcome in outcomes]
    unknown = kinds.index(StoreReadOnly)
    assert set(kinds[:unknown]) == {OutcomeUnknown}
    assert set(kinds[unknown:]) == {StoreReadOnly}


@pytest.mark.parametrize("durability", ["interval", "none"])
async def test_a_failed_sync_in_a_weaker_mode_stops_writes_too(durability: Durability) -> None:
    store, files = await opened(durability)
    files.failing_sync = files.syncs + 1

    failures = []
    for _ in range(100):
        try:
            outcome = store.execute(Set("a", "key 1", b"0" * 500))
        except StoreReadOnly:
            break
        await store.commit()
        failures.append(outcome.failure)

    assert len(failures) < 20
    assert not store.info().healthy
    await store.close()


async def test_whatever_sync_fails_nothing_acknowledged_is_lost() -> None:
    files, story = FaultyFiles(), Story()
    await story.live(files, Random(3), 60)
    for failing in range(1, files.syncs + 1):
        files, story = FaultyFiles(), Story()
        files.failing_sync = failing
        try:
            await story.live(files, Random(3), 60)
        except (StateError, OSError):
            store = await open_store(files.after_power_cut(Random(failing)))
            assert store.revision >= story.acknowledged
            assert state_of(store) == story.model_at(store.revision)
            await store.close()


async def test_a_write_without_room_is_refused_and_changes_nothing() -> None:
    store, files = await opened()
    fill(files)
    outcomes = [store.execute(Set("a", f"key {n}", b"0" * 2000)) for n in range(3)]
    reads = [
        store.execute(Get("a", "key 1")),
        store.execute(ListValues("a", 1 << 20)),
        store.execute(ListScopes()),
    ]

    assert list(await store.commit()) == []

    assert all(isinstance(outcome.failure, DiskFull) for outcome in outcomes)
    assert all(outcome.change is None for outcome in outcomes)
    assert all(read.settled and read.failure is None for read in reads)
    assert reads[0].entry is None
    assert reads[1].values == [b'"kept"']
    assert reads[2].values == [b'"a"']
    assert store.revision == 1
    assert not store.info().healthy


async def test_a_full_disk_refuses_at_once_until_there_is_room() -> None:
    store, files = await opened()
    fill(files)
    store.execute(Set("a", "key 0", b"0" * 4000))
    await store.commit()

    with pytest.raises(DiskFull):
        store.execute(Set("a", "key 0", b"0" * 4000))
    files.room_bytes = None
    outcome = store.execute(Set("a", "key 0", b'"again"'))
    await store.commit()

    assert outcome.failure is None
    assert outcome.change is not None
    assert outcome.change.revision == 2
    assert outcome.change.before == b'"kept"'
    assert store.info().healthy
    await store.close()
    store = await open_store(files)
    entry = store.execute(Get("a", "key 0")).entry
    assert entry is not None
    assert entry.value == b'"again"'
    await store.close()


async def test_a_small_write_still_fits_into_what_was_set_aside() -> None:
    """The zeros ahead of the log are room that is there already."""
    store, files = await opened()
    fill(files)
    large = store.execute(Set("a", "key 0", b"0" * 4000))
    await store.commit()
    assert isinstance(large.failure, DiskFull)

    for _ in range(3):
        small = store.execute(Set("a", "key 1", b"1"))
        await store.commit()
        if isinstance(small.failure, DiskFull):
            break

    files.room_bytes = None
    last = store.execute(Set("a", "key 2", b"2"))
    await store.commit()
    assert last.failure is None
    await store.close()


@pytest.mark.parametrize("part", range(2))
async def test_however_little_room_there_is_nothing_acknowledged_is_lost(part: int) -> None:
    for room in range(400 + 37 * part, 9000, 74):
        files, random = FaultyFiles(), Random(room)
        files.room_bytes = room
        acknowledged: list[Change] = []
        try:
            store = await open_store(files)
        except (StateError, OSError):
            continue
        for _ in range(60):
            try:
                outcome = store.execute(
                    Set("a", f"key {random.randrange(12)}", b"0" * random.randrange(300))
                )
            except DiskFull:
                continue
            await store.commit()
            assert isinstance(outcome.failure, DiskFull | None)
            if outcome.change is not None:
                acknowledged.append(outcome.change)
        assert state_of(store) == model_of(acknowledged)

        store = await open_store(files.after_power_cut(random))

        assert state_of(store) == model_of(acknowledged)
        assert store.revision == len(acknowledged)
        await store.close()


async def test_a_full_disk_gives_no_skipped_revision_away() -> None:
    """The first write after a crash in a weaker mode finds no room; its successor still skips."""
    store, files = await opened("none")
    survivor = files.copy()
    store = await open_store(survivor)
    fill(survivor)
    refused = store.execute(Set("a", "key 1", b"0" * 4000))
    await store.commit()
    assert isinstance(refused.failure, DiskFull)

    survivor.room_bytes = None
    outcome = store.execute(Set("a", "key 1", b"1"))

    assert outcome.change is not None
    assert outcome.change.revision == RELAXED_GAP + 2
    await store.close()


async def test_a_list_that_is_read_again_and_cannot_be_says_so() -> None:
    """The commit that it waited for failed; it is read anew, beside the loop, and meets damage."""
    files = FaultyFiles()
    store = await open_store(files)
    for number in range(1500):
        store.execute(Set("a", f"{number}", b'"%06d"' % number))
    await store.commit()
    await store.close()
    store = await open_store(files)
    [path] = [path for path in files.paths() if b'"000700"' in files.contents(path)]
    files.rot(path, files.contents(path).index(b'"000700"') + 3)
    files.failing_sync = files.syncs + 1
    store.execute(Set("a", "new", b"1"))
    listed = store.execute(ListValues("a", 1 << 30))

    await store.commit()

    while (reading := listed.reading) is not None:
        await reading
        if listed.reading is reading:
            listed.reading = None
    assert listed.settled
    assert isinstance(listed.failure, StoreDamaged)


async def opened_without_history(files: FaultyFiles) -> DiskStore:
    return await DiskStore.open(
        DIRECTORY, clock_ms=FakeClock(), segment_bytes=64 << 10, history_bytes=0, files=files
    )


async def refuse_first_block(store: DiskStore, files: FaultyFiles) -> None:
    """Roll, find no room for the block that follows, and merge what is behind."""
    fill(files)
    files.room_bytes = (files.room_bytes or 0) + (64 << 10) + 3000
    large = store.execute(Set("b", "k", b'"%b"' % (b"y" * 300_000)))
    await store.commit()
    assert isinstance(large.failure, DiskFull)
    files.room_bytes = None
    await store.compact()


async def test_notes_outlive_a_new_segment_whose_first_block_finds_no_room() -> None:
    """They are in the first block of each segment, and merging drops them from those before."""
    files = FaultyFiles()
    store = await opened_without_history(files)
    store.note(NOTE, "durable", b"precious")
    for size in [20_000] * 12 + [9_000] * 4:
        store.execute(Set("a", "k", b'"%b"' % (b"x" * size)))
        await store.commit()
    await refuse_first_block(store, files)
    await store.close()

    store = await opened_without_history(files)

    assert store.notes(NOTE) == {"durable": b"precious"}
    await store.close()


async def test_the_newest_revision_is_known_though_its_delete_was_merged_away() -> None:
    files = FaultyFiles()
    store = await opened_without_history(files)
    for size in [20_000] * 12 + [9_000] * 4:
        store.execute(Set("a", "k", b'"%b"' % (b"x" * size)))
        await store.commit()
    store.execute(Delete("a", "k"))
    await store.commit()
    await refuse_first_block(store, files)

    after_a_kill = await opened_without_history(files.copy())

    assert after_a_kill.revision == after_a_kill.executed_revision == store.revision == 17
    assert check_store(DIRECTORY, files=files.copy()).revision == 17
    await after_a_kill.close()
    await store.close()
