"""Replicas: workers that bind the same durable name share its work."""

from __future__ import annotations

from typing import Any

from durable_bench import Handler
from engine_bench import EngineBench, running_engine

CONFIG = {"scope": "s", "durable": "d"}


def replica(bench: EngineBench, number: int, config: Any = CONFIG) -> Handler:
    handler = Handler(bench.client(f"replica {number}"))
    handler.client.bind(f"t{number}", "f", config)
    return handler


async def write(bench: EngineBench, *keys: str) -> None:
    writer = bench.client("writer")
    for key in keys:
        writer.ask("state::set", {"scope": "s", "key": key, "value": 1})
    await bench.turn()
    writer.disconnect()


async def test_they_share_the_events_evenly() -> None:
    async with running_engine() as bench:
        replicas = [replica(bench, number) for number in range(3)]
        await write(bench, *(f"k{number}" for number in range(30)))
        taken = [handler.take() for handler in replicas]
        [status] = bench.engine.reactions.snapshot()
    assert [len(each) for each in taken] == [10, 10, 10]
    assert len({key for each in taken for key, _ in each}) == 30
    assert status.members == ("t0", "t1", "t2")


async def test_they_take_turns_when_there_is_little_to_do() -> None:
    async with running_engine() as bench:
        replicas = [replica(bench, number) for number in range(3)]
        for _ in range(6):
            await write(bench, "k")
            for handler in replicas:
                handler.answer_all()
            await bench.turn()
    assert [len(handler.events) for handler in replicas] == [2, 2, 2]


async def test_the_events_of_one_key_come_one_after_another_whoever_gets_them() -> None:
    async with running_engine() as bench:
        replicas = [replica(bench, number) for number in range(2)]
        await write(bench, "k", "k", "k")
        revisions = []
        for _ in range(3):
            taken = [event for handler in replicas for event in handler.take()]
            assert len(taken) == 1
            for handler in replicas:
                revisions += [event["revision"] for event in handler.events]
                handler.events.clear()
                handler.answer_all()
            await bench.turn()
    assert revisions == [1, 2, 3]


async def test_the_others_go_on_with_what_one_ran_that_goes_away() -> None:
    async with running_engine() as bench:
        first, second = (replica(bench, number) for number in range(2))
        await write(bench, "a", "b", "c", "d")
        assert len(first.take()) == len(second.take()) == 2
        lost = {event["key"] for event in first.events}
        first.client.disconnect()
        await bench.turn()
        assert {(key, attempt) for key, attempt in second.take()} == {(key, 2) for key in lost}
        [status] = bench.engine.reactions.snapshot()
        assert (status.condition, status.members) == ("live", ("t1",))
        second.client.disconnect()
        third = replica(bench, 3)
        await bench.turn()
        assert len(third.take()) == 4


async def test_one_that_unregisters_leaves_the_work_to_the_others() -> None:
    async with running_engine() as bench:
        first, second = (replica(bench, number) for number in range(2))
        first.client.send("unregistertrigger", id="t0", trigger_type="state")
        first.client.send("unregisterfunction", id="f")
        await write(bench, "a", "b")
        assert (len(first.take()), len(second.take())) == (0, 2)


async def test_another_config_is_refused_as_long_as_one_of_them_is_there() -> None:
    other = {**CONFIG, "key": "other"}
    async with running_engine() as bench:
        first, second = (replica(bench, number) for number in range(2))
        second.client.bind("t1", "f", other)
        first.client.disconnect()
        third = replica(bench, 2, other)
        refusals = [
            refusal["error"]["code"]
            for handler in (second, third)
            for refusal in handler.client.got("triggerregistrationresult")
        ]
        second.client.bind("t1", "f", other)
        [status] = bench.engine.reactions.snapshot()
    assert refusals == ["CONFLICT", "CONFLICT"]
    assert (status.members, status.binding.config.key) == (("t1",), "other")


async def test_each_of_their_triggers_is_told_of_with_the_same_status() -> None:
    async with running_engine() as bench:
        first, _ = (replica(bench, number) for number in range(2))
        await write(bench, "a")
        told = [
            first.client.ask("engine::registered-triggers::info", {"id": trigger_id})["status"]
            for trigger_id in ("t0", "t1")
        ]
        deleted = first.client.ask("state::triggers", {"action": "delete", "id": "t0"})
        left = first.client.ask("engine::registered-triggers::list", {})
    assert told[0] == told[1]
    assert told[0]["in_flight"] == 1
    assert (deleted, left) == ({"deleted": True}, {"registered_triggers": []})


async def test_one_that_binds_before_it_registers_is_called_as_soon_as_it_has() -> None:
    async with running_engine() as bench:
        client = bench.client("replica")
        client.bind("t", "f", CONFIG)
        await write(bench, "a")
        handler = Handler(client)
        await bench.turn()
        assert handler.take() == [("a", 1)]
