"""The power is cut at every write, sync and rename of a store's life."""

from __future__ import annotations

from random import Random

import pytest
from disk_story import NOTE, Story, notes_of, open_store, state_of

from iii_state.core.commands import Get, Set
from iii_state.core.store import Durability
from iii_state.errors import StateError
from iii_state.stores.disk.directory import segment_range
from iii_state.testing.faulty_files import FaultyFiles

STEPS = 80
STRIDE = 7
"""Every so many operations the power is cut in the quick tests; `torture` cuts at each."""


async def live_until(
    cut_at: int | None, seed: int, durability: Durability = "commit"
) -> tuple[Story, FaultyFiles]:
    files, story = FaultyFiles(), Story()
    files.cut_at = cut_at
    await story.live(files, Random(seed), STEPS, durability)
    return story, files


async def cut_and_check(cut_at: int, seed: int, durability: Durability) -> None:
    story, files = await live_until(cut_at, seed, durability)
    survivor = files.after_power_cut(Random(cut_at))
    await check_survivor(story, survivor, durability)


async def check_survivor(story: Story, files: FaultyFiles, durability: Durability) -> None:
    """Everything acknowledged is there, nothing is half there, and the store goes on."""
    store = await open_store(files, durability)
    revision = store.revision
    if durability == "commit":
        assert revision >= story.acknowledged
    assert revision in story.ends()
    assert state_of(store) == story.model_at(revision)
    until = [change for change in story.changes if change.revision <= revision]
    assert dict(store.notes(NOTE)) == notes_of(until)
    kept = [c for c in story.changes if store.oldest_revision < c.revision <= revision]
    assert list(store.changes(store.oldest_revision, 10_000, 1 << 30)) == kept

    outcome = store.execute(Set("a", "after", b"1"))
    await store.commit()
    assert outcome.failure is None
    assert outcome.change is not None
    assert outcome.change.revision > max(revision, story.acknowledged)
    await store.close()

    store = await open_store(files, durability)
    entry = store.execute(Get("a", "after")).entry
    assert entry is not None
    assert entry.value == b"1"
    await store.close()


async def test_the_story_has_everything_in_it() -> None:
    """Rolling over, trimming, merging and a clean stop: else the cuts below would prove little."""
    story, files = await live_until(None, 1)

    spans = [span for path in files.paths() if (span := segment_range(path.name))]
    assert any(first < last for first, last in spans)
    assert len(spans) > 2
    assert story.acknowledged == story.changes[-1].revision
    assert files.operations > 500


@pytest.mark.parametrize("durability", ["commit", "interval", "none"])
async def test_no_cut_of_the_power_loses_what_was_promised(durability: Durability) -> None:
    _, whole = await live_until(None, 1, durability)
    for cut_at in range(1, whole.operations + 1, STRIDE):
        await cut_and_check(cut_at, 1, durability)


async def test_a_second_cut_while_recovering_loses_nothing_either() -> None:
    _, whole = await live_until(None, 2)
    for cut_at in range(3, whole.operations + 1, STRIDE * 4):
        story, files = await live_until(cut_at, 2)
        survivor = files.after_power_cut(Random(cut_at))
        again = 1
        while True:
            attempt = survivor.copy()
            attempt.cut_at = again
            try:
                store = await open_store(attempt)
                await store.close()
            except (OSError, StateError):
                assert attempt.is_cut
            if not attempt.is_cut:
                break
            await check_survivor(story, attempt.after_power_cut(Random(again)), "commit")
            again += 3


@pytest.mark.torture
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("durability", ["commit", "interval", "none"])
@pytest.mark.parametrize("seed", range(5))
async def test_no_cut_at_any_operation_loses_what_was_promised(
    seed: int, durability: Durability
) -> None:
    _, whole = await live_until(None, seed, durability)
    for cut_at in range(1, whole.operations + 1):
        await cut_and_check(cut_at, seed, durability)


class ForgetfulFiles(FaultyFiles):
    """A disk whose syncs do nothing."""

    def sync(self, fd: int) -> None:
        """Say that all is well."""


async def test_a_store_that_does_not_sync_is_found_out() -> None:
    """The cuts above can tell: without syncs, what was acknowledged is lost."""
    lost = 0
    for cut_at in range(60, 400, 20):
        files, story = ForgetfulFiles(), Story()
        files.cut_at = cut_at
        await story.live(files, Random(1), STEPS)
        try:
            await check_survivor(story, files.after_power_cut(Random(cut_at)), "commit")
        except (AssertionError, StateError, OSError):
            lost += 1

    assert lost > 10
