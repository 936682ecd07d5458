"""Embedded: what a reaction selects, how it is tried again, where it goes on."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

import iii_state
from iii_state.errors import InvalidRequest, NotFound, RevisionCompacted

QUICK = iii_state.Retry(max_attempts=3, initial_ms=1, max_ms=1)
SLOW = iii_state.Retry(max_attempts=3, initial_ms=60_000, max_ms=60_000)


class Heard:
    """A reaction that keeps what it is told, and fails so many times before."""

    def __init__(self, failures: int = 0) -> None:
        self.events: list[iii_state.Event] = []
        self._failures = failures
        self._more = asyncio.Event()

    def __call__(self, event: iii_state.Event) -> None:
        self.events.append(event)
        self._more.set()
        if self._failures:
            self._failures -= 1
            raise ValueError("cannot take it")

    @property
    def values(self) -> list[object]:
        return [event.new_value for event in self.events]

    async def count(self, count: int) -> None:
        """Wait until so many were told."""
        while len(self.events) < count:
            self._more.clear()
            await self._more.wait()


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({"scope": "s"}, [1, 1, 2, "x", None]),
        ({"key_prefix": "o-"}, [1, 1, 2, 9]),
        ({"keys": ["x", "o-1"]}, [1, 1, 2, "x", None, 9]),
        ({"events": ["created", "deleted"]}, [1, "x", None, 9]),
        ({"scope": "s", "changed_only": True}, [1, 2, "x", None]),
        ({"filters": {"input.new_value": {"$gt": 1}}}, [2, 9]),
    ],
)
async def test_a_reaction_hears_of_what_it_selects(
    config: dict[str, Any], expected: list[object]
) -> None:
    heard = Heard()
    async with iii_state.open(None) as state:
        state.on(**config)(heard)
        await state.set("s", "o-1", 1)
        await state.set("s", "o-1", 1)
        await state.set("s", "o-1", 2)
        await state.set("s", "x", "x")
        await state.delete("s", "x")
        await state.set("t", "o-1", 9)

    assert sorted(map(str, heard.values)) == sorted(map(str, expected))


async def test_what_makes_no_sense_is_refused_and_binds_nothing() -> None:
    heard = Heard()
    async with iii_state.open(None) as state:
        for wrong in ({"timeout_ms": 0}, {"events": ["renamed"]}, {"filters": {"x": {"$is": 1}}}):
            with pytest.raises(InvalidRequest):
                state.on("s", **wrong)(heard)
        await state.set("s", "k", 1)

    assert heard.events == []


async def test_a_reaction_that_fails_is_tried_again() -> None:
    heard = Heard(failures=2)
    async with iii_state.open(None) as state:
        state.on("s", retry=QUICK)(heard)
        await state.set("s", "k", "first")
        await state.set("s", "k", "second")
        await heard.count(4)

    assert heard.values == ["first", "first", "first", "second"]
    assert [event.attempt for event in heard.events] == [1, 2, 3, 1]
    assert len({event.event_id for event in heard.events[:3]}) == 1


async def test_a_reaction_that_takes_too_long_is_tried_again() -> None:
    attempts: list[int] = []
    done = asyncio.Event()
    async with iii_state.open(None) as state:

        @state.on("s", timeout_ms=1, retry=QUICK)
        async def slow(event: iii_state.Event) -> None:
            attempts.append(event.attempt)
            if event.attempt == 1:
                await done.wait()
            done.set()

        await state.set("s", "k", 1)
        await done.wait()

    assert attempts[:2] == [1, 2]


async def test_of_many_changes_the_newest_is_told_after_a_while() -> None:
    heard = Heard()
    async with iii_state.open(None) as state:
        state.on("s", debounce_ms=1)(heard)
        await asyncio.gather(*(state.set("s", "k", number) for number in range(10)))
        await heard.count(1)

    assert heard.values[-1] == 9
    assert len(heard.values) < 10


async def test_leaving_does_not_wait_for_what_sleeps() -> None:
    heard = Heard(failures=1)
    async with iii_state.open(None) as state:
        state.on("s", retry=SLOW)(heard)
        await state.set("s", "a", 1)
        await state.set("s", "b", 2)

    assert heard.values == [1, 2]


async def test_leaving_by_an_error_waits_only_for_what_runs() -> None:
    started: list[object] = []
    ended: list[object] = []

    async def fail() -> None:
        async with iii_state.open(None) as state:
            is_running = asyncio.Event()

            @state.on("s")
            async def slow(event: iii_state.Event) -> None:
                started.append(event.new_value)
                is_running.set()
                await asyncio.sleep(0)
                ended.append(event.new_value)

            for number in range(3):
                await state.set("s", "k", number)
            await is_running.wait()
            raise KeyError

    with pytest.raises(KeyError):
        await fail()

    assert started == ended == [0]


async def test_a_durable_reaction_goes_on_in_the_next_process(tmp_path: Path) -> None:
    first, second = Heard(), Heard()
    async with iii_state.open(tmp_path / "data") as state:
        state.on("s", durable="billing")(first)
        await state.set("s", "k", 1)
    async with iii_state.open(tmp_path / "data") as state:
        await state.set("s", "k", 2)
        await state.set("other", "k", 0)
    async with iii_state.open(tmp_path / "data") as state:
        state.on("s", durable="billing")(second)
        await state.set("s", "k", 3)

    assert first.values == [1]
    assert second.values == [2, 3]


async def test_a_durable_reaction_keeps_what_it_failed_to_do(tmp_path: Path) -> None:
    first, second = Heard(failures=1), Heard()
    async with iii_state.open(tmp_path / "data") as state:
        state.on("s", durable="billing", retry=SLOW)(first)
        await state.set("s", "k", 1)
        await state.set("s", "k", 2)
    async with iii_state.open(tmp_path / "data") as state:
        state.on("s", durable="billing", retry=SLOW)(second)

    assert first.values == [1]
    assert second.values == [1, 2]
    assert [event.attempt for event in second.events] == [2, 1]


async def test_a_reaction_can_begin_with_what_was_written_before() -> None:
    heard = Heard()
    async with iii_state.open(None) as state:
        for number in range(3):
            await state.set("s", str(number), number)
        state.on("s", start=1)(heard)

    assert sorted(map(str, heard.values)) == ["1", "2"]


async def test_a_reaction_can_begin_with_what_is_there(tmp_path: Path) -> None:
    heard = Heard()
    async with iii_state.open(tmp_path / "data") as state:
        for number in range(600):
            await state.set("s", str(number), number)
        await state.delete("s", "7")
        state.on("s", start="initial")(heard)
        await state.set("s", "0", "newer")
        await state.set("s", "new", "newest")

    told = [event for event in heard.events if event.initial]
    expected = [*range(1, 7), *range(8, 600)]
    assert [event.new_value for event in told] in (expected, [0, *expected])
    assert {event.new_value for event in heard.events if not event.initial} == {"newer", "newest"}


async def test_leaving_does_not_wait_for_entries_behind_what_sleeps() -> None:
    heard = Heard(failures=1)
    async with iii_state.open(None) as state:
        for number in range(600):
            await state.set("s", str(number), number)
        state.on("s", start="initial", retry=SLOW, max_in_flight=1)(heard)
        await heard.count(1)

    assert heard.events[0].initial


async def test_a_refused_reaction_takes_no_place_of_another() -> None:
    heard, refused = Heard(), Heard()
    wrong: Any = ["renamed"]
    async with iii_state.open(None) as state:
        state.on("s", durable="billing")(heard)
        with pytest.raises(InvalidRequest):
            state.on("s", durable="billing", events=wrong)(refused)
        with pytest.raises(InvalidRequest):
            state.on("s", start=99)(refused)
        await state.set("s", "k", 1)

    assert (heard.values, refused.values) == ([1], [])


async def test_a_reaction_cannot_begin_before_what_is_kept() -> None:
    async with iii_state.open(None, history_bytes=1_000_000) as state:
        state.on("s", durable="billing")(Heard())
        while state.info().oldest_revision == 0:
            await state.set("s", "k", "x" * 10_000)
            await asyncio.sleep(0)

        for name in (None, "new"):
            with pytest.raises(RevisionCompacted):
                state.on("s", start=0, durable=name)(Heard())
        state.on("s", start=0, durable="billing")(Heard())

        assert [status.name for status in await state.triggers()] == ["billing"]


async def test_a_chain_of_reactions_is_cut_when_it_is_endless() -> None:
    heard: list[iii_state.Event] = []
    async with iii_state.open(None) as state:

        @state.on("s")
        async def again(event: iii_state.Event) -> None:
            heard.append(event)
            await state.set("s", "k", event.new_value + 1)

        await state.set("s", "k", 0)
        while len(heard) < 16:
            await asyncio.sleep(0)
        await asyncio.sleep(0)

    assert [event.depth for event in heard] == [*range(16)]
    assert all(event.worker == "embedded" for event in heard)


async def test_what_was_given_up_can_be_looked_at_and_delivered_again(tmp_path: Path) -> None:
    heard = Heard(failures=3)
    async with iii_state.open(tmp_path / "data") as state:
        state.on("s", durable="billing", retry=iii_state.Retry(max_attempts=1))(heard)
        await asyncio.gather(*(state.set("s", str(number), number) for number in range(3)))
        await heard.count(3)

        letters = [letter async for letter in state.dead_letters("billing")]
        assert [letter.trigger for letter in letters] == ["billing"] * 3
        assert [letter.event.new_value for letter in letters] == heard.values
        assert letters[0].error.message == "cannot take it"
        assert "ValueError" in (letters[0].error.stacktrace or "")

        assert await state.redrive(id=letters[0].id) == 1
        await heard.count(4)
        assert await state.discard("billing") == 2
        assert await state.redrive(all=True) == 0
        assert [letter async for letter in state.dead_letters()] == []

    assert heard.events[3].attempt == 2
    assert heard.events[3].event_id == letters[0].event.event_id


async def test_a_trigger_is_paused_and_resumed() -> None:
    heard = Heard()
    async with iii_state.open(None) as state:
        state.on("s", durable="billing")(heard)
        state.on("s")(Heard())
        assert (await state.pause("billing")).paused
        await state.set("s", "k", 1)
        statuses = await state.triggers()

        assert [status.name for status in statuses] == ["billing", None]
        assert statuses[0].config["scope"] == "s"
        assert heard.events == []
        assert not (await state.resume(id=statuses[0].id)).paused
        await heard.count(1)


async def test_a_deleted_trigger_begins_anew(tmp_path: Path) -> None:
    heard = Heard()
    async with iii_state.open(tmp_path / "data") as state:
        state.on("s", durable="billing")(Heard())
    async with iii_state.open(tmp_path / "data") as state:
        await state.set("s", "k", "missed")
        await state.delete_trigger("billing")
        with pytest.raises(NotFound):
            await state.pause("billing")
        state.on("s", durable="billing")(heard)
        await state.set("s", "k", "told")

    assert heard.values == ["told"]
