"""Embedded: watches that miss nothing, and the history of a key."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

import iii_state
from iii_state.errors import InvalidRequest, RevisionCompacted


async def take(watch: iii_state.Watch, count: int) -> list[iii_state.Event]:
    return [await anext(watch) for _ in range(count)]


async def test_a_watch_hears_of_every_change_after_its_revision(tmp_path: Path) -> None:
    async with iii_state.open(tmp_path / "data") as state:
        for number in range(250):
            await state.set("s", str(number % 7), number)

        events = await take(state.watch(from_revision=0), 250)

        assert [event.revision for event in events] == [*range(1, 251)]
        assert [event.new_value for event in events] == [*range(250)]
        assert (events[9].event_type, events[9].old_value) == ("state:updated", 2)
        assert events[0].worker == "embedded"


async def test_a_watch_waits_for_what_is_written_while_it_reads() -> None:
    async with iii_state.open(None) as state:
        watch = state.watch(scope="s")

        async def write() -> None:
            for number in range(100):
                await state.set("s", "k", number)
                await state.set("other", "k", number)
                await asyncio.sleep(0)

        writing = asyncio.create_task(write())
        events = await take(watch, 100)
        await writing

        assert [event.new_value for event in events] == [*range(100)]


async def test_a_watch_begins_with_the_next_change_unless_it_is_told_otherwise() -> None:
    async with iii_state.open(None) as state:
        await state.set("s", "k", "before")
        watch = state.watch()
        await state.set("s", "k", "after")

        assert (await anext(watch)).new_value == "after"


async def test_a_watch_selects() -> None:
    async with iii_state.open(None) as state:
        await state.set("s", "o-1", 1)
        await state.set("s", "p-1", 1)
        await state.delete("s", "o-1")
        await state.set("t", "o-1", 1)

        by_prefix = state.watch(scope="s", key_prefix="o-", from_revision=0)
        by_key = state.watch(key="o-1", events=["created"], from_revision=0)

        assert [event.revision for event in await take(by_prefix, 2)] == [1, 3]
        assert [event.scope for event in await take(by_key, 2)] == ["s", "t"]


async def test_another_watch_goes_on_where_one_was_left(tmp_path: Path) -> None:
    async with iii_state.open(tmp_path / "data") as state:
        for number in range(5):
            await state.set("s", "k", number)
        watch = state.watch(scope="s", from_revision=1)
        first = await take(watch, 2)
        left_at = watch.revision
    async with iii_state.open(tmp_path / "data") as state:
        rest = await take(state.watch(scope="s", from_revision=left_at), 2)

    assert [event.revision for event in first + rest] == [2, 3, 4, 5]


async def test_what_does_not_match_is_not_read_again() -> None:
    async with iii_state.open(None) as state:
        watch = state.watch(scope="s", from_revision=0)
        await state.set("s", "k", 1)
        for number in range(10):
            await state.set("other", "k", number)

        await anext(watch)

        assert watch.revision == 11


async def test_a_watch_ends_when_it_is_closed() -> None:
    async with iii_state.open(None) as state:
        watch = state.watch()
        waiting = asyncio.create_task(collect(watch))
        await asyncio.sleep(0)
        watch.close()

        assert await waiting == []
        await state.set("s", "k", 1)
        assert await collect(watch) == []


async def test_a_watch_ends_when_the_store_is_closed(tmp_path: Path) -> None:
    async with iii_state.open(tmp_path / "data") as state:
        watch = state.watch()
        waiting = asyncio.create_task(collect(watch))
        for number in range(10):
            await state.set("s", "k", number)
    events = await waiting

    async with iii_state.open(tmp_path / "data") as state:
        rest = await take(state.watch(from_revision=watch.revision), 10 - len(events))

    assert [event.new_value for event in events + rest] == [*range(10)]


async def test_a_watch_that_was_cancelled_can_be_asked_again() -> None:
    async with iii_state.open(None) as state:
        watch = state.watch()
        waiting = asyncio.create_task(collect(watch))
        await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        await state.set("s", "k", 1)

        assert (await anext(watch)).new_value == 1


async def test_what_is_no_longer_kept_is_said_so() -> None:
    async with iii_state.open(None, history_bytes=1_000_000) as state:
        while state.info().oldest_revision == 0:
            await state.set("s", "k", "x" * 10_000)
            await asyncio.sleep(0)
        watch = state.watch(from_revision=0)

        with pytest.raises(RevisionCompacted) as raised:
            await anext(watch)

        assert raised.value.details["oldest_revision"] > 0


async def test_a_revision_of_the_future_is_refused() -> None:
    async with iii_state.open(None) as state:
        with pytest.raises(InvalidRequest, match="newest revision is 0"):
            await anext(state.watch(from_revision=7))


async def test_the_history_has_every_version_newest_first(tmp_path: Path) -> None:
    async with iii_state.open(tmp_path / "data") as state:
        for number in range(250):
            await state.set("s", "k", number)
            await state.set("s", "other", number)
        await state.delete("s", "k")

        versions = [version async for version in state.history("s", "k")]
        older = [version.value async for version in state.history("s", "k", before=5)]

    assert versions[0].event_type == "state:deleted"
    assert [version.value for version in versions] == [None, *reversed(range(250))]
    assert versions[1].worker == "embedded"
    assert older == [1, 0]


async def collect(watch: iii_state.Watch) -> list[iii_state.Event]:
    return [event async for event in watch]
