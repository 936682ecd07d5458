"""What nobody foresaw (an exception of our own, a cancelled task) leaves nobody waiting."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

import iii_state
from iii_state.core.commands import Outcome, Set
from iii_state.embedded import Event, State
from iii_state.embedded.functions import LocalCall
from iii_state.engine.commits import Commits
from iii_state.engine.feed import Feed
from iii_state.engine.store_ledger import CHECKPOINT
from iii_state.errors import (
    OutcomeUnknown,
    Refused,
    StateError,
    Stopped,
    StorageError,
    StoreReadOnly,
    StoreTooNew,
)
from iii_state.stores.disk.store import DiskStore
from iii_state.stores.disk.writer import Writer
from iii_state.testing.clocks import FakeClock

PATIENCE_S = 20.0


def commits_of(state: State) -> Commits:
    return state._engine.commits


def damage(directory: Path) -> None:
    """Change a byte of the first value with many x, in the oldest segment."""
    segment = min(directory.glob("*.seg"))
    data = bytearray(segment.read_bytes())
    data[data.index(b"x" * 1000)] ^= 1
    segment.write_bytes(data)


async def test_a_commit_that_fails_as_it_should_not_stops_writes_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(*arguments: object) -> None:
        raise MemoryError

    async with asyncio.timeout(PATIENCE_S), iii_state.open(tmp_path) as state:
        await state.set("s", "k", 1)
        with monkeypatch.context() as patch:
            patch.setattr(Writer, "write", fail)
            with pytest.raises(OutcomeUnknown, match="MemoryError"):
                await state.set("s", "k", 2)
        for key in ("k", "other"):
            with pytest.raises(StoreReadOnly):
                await state.set("s", key, 3)
        assert await state.get("s", "k") == 1
        assert await state.list_keys("s") == ["k"]
        assert not state.info().healthy
    async with iii_state.open(tmp_path) as state:
        assert [await state.get("s", key) for key in ("k", "other")] == [1, None]


async def test_an_answer_that_fails_takes_no_other_with_it(tmp_path: Path) -> None:
    async with asyncio.timeout(PATIENCE_S), iii_state.open(tmp_path) as state:
        heard: list[str] = []

        @state.on(scope="s")
        def hear(event: Event) -> None:
            heard.append(event.key)

        def fail(call: object, outcome: Outcome) -> None:
            raise ZeroDivisionError

        done: asyncio.Future[bytes | None] = asyncio.get_running_loop().create_future()
        call = LocalCall(b"", b"{}", "1", done=done)
        commits_of(state).submit(call, Set("s", "first", b"1"), fail)
        await asyncio.gather(*(state.set("s", key, 1) for key in ("second", "third")))
        with pytest.raises(OutcomeUnknown, match="if this was a write, it was carried out"):
            await done
    assert heard == ["first", "second", "third"]


async def test_cancelling_all_tasks_leaves_no_write_waiting(tmp_path: Path) -> None:
    async with asyncio.timeout(PATIENCE_S), iii_state.open(tmp_path) as state:
        await state.set("s", "k", 1)
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.wait(others)
        with pytest.raises(StoreReadOnly):
            await state.set("s", "k", 2)
        assert await state.get("s", "k") == 1
    async with iii_state.open(tmp_path) as state:
        assert await state.get("s", "k") == 1, "a refused write is not there later"


async def test_a_reaction_that_waits_for_what_was_cancelled_does_not_hold_up_the_end() -> None:
    never = asyncio.ensure_future(asyncio.sleep(3600))
    never.cancel()
    async with asyncio.timeout(PATIENCE_S), iii_state.open(None) as state:

        @state.on(scope="s")
        async def wait(event: Event) -> None:
            await never

        await state.set("s", "k", 1)


async def test_an_event_that_python_cannot_decode_is_a_failure_of_its_reaction() -> None:
    async with asyncio.timeout(PATIENCE_S), iii_state.open(None) as state:
        heard: list[str] = []

        @state.on(scope="s")
        def hear(event: Event) -> None:
            heard.append(event.key)

        data = b'{"scope":"s","key":"large","value":%b}' % (b"9" * 5000)
        await state._functions.begin("state::set", data)
        await state.set("s", "small", 1)
    assert heard == ["small"]


async def test_changes_that_cannot_be_read_do_not_hold_up_the_end(tmp_path: Path) -> None:
    async with iii_state.open(tmp_path) as state:
        for number in range(20):
            await state.set("s", str(number), "x" * 1000)
    async with asyncio.timeout(PATIENCE_S), iii_state.open(tmp_path) as state:
        damage(tmp_path)
        heard: list[str] = []

        @state.on(scope="s", start=0)
        def hear(event: Event) -> None:
            heard.append(event.key)


async def left_behind(directory: Path) -> None:
    """A durable reaction that has failed at the first change, and waits to try again."""
    retry = iii_state.Retry(max_attempts=5, initial_ms=3_600_000, max_ms=3_600_000)
    async with iii_state.open(directory) as state:
        failed = asyncio.Event()

        @state.on(scope="s", durable="d", retry=retry)
        def fail(event: Event) -> None:
            failed.set()
            raise ZeroDivisionError

        await state.set("s", "k", "x" * 1000)
        await failed.wait()


async def test_a_damaged_change_is_lost_to_a_durable_trigger_which_goes_on(tmp_path: Path) -> None:
    await left_behind(tmp_path)
    async with iii_state.open(tmp_path, segment_bytes=1 << 16) as state:
        for number in range(40):
            await state.set("other", str(number), "y" * 9000)
    damage(tmp_path)
    async with asyncio.timeout(PATIENCE_S), iii_state.open(tmp_path) as state:
        heard: list[str] = []

        @state.on(scope="s", durable="d")
        def hear(event: Event) -> None:
            heard.append(event.key)

        await state.set("s", "next", 1)
    assert heard == ["next"]


async def test_a_durable_trigger_that_cannot_be_replaced_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with asyncio.timeout(PATIENCE_S), iii_state.open(tmp_path) as state:
        retry = iii_state.Retry(max_attempts=5, initial_ms=3_600_000, max_ms=3_600_000)
        heard: list[str] = []

        @state.on(scope="s", durable="d", retry=retry)
        def hear(event: Event) -> None:
            heard.append(event.key)
            if event.key == "bad":
                raise ZeroDivisionError

        await state.set("s", "bad", 1)

        def fail(self: Feed, revision: int) -> None:
            raise StorageError("the disk does not answer")

        with monkeypatch.context() as patch:
            patch.setattr(Feed, "change", fail)
            with pytest.raises(StorageError):
                state.on(scope="s", durable="d", events=["created"])(hear)
        await state.set("s", "good", 1)
    assert heard == ["bad", "good"]


async def test_a_durable_trigger_whose_place_cannot_be_read_can_be_deleted(tmp_path: Path) -> None:
    await left_behind(tmp_path)
    store = await DiskStore.open(tmp_path, clock_ms=FakeClock())
    store.note(CHECKPOINT, "d", b"\x93\x01")
    await store.commit()
    await store.close()
    async with asyncio.timeout(PATIENCE_S), iii_state.open(tmp_path) as state:
        heard: list[str] = []

        def hear(event: Event) -> None:
            heard.append(event.key)

        with pytest.raises(StoreTooNew, match="'d'"):
            state.on(scope="s", durable="d")(hear)
        await state.delete_trigger("d")
        with pytest.raises(StateError, match="no state trigger"):
            await state.delete_trigger("d")
        state.on(scope="s", durable="d")(hear)
        await state.set("s", "next", 1)
    assert heard == ["next"]


async def test_leaving_refuses_the_program_and_lets_reactions_end(tmp_path: Path) -> None:
    async def write_on(state: State) -> None:
        while True:
            await state.set("s", "k", 1)

    async with asyncio.timeout(PATIENCE_S):
        async with iii_state.open(tmp_path) as state:

            @state.on(scope="s")
            async def copy(event: Event) -> None:
                await state.set("copies", str(event.revision), event.new_value)

            await state.set("s", "k", 0)
            writers = [asyncio.create_task(write_on(state)) for _ in range(20)]
            await asyncio.sleep(0)
        for ended in await asyncio.gather(*writers, return_exceptions=True):
            assert isinstance(ended, Stopped)
    async with iii_state.open(tmp_path) as state:
        copied = await state.list_keys("copies")
        sets = state.info().revision - len(copied)
    assert len(copied) == sets, "each set before the end was heard of, and no more"


async def test_another_event_loop_is_told_so(tmp_path: Path) -> None:
    async with asyncio.timeout(PATIENCE_S), iii_state.open(tmp_path) as state:

        def elsewhere() -> None:
            asyncio.run(state.set("s", "k", 1))

        with pytest.raises(Refused, match="open_sync"):
            await asyncio.to_thread(elsewhere)
        assert await state.get("s", "k") is None
