"""`state::changes`: the change log, read by whoever asks."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from engine_bench import EngineBench
from feed_bench import (
    Json,
    ask,
    error_of,
    keys,
    over_store,
    put,
    running,
)

from iii_state.core.commands import Delete, Set
from iii_state.engine import feed_schemas
from iii_state.engine.feed_scans import SLICE_CHANGES_MAX
from iii_state.engine.workers import MESSAGE_BYTES_SAFE
from iii_state.stores.memory import MemoryStore
from iii_state.testing.clocks import FakeClock


@pytest.fixture(params=["memory", "disk"])
async def bench(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[EngineBench]:
    async with over_store(request.param, tmp_path) as started:
        yield started


async def test_changes_after_a_revision_come_in_order_as_handlers_get_them(
    bench: EngineBench,
) -> None:
    client = bench.client("writer")
    await put(bench, client, "a", 1)
    await put(bench, client, "a", 2)
    await ask(bench, client, "delete", scope="s", key="a")

    result = await ask(bench, client, "changes", after=1)

    assert result["changes"] == [
        {
            "type": "state",
            "event_type": "state:updated",
            "scope": "s",
            "key": "a",
            "old_value": 1,
            "new_value": 2,
            "event_id": "1700000000000-2",
            "revision": 2,
            "timestamp_ms": 1_700_000_000_000,
            "attempt": 1,
            "depth": 0,
            "worker": client.worker.origin.worker,
        },
        {
            "type": "state",
            "event_type": "state:deleted",
            "scope": "s",
            "key": "a",
            "old_value": 2,
            "new_value": None,
            "event_id": "1700000000000-3",
            "revision": 3,
            "timestamp_ms": 1_700_000_000_000,
            "attempt": 1,
            "depth": 0,
            "worker": client.worker.origin.worker,
        },
    ]
    assert (result["last_revision"], result["oldest_revision"], result["revision"]) == (3, 0, 3)


@pytest.mark.parametrize(
    ("selection", "revisions"),
    [
        ({}, [1, 2, 3, 4, 5]),
        ({"scope": "t"}, [3]),
        ({"key": "ab"}, [1, 3, 4, 5]),
        ({"scope": "s", "key": "b"}, [2]),
        ({"key_prefix": "a"}, [1, 3, 4, 5]),
        ({"key_prefix": "b", "scope": "t"}, []),
        ({"events": ["updated"]}, [4]),
        ({"events": ["created", "deleted"], "scope": "s"}, [1, 2, 5]),
        ({"events": ["expired"]}, []),
        ({"scope": None, "key": None, "key_prefix": None, "events": None}, [1, 2, 3, 4, 5]),
    ],
)
async def test_only_selected_changes_are_told_and_all_are_passed(
    bench: EngineBench, selection: Json, revisions: list[int]
) -> None:
    client = bench.client()
    await put(bench, client, "ab", 1)
    await put(bench, client, "b", 1)
    await put(bench, client, "ab", 1, scope="t")
    await put(bench, client, "ab", 2)
    await ask(bench, client, "delete", scope="s", key="ab")

    result = await ask(bench, client, "changes", after=0, **selection)

    assert [event["revision"] for event in result["changes"]] == revisions
    assert result["last_revision"] == 5


async def test_an_expiry_is_expired_and_not_deleted(bench: EngineBench) -> None:
    client = bench.client()
    await put(bench, client, "a", 1)
    bench.store.execute(Delete("s", "a", cause="expired"))
    await bench.store.commit()

    deleted = await ask(bench, client, "changes", after=0, events=["deleted"])
    expired = await ask(bench, client, "changes", after=0, events=["expired"])

    assert deleted["changes"] == []
    assert [event["cause"] for event in expired["changes"]] == ["expired"]


async def test_pages_by_count_and_bytes_hold_everything_once(bench: EngineBench) -> None:
    client = bench.client()
    for number in range(3 * SLICE_CHANGES_MAX):
        await put(bench, client, f"k{number}", "x" * (number % 50), scope="st"[number % 2])
    bounds: list[dict[str, int]] = [{"limit": 7}, {"max_bytes": 1}, {"max_bytes": 2000}, {}]

    for bound in bounds:
        after, told = 0, []
        while True:
            page = await ask(bench, client, "changes", after=after, scope="s", **bound)
            if not page["changes"]:
                break
            assert len(page["changes"]) <= bound.get("limit", 100)
            told += [event["revision"] for event in page["changes"]]
            after = page["last_revision"]
        assert told == list(range(1, 3 * SLICE_CHANGES_MAX, 2))
        assert after == page["last_revision"] == page["revision"]


async def test_a_limit_beyond_the_bound_is_held_to_it(bench: EngineBench) -> None:
    client = bench.client()
    for number in range(feed_schemas.LIMIT_MAX + 1):
        bench.store.execute(Set("s", f"k{number}", b"1"))
    await bench.store.commit()

    result = await ask(bench, client, "changes", after=0, limit=1 << 40)

    assert len(result["changes"]) == feed_schemas.LIMIT_MAX
    assert result["last_revision"] == feed_schemas.LIMIT_MAX


async def test_an_answer_fits_what_the_client_can_receive(bench: EngineBench) -> None:
    client = bench.client(announce=False)
    for name, size in (("large", MESSAGE_BYTES_SAFE), ("a", 600_000), ("b", 600_000)):
        bench.store.execute(Set("s", name, b'"%b"' % (b"x" * size)))
    await bench.store.commit()

    first = await ask(bench, client, "changes", after=0, max_bytes=1 << 30)
    second = await ask(bench, client, "changes", after=first["last_revision"], max_bytes=1 << 30)

    assert keys(first) == ["large", "a"]
    assert first["changes"][0]["values_omitted"] is True
    assert first["changes"][0]["new_value"] is None
    assert keys(second) == ["b"]


@pytest.mark.parametrize(
    "data",
    [
        {},
        {"after": -1},
        {"after": "1"},
        {"after": None},
        {"after": 0, "limit": 0},
        {"after": 0, "max_bytes": 0},
        {"after": 0, "wait_ms": -1},
        {"after": 0, "events": ["made"]},
        {"after": 0, "scope": 1},
    ],
)
async def test_a_request_that_makes_no_sense_is_refused(bench: EngineBench, data: Json) -> None:
    error = await error_of(bench, bench.client(), "changes", **data)

    assert error["code"] == "deserialization_error"


async def test_a_revision_that_is_yet_to_come_is_refused(bench: EngineBench) -> None:
    client = bench.client()
    await put(bench, client, "a", 1)

    error = await error_of(bench, client, "changes", after=2, wait_ms=1000)

    assert error["code"] == "deserialization_error"
    assert error["details"] == {"revision": 1}


async def test_below_what_is_kept_is_an_error_with_the_oldest_revision() -> None:
    store = MemoryStore(FakeClock(), history_bytes=1)
    async with running(store) as bench:
        client = bench.client()
        for number in range(3):
            await put(bench, client, f"k{number}", 1)

        error = await error_of(bench, client, "changes", after=1)
        result = await ask(bench, client, "changes", after=error["details"]["oldest_revision"])

        assert error["code"] == "REVISION_COMPACTED"
        assert keys(result) == ["k2"]
