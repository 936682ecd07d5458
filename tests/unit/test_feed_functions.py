"""`state::changes` and `state::history`: the change log, read by whoever asks."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
from engine_bench import Client, EngineBench, LoopTimers, RecordingPeer, running_engine

from iii_state.core.changes import Origin
from iii_state.core.commands import Delete, Set
from iii_state.core.store import Store
from iii_state.engine import feed_calls, feed_schemas
from iii_state.engine.calls import EngineCall
from iii_state.engine.feed_calls import FeedCalls
from iii_state.engine.feed_functions import FeedFunctions
from iii_state.engine.feed_scans import SLICE_CHANGES_MAX
from iii_state.engine.invocations import Failure
from iii_state.engine.slices import SLICES_PER_TURN_MAX, TURN_S, Slices
from iii_state.engine.workers import MESSAGE_BYTES_SAFE
from iii_state.stores.disk import DiskStore
from iii_state.stores.memory import MemoryStore
from iii_state.testing.clocks import FakeClock
from iii_state.testing.executors import InlineExecutor

Json = Any


async def open_disk(directory: Path, **options: Any) -> DiskStore:
    return await DiskStore.open(
        directory, clock_ms=FakeClock(), executor=InlineExecutor, durability="none", **options
    )


@asynccontextmanager
async def running(store: Store) -> AsyncIterator[EngineBench]:
    bench = EngineBench(store)
    bench.engine.start()
    yield bench
    await bench.engine.stop()


@pytest.fixture(params=["memory", "disk"])
async def bench(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[EngineBench]:
    """An engine over each kind of store."""
    store = MemoryStore(FakeClock()) if request.param == "memory" else await open_disk(tmp_path)
    async with running(store) as started:
        yield started
    await store.close()


async def ask(bench: EngineBench, client: Client, name: str, **data: Json) -> Json:
    """Call a function and give its result."""
    call_id = client.call(f"state::{name}", data)
    await bench.turn()
    return result_of(client, call_id)


def result_of(client: Client, call_id: str) -> Json:
    answer = client.answer_to(call_id)
    assert "error" not in answer, answer
    return answer["result"]


async def error_of(bench: EngineBench, client: Client, name: str, **data: Json) -> Json:
    call_id = client.call(f"state::{name}", data)
    await bench.turn()
    return client.answer_to(call_id)["error"]


async def put(bench: EngineBench, client: Client, key: str, value: Json, scope: str = "s") -> None:
    await ask(bench, client, "set", scope=scope, key=key, value=value)


def answers(client: Client) -> list[dict[str, Json]]:
    return client.got("invocationresult", keep=True)


def keys(result: Json) -> list[str]:
    return [event["key"] for event in result["changes"]]


# -- state::changes -------------------------------------------------------------------------------


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


# -- in slices ------------------------------------------------------------------------------------


class SlowTimers(LoopTimers):
    """Time passes while something is done: one slice is a turn."""

    def time(self) -> float:
        self.now += TURN_S
        return self.now


class Asked:
    """A call of the engine's own to a feed function, and what became of it."""

    def __init__(self, functions: FeedFunctions, name: str, **data: Json) -> None:
        self.result: Json = None
        self.failure: Failure | None = None
        [function] = [each for each in functions.functions() if each.id == f"state::{name}"]
        function.run(EngineCall(function.text, msgspec.json.encode(data), reply=self._reply))

    def _reply(self, result: bytes | None, failure: Failure | None) -> None:
        assert not self.is_done, "answered twice"
        self.failure = failure
        self.result = msgspec.json.decode(result) if result is not None else None

    @property
    def is_done(self) -> bool:
        return self.result is not None or self.failure is not None


async def filled(count: int, *, history_bytes: int = 64 << 20) -> MemoryStore:
    store = MemoryStore(FakeClock(), history_bytes=history_bytes)
    for number in range(count):
        store.execute(Set("first" if number == 0 else "other", f"k{number}", b"1"))
    await store.commit()
    return store


async def test_a_long_scan_holds_no_turn_for_longer_than_a_slice() -> None:
    timers = SlowTimers()
    functions = FeedFunctions(store := await filled(1000), FeedCalls(store, timers))
    long = Asked(functions, "changes", after=0, scope="nothing")
    short = Asked(functions, "changes", after=990)
    turns = 0

    while not long.is_done:
        timers.turn()
        turns += 1
        assert short.is_done == (turns >= 4), "the other one had its turns, too"

    assert turns >= 1000 / SLICE_CHANGES_MAX
    assert (long.result["changes"], long.result["last_revision"]) == ([], 1000)


async def test_a_scan_that_takes_too_long_answers_with_how_far_it_has_got(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(feed_calls, "SCAN_S_MAX", 5 * TURN_S)
    timers = SlowTimers()
    functions = FeedFunctions(store := await filled(1000), FeedCalls(store, timers))
    changes = Asked(functions, "changes", after=0, scope="first", wait_ms=60_000)
    history = Asked(functions, "history", scope="first", key="none")
    timers.run()

    assert [event["revision"] for event in changes.result["changes"]] == [1]
    assert changes.result["last_revision"] < changes.result["revision"] == 1000
    assert history.result["versions"] == []
    assert 1 < history.result["next_before"] <= 1001


async def test_what_is_dropped_while_a_scan_is_under_way_is_not_skipped() -> None:
    timers = SlowTimers()
    store = await filled(2 * SLICE_CHANGES_MAX, history_bytes=1)
    functions = FeedFunctions(store, FeedCalls(store, timers))
    found = Asked(functions, "changes", after=0, scope="first")
    searched = Asked(functions, "changes", after=0, scope="none")
    timers.turn()
    timers.turn()

    store.execute(Set("other", "late", b"1"))
    await store.commit()
    timers.run()

    assert found.result["last_revision"] == SLICE_CHANGES_MAX
    assert searched.failure is not None
    assert searched.failure.code == "REVISION_COMPACTED"


def test_works_take_turns_and_one_that_fails_stops_no_other() -> None:
    timers, done = LoopTimers(), list[str]()
    slices = Slices(timers)

    def work(name: str, left: int) -> Callable[[], bool]:
        def one() -> bool:
            nonlocal left
            done.append(name)
            left -= 1
            if left < 0:
                raise ZeroDivisionError
            return left > 0

        return one

    for name, length in (("a", 2), ("fails", 0), ("b", 3), ("c", SLICES_PER_TURN_MAX)):
        slices.add(work(name, length))
    with pytest.raises(ZeroDivisionError):
        timers.run()
    timers.turn()

    assert done[:8] == ["a", "fails", "b", "c", "a", "b", "c", "b"]
    assert len(done) < SLICES_PER_TURN_MAX + 6, "a turn ends, even when no time passes"
    timers.run()
    assert done.count("c") == SLICES_PER_TURN_MAX


# -- waiting --------------------------------------------------------------------------------------


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


# -- state::history -------------------------------------------------------------------------------


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


# -- on disk --------------------------------------------------------------------------------------


async def test_both_read_what_was_written_before_a_restart(tmp_path: Path) -> None:
    store = await open_disk(tmp_path)
    for number in range(5 * SLICE_CHANGES_MAX):
        store.execute(Set("s", f"k{number % 7}", b"%d" % number))
        if number % 3 == 0:
            await store.commit()
    await store.close()

    store = await open_disk(tmp_path)
    async with running(store) as bench:
        client = bench.client()
        changes = await ask(bench, client, "changes", after=0, key="k3", limit=1000)
        history = await ask(bench, client, "history", scope="s", key="k3", limit=1000)
    await store.close()

    values = [event["new_value"] for event in changes["changes"]]
    assert values == list(range(3, 5 * SLICE_CHANGES_MAX, 7))
    assert [event["old_value"] for event in changes["changes"]] == [None, *values[:-1]]
    assert [version["value"] for version in history["versions"]] == values[::-1]


async def test_damage_in_the_log_is_told(tmp_path: Path) -> None:
    store = await open_disk(tmp_path)
    for number in range(4):
        store.execute(Set("s", "k", b'"%b"' % (b"%d" % number * 100_000)))
        await store.commit()
    await store.close()
    store = await open_disk(tmp_path)
    spoil(tmp_path, b"1" * 100)

    async with running(store) as bench:
        client = bench.client()
        changes = await error_of(bench, client, "changes", after=1)
        history = await ask(bench, client, "history", scope="s", key="k")
        rest = await error_of(bench, client, "history", scope="s", key="k", before=4)
        none = await error_of(bench, client, "history", scope="s", key="none")
    await store.close()

    assert {error["code"] for error in (changes, rest, none)} == {"STORE_DAMAGED"}
    assert [version["revision"] for version in history["versions"]] == [4]
    assert history["next_before"] == 4


async def test_what_was_found_before_the_damage_is_told(tmp_path: Path) -> None:
    store = await open_disk(tmp_path)
    store.execute(Set("s", "k", b"1"))
    for number in range(1, SLICE_CHANGES_MAX + 1):
        store.execute(Set("other", f"k{number}", b"1"))
        await store.commit()
    store.execute(Set("other", "k", b'"%b"' % (b"x" * 100)))
    await store.close()
    store = await open_disk(tmp_path)
    spoil(tmp_path, b"x" * 100)

    async with running(store) as bench:
        client = bench.client()
        found = await ask(bench, client, "changes", after=0, scope="s")
        error = await error_of(bench, client, "changes", after=found["last_revision"])
    await store.close()

    assert (keys(found), found["last_revision"]) == (["k"], SLICE_CHANGES_MAX)
    assert error["code"] == "STORE_DAMAGED"


def spoil(directory: Path, text: bytes) -> None:
    """Change what the log of a store in a directory says."""
    [segment] = directory.glob("*.seg")
    with segment.open("r+b") as file:
        file.seek(segment.read_bytes().index(text))
        file.write(b"?")
