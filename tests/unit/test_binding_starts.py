"""Where a binding starts: now, at a revision, or with the entries that are there."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from durable_bench import Handler, benches, until
from engine_bench import Client, EngineBench, running_engine

from iii_state.core.commands import Command, ListEntries, ListScopes, Outcome
from iii_state.engine import initial
from iii_state.errors import StorageError
from iii_state.stores.memory import MemoryStore
from iii_state.testing.clocks import FakeClock

INITIAL = {"scope": "s", "from": "initial"}


async def write(bench: EngineBench, client: Client, *keys: str, scope: str = "s") -> None:
    for key in keys:
        client.ask("state::set", {"scope": scope, "key": key, "value": key})
    await bench.turn()


def keys(handler: Handler) -> list[str]:
    return [key for key, _ in handler.take()]


async def told(bench: EngineBench, handler: Handler) -> list[tuple[str, str, bool]]:
    """What a handler is told until nothing more comes: event, key, and whether it is marked."""
    events: list[dict[str, Any]] = []
    while True:
        await bench.turn()
        before = len(handler.events)
        handler.answer_all()
        if len(handler.events) == before:
            break
    events = handler.events
    return [(e["event_type"][6:], e["key"], e.get("initial", False)) for e in events]


async def test_it_starts_after_a_revision() -> None:
    async with running_engine() as bench:
        handler = Handler(bench.client("w"))
        await write(bench, handler.client, "a", "b", "c")
        handler.client.bind(config={"from": 1})
        await bench.turn()
        assert keys(handler) == ["b", "c"]


async def test_a_revision_that_is_no_longer_kept_is_refused_with_the_oldest() -> None:
    bench = EngineBench(MemoryStore(FakeClock(), history_bytes=0))
    bench.engine.start()
    handler = Handler(bench.client("w"))
    await write(bench, handler.client, "a")
    await write(bench, handler.client, "b")
    oldest = bench.store.oldest_revision
    handler.client.bind(config={"from": 0})
    [refusal] = handler.client.got("triggerregistrationresult")
    handler.client.bind(config={"from": 3})
    [beyond] = handler.client.got("triggerregistrationresult")
    handler.client.bind(config={"from": oldest})
    await bench.engine.stop()
    assert refusal["error"]["code"] == "REVISION_COMPACTED"
    assert f"{oldest} is the lowest" in refusal["error"]["message"]
    assert beyond["error"]["code"] == "trigger_registration_failed"
    assert handler.client.got("triggerregistrationresult") == []


async def test_a_durable_one_that_has_begun_goes_on_whatever_it_asked_for_then() -> None:
    async with running_engine() as bench:
        handler = Handler(bench.client("w"))
        await write(bench, handler.client, "a")
        handler.client.bind(config={"from": 0, "durable": "d"})
        assert await told(bench, handler) == [("created", "a", False)]
        handler.client.disconnect()
        again = Handler(bench.client("w"))
        again.client.bind("t2", config={"from": 0, "durable": "d"})
        await write(bench, again.client, "b")
        assert await told(bench, again) == [("created", "b", False)]


async def test_initial_begins_with_the_entries_in_order_of_creation_then_goes_on() -> None:
    async with running_engine() as bench:
        handler = Handler(bench.client("w"))
        await write(bench, handler.client, "b", "a", "c", "gone", "b")
        await write(bench, handler.client, "x", scope="other")
        handler.client.ask("state::delete", {"scope": "s", "key": "gone"})
        handler.client.bind(config={**INITIAL, "max_in_flight": 1})
        await write(bench, handler.client, "a", "d")
        assert await told(bench, handler) == [
            ("created", "b", True),
            ("created", "c", True),
            ("updated", "a", False),
            ("created", "d", False),
        ]
        first = handler.events[0]
        [status] = bench.engine.reactions.snapshot()
    assert (first["revision"], first["old_value"], first["new_value"]) == (5, None, "b")
    assert first["event_id"] == f"{first['timestamp_ms']}-5"
    assert (status.condition, status.lag, status.counters.delivered) == ("live", 0, 4)


async def test_initial_merges_all_scopes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(initial, "PAGE_ENTRIES_MAX", 4)
    async with running_engine() as bench:
        handler = Handler(bench.client("w"))
        for number in range(30):
            await write(bench, handler.client, f"k{number}", scope=f"s{number * 7 % 5}")
        handler.client.bind(config={"from": "initial", "max_in_flight": 1})
        events = await told(bench, handler)
    assert events == [("created", f"k{number}", True) for number in range(30)]


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({"key_prefix": "a"}, ["a1", "a2"]),
        ({"key": "a2"}, ["a2"]),
        ({"keys": ["a2", "b1"]}, ["a2", "b1"]),
        ({"keys": ["a2", "a"]}, ["a2"]),
        ({"events": ["created"]}, ["a1", "a2", "b1"]),
        ({"events": ["deleted"]}, []),
        ({"filters": {"input.new_value": {"$eq": "b1"}}}, ["b1"]),
        ({"debounce_ms": 100}, ["a1", "a2", "b1"]),
    ],
)
async def test_initial_tells_of_what_the_config_selects(
    config: dict[str, Any], expected: list[str]
) -> None:
    async with running_engine() as bench:
        handler = Handler(bench.client("w"))
        await write(bench, handler.client, "a1", "a2", "b1")
        handler.client.bind(config={**INITIAL, **config})
        await bench.turn()
        await bench.pass_time(0.2)
        events = await told(bench, handler)
    assert events == [("created", key, True) for key in expected]


async def test_more_entries_than_may_wait_are_told_of() -> None:
    async with running_engine() as bench:
        handler = Handler(bench.client("w"))
        client = handler.client
        for number in range(5000):
            client.send("invokefunction", function_id="state::set", data=entry(number))
        await bench.turn()
        client.bind(config=INITIAL)
        events = await told(bench, handler)
    assert sorted(key for _, key, _ in events) == sorted(f"k{n}" for n in range(5000))


def entry(number: int) -> dict[str, Any]:
    return {"scope": "s", "key": f"k{number}", "value": 1}


async def test_what_is_executed_but_not_durable_yet_is_waited_for(tmp_path: Path) -> None:
    async with benches(tmp_path) as world:
        bench = await world.start()
        handler = Handler(bench.client())
        for number in range(3):
            handler.client.call("state::set", entry(number))
        handler.client.bind(config=INITIAL)
        handler.client.call("state::set", entry(1))
        assert sorted(await handler.next(3)) == [("k0", 1), ("k1", 1), ("k2", 1)]
        marks = {event["key"]: event.get("initial", False) for event in handler.events}
    assert marks == {"k0": True, "k1": False, "k2": True}


async def test_a_large_scope_is_read_beside_everything_else(tmp_path: Path) -> None:
    async with benches(tmp_path) as world:
        bench = await world.start()
        handler = Handler(bench.client())
        for number in range(3000):
            handler.client.send("invokefunction", function_id="state::set", data=entry(number))
        await bench.engine.commits.settled()
        handler.client.bind(config={"from": "initial", "durable": "d"})

        def is_complete() -> bool:
            handler.answer_all()
            return len(handler.events) >= 3000

        await until(is_complete)
        assert len({event["key"] for event in handler.events}) == 3000


async def test_a_durable_one_goes_on_among_the_entries_after_a_restart(tmp_path: Path) -> None:
    config = {**INITIAL, "durable": "d", "max_in_flight": 3}
    async with benches(tmp_path) as world:
        bench = await world.start()
        handler = Handler(bench.client())
        await bench.set(handler.client, "a", "b", "c", "d", "e")
        handler.client.bind(config=config)
        assert await handler.next(3) == [("a", 1), ("b", 1), ("c", 1)]
        handler.answer("b")
        assert await handler.next() == [("d", 1)]
        await bench.set(handler.client, "e", "f")
        bench = await world.restart(bench)
        status = await bench.ask(bench.client(), "state::triggers", action="show", name="d")
        bench = await world.restart(bench)
        again = Handler(bench.client())
        again.client.bind("t2", config=config)
        for _ in range(20):
            await until_quiet(again)
        bench = await world.restart(bench)
        last = Handler(bench.client())
        last.client.bind("t3", config=config)
        await bench.set(last.client, "g")
        assert await last.next() == [("g", 1)]

    assert status["trigger"]["status"] == "away"
    assert [(e["key"], e["attempt"], e.get("initial", False)) for e in again.events] == [
        ("a", 2, True),
        ("c", 2, True),
        ("d", 2, True),
        ("e", 1, False),
        ("f", 1, False),
    ]


async def until_quiet(handler: Handler) -> None:
    await asyncio.sleep(0.005)
    handler.answer_all()


class SickStore(MemoryStore):
    """A store whose lists fail as often as it is told to, at once or later."""

    def __init__(self) -> None:
        super().__init__(FakeClock())
        self.sick: list[Callable[[Outcome], None]] = []

    def execute(self, command: Command) -> Outcome:
        outcome = super().execute(command)
        if isinstance(command, ListEntries | ListScopes) and self.sick:
            self.sick.pop()(outcome)
        return outcome


def fails_at_once(_: Outcome) -> None:
    raise StorageError("the disk is away")


def fails_later(outcome: Outcome) -> None:
    outcome.reading = failing()


async def failing() -> None:
    raise OSError("the disk is away")


def ends_with_a_failure(outcome: Outcome) -> None:
    outcome.failure = StorageError("the disk is away")
    outcome.reading = asyncio.sleep(0)


def is_slow(outcome: Outcome) -> None:
    outcome.reading = asyncio.sleep(0)


async def test_entries_that_cannot_be_read_are_read_again() -> None:
    store = SickStore()
    store.sick = [is_slow, ends_with_a_failure, fails_later, fails_at_once, is_slow, fails_at_once]
    bench = EngineBench(store)
    bench.engine.start()
    handler = Handler(bench.client("w"))
    await write(bench, handler.client, "a", "b")
    handler.client.bind(config={"from": "initial"})
    for _ in range(8):
        await bench.pass_time(1)
        events = await told(bench, handler)
    await bench.engine.stop()
    assert store.sick == []
    assert events == [("created", "a", True), ("created", "b", True)]


async def test_a_reading_that_ends_after_its_binding_changes_nothing() -> None:
    store = SickStore()
    store.sick = [is_slow]
    bench = EngineBench(store)
    bench.engine.start()
    handler = Handler(bench.client("w"))
    await write(bench, handler.client, "a")
    handler.client.bind(config=INITIAL)
    bench.timers.run()
    handler.client.send("unregistertrigger", id="t", trigger_type="state")
    events = await told(bench, handler)
    await bench.engine.stop()
    assert (events, store.sick) == ([], [])
