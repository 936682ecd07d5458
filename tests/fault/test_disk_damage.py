"""Bit flips and truncations in every kind of file: detected or harmless, never a wrong value."""

from __future__ import annotations

from pathlib import Path
from random import Random

import pytest
from disk_story import DIRECTORY, SCOPES, Model, Story, open_store

from iii_state.core.commands import Get, ListValues
from iii_state.errors import StateError, StoreDamaged, StoreUnusable
from iii_state.stores.disk.directory import IDENTITY, STOPPED
from iii_state.stores.disk.inspection import DumpedEntry, check_store, dump_store
from iii_state.stores.disk.lock import LOCK
from iii_state.stores.disk.salvage import Damage
from iii_state.stores.disk.store import DiskStore
from iii_state.testing.faulty_files import FaultyFiles

STEPS = 50


@pytest.fixture
async def told() -> tuple[Story, FaultyFiles]:
    """A store that was closed in order, and what is in it."""
    files, story = FaultyFiles(), Story()
    await story.live(files, Random(5), STEPS)
    return story, files


@pytest.fixture
async def crashed() -> tuple[Story, FaultyFiles]:
    """The same store, but its last process was killed."""
    files, story = FaultyFiles(), Story()
    await story.live(files, Random(5), STEPS)
    store = await open_store(files)
    await story.write(store, Random(6))
    return story, files.copy()


def read_values(store: DiskStore) -> tuple[Model, int]:
    """What a store says, and how many keys it refuses to tell."""
    model: Model = {}
    refused = 0
    for scope in SCOPES:
        for number in range(12):
            key = f"key {number}"
            try:
                entry = store.execute(Get(scope, key)).entry
            except StoreDamaged:
                refused += 1
                continue
            if entry is not None:
                model[scope, key] = (entry.value, entry.created_revision)
        try:
            store.execute(ListValues(scope, 1 << 30))
        except StoreDamaged:
            refused += 1
    return model, refused


async def judge(story: Story, files: FaultyFiles) -> str:
    """Open a damaged store: `refused`, `refused in part`, or `harmless`; wrong values fail."""
    try:
        store = await open_store(files, cache_bytes=0)
    except StoreUnusable:
        return "refused"
    told, refused = read_values(store)
    revision = store.revision
    truth = story.model_at(revision)
    assert revision in story.ends()
    assert all(truth.get(key) == value for key, value in told.items())
    if refused:
        return "refused in part"
    assert told == truth
    try:
        kept = [c for c in story.changes if store.oldest_revision < c.revision <= revision]
        assert list(store.changes(store.oldest_revision, 10_000, 1 << 30)) == kept
    except StoreDamaged:
        return "refused in part"
    await store.close()
    return "harmless" if revision == story.acknowledged else "lost the last write"


def flipped(files: FaultyFiles, path: Path, offset: int, bit: int) -> FaultyFiles:
    damaged = files.copy()
    data = bytearray(files.contents(path))
    data[offset] ^= 1 << bit
    damaged.replace(path, bytes(data))
    return damaged


async def test_no_flipped_bit_is_ever_served(told: tuple[Story, FaultyFiles]) -> None:
    story, files = told
    random = Random(1)
    for path in files.paths():
        for offset in range(0, len(files.contents(path)), 23):
            damaged = flipped(files, path, offset, random.randrange(8))

            verdict = await judge(story, damaged)

            assert verdict != "lost the last write", (path.name, offset)
            if path.name != LOCK:
                again = flipped(files, path, offset, random.randrange(8))
                assert check_store(DIRECTORY, again).damage, (path.name, offset)


async def test_after_a_crash_a_flipped_bit_costs_the_last_write_at_most(
    crashed: tuple[Story, FaultyFiles],
) -> None:
    story, files = crashed
    assert DIRECTORY / STOPPED not in files.paths()
    last = max(path for path in files.paths() if path.suffix == ".seg")
    for offset in range(0, len(files.contents(last)), 5):
        damaged = flipped(files, last, offset, offset % 8)

        verdict = await judge(story, damaged)

        if verdict == "lost the last write":
            assert any(path.suffix == ".torn" for path in damaged.paths())


async def test_no_truncated_file_is_ever_served(told: tuple[Story, FaultyFiles]) -> None:
    story, files = told
    for path in files.paths():
        data = files.contents(path)
        for size in range(0, len(data), 37):
            damaged = files.copy()
            damaged.replace(path, data[:size])

            verdict = await judge(story, damaged)

            assert verdict != "lost the last write", (path.name, size)
            if path.suffix == ".seg" and data[size:].strip(b"\0"):
                assert verdict == "refused", (path.name, size)


async def test_no_removed_file_goes_unnoticed(told: tuple[Story, FaultyFiles]) -> None:
    story, files = told
    for path in files.paths():
        damaged = files.copy()
        damaged.remove(path)

        verdict = await judge(story, damaged)

        if path.suffix == ".seg" or path.name == IDENTITY:
            assert verdict == "refused", path.name
        else:
            assert verdict == "harmless", path.name


async def test_a_refusal_names_the_file_and_the_place(told: tuple[Story, FaultyFiles]) -> None:
    _, files = told
    last = max(path for path in files.paths() if path.suffix == ".seg")
    damaged = flipped(files, last, 200, 3)

    with pytest.raises(StoreDamaged) as refusal:
        await open_store(damaged)

    assert refusal.value.details["file"] == str(last)
    assert refusal.value.details["offset"] <= 200
    assert "revision" in refusal.value.details["readable"]
    assert "iii-state dump" in refusal.value.message


async def test_a_refused_store_is_left_as_it_was(told: tuple[Story, FaultyFiles]) -> None:
    _, files = told
    last = max(path for path in files.paths() if path.suffix == ".seg")
    damaged = flipped(files, last, 200, 3)
    before = {path: damaged.contents(path) for path in damaged.paths() if path.name != LOCK}

    with pytest.raises(StoreDamaged):
        await open_store(damaged)

    after = {path: damaged.contents(path) for path in damaged.paths() if path.name != LOCK}
    assert after == before


async def test_a_dump_saves_all_that_is_not_damaged(told: tuple[Story, FaultyFiles]) -> None:
    story, files = told
    truth = story.model_at(story.acknowledged)
    for path in files.paths():
        if path.suffix != ".seg":
            continue
        for offset in range(0, len(files.contents(path)), 61):
            damaged = flipped(files, path, offset, offset % 8)

            dumped = list(dump_store(DIRECTORY, damaged))

            entries = [item for item in dumped if isinstance(item, DumpedEntry)]
            assert any(isinstance(item, Damage) for item in dumped)
            written = {(c.scope, c.key, c.after, c.revision) for c in story.changes}
            assert all((e.scope, e.key, bytes(e.value), e.revision) in written for e in entries)
            known = {(entry.scope, entry.key) for entry in entries}
            assert len(truth.keys() - known) <= 8


async def test_a_dump_of_a_sound_store_is_its_state(told: tuple[Story, FaultyFiles]) -> None:
    story, files = told

    dumped = list(dump_store(DIRECTORY, files))

    entries = [item for item in dumped if isinstance(item, DumpedEntry)]
    assert entries == dumped
    state = {(e.scope, e.key): (bytes(e.value), e.created_revision) for e in entries}
    assert state == story.model_at(story.acknowledged)
    assert [(e.scope, e.created_revision) for e in entries] == sorted(
        (e.scope, e.created_revision) for e in entries
    )


async def test_a_check_of_a_sound_store_finds_nothing(told: tuple[Story, FaultyFiles]) -> None:
    story, files = told
    before = {path: files.contents(path) for path in files.paths()}

    report = check_store(DIRECTORY, files)

    assert report.is_intact
    assert report.damage == []
    assert report.revision == story.acknowledged
    assert {path: files.contents(path) for path in files.paths()} == before


async def test_a_check_after_a_crash_tells_a_torn_write_from_damage(
    crashed: tuple[Story, FaultyFiles],
) -> None:
    story, files = crashed
    assert check_store(DIRECTORY, files).damage == []
    last = max(path for path in files.paths() if path.suffix == ".seg")
    data = files.contents(last)
    end = len(data.rstrip(b"\0"))
    files.replace(last, data[: end - 10] + bytes(len(data) - end + 10))

    report = check_store(DIRECTORY, files)

    assert report.is_intact
    assert [damage.file for damage in report.damage] == [last.name]
    assert await judge(story, files) == "lost the last write"


async def test_a_read_that_fails_harms_nothing_else(told: tuple[Story, FaultyFiles]) -> None:
    """A record that rots while the store is open fails its own reads and writes only."""
    story, files = told
    truth = story.model_at(story.acknowledged)
    store = await open_store(files, cache_bytes=0)
    rotten = max(truth, key=lambda key: len(truth[key][0]))
    value = truth[rotten][0]
    for path in files.paths():
        data = files.contents(path)
        if path.suffix == ".seg" and value in data:
            files.rot(path, data.index(value) + 1)

    told_now, refused = read_values(store)

    assert refused == 2
    assert told_now == {key: value for key, value in truth.items() if key != rotten}
    with pytest.raises(StateError):
        store.execute(Get(*rotten))
    await store.close()
