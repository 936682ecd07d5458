"""A system that refuses files or room while a store is opened: said, undone, and no harm."""

from __future__ import annotations

import errno
from random import Random

import pytest
from disk_story import DIRECTORY, Story, open_store, state_of

from iii_state.errors import StateError
from iii_state.stores.disk.inspection import check_store
from iii_state.testing.faulty_files import FaultyFiles

CODES = {
    errno.EMFILE: "TOO_MANY_FILES",
    errno.ENOSPC: "DISK_FULL",
    errno.EIO: "STORE_UNUSABLE",
    errno.EACCES: "STORE_NOT_WRITABLE",
}


async def disks() -> list[FaultyFiles]:
    """Nothing; a store that was closed; and some of which the power was cut in the middle."""
    empty, closed = FaultyFiles(), FaultyFiles()
    await Story().live(closed, Random(5), 20)
    found = [empty, closed]
    for cut_at in range(40, closed.operations, 23):
        files = FaultyFiles()
        files.cut_at = cut_at
        await Story().live(files, Random(5), 20)
        found.append(files.after_power_cut(Random(cut_at)))
    return found


async def refusal_of(files: FaultyFiles) -> StateError | None:
    """Why a store cannot be opened; nothing is left open then."""
    try:
        store = await open_store(files)
    except StateError as refusal:
        assert files.descriptors == 0
        return refusal
    files.refused, files.has_descriptors = (), True
    await store.close()
    return None


@pytest.mark.parametrize("number", CODES)
async def test_a_start_that_is_refused_a_file_is_an_error_of_the_tree_and_harms_nothing(
    number: int,
) -> None:
    for disk in await disks():
        sound = disk.copy()
        store = await open_store(sound)
        requests, state = sound.requests, state_of(store)
        await store.close()
        codes: set[str] = set()
        for first in range(1, requests + 1):
            for refused in (range(first, 1 << 30), (first,)):
                files = disk.copy()
                files.refused_errno, files.refused = number, refused
                refusal = await refusal_of(files)
                if refusal is not None:
                    codes.add(refusal.wire_code)
                    assert str(DIRECTORY) in refusal.message

                files.refused = ()
                store = await open_store(files)
                assert state_of(store) == state
                await store.close()

        assert codes == {CODES[number]}


async def test_without_descriptors_a_start_says_which_limit_to_raise() -> None:
    files = FaultyFiles()
    files.has_descriptors = False

    refusal = await refusal_of(files)

    assert refusal is not None
    assert "ulimit -n" in refusal.message


@pytest.mark.parametrize("number", CODES)
async def test_a_check_that_is_refused_a_file_is_an_error_of_the_tree(number: int) -> None:
    found = FaultyFiles()
    await Story().live(found, Random(5), 20)
    whole = found.copy()
    check_store(DIRECTORY, whole)
    codes: set[str] = set()
    for first in range(1, whole.requests + 1):
        files = found.copy()
        files.refused_errno, files.refused = number, range(first, 1 << 30)
        try:
            check_store(DIRECTORY, files)
        except StateError as refusal:
            codes.add(refusal.wire_code)
        assert files.descriptors == 0

    assert codes == {CODES[number]}
