"""Entries that were there when a trigger began: tried again, set aside, sent again, interrupted."""

from __future__ import annotations

from typing import Any

from durable_bench import Handler
from engine_bench import EngineBench, running_engine

CONFIG = {
    "scope": "s",
    "from": "initial",
    "durable": "d",
    "retry": {"max_attempts": 1},
}
RETRIED = {**CONFIG, "retry": {"max_attempts": 2, "initial_ms": 1000, "max_ms": 1000}}


async def write(bench: EngineBench, *keys: str) -> None:
    writer = bench.client("writer")
    for key in keys:
        writer.ask("state::set", {"scope": "s", "key": key, "value": key})
    await bench.turn()
    writer.disconnect()


async def bound(bench: EngineBench, config: dict[str, Any] = CONFIG) -> Handler:
    handler = Handler(bench.client("handler"))
    handler.client.bind(config=config)
    await bench.turn()
    return handler


def begun() -> EngineBench:
    bench = EngineBench()
    bench.engine.start()
    return bench


def after_a_crash(bench: EngineBench) -> EngineBench:
    """The next process, with what the store of the one before has."""
    after = EngineBench(bench.store)
    after.engine.start()
    return after


def told(handler: Handler) -> list[tuple[str, int, bool]]:
    """Of each new event the key, the attempt, and whether it is marked as an entry."""
    before = len(handler.events)
    handler.take()
    return [(e["key"], e["attempt"], e.get("initial", False)) for e in handler.events[before:]]


async def redrive(bench: EngineBench) -> int:
    done = bench.client("o").ask("state::dead_letters", {"action": "redrive", "all": True})
    await bench.turn()
    return int(done["redriven"])


async def test_one_that_is_tried_again_holds_up_only_what_comes_of_its_key() -> None:
    async with running_engine() as bench:
        await write(bench, "a", "b")
        handler = await bound(bench, RETRIED)
        await write(bench, "a", "c")
        assert told(handler) == [("a", 1, True), ("b", 1, True), ("c", 1, False)]
        handler.answer("b")
        handler.answer("c")
        handler.fail_all()
        await write(bench, "a", "d")
        assert told(handler) == [("d", 1, False)]
        await bench.pass_time(1)
        assert told(handler) == [("a", 2, True)]
        handler.answer("a")
        await bench.turn()
        assert told(handler) == [("a", 1, False)]


async def test_one_that_is_tried_again_is_marked_after_a_crash_too() -> None:
    bench = begun()
    await write(bench, "a", "b")
    handler = await bound(bench, RETRIED)
    handler.answer("b")
    handler.fail_all()
    await write(bench, "c")
    handler.answer_all()
    await bench.pass_time(0.2)
    bench = after_a_crash(bench)
    [away] = bench.engine.reactions.snapshot()
    handler = await bound(bench, RETRIED)
    assert told(handler) == [("a", 2, True)]
    handler.answer_all()
    await bench.turn()
    [done] = bench.engine.reactions.snapshot()
    await bench.engine.stop()
    assert (away.cursor, away.lag, done.cursor, done.lag) == (0, 3, 3, 0)


async def test_one_that_is_written_before_it_is_tried_again_after_a_crash_is_no_longer_told() -> (
    None
):
    bench = begun()
    await write(bench, "a", "gone")
    handler = await bound(bench, RETRIED)
    handler.fail_all()
    await bench.pass_time(0.2)
    bench = after_a_crash(bench)
    await write(bench, "a")
    bench.client("o").ask("state::delete", {"scope": "s", "key": "gone"})
    await bench.turn()
    handler = await bound(bench, RETRIED)
    assert told(handler) == [("a", 1, False), ("gone", 1, False)]
    await bench.engine.stop()


async def test_a_letter_that_is_sent_again_is_marked_after_a_crash_too() -> None:
    bench = begun()
    await write(bench, "a")
    handler = await bound(bench)
    handler.fail_all()
    await write(bench, "b")
    handler.answer_all()
    await bench.pass_time(0.2)
    assert await redrive(bench) == 1
    bench = after_a_crash(bench)
    handler = await bound(bench)
    assert told(handler) == [("a", 2, True)]
    await bench.engine.stop()


async def test_a_letter_that_is_sent_again_while_all_are_away_is_kept_over_a_crash() -> None:
    bench = begun()
    await write(bench, "a", "b")
    handler = await bound(bench)
    handler.fail_all()
    await bench.pass_time(0.2)
    bench.client("o").ask("state::dead_letters", {"action": "discard", "id": "d@2"})
    assert await redrive(bench) == 1
    await write(bench, "c")
    bench = after_a_crash(bench)
    handler = await bound(bench)
    assert told(handler) == [("a", 2, True), ("c", 1, False)]
    handler.fail_all()
    await bench.pass_time(0.2)
    handler.client.disconnect()
    assert await redrive(bench) == 2
    for _ in range(2):
        bench = after_a_crash(bench)
    handler = await bound(bench)
    assert told(handler) == [("a", 3, True), ("c", 2, False)]
    await bench.engine.stop()


async def test_a_letter_whose_event_is_under_way_too_after_a_crash_comes_once() -> None:
    bench = begun()
    await write(bench, "a", "b")
    handler = await bound(bench)
    handler.answer("b")
    await bench.pass_time(0.2)
    handler.fail_all()
    bench = after_a_crash(bench)
    assert await redrive(bench) == 1
    handler = await bound(bench)
    assert told(handler) == [("a", 2, True)]
    handler.answer_all()
    await bench.turn()
    assert told(handler) == []
    await bench.engine.stop()


async def test_a_pause_while_all_are_away_is_kept_over_a_restart() -> None:
    bench = begun()
    await write(bench, "a", "b")
    handler = await bound(bench)
    handler.answer("b")
    await bench.pass_time(0.2)
    bench = after_a_crash(bench)
    bench.engine.reactions.pause("d")
    bench = after_a_crash(bench)
    [away] = bench.engine.reactions.snapshot()
    handler = await bound(bench)
    assert (away.paused, told(handler)) == (True, [])
    bench.engine.reactions.resume("d")
    await bench.turn()
    assert told(handler) == [("a", 2, True)]
    await bench.engine.stop()


async def test_a_letter_from_before_a_deletion_stays_until_the_entries_are_read() -> None:
    async with running_engine() as bench:
        handler = await bound(bench)
        await write(bench, "a")
        handler.fail_all()
        operator = bench.client("o")
        operator.ask("state::triggers", {"action": "delete", "name": "d"})
        handler.client.bind(config=CONFIG)
        all_of_it = {"action": "redrive", "all": True}
        assert operator.ask("state::dead_letters", all_of_it) == {"redriven": 0}
        await bench.turn()
        assert told(handler) == [("a", 1, True)]
        handler.answer_all()
        assert operator.ask("state::dead_letters", all_of_it) == {"redriven": 1}
        await bench.turn()
        assert told(handler) == [("a", 2, False)]
