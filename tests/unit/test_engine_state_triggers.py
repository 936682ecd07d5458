"""Triggers of type `state`, from the message that binds to the message that fires."""

from __future__ import annotations

from engine_bench import running_engine


async def test_a_write_behind_the_binding_fires_it_and_one_before_it_does_not() -> None:
    async with running_engine() as bench:
        client = bench.client("w")
        client.send("registerfunction", id="f")
        client.ask("state::set", {"scope": "s", "key": "early", "value": 1})
        client.bind(config={"scope": "s"}, metadata={"tag": "x"})
        client.ask("state::set", {"scope": "s", "key": "k", "value": {"n": 1}})
        client.ask("state::set", {"scope": "other", "key": "k", "value": 1})
        await bench.turn()
        [call] = client.got("invokefunction")
        assert (call["function_id"], call["metadata"]) == ("f", {"tag": "x"})
        event = call["data"]
        assert "_caller_worker_id" not in event
        assert (event["type"], event["event_type"], event["key"]) == ("state", "state:created", "k")
        assert (event["old_value"], event["new_value"]) == (None, {"n": 1})
        assert (event["revision"], event["worker"]) == (2, "w")


async def test_a_binding_held_back_by_the_namespace_keeps_the_revision_of_its_message() -> None:
    async with running_engine() as bench:
        client = bench.client(announce=False)
        client.send("registerfunction", id="f")
        client.ask("state::set", {"scope": "s", "key": "before", "value": 1})
        client.bind()
        client.ask("state::set", {"scope": "s", "key": "after", "value": 1})
        await bench.turn()
        assert client.got("invokefunction") == []
        client.announce("w")
        await bench.turn()
        assert [call["data"]["key"] for call in client.got("invokefunction")] == ["after"]


async def test_a_config_may_be_missing_but_not_null() -> None:
    async with running_engine() as bench:
        client = bench.client("w")
        client.send("registerfunction", id="f")
        client.send("registertrigger", id="a", trigger_type="state", function_id="f")
        client.send("registertrigger", id="b", trigger_type="state", function_id="f", config=None)
        client.ask("state::set", {"scope": "s", "key": "k", "value": 1})
        await bench.turn()
        assert len(client.got("invokefunction")) == 1
        [refused] = client.got("triggerregistrationresult")
        assert (refused["id"], refused["trigger_type"], refused["function_id"]) == (
            "b",
            "state",
            "f",
        )
        assert refused["error"]["code"] == "trigger_registration_failed"
        assert refused["error"]["message"].startswith("Failed to parse trigger config: ")


async def test_an_upsert_that_fails_leaves_the_earlier_binding() -> None:
    async with running_engine() as bench:
        client = bench.client("w")
        client.send("registerfunction", id="f")
        client.bind(config={"scope": "s"})
        client.bind(config={"scope": 5})
        assert len(client.got("triggerregistrationresult")) == 1
        client.ask("state::set", {"scope": "s", "key": "k", "value": 1})
        await bench.turn()
        assert len(client.got("invokefunction")) == 1


async def test_an_upsert_replaces_the_config() -> None:
    async with running_engine() as bench:
        client = bench.client("w")
        client.send("registerfunction", id="f")
        client.bind(config={"scope": "a"})
        client.bind(config={"scope": "b"})
        client.ask("state::set", {"scope": "a", "key": "k", "value": 1})
        client.ask("state::set", {"scope": "b", "key": "k", "value": 1})
        await bench.turn()
        assert [call["data"]["scope"] for call in client.got("invokefunction")] == ["b"]


async def test_an_upsert_with_another_type_ends_the_earlier_one() -> None:
    async with running_engine() as bench:
        client = bench.client("w")
        client.send("registerfunction", id="f")
        client.bind()
        client.bind(trigger_type="nobody-provides-it")
        client.ask("state::set", {"scope": "s", "key": "k", "value": 1})
        await bench.turn()
        assert client.got("invokefunction") == []


async def test_only_the_owner_unbinds() -> None:
    async with running_engine() as bench:
        owner, other = bench.client("owner"), bench.client("other")
        owner.send("registerfunction", id="f")
        owner.bind()
        other.send("unregistertrigger", id="t")
        owner.ask("state::set", {"scope": "s", "key": "1", "value": 1})
        await bench.turn()
        assert len(owner.got("invokefunction")) == 1
        owner.send("unregistertrigger", id="t")
        owner.send("unregistertrigger", id="t", trigger_type="wrong")
        owner.ask("state::set", {"scope": "s", "key": "2", "value": 1})
        await bench.turn()
        assert owner.got("invokefunction") == []


async def test_the_same_id_from_another_connection_takes_the_binding_over() -> None:
    async with running_engine() as bench:
        half_dead, back = bench.client("w"), bench.client("w")
        half_dead.bind()
        back.send("registerfunction", id="f")
        back.bind()
        half_dead.disconnect()
        back.ask("state::set", {"scope": "s", "key": "k", "value": 1})
        await bench.turn()
        assert len(back.got("invokefunction")) == 1


async def test_a_binding_that_comes_back_in_time_missed_nothing() -> None:
    async with running_engine() as bench:
        writer, client = bench.client("writer"), bench.client("w")
        client.send("registerfunction", id="f")
        client.bind()
        client.disconnect()
        writer.ask("state::set", {"scope": "s", "key": "missed", "value": 1})
        await bench.pass_time(59)
        back = bench.client(announce=False)
        back.send("registerfunction", id="f")
        back.bind()
        back.announce("w")
        await bench.turn()
        assert [call["data"]["key"] for call in back.got("invokefunction")] == ["missed"]


async def test_a_binding_that_comes_back_too_late_starts_afresh() -> None:
    async with running_engine() as bench:
        writer, client = bench.client("writer"), bench.client("w")
        client.bind()
        client.disconnect()
        writer.ask("state::set", {"scope": "s", "key": "missed", "value": 1})
        await bench.pass_time(61)
        back = bench.client("w")
        back.send("registerfunction", id="f")
        back.bind()
        back.ask("state::set", {"scope": "s", "key": "new", "value": 1})
        await bench.turn()
        assert [call["data"]["key"] for call in back.got("invokefunction")] == ["new"]


async def test_what_an_interrupted_handler_was_doing_is_delivered_again() -> None:
    async with running_engine() as bench:
        client = bench.client("w")
        client.send("registerfunction", id="f")
        client.bind()
        client.ask("state::set", {"scope": "s", "key": "k", "value": 1})
        await bench.turn()
        [first] = client.got("invokefunction")
        client.disconnect()
        back = bench.client("w")
        back.send("registerfunction", id="f")
        back.bind()
        await bench.turn()
        [again] = back.got("invokefunction")
        assert again["data"]["event_id"] == first["data"]["event_id"]
        assert again["data"]["attempt"] == 2


async def test_an_event_too_large_for_the_client_comes_without_its_values() -> None:
    async with running_engine() as bench:
        old = bench.client("old", version="0.23.0")
        old.send("registerfunction", id="f")
        old.bind()
        old.ask("state::set", {"scope": "s", "key": "k", "value": 1})
        await bench.turn()
        [call] = old.got("invokefunction")
        old.reply(call, result=None)
        writer = bench.client("writer")
        writer.call("state::set", {"scope": "s", "key": "k", "value": "x" * (1 << 20)})
        await bench.turn()
        [call] = old.got("invokefunction")
        assert call["data"]["values_omitted"] is True
        assert (call["data"]["new_value"], call["data"]["revision"]) == (None, 2)


async def test_the_target_is_looked_up_where_the_binding_says() -> None:
    async with running_engine() as bench:
        orders = bench.client("o", namespace="orders")
        orders.send("registerfunction", id="f")
        orders.bind("a", namespace="orders")
        orders.bind("b")
        orders.ask("state::set", {"scope": "s", "key": "k", "value": 1})
        await bench.turn()
        assert len(orders.got("invokefunction")) == 1


async def test_a_blank_namespace_is_refused() -> None:
    async with running_engine() as bench:
        client = bench.client("w")
        client.bind("a", namespace=" ")
        client.bind("b", trigger_namespace="")
        refused = client.got("triggerregistrationresult")
        assert [(m["id"], m["error"]["code"]) for m in refused] == [
            ("a", "INVALID_NAMESPACE"),
            ("b", "INVALID_NAMESPACE"),
        ]


async def test_a_binding_without_function_or_type_is_refused() -> None:
    async with running_engine() as bench:
        client = bench.client("w")
        client.send("registertrigger", id="a", trigger_type="state", config={})
        client.send("registertrigger", id="b", function_id="f", config={})
        client.send("registertrigger", trigger_type="state", function_id="f", config={})
        refused = client.got("triggerregistrationresult")
        assert [m["id"] for m in refused] == ["a", "b"]
        assert {m["error"]["code"] for m in refused} == {"trigger_registration_failed"}


async def test_nothing_fires_while_triggers_are_switched_off() -> None:
    async with running_engine(triggers_enabled=False) as bench:
        client = bench.client("w")
        client.send("registerfunction", id="f")
        client.bind()
        client.ask("state::set", {"scope": "s", "key": "k", "value": 1})
        await bench.turn()
        assert client.got("invokefunction") == []
