"""`state::changes` with `wait_ms`: a call that waits for the next change."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from engine_bench import EngineBench, LoopTimers, RecordingPeer, running_engine
from feed_bench import (
    Json,
    answers,
    ask,
    error_of,
    keys,
    over_store,
    put,
    result_of,
)
from feed_work import Asked, SlowTimers, filled

from iii_state.core.commands import Set
from iii_state.engine import feed_calls, feed_schemas
from iii_state.engine.feed_calls import FeedCalls
from iii_state.engine.feed_functions import FeedFunctions
from iii_state.stores.memory import MemoryStore
from iii_state.testing.clocks import FakeClock


@pytest.fixture(params=["memory", "disk"])
async def bench(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[EngineBench]:
    async with over_store(request.param, tmp_path) as started:
        yield started


async def test_a_call_waits_until_a_change_that_it_wants_is_committed(bench: EngineBench) -> None:
    client, writer = bench.client(), bench.client()
    wanted: list[dict[str, Json]] = [
        {"scope": "s", "key": "k"},
        {"scope": "s"},
        {"key": "k"},
        {"key_prefix": "k"},
        {"events": ["created"]},
    ]
    calls = [
        client.call("state::changes", {"after": 0, "wait_ms": 5000, **each}) for each in wanted
    ]
    await bench.turn()
    assert answers(client) == []

    await put(bench, writer, "k", 1)

    assert [keys(result_of(client, call)) for call in calls] == [["k"]] * len(wanted)


async def test_changes_that_are_not_wanted_wake_nobody_and_are_passed(bench: EngineBench) -> None:
    client, writer = bench.client(), bench.client()
    call = client.call(
        "state::changes", {"after": 0, "scope": "s", "key_prefix": "k", "wait_ms": 5000}
    )
    await bench.turn()
    await put(bench, writer, "other", 1)
    await put(bench, writer, "k", 1, scope="elsewhere")
    assert answers(client) == []

    await bench.pass_time(5)

    result = result_of(client, call)
    assert (result["changes"], result["last_revision"]) == ([], 2)
    again = client.call("state::changes", {"after": 2, "scope": "s", "wait_ms": 5000})
    await bench.turn()
    await put(bench, writer, "k", 1)
    assert [event["revision"] for event in result_of(client, again)["changes"]] == [3]


async def test_a_wait_ends_in_time_and_no_later_than_the_bound(bench: EngineBench) -> None:
    client = bench.client()
    short = client.call("state::changes", {"after": 0, "wait_ms": 100})
    long = client.call("state::changes", {"after": 0, "wait_ms": 1 << 40})
    await bench.turn()
    await bench.pass_time(0.05)
    assert answers(client) == []

    await bench.pass_time(0.05)
    assert result_of(client, short)["last_revision"] == 0
    await bench.pass_time(feed_schemas.WAIT_MS_MAX / 1000)
    assert result_of(client, long)["last_revision"] == 0


async def test_long_polls_one_after_the_other_miss_nothing_and_repeat_nothing(
    bench: EngineBench,
) -> None:
    client, writer = bench.client(), bench.client()
    after, told = 0, list[int]()
    for number in range(200):
        call = client.call("state::changes", {"after": after, "scope": "s", "wait_ms": 1000})
        if number % 3:
            await bench.turn()
        for batch in range(number % 4):
            writer.call(
                "state::set", {"scope": "st"[batch % 2], "key": f"{number}", "value": batch}
            )
        await bench.turn()
        await bench.pass_time(1)
        result = result_of(client, call)
        told += [event["revision"] for event in result["changes"]]
        after = result["last_revision"]
    rest = await ask(bench, client, "changes", after=after, scope="s", limit=1000)
    every = await ask(bench, client, "changes", after=0, scope="s", limit=1000)

    told += [event["revision"] for event in rest["changes"]]
    assert told == [event["revision"] for event in every["changes"]]
    assert len(told) == 200


async def test_a_call_that_begins_behind_an_uncommitted_write_waits_for_the_next() -> None:
    store = MemoryStore(FakeClock())
    timers = LoopTimers()
    calls = FeedCalls(store, timers)
    functions = FeedFunctions(store, calls)
    store.execute(Set("s", "a", b"1"))
    behind = Asked(functions, "changes", after=1, wait_ms=1000)
    before = Asked(functions, "changes", after=0, wait_ms=1000)
    timers.run()

    await store.commit()
    calls.committed()
    timers.run()
    assert keys(before.result) == ["a"]
    assert not behind.is_done

    store.execute(Set("s", "b", b"1"))
    await store.commit()
    calls.committed()
    timers.run()
    assert keys(behind.result) == ["b"]


async def test_many_that_wait_are_woken_in_slices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feed_calls, "WAKES_PER_SLICE_MAX", 4)
    timers = SlowTimers()
    calls = FeedCalls(store := await filled(0), timers)
    functions = FeedFunctions(store, calls)
    waiting = [
        Asked(functions, "changes", after=0, key_prefix="k", wait_ms=60_000) for _ in range(10)
    ]
    timers.run()
    for key in ("a", "b", "c", "k"):
        store.execute(Set("s", key, b"1"))
    await store.commit()
    calls.committed()
    calls.committed()

    turns = 0
    while not all(each.is_done for each in waiting):
        timers.turn()
        turns += 1

    assert turns > 10
    assert {each.result["last_revision"] for each in waiting} == {4}


async def test_those_who_wait_when_the_log_is_dropped_are_told() -> None:
    timers = LoopTimers()
    store = await filled(3, history_bytes=1)
    calls = FeedCalls(store, timers)
    waiting = Asked(FeedFunctions(store, calls), "changes", after=3, scope="s", wait_ms=1000)
    timers.run()
    for number in range(3):
        store.execute(Set("s", f"late{number}", b"1"))
        await store.commit()
    calls.committed()
    timers.run()

    assert waiting.failure is not None
    assert waiting.failure.code == "REVISION_COMPACTED"


async def test_who_has_gone_is_dropped() -> None:
    async with running_engine() as bench:
        client, writer = bench.client(), bench.client()
        client.call("state::changes", {"after": 0, "wait_ms": 1000})
        await bench.turn()
        client.call("state::changes", {"after": 0})
        client.disconnect()
        await put(bench, writer, "k", 1)
        await bench.pass_time(2)

        assert answers(client) == []
        assert bench.engine._feed_calls._count == 0


@pytest.mark.parametrize("how", ["stop", "drain"])
async def test_a_stop_answers_those_who_wait_and_those_who_read(how: str) -> None:
    async with running_engine() as bench:
        client = bench.client()
        waiting = client.call("state::changes", {"after": 0, "wait_ms": 60_000})
        await bench.turn()
        reading = client.call("state::changes", {"after": 0, "wait_ms": 60_000})

        await (bench.engine.stop() if how == "stop" else bench.engine.drain(0))

        for call in (waiting, reading):
            result = result_of(client, call)
            assert (result["changes"], result["last_revision"]) == ([], 0)
        await bench.pass_time(60)
        assert len(answers(client)) == 2


async def test_after_a_stop_nobody_waits() -> None:
    store = await filled(1)
    timers = LoopTimers()
    calls = FeedCalls(store, timers)
    calls.stop()
    late = Asked(FeedFunctions(store, calls), "changes", after=1, wait_ms=1000)
    timers.run()

    assert late.result["last_revision"] == 1


async def test_unanswered_calls_are_bounded_for_each_connection_and_in_total(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(feed_calls, "CALLS_PER_CONNECTION_MAX", 3)
    monkeypatch.setattr(feed_calls, "CALLS_MAX", 5)
    async with running_engine() as bench:
        first, second = bench.client(), bench.client()
        request = {"after": 0, "wait_ms": 1000}
        for client, taken in ((first, 3), (second, 2)):
            for _ in range(taken):
                client.call("state::changes", request)
            await bench.turn()
            error = await error_of(bench, client, "changes", **request)
            assert error["code"] == "LIMIT_EXCEEDED"
            assert error["details"]["bound"] == (3 if client is first else 5)

        assert client.ask("state::get", {"scope": "s", "key": "k"}) is None
        first.disconnect()
        second.call("state::changes", request)
        await bench.pass_time(1)
        assert len(answers(second)) == 5


async def test_waiting_keeps_nobody_from_being_read_and_reading_is_weighed() -> None:
    async with running_engine(in_flight_max=2) as bench:
        client, writer = bench.client(), bench.client()
        peer = PausingPeer()
        client.worker.peer = client.worker.in_flight._peer = peer
        for _ in range(3):
            client.call("state::changes", {"after": 0, "wait_ms": 1000})
        assert peer.is_paused
        await bench.turn()
        assert not peer.is_paused, "three wait, and the connection is read"

        await put(bench, writer, "k", 1)
        await bench.turn()
        assert not peer.is_paused
        assert len(peer.sent) == 3


class PausingPeer(RecordingPeer):
    """A connection that knows whether it is read."""

    is_paused = False

    def pause_reading(self) -> None:
        self.is_paused = True

    def resume_reading(self) -> None:
        self.is_paused = False


async def test_a_void_call_does_nothing() -> None:
    async with running_engine() as bench:
        client = bench.client()
        for name in ("changes", "history"):
            data = {"after": 0, "scope": "s", "key": "k", "wait_ms": 1000}
            client.call(f"state::{name}", data, action={"type": "void"})
        await bench.turn()

        assert bench.engine._feed_calls._count == 0
        assert answers(client) == []
