"""Durable triggers of a server: they outlive handlers, workers and the server itself."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path
from typing import Any

import pytest
from durable_bench import Benches, DiskBench, Handler, benches, until

from iii_state.engine import durables
from iii_state.engine.store_ledger import CHECKPOINT, DEAD_LETTER, DEFINITION, StoreLedger

CONFIG = {"scope": "s", "durable": "d", "retry": {"max_attempts": 1}}


async def row(bench: DiskBench, name: str = "d") -> dict[str, Any]:
    told = await bench.ask(bench.client(), "state::triggers", action="show", name=name)
    return dict(told["trigger"])


async def saved(bench: DiskBench) -> None:
    """Wait until what was acknowledged is on disk."""
    await asyncio.sleep(0.11)
    writer = bench.client()
    await bench.ask(writer, "state::triggers", action="resume", name="d")


async def begun(world: Benches) -> tuple[DiskBench, Handler]:
    bench = await world.start()
    handler = Handler(bench.client())
    handler.client.bind(config=CONFIG)
    return bench, handler


async def test_it_goes_on_after_the_server_was_killed(tmp_path: Path) -> None:
    async with benches(tmp_path) as world:
        bench, handler = await begun(world)
        await bench.set(handler.client, "a", "b")
        assert await handler.next(2) == [("a", 1), ("b", 1)]
        handler.answer_all()
        await bench.set(handler.client, "c")
        assert await handler.next() == [("c", 1)]
        await saved(bench)

        bench = await world.kill(bench)
        writer = bench.client()
        await bench.set(writer, "d")
        away = await row(bench)
        handler = Handler(bench.client())
        handler.client.bind("another id", config=CONFIG)
        again = await handler.next(2)

    assert (away["status"], away["cursor"], away["lag"]) == ("away", 2, 2)
    assert (away["function_id"], away["config"], away["durable"]) == ("f", CONFIG, True)
    assert again == [("c", 2), ("d", 1)]


async def test_a_regular_restart_delivers_nothing_twice(tmp_path: Path) -> None:
    async with benches(tmp_path) as world:
        bench, handler = await begun(world)
        await bench.set(handler.client, "a", "b")
        await handler.next(2)
        handler.answer_all()
        bench = await world.restart(bench)
        handler = Handler(bench.client())
        handler.client.bind(config=CONFIG)
        await bench.set(handler.client, "c")
        assert await handler.next() == [("c", 1)]


async def test_acknowledgements_become_durable_without_any_writes(tmp_path: Path) -> None:
    async with benches(tmp_path) as world:
        bench, handler = await begun(world)
        await bench.set(handler.client, "a")
        await handler.next()
        handler.answer_all()

        async def is_kept() -> bool:
            copy = await world.kill(bench)
            cursor = (await row(copy))["cursor"]
            await world.stop(copy)
            shutil.rmtree(copy.place)
            return bool(cursor == 1)

        for _ in range(100):
            if await is_kept():
                return
            await asyncio.sleep(0.05)
        raise AssertionError("it was never written down")


async def test_unregistering_leaves_it_where_it_is_and_deleting_ends_it(tmp_path: Path) -> None:
    async with benches(tmp_path) as world:
        bench, handler = await begun(world)
        handler.client.send("unregistertrigger", id="t", trigger_type="state")
        await bench.set(handler.client, "a")
        assert (await row(bench))["status"] == "away"
        handler.client.bind("t2", config=CONFIG)
        assert await handler.next() == [("a", 1)]
        deleted = await bench.ask(handler.client, "state::triggers", action="delete", name="d")
        listed = await bench.ask(handler.client, "state::triggers")
        bench = await world.kill(bench)
        gone = await bench.ask(bench.client(), "state::triggers", action="show", name="d")
        notes = [dict(bench.store.notes(kind)) for kind in (CHECKPOINT, DEFINITION)]

    assert (deleted, listed) == ({"deleted": True}, {"triggers": []})
    assert gone["code"] == "NOT_FOUND"
    assert notes == [{}, {}]


async def test_dead_letters_survive_and_are_sent_again(tmp_path: Path) -> None:
    async with benches(tmp_path) as world:
        bench, handler = await begun(world)
        await bench.set(handler.client, "a", "b")
        await handler.next(2)
        handler.fail_all("no", "at line 7")
        await saved(bench)
        bench = await world.kill(bench)
        handler = Handler(bench.client())
        handler.client.bind(config=CONFIG)
        asked = handler.client
        listed = await bench.ask(asked, "state::dead_letters")
        redriven = await bench.ask(asked, "state::dead_letters", action="redrive", id="d@1")
        discarded = await bench.ask(asked, "state::dead_letters", action="discard", name="d")
        assert await handler.next() == [("a", 2)]
        bench = await world.kill(bench)
        left = await bench.ask(bench.client(), "state::dead_letters")

    [first, second] = listed["dead_letters"]
    assert (first["id"], first["trigger"], first["attempts"]) == ("d@1", "d", 1)
    assert first["error"] == {
        "code": "invocation_failed",
        "message": "no",
        "stacktrace": "at line 7",
    }
    assert (first["event"]["key"], first["event"]["new_value"]) == ("a", 1)
    assert first["parked_at_ms"] == world.clock()
    assert second["id"] == "d@2"
    assert (redriven, discarded) == ({"redriven": 1}, {"discarded": 1})
    assert left == {"dead_letters": []}


async def test_a_pause_survives_and_is_kept_before_it_is_answered(tmp_path: Path) -> None:
    async with benches(tmp_path) as world:
        bench, handler = await begun(world)
        paused = await bench.ask(handler.client, "state::triggers", action="pause", name="d")
        bench = await world.kill(bench)
        handler = Handler(bench.client())
        handler.client.bind(config=CONFIG)
        await bench.set(handler.client, "a")
        still = await row(bench)
        await bench.ask(handler.client, "state::triggers", action="resume", name="d")
        assert await handler.next() == [("a", 1)]
    assert (paused["trigger"]["status"], still["status"], still["lag"]) == ("paused", "paused", 1)


async def test_another_config_is_refused_while_a_worker_binds_it_and_keeps_the_cursor_else(
    tmp_path: Path,
) -> None:
    async with benches(tmp_path) as world:
        bench, handler = await begun(world)
        other = Handler(bench.client("other"), "g")
        changed = {**CONFIG, "key_prefix": "x"}
        other.client.bind("o", "g", config=changed)
        [refusal] = other.client.got("triggerregistrationresult")
        handler.client.disconnect()
        await bench.set(other.client, "x1", "y", "x2")
        other.client.bind("o", "g", config=changed)
        assert await other.next(2) == [("x1", 1), ("x2", 1)]
        told = await row(bench)
    assert refusal["error"]["code"] == "CONFLICT"
    assert (told["function_id"], told["config"]) == ("g", changed)


async def test_what_cannot_be_read_stays_and_does_not_keep_the_server_from_starting(
    tmp_path: Path,
) -> None:
    async with benches(tmp_path) as world:
        bench, _ = await begun(world)
        ledger = StoreLedger(bench.store, bench.engine.commits.soon)
        bench.store.note(DEFINITION, "future", b"\x93\x01")
        bench.store.note(DEAD_LETTER, "future@1", b"\x93\x01")
        [definition] = ledger.definitions()
        ledger.define(type(definition)("later", "t", "f", "default", b'{"keys":7}', None))
        await bench.engine.commits.settled()
        bench = await world.restart(bench)
        told = await bench.ask(bench.client(), "state::triggers")
        notes = dict(bench.store.notes(DEFINITION))
    assert [each["name"] for each in told["triggers"]] == ["d"]
    assert notes.keys() == {"d", "future", "later"}
    assert list(ledger.dead_letters()) == []


async def test_there_may_be_so_many_and_of_so_many_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(durables, "DURABLES_MAX", 2)
    monkeypatch.setattr(durables, "DEFINITION_BYTES_MAX", 400)
    async with benches(tmp_path) as world:
        bench, handler = await begun(world)
        await bench.set(handler.client, "a")
        bench = await world.kill(bench)
        handler = Handler(bench.client())

        def refusals(**config: Any) -> list[str]:
            handler.client.bind(config["durable"], "f", config)
            told = handler.client.got("triggerregistrationresult")
            return [refusal["error"]["code"] for refusal in told]

        assert refusals(durable="e", key="x" * 400) == ["LIMIT_EXCEEDED"]
        assert refusals(durable="e") == []
        assert refusals(durable="f") == ["LIMIT_EXCEEDED"]
        assert refusals(durable="e", key="k") == []
        await bench.ask(handler.client, "state::triggers", action="delete", name="d")
        assert refusals(durable="f") == []


async def test_nothing_is_skipped_over_many_kills(tmp_path: Path) -> None:
    seen: set[str] = set()
    written: list[str] = []
    async with benches(tmp_path) as world:
        bench, handler = await begun(world)
        for round_ in range(6):
            keys = [f"{round_}-{number}" for number in range(5)]
            await bench.set(handler.client, *keys)
            written += keys
            await handler.next(1)
            seen |= {event["key"] for event in handler.events}
            handler.answer_all()
            if round_ % 2:
                await saved(bench)
            bench = await world.kill(bench)
            handler = Handler(bench.client())
            handler.client.bind(config=CONFIG)

        def is_complete() -> bool:
            handler.answer_all()
            return seen | {event["key"] for event in handler.events} == set(written)

        await until(is_complete)
