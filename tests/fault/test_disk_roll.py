"""What is in the way when the log goes on in its next file: no descriptor, another directory."""

from __future__ import annotations

from pathlib import Path

import pytest
from disk_story import open_store

from iii_state.core.commands import Get, Set
from iii_state.errors import OutcomeUnknown, StorageError, StoreReadOnly, TooManyFiles
from iii_state.stores.disk.store import DiskStore
from iii_state.testing.clocks import FakeClock
from iii_state.testing.faulty_files import FaultyFiles

SEGMENT_BYTES = 3000
VALUE = b'"%b"' % (b"x" * 200)


async def write_until_it_fails(store: DiskStore) -> int:
    """Commit one write after the other; how many there were before one was refused."""
    for number in range(10_000):
        await write(store, f"key {number}")
    return 10_000


async def write(store: DiskStore, key: str) -> None:
    outcome = store.execute(Set("s", key, VALUE))
    await store.commit()
    if outcome.failure is not None:
        raise outcome.failure


async def test_without_descriptors_the_log_does_not_roll_and_goes_on_when_there_are_some() -> None:
    files = FaultyFiles()
    store = await open_store(files)
    files.has_descriptors = False

    with pytest.raises(TooManyFiles):
        await write_until_it_fails(store)

    kept = store.revision
    info = store.info()
    with pytest.raises(TooManyFiles):
        store.execute(Set("s", "refused", b"1"))
    files.has_descriptors = True
    store.execute(Set("s", "taken", b"1"))
    await store.commit()

    assert not info.healthy
    assert "ulimit" in info.problem
    assert store.info().healthy
    assert store.revision == kept + 1
    await store.close()
    again = await open_store(files)
    assert again.revision == kept + 1
    assert again.execute(Get("s", f"key {kept - 1}")).entry is not None
    assert again.execute(Get("s", "refused")).entry is None
    await again.close()


@pytest.mark.parametrize("opened", range(6))
async def test_descriptors_may_run_out_at_any_step_of_a_roll(opened: int) -> None:
    """`opened` more descriptors are there, a roll needs two; after a failure there are many."""
    files = FewDescriptors()
    store = await open_store(files)
    number = failures = 0
    has_failed = False
    while store.info().disk_bytes < 3 * SEGMENT_BYTES:
        files.left = 1000 if has_failed else opened
        has_failed = False
        try:
            await write(store, f"key {number}")
            number += 1
        except TooManyFiles:
            has_failed = True
            failures += 1
        files.left = 1000

    await store.close()
    again = await open_store(files)
    for each in range(number):
        assert again.execute(Get("s", f"key {each}")).entry is not None
    assert again.revision == number
    await again.close()
    assert failures > 0 or opened >= 2


class FewDescriptors(FaultyFiles):
    """Opens so many files more."""

    left = 1000

    def _require_descriptors(self) -> None:
        self.has_descriptors = self.left > 0
        self.left -= 1
        super()._require_descriptors()


async def test_a_directory_that_was_replaced_is_not_written_to(tmp_path: Path) -> None:
    home, away = tmp_path / "data", tmp_path / "moved"
    clock = FakeClock()
    first = await DiskStore.open(home, clock_ms=clock, segment_bytes=SEGMENT_BYTES)
    first.execute(Set("s", "mine", b"1"))
    await first.commit()
    home.rename(away)
    second = await DiskStore.open(home, clock_ms=clock, segment_bytes=SEGMENT_BYTES)
    second.execute(Set("s", "theirs", b"2"))
    await second.commit()
    before = contents(home)

    with pytest.raises(StorageError, match="moved away or replaced"):
        await write_until_it_fails(first)
    with pytest.raises(StoreReadOnly):
        first.execute(Set("s", "k", b"1"))
    acknowledged = first.revision
    await first.close()

    assert contents(home) == before
    await second.close()
    for place, key in ((home, "theirs"), (away, "mine")):
        store = await DiskStore.open(place, clock_ms=clock)
        assert store.execute(Get("s", key)).entry is not None
        assert store.revision == (1 if place == home else acknowledged)
        await store.close()


async def test_closing_does_not_touch_a_directory_that_was_replaced(tmp_path: Path) -> None:
    home = tmp_path / "data"
    store = await DiskStore.open(home, clock_ms=FakeClock())
    store.execute(Set("s", "mine", b"1"))
    await store.commit()
    home.rename(tmp_path / "moved")
    home.mkdir()

    with pytest.raises(OutcomeUnknown):
        await store.close()

    assert contents(home) == {}


def contents(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.iterdir()}
