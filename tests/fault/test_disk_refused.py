"""A system that refuses files for a while: nothing is lost, and writes are taken again."""

from __future__ import annotations

import errno
import logging
from random import Random

import pytest
from disk_story import DIRECTORY, Story, model_of, open_store, state_of

from iii_state.core.changes import Change
from iii_state.core.commands import Get, Set
from iii_state.core.store import Durability
from iii_state.errors import DiskFull, StateError, StoreHindered, TooManyFiles
from iii_state.stores.disk.directory import RELAXED, STOPPED
from iii_state.stores.disk.store import DiskStore
from iii_state.testing.faulty_files import FaultyFiles

REFUSALS = {
    errno.EACCES: StoreHindered,
    errno.ENOMEM: StoreHindered,
    errno.EMFILE: TooManyFiles,
}
STEPS = 45


class Life:
    """Writes and compactions; what was acknowledged, and why something was not."""

    def __init__(self) -> None:
        self.acknowledged: list[Change] = []
        self.refusals: list[StateError] = []

    async def live(self, store: DiskStore, random: Random) -> None:
        for step in range(STEPS):
            value = b'"%b"' % (b"x" * random.randrange(240))
            try:
                outcome = store.execute(Set("a", f"key {random.randrange(12)}", value))
            except StateError as refusal:
                self.refusals.append(refusal)
                continue
            await store.commit()
            if outcome.failure is not None:
                self.refusals.append(outcome.failure)
            if outcome.change is not None:
                self.acknowledged.append(outcome.change)
            if step % 9 == 8:
                await store.compact()


async def requests_of_a_life(durability: Durability) -> int:
    files = FaultyFiles()
    store = await open_store(files, durability)
    begun = files.requests
    await Life().live(store, Random(5))
    return files.requests - begun


@pytest.mark.parametrize("number", REFUSALS)
@pytest.mark.parametrize("durability", ["commit", "none"])
@pytest.mark.parametrize("length", [1, 2, 5])
async def test_whatever_is_refused_for_a_while_nothing_is_lost_and_writes_go_on(
    number: int, durability: Durability, length: int
) -> None:
    last = await requests_of_a_life(durability)
    for first in range(1, last, 1 if length == 1 else 4):
        files, life = FaultyFiles(), Life()
        store = await open_store(files, durability)
        files.refused_errno = number
        files.refused = range(files.requests + first, files.requests + first + length)

        await life.live(store, Random(5))

        assert {type(refusal) for refusal in life.refusals} <= {REFUSALS[number]}
        assert len(life.refusals) <= length
        files.refused = ()
        await life.live(store, Random(6))
        assert len(life.refusals) <= length
        assert store.info().healthy
        assert state_of(store) == model_of(life.acknowledged)
        crashed = files.copy()
        await store.close()
        assert files.descriptors == 0
        for disk in (files, crashed):
            store = await open_store(disk, durability)
            assert state_of(store) == model_of(life.acknowledged)
            await store.close()


async def test_some_of_these_refusals_hit_a_write() -> None:
    """Else the test above would show nothing."""
    for durability in ("commit", "none"):
        files, life = FaultyFiles(), Life()
        store = await open_store(files, durability)
        files.refused = range(files.requests + 1, 1 << 30)
        await life.live(store, Random(5))
        assert len(life.refusals) > 10
        assert "Permission denied" in store.info().problem
        await store.close()


@pytest.mark.parametrize("refused", range(1, 40))
async def test_merges_that_are_interrupted_leave_files_that_a_start_understands(
    refused: int,
) -> None:
    files, story, random = FaultyFiles(), Story(), Random(refused)
    store = await open_store(files)
    for _ in range(30):
        await story.write(store, random)
    for _ in range(8):
        files.refused = range(files.requests + refused, files.requests + refused + 2)
        await store.compact()
        files.refused = ()
        for _ in range(4):
            await story.write(store, random)

    state = state_of(store)
    await store.close()

    store = await open_store(files)
    assert state_of(store) == state
    await store.close()


@pytest.mark.parametrize("durability", ["commit", "none"])
async def test_a_shortage_before_the_first_write_leaves_the_record_of_the_stop_true(
    durability: Durability,
) -> None:
    files = FaultyFiles()
    store = await open_store(files, durability)
    store.execute(Set("a", "key 0", b"1"))
    await store.commit()
    await store.close()
    store = await open_store(files, durability)
    files.refused = range(files.requests + 1, 1 << 30)
    for _ in range(3):
        outcome = store.execute(Set("a", "key 1", b"2"))
        await store.commit()
        assert isinstance(outcome.failure, StoreHindered)

    found = await open_store(files.copy(), durability)

    assert files.contents(DIRECTORY / STOPPED)
    assert found.execute(Get("a", "key 0")).entry is not None
    assert found.execute(Get("a", "key 1")).entry is None
    await found.close()


@pytest.mark.parametrize("number", [errno.EMFILE, errno.EACCES])
@pytest.mark.parametrize("durability", ["commit", "none"])
async def test_a_stop_that_cannot_be_recorded_loses_nothing(
    number: int, durability: Durability, caplog: pytest.LogCaptureFixture
) -> None:
    files, life = FaultyFiles(), Life()
    store = await open_store(files, durability)
    await life.live(store, Random(5))
    files.refused_errno = number
    files.refused = range(files.requests + 1, 1 << 30)

    with caplog.at_level(logging.WARNING):
        await store.close()

    assert "after a crash" in caplog.text
    assert files.descriptors == 0
    files.refused = ()
    assert STOPPED not in files.names(DIRECTORY)
    assert (RELAXED in files.names(DIRECTORY)) == (durability == "none")
    store = await open_store(files, durability)
    assert state_of(store) == model_of(life.acknowledged)
    await store.close()


async def test_a_refusal_says_what_to_do() -> None:
    files = FaultyFiles()
    store = await open_store(files)
    files.refused = range(files.requests + 1, 1 << 30)
    life = Life()
    await life.live(store, Random(5))

    refusal = life.refusals[-1]

    assert isinstance(refusal, DiskFull)
    assert refusal.wire_code == "STORE_HINDERED"
    assert "let this user write" in refusal.message
    assert refusal.details == {"directory": str(DIRECTORY), "reason": "Permission denied"}
