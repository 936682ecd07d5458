"""Embedded: many keys at once."""

from __future__ import annotations

from pathlib import Path

import pytest

import iii_state
from iii_state.errors import LimitExceeded


async def test_all_entries_come_in_order_of_creation_over_many_pages(tmp_path: Path) -> None:
    written = [(f"{'even' if n % 2 == 0 else 'odd'}-{n}", {"n": n}) for n in range(2500)]
    async with iii_state.open(tmp_path / "data") as state:
        for key, value in written:
            await state.set("s", key, value)

        assert [entry async for entry in state.entries("s")] == written
        assert [entry async for entry in state.entries("s", "odd-")] == written[1::2]
        assert [entry async for entry in state.entries("absent")] == []


async def test_entries_go_on_while_others_are_written() -> None:
    async with iii_state.open(None) as state:
        for number in range(1500):
            await state.set("s", str(number), number)
        seen = set()
        async for key, _ in state.entries("s"):
            seen.add(key)
            if len(seen) == 10:
                await state.delete("s", "0")
                await state.set("s", "1", "again")

        assert seen == {str(number) for number in range(1500)}


async def test_several_keys_are_read_at_once() -> None:
    async with iii_state.open(None) as state:
        await state.set("s", "a", None)
        await state.set("t", "b", 2)

        assert await state.get_many([("t", "b"), ("s", "absent"), ("s", "a")]) == [
            iii_state.GetManyResult("t", "b", 2, 2),
            iii_state.GetManyResult("s", "absent", 0),
            iii_state.GetManyResult("s", "a", 1, None),
        ]
        with pytest.raises(LimitExceeded):
            await state.get_many([("s", "a")] * 1001)


async def test_keys_are_listed_and_counted_by_prefix() -> None:
    async with iii_state.open(None) as state:
        for key in ("o-2", "p-1", "o-1"):
            await state.set("s", key, "xx")

        assert await state.list_keys("s") == ["o-1", "o-2", "p-1"]
        assert await state.list_keys("s", "o-") == ["o-1", "o-2"]
        assert await state.count("s") == iii_state.CountResult(3, 12)
        assert await state.count("s", "p") == iii_state.CountResult(1, 4)


async def test_many_keys_are_deleted_at_once_and_heard_of() -> None:
    deleted: list[str] = []
    async with iii_state.open(None) as state:
        for number in range(3):
            await state.set("s", f"o-{number}", number)
            await state.set("s", f"p-{number}", number)
        state.on("s", events=["deleted"])(lambda event: deleted.append(event.key))

        assert await state.delete_prefix("s", "o-") == iii_state.DeletedResult(3, 9)
        assert await state.list("s") == [0, 1, 2]
        assert (await state.clear("s")).deleted == 3
        assert await state.clear("s") == iii_state.DeletedResult(0, 0)
        assert await state.list_groups() == []

    assert sorted(deleted) == ["o-0", "o-1", "o-2", "p-0", "p-1", "p-2"]


def test_the_twin_reads_and_deletes_many_too() -> None:
    with iii_state.open_sync(None) as state:
        for key in ("a", "b"):
            state.set("s", key, key)

        assert [*state.entries("s")] == [("a", "a"), ("b", "b")]
        assert [found.value for found in state.get_many([("s", "b")])] == ["b"]
        assert state.count("s").count == 2
        assert state.delete_prefix("s", "a").deleted == 1
        assert state.clear("s").deleted == 1
