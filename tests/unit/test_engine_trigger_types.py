"""Trigger types that workers provide."""

from __future__ import annotations

from typing import Any

import pytest
from engine_bench import Client, EngineBench, running_engine


def provide(client: Client, type_id: str = "pt", **members: Any) -> None:
    client.send("registertriggertype", id=type_id, description="d", **members)


async def provided(bench: EngineBench) -> tuple[Client, Client]:
    """A provider of the type `pt`, and a binder."""
    provider, binder = bench.client("P"), bench.client("B")
    provide(provider)
    return provider, binder


async def test_a_binding_reaches_the_provider_and_its_end_too() -> None:
    async with running_engine() as bench:
        provider, binder = await provided(bench)
        binder.bind("a", config={"x": 1}, trigger_type="pt", metadata={"m": 1}, namespace="n")
        binder.bind("b", trigger_type="pt")
        assert provider.got("registertrigger") == [
            {
                "type": "registertrigger",
                "id": "a",
                "trigger_type": "pt",
                "function_id": "f",
                "config": {"x": 1},
                "metadata": {"m": 1},
                "namespace": "n",
            },
            {
                "type": "registertrigger",
                "id": "b",
                "trigger_type": "pt",
                "function_id": "f",
                "config": {},
            },
        ]
        for _ in range(2):
            binder.send("unregistertrigger", id="a", trigger_type="pt")
        assert provider.got("unregistertrigger") == [
            {"type": "unregistertrigger", "id": "a", "trigger_type": "pt"}
        ]
        binder.disconnect()
        assert [m["id"] for m in provider.got("unregistertrigger")] == ["b"]


@pytest.mark.parametrize("config", [{"left": "out"}, {"config": None}])
async def test_a_config_that_is_missing_is_empty_and_null_stays(config: dict[str, Any]) -> None:
    async with running_engine() as bench:
        provider, binder = await provided(bench)
        members = {} if "left" in config else config
        binder.send("registertrigger", id="a", trigger_type="pt", function_id="f", **members)
        [bound] = provider.got("registertrigger")
        assert bound["config"] == ({} if "left" in config else None)


async def test_a_binding_waits_for_its_type_silently_and_in_no_list() -> None:
    async with running_engine() as bench:
        binder = bench.client("B")
        binder.bind("a", trigger_type="pt")
        binder.bind("gone", trigger_type="pt")
        binder.send("unregistertrigger", id="gone")
        listed = binder.ask("engine::registered-triggers::list", {})
        assert listed == {"registered_triggers": []}
        provider = bench.client("P")
        provide(provider)
        assert [m["id"] for m in provider.got("registertrigger")] == ["a"]
        assert binder.got("triggerregistrationresult") == []
        listed = binder.ask("engine::registered-triggers::list", {})
        assert [t["id"] for t in listed["registered_triggers"]] == ["a"]


async def test_the_same_binding_again_is_sent_again_without_an_end_between() -> None:
    async with running_engine() as bench:
        provider, binder = await provided(bench)
        binder.bind("a", config={"x": 1}, trigger_type="pt")
        binder.bind("a", config={"x": 2}, trigger_type="pt")
        assert [m["config"] for m in provider.got("registertrigger")] == [{"x": 1}, {"x": 2}]
        assert provider.got("unregistertrigger") == []


async def test_a_binding_that_moves_to_another_type_ends_at_the_first_provider() -> None:
    async with running_engine() as bench:
        provider, binder = await provided(bench)
        binder.bind("a", trigger_type="pt")
        binder.bind("a", trigger_type="state")
        assert [m["id"] for m in provider.got("unregistertrigger")] == ["a"]


async def test_a_refusal_reaches_the_binder_and_parks_the_binding() -> None:
    async with running_engine() as bench:
        provider, binder = await provided(bench)
        binder.bind("a", trigger_type="pt")
        answer = {"id": "a", "trigger_type": "pt", "function_id": "f"}
        provider.send("triggerregistrationresult", **answer)
        assert binder.got("triggerregistrationresult") == []
        error = {"code": "nope", "message": "not here", "stacktrace": "where"}
        provider.send("triggerregistrationresult", **answer, error=error)
        provider.send("triggerregistrationresult", **answer, error=error)
        assert binder.got("triggerregistrationresult") == [
            {"type": "triggerregistrationresult", **answer, "error": error}
        ]
        listed = binder.ask("engine::registered-triggers::list", {})
        assert listed == {"registered_triggers": []}
        binder.send("unregistertrigger", id="a")
        assert provider.got("unregistertrigger") == []


async def test_a_result_from_others_than_the_provider_is_ignored() -> None:
    async with running_engine() as bench:
        provider, binder = await provided(bench)
        binder.bind("a", trigger_type="pt")
        error = {"code": "forged", "message": "x"}
        bench.client("stranger").send("triggerregistrationresult", id="a", error=error)
        binder.send("triggerregistrationresult", id="a", error=error)
        assert binder.got("triggerregistrationresult") == []
        assert provider.got("unregistertrigger") == []


async def test_registering_the_type_again_sends_every_binding_again() -> None:
    async with running_engine() as bench:
        provider, binder = await provided(bench)
        binder.bind("kept", trigger_type="pt")
        binder.bind("refused", trigger_type="pt")
        error = {"code": "nope", "message": "x"}
        provider.send("triggerregistrationresult", id="refused", error=error)
        provider.got("registertrigger")
        provide(provider)
        sent = sorted(m["id"] for m in provider.got("registertrigger"))
        assert sent == ["kept", "refused"]


async def test_when_the_provider_goes_its_bindings_wait_for_the_next() -> None:
    async with running_engine() as bench:
        provider, binder = await provided(bench)
        binder.bind("a", trigger_type="pt")
        provider.disconnect()
        assert binder.ask("engine::triggers::list", {"search": "pt"}) == {"triggers": []}
        assert binder.ask("engine::registered-triggers::list", {}) == {"registered_triggers": []}
        assert binder.got("triggerregistrationresult") == []
        back = bench.client("P")
        provide(back)
        assert [m["id"] for m in back.got("registertrigger")] == ["a"]


async def test_a_second_provider_takes_over_and_the_first_does_not_get_it_back() -> None:
    async with running_engine() as bench:
        first, binder = await provided(bench)
        binder.bind("a", trigger_type="pt")
        first.got("registertrigger")
        second = bench.client("P2")
        provide(second)
        assert [m["id"] for m in second.got("registertrigger")] == ["a"]
        assert first.got("unregistertrigger") == []
        first.send("unregistertriggertype", id="pt")
        binder.bind("b", trigger_type="pt")
        assert [m["id"] for m in second.got("registertrigger")] == ["b"]
        second.disconnect()
        binder.bind("c", trigger_type="pt")
        assert first.got("registertrigger") == []


async def test_unregistering_the_type_parks_its_bindings() -> None:
    async with running_engine() as bench:
        provider, binder = await provided(bench)
        binder.bind("a", trigger_type="pt")
        provider.send("unregistertriggertype", id="pt")
        assert binder.ask("engine::registered-triggers::list", {}) == {"registered_triggers": []}
        provider.got("registertrigger")
        provide(provider)
        assert [m["id"] for m in provider.got("registertrigger")] == ["a"]


@pytest.mark.parametrize("type_id", ["state", "engine::workers-available", "engine::mine"])
async def test_the_types_of_the_engine_cannot_be_taken(type_id: str) -> None:
    async with running_engine() as bench:
        thief, binder = bench.client("thief", namespace="n"), bench.client("B")
        provide(thief, type_id)
        provide(thief, type_id, namespace="default")
        binder.bind("a", trigger_type=type_id)
        assert thief.got("registertrigger") == []


async def test_a_worker_can_bind_to_its_own_type() -> None:
    async with running_engine() as bench:
        client = bench.client("both")
        provide(client)
        client.bind("a", trigger_type="pt")
        client.disconnect()
        assert bench.client("x").ask("engine::triggers::list", {"search": "pt"}) == {"triggers": []}


async def test_the_description_of_a_type_may_be_missing() -> None:
    async with running_engine() as bench:
        client = bench.client("P")
        client.send("registertriggertype", id="pt")
        assert client.ask("engine::triggers::info", {"id": "pt"})["description"] == ""


async def test_a_type_is_looked_for_in_the_namespace_of_the_binder_then_in_the_default() -> None:
    async with running_engine() as bench:
        default, orders = bench.client("D"), bench.client("O", namespace="orders")
        provide(default)
        binder = bench.client("B", namespace="orders")
        binder.bind("a", trigger_type="pt")
        assert [m["id"] for m in default.got("registertrigger")] == ["a"]
        provide(orders)
        binder.bind("b", trigger_type="pt")
        [bound] = orders.got("registertrigger")
        assert (bound["id"], bound["trigger_namespace"]) == ("b", "orders")
        binder.bind("c", trigger_type="pt", trigger_namespace="default")
        [bound] = default.got("registertrigger")
        assert bound["id"] == "c"
        assert "trigger_namespace" not in bound
        binder.bind("d", trigger_type="pt", trigger_namespace="elsewhere")
        elsewhere = bench.client("E")
        provide(elsewhere, namespace="elsewhere")
        assert [m["id"] for m in elsewhere.got("registertrigger")] == ["d"]


async def test_when_the_type_of_the_namespace_goes_that_of_the_default_takes_its_bindings() -> None:
    async with running_engine() as bench:
        default, orders = bench.client("D"), bench.client("O", namespace="orders")
        provide(orders)
        provide(default)
        bench.client("B", namespace="orders").bind("a", trigger_type="pt")
        assert default.got("registertrigger") == []
        orders.disconnect()
        assert [m["id"] for m in default.got("registertrigger")] == ["a"]


async def test_a_type_in_a_blank_namespace_does_not_exist() -> None:
    async with running_engine() as bench:
        client = bench.client("P")
        provide(client, namespace=" ")
        assert client.ask("engine::triggers::list", {"search": "pt"}) == {"triggers": []}


async def test_a_provider_fires_by_an_ordinary_call() -> None:
    async with running_engine() as bench:
        provider, binder = await provided(bench)
        binder.send("registerfunction", id="f")
        binder.bind("a", trigger_type="pt")
        call_id = provider.call("f", {"happened": 1}, metadata={"m": 1})
        [call] = binder.got("invokefunction")
        assert call["metadata"] == {"m": 1}
        binder.reply(call, result="ok")
        assert provider.answer_to(call_id)["result"] == "ok"
