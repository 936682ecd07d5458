"""How connections begin, are taken over, and end."""

from __future__ import annotations

from typing import Any

from engine_bench import Client, EngineBench, running_engine


def reattach(client: Client, before: Client, **members: Any) -> None:
    chosen = {
        "previous_worker_id": before.worker.id,
        "reattach_token": before.worker.reattach_token,
        **members,
    }
    client.send("reattach", **chosen)


def is_connected(bench: EngineBench, client: Client) -> bool:
    return client.worker.id in bench.engine.workers


async def test_a_worker_is_greeted_at_once() -> None:
    async with running_engine() as bench:
        client = bench.client(announce=False)
        worker = client.worker
        assert client.peer.sent == [
            {
                "type": "workerregistered",
                "worker_id": worker.id,
                "reattach_token": worker.reattach_token,
            }
        ]
        assert bench.client("other").worker.reattach_token != worker.reattach_token


async def test_reattaching_retires_the_connection_before_with_all_it_had() -> None:
    async with running_engine() as bench:
        before, caller = bench.client("w"), bench.client("caller")
        before.send("registerfunction", id="f")
        before.send("registertriggertype", id="pt")
        call_id = caller.call("f")
        after = bench.client(announce=False)
        reattach(after, before)
        after.send("registerfunction", id="f")
        after.announce("w")
        assert before.peer.aborted
        assert not is_connected(bench, before)
        assert caller.answer_to(call_id)["error"]["code"] == "invocation_stopped"
        assert after.got("registrationrejected") == []
        caller.call("f")
        assert len(after.got("invokefunction")) == 1
        assert caller.ask("engine::triggers::list", {"search": "pt"}) == {"triggers": []}


async def test_a_reattach_with_anything_wrong_is_ignored() -> None:
    async with running_engine() as bench:
        before, after = bench.client("w"), bench.client("w")
        reattach(after, before, reattach_token="ä wrong")
        reattach(after, before, reattach_token=None)
        reattach(after, before, previous_worker_id="unknown")
        reattach(after, before, previous_worker_id=None)
        reattach(after, after)
        assert is_connected(bench, before)
        assert is_connected(bench, after)
        assert not before.peer.aborted


async def test_a_connection_that_ends_before_it_announced_itself_leaves_nothing() -> None:
    async with running_engine() as bench:
        client = bench.client(announce=False)
        client.send("registerfunction", id="f")
        client.bind()
        client.disconnect()
        client.disconnect()
        await bench.pass_time(10)
        other = bench.client("other")
        assert other.error("f") == "function_not_found"
        assert other.ask("engine::registered-triggers::list", {}) == {"registered_triggers": []}


async def test_the_end_of_a_worker_ends_all_it_registered() -> None:
    async with running_engine() as bench:
        client, other = bench.client("w"), bench.client("other")
        client.send("registerfunction", id="f")
        client.send("registertriggertype", id="pt")
        client.bind("a")
        client.bind("b", trigger_type="engine::workers-available")
        client.bind("parked", trigger_type="nobody's")
        client.disconnect()
        assert other.error("f") == "function_not_found"
        assert other.ask("engine::registered-triggers::list", {}) == {"registered_triggers": []}
        provider = bench.client("provider")
        provider.send("registertriggertype", id="nobody's")
        assert provider.got("registertrigger") == []


async def test_while_draining_calls_are_refused_and_running_ones_may_finish() -> None:
    async with running_engine() as bench:
        server, caller = bench.client("server"), bench.client("caller")
        server.send("registerfunction", id="f")
        finished, stopped = caller.call("f"), caller.call("f")
        server.reply(server.got("invokefunction")[0], result=1)
        await bench.engine.drain(0)
        assert caller.answer_to(finished)["result"] == 1
        assert caller.answer_to(stopped)["error"]["code"] == "invocation_stopped"
        assert caller.error("state::get", {"scope": "s", "key": "k"}) == "invocation_stopped"
