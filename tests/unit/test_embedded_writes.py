"""Embedded: writes on conditions, with an end, once; transactions."""

from __future__ import annotations

import pytest

import iii_state
from iii_state.errors import Conflict, InvalidRequest, Stopped, TooLate, UpdateRejected

LONG_MS = 60_000
NINES = {"n": [9]}
INCREMENT = {"type": "increment", "path": "n", "by": 1}


async def test_an_entry_tells_its_revision_and_times() -> None:
    async with iii_state.open(None) as state:
        await state.set("s", "k", 1)
        made = await state.set("s", "k", {"n": 2}, ttl_ms=LONG_MS)
        entry = await state.get_entry("s", "k")

        assert entry is not None
        assert (entry.scope, entry.key, entry.value) == ("s", "k", {"n": 2})
        assert entry.revision == made.revision == 2
        assert entry.expires_at_ms is not None
        assert entry.created_at_ms <= entry.updated_at_ms < entry.expires_at_ms
        assert await state.get_entry("s", "absent") is None


async def test_a_write_with_another_revision_changes_nothing() -> None:
    async with iii_state.open(None) as state:
        await state.set("s", "k", 1, if_revision=0)

        with pytest.raises(Conflict) as raised:
            await state.set("s", "k", 2, if_revision=0)
        with pytest.raises(Conflict):
            await state.update("s", "k", INCREMENT, if_revision=7)
        with pytest.raises(Conflict):
            await state.delete("s", "k", if_revision=7)

        assert raised.value.details["revision"] == 1
        assert await state.get("s", "k") == 1
        assert await state.delete("s", "k", if_revision=1) == 1


async def test_a_repeated_write_is_carried_out_once() -> None:
    async with iii_state.open(None) as state:
        first = await state.update("s", "k", INCREMENT, idempotency_key="i")

        assert await state.update("s", "k", INCREMENT, idempotency_key="i") == first
        assert await state.get("s", "k") == {"n": 1}
        await state.delete("s", "k", idempotency_key="i")
        assert (await state.create("s", "k", 1, idempotency_key="i")).created
        assert (await state.create("s", "k", 1, idempotency_key="i")).created


async def test_a_write_after_its_deadline_is_refused() -> None:
    async with iii_state.open(None) as state:
        for late in (
            state.set("s", "k", 1, deadline_ms=1_000_000_000_000),
            state.delete("s", "k", deadline_ms=1_000_000_000_000),
            state.create("s", "k", 1, deadline_ms=1_000_000_000_000),
            state.update("s", "k", INCREMENT, deadline_ms=1_000_000_000_000),
            state.compare_and_set("s", "k", 1, deadline_ms=1_000_000_000_000),
        ):
            with pytest.raises(TooLate):
                await late

        assert await state.list_groups() == []


async def test_a_strict_update_applies_all_or_nothing() -> None:
    async with iii_state.open(None) as state:
        await state.set("s", "k", NINES)

        with pytest.raises(UpdateRejected):
            await state.update(
                "s", "k", {"type": "set", "path": "m", "value": 1}, INCREMENT, strict=True
            )

        assert await state.get("s", "k") == NINES


async def test_compare_and_set_by_value_and_by_revision() -> None:
    async with iii_state.open(None) as state:
        assert await state.compare_and_set("s", "k", "a") == iii_state.CompareAndSetResult(True, 1)
        assert await state.compare_and_set("s", "k", "b") == iii_state.CompareAndSetResult(
            False, 1, "a"
        )
        assert (await state.compare_and_set("s", "k", "b", expected="a")).swapped
        assert not (await state.compare_and_set("s", "k", "c", if_revision=1)).swapped
        assert (await state.compare_and_set("s", "k", "c", if_revision=2)).swapped
        with pytest.raises(InvalidRequest):
            await state.compare_and_set("s", "k", "d", expected="c", if_revision=3)

        assert await state.get("s", "k") == "c"


async def test_what_is_written_on_a_condition_can_expire() -> None:
    async with iii_state.open(None) as state:
        await state.compare_and_set("s", "k", 1, ttl_ms=LONG_MS)
        await state.create("s", "l", 1, ttl_ms=LONG_MS)

        for key in ("k", "l"):
            entry = await state.get_entry("s", key)
            assert entry is not None
            assert entry.expires_at_ms is not None


async def test_only_what_is_absent_is_created() -> None:
    async with iii_state.open(None) as state:
        assert await state.create("s", "k", 1) == iii_state.CreateResult(True, 1)
        assert await state.create("s", "k", 2) == iii_state.CreateResult(False, 1, 1)


async def test_a_touched_key_expires_and_is_seen_to() -> None:
    async with iii_state.open(None) as state:
        expiries = state.watch(events=["expired"])
        await state.set("s", "k", 1, ttl_ms=LONG_MS)
        assert await state.touch("s", "k", None) == iii_state.TouchResult(True)
        assert (await state.touch("s", "k", 1)).expires_at_ms is not None

        event = await anext(expiries)

        assert (event.event_type, event.cause) == ("state:deleted", "expired")
        assert event.old_value == 1
        assert await state.touch("s", "k", 1) == iii_state.TouchResult(False)


async def test_a_transaction_commits_all_its_writes_at_the_end_of_the_block() -> None:
    async with iii_state.open(None) as state:
        await state.set("s", "old", 1)
        async with state.transaction() as t:
            t.require("s", "old", revision=1)
            t.require("s", "old", value=1)
            t.require("s", "new", absent=True)
            t.set("s", "new", 2, ttl_ms=LONG_MS)
            t.update("t", "counter", INCREMENT)
            t.delete("s", "old")
            assert await state.list_keys("s") == ["old"]
            assert not t.committed

        assert t.committed
        assert t.result == iii_state.TransactResult(
            2,
            4,
            (
                iii_state.UpdateResult(None, 2, 2),
                iii_state.UpdateResult(None, {"n": 1}, 3),
                iii_state.UpdateResult(1, None, 4),
            ),
        )
        assert await state.list_keys("s") == ["new"]


async def test_a_guard_that_fails_raises_and_tells_what_is_there() -> None:
    async with iii_state.open(None) as state:
        await state.set("s", "a", "now")
        t = state.transaction()

        async def write() -> None:
            async with t:
                t.require("s", "a", revision=1)
                t.require("s", "b", revision=5)
                t.require("s", "a", value="before")
                t.set("s", "b", 1)

        with pytest.raises(Conflict, match="'b' of scope 's' and 1 more") as raised:
            await write()

        assert not t.committed
        assert raised.value.details["failed"] == [
            {"scope": "s", "key": "b", "guard_index": 1, "current": None, "revision": 0},
            {"scope": "s", "key": "a", "guard_index": 2, "current": "now", "revision": 1},
        ]
        assert await state.list_keys("s") == ["a"]


async def test_a_block_that_raises_writes_nothing() -> None:
    async with iii_state.open(None) as state:
        t = state.transaction()

        async def write() -> None:
            async with t:
                t.set("s", "k", 1)
                raise KeyError

        with pytest.raises(KeyError):
            await write()

        assert not t.committed
        assert await state.list_groups() == []


async def test_what_a_transaction_has_read_must_stay_as_it_is() -> None:
    async with iii_state.open(None) as state:
        await state.set("s", "from", 10)
        async with state.transaction() as t:
            amount = await t.get("s", "from")
            held = await t.get("s", "to", 0)
            t.set("s", "from", amount - 3)
            t.set("s", "to", held + 3)
        assert await state.list("s") == [7, 3]

        async def write_what_is_outdated() -> None:
            async with state.transaction() as t:
                amount = await t.get("s", "from")
                await state.set("s", "from", 1)
                t.set("s", "from", amount - 3)

        with pytest.raises(Conflict):
            await write_what_is_outdated()
        assert await state.get("s", "from") == 1


async def test_a_repeated_transaction_is_carried_out_once() -> None:
    async with iii_state.open(None) as state:
        results = []
        for _ in range(2):
            async with state.transaction(idempotency_key="once") as t:
                t.update("s", "k", INCREMENT)
            results.append(t.result)

        assert results[0] == results[1]
        assert await state.get("s", "k") == {"n": 1}


async def test_values_count_as_they_were_when_they_were_given() -> None:
    async with iii_state.open(None) as state:
        value = {"n": 1}
        async with state.transaction() as t:
            t.set("s", "k", value)
            value["n"] = 2

        assert await state.get("s", "k") == {"n": 1}


async def test_a_transaction_without_anything_is_no_write() -> None:
    async with iii_state.open(None) as state:
        async with state.transaction() as t:
            pass

        assert await state.list_groups() == []
        with pytest.raises(InvalidRequest, match="has ended"):
            t.set("s", "k", 1)


async def test_wrong_parts_of_a_transaction_are_refused_where_they_are_given() -> None:
    async with iii_state.open(None) as state:
        async with state.transaction() as t:
            with pytest.raises(InvalidRequest):
                t.require("s", "k")
            with pytest.raises(InvalidRequest):
                t.require("s", "k", revision=1, absent=True)
            with pytest.raises(InvalidRequest):
                t.set("s", "k", {1, 2})

        assert await state.list_groups() == []


async def test_a_closed_store_refuses_calls() -> None:
    async with iii_state.open(None) as state:
        pass

    with pytest.raises(Stopped):
        await state.set("s", "k", 1)
