"""The trigger types by which the engine tells of itself."""

from __future__ import annotations

from typing import Any

import pytest
from engine_bench import Client, running_engine

FUNCTIONS = "engine::functions-available"
WORKERS = "engine::workers-available"


def watcher(client: Client, trigger_type: str, **members: Any) -> Client:
    client.send("registerfunction", id="watch")
    client.bind("watching", "watch", trigger_type=trigger_type, **members)
    return client


def told(client: Client) -> list[Any]:
    return [call["data"] for call in client.got("invokefunction")]


async def test_a_worker_that_comes_announces_itself_and_goes_is_told_of_at_once() -> None:
    async with running_engine() as bench:
        watching = watcher(bench.client("watching"), WORKERS, metadata={"m": 1})
        assert told(watching) == []
        other = bench.client("other")
        other.disconnect()
        other.disconnect()
        assert [m["metadata"] for m in watching.got("invokefunction", keep=True)] == [{"m": 1}] * 3
        assert told(watching) == [
            {"event": "worker_connected", "worker_id": other.worker.id},
            {"event": "worker_metadata_updated", "worker_id": other.worker.id},
            {"event": "worker_disconnected", "worker_id": other.worker.id},
        ]


async def test_a_new_set_of_functions_is_told_within_five_seconds() -> None:
    async with running_engine() as bench:
        watching = watcher(bench.client("watching"), FUNCTIONS)
        await bench.pass_time(5)
        watching.got("invokefunction")
        watching.send("registerfunction", id="internal", metadata={"internal": True})
        await bench.pass_time(4)
        assert told(watching) == []
        await bench.pass_time(1)
        [event] = told(watching)
        assert event["event"] == "functions_changed"
        ids = {function["function_id"] for function in event["functions"]}
        assert {"internal", "watch", "state::get", "engine::functions::list"} <= ids


async def test_a_new_description_alone_is_not_told() -> None:
    async with running_engine() as bench:
        watching = watcher(bench.client("watching"), FUNCTIONS)
        await bench.pass_time(5)
        watching.got("invokefunction")
        watching.send("registerfunction", id="watch", description="another")
        await bench.pass_time(30)
        assert told(watching) == []


async def test_what_changed_before_the_binding_is_not_told() -> None:
    async with running_engine() as bench:
        client = bench.client("w")
        client.send("registerfunction", id="watch")
        await bench.pass_time(5)
        client.bind("t", "watch", trigger_type=FUNCTIONS)
        await bench.pass_time(5)
        assert told(client) == []


async def test_an_unbound_watcher_hears_nothing_more() -> None:
    async with running_engine() as bench:
        watching = watcher(bench.client("watching"), WORKERS)
        watching.send("unregistertrigger", id="watching")
        bench.client("other")
        assert told(watching) == []


async def test_a_watcher_without_a_function_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    async with running_engine() as bench:
        bench.client("w").bind("t", "missing", trigger_type=WORKERS)
        bench.client("other")
        assert "function_not_found" in caplog.text


async def test_a_watcher_that_goes_is_not_told_of_its_own_going() -> None:
    async with running_engine() as bench:
        watching = watcher(bench.client("watching"), WORKERS)
        watching.disconnect()
        assert told(watching) == []
