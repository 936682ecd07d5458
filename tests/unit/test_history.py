"""`state::history`: the versions of a key, read from the change log."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from engine_bench import EngineBench, LoopTimers, running_engine
from feed_bench import (
    Json,
    ask,
    error_of,
    over_store,
    put,
    result_of,
    running,
)
from feed_work import Asked

from iii_state.core.changes import Origin
from iii_state.core.commands import Delete, Set
from iii_state.engine.feed_calls import FeedCalls
from iii_state.engine.feed_functions import FeedFunctions
from iii_state.engine.feed_scans import SLICE_CHANGES_MAX
from iii_state.engine.workers import MESSAGE_BYTES_SAFE
from iii_state.stores.memory import MemoryStore
from iii_state.testing.clocks import FakeClock


@pytest.fixture(params=["memory", "disk"])
async def bench(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[EngineBench]:
    async with over_store(request.param, tmp_path) as started:
        yield started


async def test_a_history_is_the_versions_of_a_key_newest_first(bench: EngineBench) -> None:
    client = bench.client("writer")
    await put(bench, client, "k", {"n": 1})
    await put(bench, client, "other", 0)
    await put(bench, client, "k", None)
    await put(bench, client, "k", 0, scope="elsewhere")
    await ask(bench, client, "delete", scope="s", key="k")
    await put(bench, client, "k", 3)

    result = await ask(bench, client, "history", scope="s", key="k")

    common = {"timestamp_ms": 1_700_000_000_000, "worker": client.worker.origin.worker}
    assert result == {
        "versions": [
            {"revision": 6, "event_type": "state:created", "value": 3, **common},
            {"revision": 5, "event_type": "state:deleted", **common},
            {"revision": 3, "event_type": "state:updated", "value": None, **common},
            {"revision": 1, "event_type": "state:created", "value": {"n": 1}, **common},
        ],
        "oldest_revision": 0,
    }


async def test_a_version_tells_the_function_and_the_cause() -> None:
    store = MemoryStore(FakeClock())
    store.execute(Set("s", "k", b"1", Origin("w", "orders::ship", 2)))
    store.execute(Delete("s", "k", cause="expired"))
    await store.commit()
    timers = LoopTimers()
    asked = Asked(FeedFunctions(store, FeedCalls(store, timers)), "history", scope="s", key="k")
    timers.run()

    deleted, created = asked.result["versions"]
    assert (deleted["cause"], deleted.get("worker")) == ("expired", None)
    assert (created["worker"], created["function"]) == ("w", "orders::ship")


@pytest.mark.parametrize("limit", [1, 2, 3, 1000])
async def test_pages_of_a_history_hold_every_version_once(bench: EngineBench, limit: int) -> None:
    """With versions that follow each other, a deletion in between, and others' changes."""
    written = list[int]()
    for number in range(6 * SLICE_CHANGES_MAX):
        if number % 97 == 5:
            outcome = bench.store.execute(Delete("s", "k"))
        elif number % 31 in (7, 8, 9):
            outcome = bench.store.execute(Set("s", "k", b"%d" % number))
        else:
            bench.store.execute(Set("s", f"k{number}", b"0"))
            continue
        assert outcome.change is not None
        written.append(outcome.change.revision)
        if number % 2:
            await bench.store.commit()
    await bench.store.commit()
    client = bench.client()

    told = list[int]()
    before: dict[str, int] = {}
    while True:
        page = await ask(bench, client, "history", scope="s", key="k", limit=limit, **before)
        assert len(page["versions"]) <= limit
        told += [version["revision"] for version in page["versions"]]
        if "next_before" not in page:
            break
        before = {"before": page["next_before"]}
    from_the_middle = await ask(bench, client, "history", scope="s", key="k", before=200)

    assert told == written[::-1]
    assert [version["revision"] for version in from_the_middle["versions"]] == [
        revision for revision in told if revision < 200
    ]


async def test_large_values_around_a_version_do_not_hide_it(bench: EngineBench) -> None:
    client = bench.client()
    for number in range(30):
        key = "k" if number in (2, 3, 25) else f"k{number}"
        bench.store.execute(Set("s", key, b'"%b"' % (b"x" * 100_000)))
        bench.store.execute(Delete("s", key))
    await bench.store.commit()

    result = await ask(bench, client, "history", scope="s", key="k")

    revisions = [version["revision"] for version in result["versions"]]
    assert revisions == [52, 51, 8, 7, 6, 5]


async def test_a_key_that_never_was_has_no_history(bench: EngineBench) -> None:
    client = bench.client()
    for number in range(3 * SLICE_CHANGES_MAX):
        bench.store.execute(Set("s", f"k{number}", b"0"))
    await bench.store.commit()

    result = await ask(bench, client, "history", scope="s", key="none")

    assert result == {"versions": [], "oldest_revision": 0}


async def test_a_version_that_is_not_committed_is_not_told(bench: EngineBench) -> None:
    client = bench.client()
    await put(bench, client, "k", 1)
    bench.store.execute(Set("s", "k", b"2"))
    call = client.call("state::history", {"scope": "s", "key": "k"})
    bench.timers.run()

    assert [version["value"] for version in result_of(client, call)["versions"]] == [1]


async def test_a_history_ends_where_the_log_begins() -> None:
    store = MemoryStore(FakeClock(), history_bytes=1)
    async with running(store) as bench:
        client = bench.client()
        await put(bench, client, "old", 1)
        await put(bench, client, "k", 1)
        await put(bench, client, "k", 2)

        kept = await ask(bench, client, "history", scope="s", key="k")
        gone = await ask(bench, client, "history", scope="s", key="old")
        none = await ask(bench, client, "history", scope="s", key="none")
        before = await ask(bench, client, "history", scope="s", key="k", before=2)

        assert [version["revision"] for version in kept["versions"]] == [3]
        assert kept["oldest_revision"] == 2
        assert "next_before" not in kept
        for result in (gone, none, before):
            assert result == {"versions": [], "oldest_revision": 2}


async def test_a_history_fits_what_the_client_can_receive(bench: EngineBench) -> None:
    client = bench.client(announce=False)
    for size in (600_000, 500_000, MESSAGE_BYTES_SAFE):
        bench.store.execute(Set("s", "k", b'"%b"' % (b"x" * size)))
    await bench.store.commit()

    first = await ask(bench, client, "history", scope="s", key="k")
    second = await ask(bench, client, "history", scope="s", key="k", before=first["next_before"])

    assert [version["revision"] for version in first["versions"]] == [3, 2]
    assert first["versions"][0]["values_omitted"] is True
    assert "value" not in first["versions"][0]
    assert [version["revision"] for version in second["versions"]] == [1]
    assert "next_before" not in second


@pytest.mark.parametrize(
    "data",
    [
        {},
        {"scope": "s"},
        {"scope": "s", "key": "k", "limit": 0},
        {"scope": "s", "key": "k", "before": 0},
    ],
)
async def test_a_history_that_makes_no_sense_is_refused(data: Json) -> None:
    async with running_engine() as bench:
        error = await error_of(bench, bench.client(), "history", **data)

        assert error["code"] == "deserialization_error"
