"""Functions that workers register, and calls between workers."""

from __future__ import annotations

from typing import Any

import pytest
from engine_bench import running_engine

VOID = {"type": "void"}


async def test_a_call_reaches_the_worker_and_its_result_the_caller() -> None:
    async with running_engine() as bench:
        server, caller = bench.client("server"), bench.client("caller")
        server.send("registerfunction", id="f")
        call_id = caller.call("f", {"a": 1, "_caller_worker_id": "forged"}, metadata={"m": 1})
        [call] = server.got("invokefunction")
        assert call == {
            "type": "invokefunction",
            "invocation_id": call_id,
            "function_id": "f",
            "data": {"a": 1, "_caller_worker_id": caller.worker.id},
            "metadata": {"m": 1},
        }
        server.reply(call, result={"b": 2})
        assert caller.answer_to(call_id) == {
            "type": "invocationresult",
            "invocation_id": call_id,
            "function_id": "f",
            "result": {"b": 2},
        }


@pytest.mark.parametrize("data", [None, [1], "x", 5])
async def test_data_that_is_no_object_is_passed_as_it_is(data: Any) -> None:
    async with running_engine() as bench:
        client = bench.client("w")
        client.send("registerfunction", id="f")
        client.call("f", data)
        assert client.got("invokefunction")[0]["data"] == data


async def test_missing_data_arrives_as_null() -> None:
    async with running_engine() as bench:
        client = bench.client("w")
        client.send("registerfunction", id="f")
        client.send("invokefunction", invocation_id="i", function_id="f")
        assert client.got("invokefunction")[0]["data"] is None


@pytest.mark.parametrize("result", [{}, {"result": None}, {"error": None}])
async def test_no_result_and_a_null_result_are_relayed_as_none(result: dict[str, Any]) -> None:
    async with running_engine() as bench:
        client = bench.client("w")
        client.send("registerfunction", id="f")
        call_id = client.call("f")
        client.reply(client.got("invokefunction")[0], **result)
        answer = client.answer_to(call_id)
        assert "result" not in answer
        assert "error" not in answer


async def test_an_error_beats_a_result_and_keeps_its_stack_trace() -> None:
    async with running_engine() as bench:
        client = bench.client("w")
        client.send("registerfunction", id="f")
        call_id = client.call("f")
        error = {"code": "invocation_failed", "message": "kaboom", "stacktrace": "line 1"}
        client.reply(client.got("invokefunction")[0], result=1, error={**error, "other": 1})
        answer = client.answer_to(call_id)
        assert answer["error"] == error
        assert "result" not in answer


async def test_a_result_counts_once_and_only_from_the_worker_that_runs_the_call() -> None:
    async with running_engine() as bench:
        server, caller = bench.client("server"), bench.client("caller")
        server.send("registerfunction", id="f")
        call_id = caller.call("f")
        [call] = server.got("invokefunction")
        bench.client("stranger").reply(call, result="forged")
        server.reply(call, result=1)
        server.reply(call, result=2)
        assert caller.answer_to(call_id)["result"] == 1


async def test_void_calls_are_never_answered() -> None:
    async with running_engine() as bench:
        client = bench.client("w")
        client.send("registerfunction", id="f")
        for function_id in ("f", "missing", "engine::functions::info"):
            client.call(function_id, {}, action=VOID)
            client.send("invokefunction", function_id=function_id, data={})
        calls = client.got("invokefunction")
        assert len({call["invocation_id"] for call in calls}) == 2
        for call in calls:
            client.reply(call, result=1)
        assert client.got("invocationresult") == []


async def test_a_second_worker_may_not_take_a_function() -> None:
    async with running_engine() as bench:
        owner, other = bench.client("owner"), bench.client("other")
        owner.send("registerfunction", id="f")
        other.send("registerfunction", id="f")
        assert other.got("registrationrejected") == [
            {
                "type": "registrationrejected",
                "code": "FUNCTION_NAMESPACE_CONFLICT",
                "namespace": "default",
                "function_id": "f",
                "owner_worker_id": owner.worker.id,
            }
        ]
        other.send("unregisterfunction", id="f")
        other.call("f")
        assert len(owner.got("invokefunction")) == 1
        bench.client("elsewhere", namespace="n").send("registerfunction", id="f")
        owner.send("unregisterfunction", id="f")
        error = owner.answer_to(owner.call("f"))["error"]
        assert error["code"] == "function_not_found"
        assert "registered in: n" in error["message"]


async def test_who_has_stood_by_longest_takes_over_when_the_owner_goes() -> None:
    async with running_engine() as bench:
        owner, gone, second, third = (bench.client(name) for name in ("1", "2", "3", "4"))
        for client in (owner, gone, second, third):
            client.send("registerfunction", id="f", description=client.worker.name)
        second.send("registerfunction", id="f", description="anew")
        gone.disconnect()
        owner.disconnect()
        third.call("f")
        detail = third.ask("engine::functions::info", {"function_id": "f"})
        assert len(second.got("invokefunction")) == 1
        second.send("unregisterfunction", id="f")
        second.send("unregisterfunction", id="f")
        third.call("f")
        assert len(third.got("invokefunction")) == 1
        third.send("unregisterfunction", id="f")
        assert third.error("f") == "function_not_found"
        assert detail["description"] == "anew"


@pytest.mark.parametrize("function_id", ["state::get", "state::mine", "engine::mine"])
async def test_the_functions_of_the_engine_cannot_be_taken(function_id: str) -> None:
    async with running_engine() as bench:
        for namespace in (None, "n"):
            client = bench.client("w", namespace=namespace)
            client.send("registerfunction", id=function_id)
            [rejected] = client.got("registrationrejected")
            assert rejected["code"] == "FUNCTION_NAMESPACE_CONFLICT"
            assert rejected["owner_worker_id"] == ""


async def test_the_functions_of_the_engine_answer_in_every_namespace() -> None:
    async with running_engine() as bench:
        client = bench.client("w", namespace="orders")
        request = {"scope": "s", "key": "k", "value": 1}
        assert client.ask("state::set", request, namespace="orders")["new_value"] == 1
        assert client.ask("engine::workers::list", {}, namespace="default")["workers"]


async def test_a_call_in_a_blank_namespace_is_refused() -> None:
    async with running_engine() as bench:
        assert bench.client("w").error("f", {}, namespace="  ") == "INVALID_NAMESPACE"


async def test_registering_again_replaces_the_function() -> None:
    async with running_engine() as bench:
        client = bench.client("w")
        client.send("registerfunction", id="f", description="old", metadata={"internal": True})
        client.send("registerfunction", id="f", description="new")
        [listed] = client.ask("engine::functions::list", {"search": "f", "worker": "w"})[
            "functions"
        ]
        assert listed["description"] == "new"


async def test_an_http_function_fails_with_a_clear_error() -> None:
    async with running_engine() as bench:
        client = bench.client("w")
        client.send("registerfunction", id="h", invocation={"url": "https://example.invalid"})
        assert client.error("h") == "function_not_invokable"
        assert client.got("invokefunction") == []


async def test_a_call_for_a_queue_fails_with_a_clear_error() -> None:
    async with running_engine() as bench:
        action = {"type": "enqueue", "queue": "jobs"}
        assert bench.client("w").error("f", {}, action=action) == "enqueue_error"


async def test_when_a_worker_goes_its_callers_are_told() -> None:
    async with running_engine() as bench:
        server, caller = bench.client("server"), bench.client("caller")
        server.send("registerfunction", id="f")
        call_id = caller.call("f")
        server.disconnect()
        error = {"code": "invocation_stopped", "message": "Invocation stopped"}
        assert caller.answer_to(call_id)["error"] == error
        assert caller.error("f") == "function_not_found"


async def test_a_function_may_be_unregistered_while_it_runs() -> None:
    async with running_engine() as bench:
        client = bench.client("w")
        client.send("registerfunction", id="f")
        call_id = client.call("f")
        client.send("unregisterfunction", id="f")
        client.reply(client.got("invokefunction")[0], result=1)
        assert client.answer_to(call_id)["result"] == 1


async def test_the_trace_goes_to_the_worker_and_back_to_the_caller() -> None:
    async with running_engine() as bench:
        client = bench.client("w")
        client.send("registerfunction", id="f")
        trace = {"traceparent": f"00-{'a' * 32}-{'b' * 16}-01", "baggage": "a=1"}
        call_id = client.call("f", **trace)
        [call] = client.got("invokefunction")
        assert call["traceparent"] == trace["traceparent"]
        assert call["baggage"] == "a=1,iii.function.id=f"
        client.reply(call, result=1, traceparent="other", baggage="other=1")
        answer = client.answer_to(call_id)
        assert {name: answer[name] for name in trace} == trace
        client.call("f", traceparent="unreadable")
        [call] = client.got("invokefunction")
        assert "traceparent" not in call


async def test_a_call_id_that_is_used_again_fails_the_first_call() -> None:
    async with running_engine() as bench:
        client = bench.client("w")
        client.send("registerfunction", id="f")
        for _ in range(2):
            client.send("invokefunction", invocation_id="same", function_id="f", data=1)
        assert len(client.got("invokefunction")) == 2
        [answer] = client.got("invocationresult")
        assert answer["error"]["code"] == "invocation_error"
        client.reply({"invocation_id": "same", "function_id": "f"}, result=1)
        assert [m["result"] for m in client.got("invocationresult")] == [1]


async def test_what_an_old_client_cannot_receive_becomes_an_error() -> None:
    async with running_engine() as bench:
        new, old = bench.client("new"), bench.client("old", version="0.23.0")
        for client, function_id in ((new, "of-new"), (old, "of-old")):
            client.send("registerfunction", id=function_id)
        limit = 1 << 20
        assert new.error("of-old", "x" * limit) == "payload_too_large"
        call_id = old.call("of-new")
        new.reply(new.got("invokefunction")[0], result="x" * (limit - 10))
        assert old.answer_to(call_id)["error"]["code"] == "payload_too_large"
        call_id = old.call("of-new")
        error = {"code": "c", "message": "m" * limit, "stacktrace": "s"}
        new.reply(new.got("invokefunction")[0], error=error)
        assert old.answer_to(call_id)["error"] == {"code": "c", "message": "m" * 10_000}
        call_id = new.call("of-new")
        new.reply(new.got("invokefunction")[0], result="x" * limit)
        assert len(new.answer_to(call_id)["result"]) == limit


async def test_a_trigger_that_its_provider_cannot_receive_is_refused_and_parked() -> None:
    async with running_engine() as bench:
        old, binder = bench.client("old", version="0.23.0"), bench.client("binder")
        config = {"large": "x" * (1 << 20)}
        binder.bind("early", config=config, trigger_type="pt")
        old.send("registertriggertype", id="pt")
        binder.bind("late", config=config, trigger_type="pt")
        refused = binder.got("triggerregistrationresult")
        assert [(m["id"], m["error"]["code"]) for m in refused] == [
            ("early", "payload_too_large"),
            ("late", "payload_too_large"),
        ]
        assert old.got("registertrigger") == []


async def test_a_registration_that_nests_too_deep_is_dropped() -> None:
    async with running_engine() as bench:
        client = bench.client("w")
        for levels, function_id in ((126, "kept"), (127, "dropped")):
            metadata = "[" * levels + "]" * levels
            bench.engine.receive(
                client.worker,
                f'{{"type":"registerfunction","id":"{function_id}","metadata":{metadata}}}',
            )
        listed = client.ask("engine::functions::list", {"worker": "w"})["functions"]
        assert [function["function_id"] for function in listed] == ["kept"]


async def test_messages_that_do_not_decode_are_dropped_and_calls_among_them_answered() -> None:
    async with running_engine() as bench:
        client = bench.client("w")
        client.got("workerregistered")
        for text in ("", " ", "nonsense", "[]", '{"id":"x"}', '{"type":"unknown"}'):
            bench.engine.receive(client.worker, text)
        assert client.peer.sent == []
        call = '{"type":"invokefunction","invocation_id":"i","function_id":5}'
        bench.engine.receive(client.worker, call)
        assert client.answer_to("i")["error"]["code"] == "deserialization_error"


async def test_a_ping_is_answered_and_old_messages_are_accepted() -> None:
    async with running_engine() as bench:
        client = bench.client("w")
        client.send("ping")
        client.send("pong")
        client.send("registerservice", id="s", name="s")
        assert client.got("pong") == [{"type": "pong"}]
