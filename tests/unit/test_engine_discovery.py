"""What discovery answers: shapes, what is hidden, in which order."""

from __future__ import annotations

from typing import Any

import pytest
from engine_bench import Client, EngineBench, running_engine

import iii_state

FUNCTIONS_LIST = "engine::functions::list"
FUNCTIONS_INFO = "engine::functions::info"
TYPES_LIST = "engine::triggers::list"
TYPES_INFO = "engine::triggers::info"
TRIGGERS_LIST = "engine::registered-triggers::list"
TRIGGERS_INFO = "engine::registered-triggers::info"
WORKERS_LIST = "engine::workers::list"
WORKERS_INFO = "engine::workers::info"

EVERY = [
    FUNCTIONS_LIST,
    FUNCTIONS_INFO,
    TYPES_LIST,
    TYPES_INFO,
    TRIGGERS_LIST,
    TRIGGERS_INFO,
    WORKERS_LIST,
    WORKERS_INFO,
]


def worker_b(bench: EngineBench) -> Client:
    """The worker of the captures in the protocol's description."""
    client = bench.client("B", pid=4242, os="x", version="0.23.0")
    client.send("registerfunction", id="b::on")
    client.send(
        "registerfunction",
        id="b::typed",
        description="typed",
        request_format={"type": "object"},
        response_format={"type": "string"},
        metadata={"k": 1},
    )
    client.send("registerfunction", id="b::hidden", metadata={"internal": True})
    client.send("registertriggertype", id="b-type", description="bt")
    return client


def ids(listed: dict[str, Any]) -> list[Any]:
    [entries] = listed.values()
    return [entry.get("function_id", entry.get("id")) for entry in entries]


@pytest.mark.parametrize("function_id", EVERY)
@pytest.mark.parametrize("data", [None, [], 5, "x", {"search": 5, "function_id": 5, "id": 5}])
async def test_input_of_the_wrong_type_is_refused(function_id: str, data: object) -> None:
    async with running_engine() as bench:
        assert bench.client("w").error(function_id, data) == "deserialization_error"


async def test_a_list_of_functions_shows_what_is_there_and_leaves_out_what_is_not() -> None:
    async with running_engine() as bench:
        assert worker_b(bench).ask(FUNCTIONS_LIST, {"prefix": "b::", "unknown": 1}) == {
            "functions": [
                {"function_id": "b::on", "namespace": "default", "worker_name": "B"},
                {
                    "function_id": "b::typed",
                    "namespace": "default",
                    "worker_name": "B",
                    "description": "typed",
                    "metadata": {"k": 1},
                },
            ]
        }


async def test_internal_functions_are_listed_only_when_asked_for() -> None:
    async with running_engine() as bench:
        client = worker_b(bench)
        shown = ids(client.ask(FUNCTIONS_LIST, {}))
        assert "state::get" in shown
        assert "b::hidden" not in shown
        assert not [i for i in shown if i.startswith("engine::")]
        every = ids(client.ask(FUNCTIONS_LIST, {"include_internal": True}))
        assert {"b::hidden", *EVERY} <= set(every)
        assert every == sorted(every)


async def test_functions_are_found_by_worker() -> None:
    async with running_engine() as bench:
        client = worker_b(bench)
        nameless = bench.client(None)
        nameless.send("registerfunction", id="x::f")
        assert ids(client.ask(FUNCTIONS_LIST, {"worker": "B"})) == ["b::on", "b::typed"]
        asked = {"workers": ["x", "iii-state"], "search": "x::"}
        assert ids(client.ask(FUNCTIONS_LIST, asked)) == ["x::f"]
        engine = {"worker": "iii-engine-functions", "include_internal": True}
        assert set(ids(client.ask(FUNCTIONS_LIST, engine))) >= set(EVERY)


async def test_a_search_ranks_the_beginning_of_ids_then_ids_then_descriptions() -> None:
    async with running_engine() as bench:
        client = bench.client("w")
        client.send("registerfunction", id="c::z", description="About ORDERS")
        client.send("registerfunction", id="b::orders")
        client.send("registerfunction", id="orders::b")
        client.send("registerfunction", id="Orders::a")
        assert ids(client.ask(FUNCTIONS_LIST, {"search": "orders"})) == [
            "Orders::a",
            "orders::b",
            "b::orders",
            "c::z",
        ]


async def test_the_detail_of_a_function() -> None:
    async with running_engine() as bench:
        client = worker_b(bench)
        client.bind("tr1", "b::typed", {"scope": "s"})
        client.bind("elsewhere", "b::typed", namespace="other")
        assert client.ask(FUNCTIONS_INFO, {"function_id": "b::typed"}) == {
            "function_id": "b::typed",
            "namespace": "default",
            "worker_name": "B",
            "description": "typed",
            "metadata": {"k": 1},
            "request_schema": {"type": "object"},
            "response_schema": {"type": "string"},
            "registered_triggers": [
                {"id": "tr1", "trigger_type": "state", "config": {"scope": "s"}}
            ],
        }


async def test_several_details_at_once() -> None:
    async with running_engine() as bench:
        client = worker_b(bench)
        asked = {"function_ids": ["b::on", "nope", "b::on"]}
        assert client.ask(FUNCTIONS_INFO, asked) == {
            "functions": [
                {
                    "function_id": "b::on",
                    "namespace": "default",
                    "worker_name": "B",
                    "registered_triggers": [],
                },
                {"function_id": "nope", "error": "not_found"},
            ]
        }


@pytest.mark.parametrize(
    ("data", "code"),
    [
        ({}, "INVALID_ARGUMENTS"),
        ({"function_id": "a", "function_ids": ["a"]}, "INVALID_ARGUMENTS"),
        ({"function_ids": []}, "INVALID_ARGUMENTS"),
        ({"function_ids": [str(n) for n in range(33)]}, "INVALID_ARGUMENTS"),
        ({"function_id": "nope"}, "NOT_FOUND"),
    ],
)
async def test_a_question_about_functions_that_has_no_answer(data: Any, code: str) -> None:
    async with running_engine() as bench:
        assert bench.client("w").error(FUNCTIONS_INFO, data) == code


async def test_the_schemas_of_the_state_functions_are_told() -> None:
    async with running_engine() as bench:
        client = bench.client("w")
        told = client.ask(FUNCTIONS_INFO, {"function_id": "state::set"})
        assert told["worker_name"] == "iii-state"
        assert told["request_schema"]["title"] == "StateSetInput"
        assert told["response_schema"]["title"] == "StreamSetResult"
        told = client.ask(FUNCTIONS_INFO, {"function_id": "state::get"})
        assert "response_schema" not in told


async def test_a_function_is_found_where_it_alone_is_unless_a_namespace_is_named() -> None:
    async with running_engine() as bench:
        client = bench.client("o", namespace="orders")
        client.send("registerfunction", id="f")
        assert client.ask(FUNCTIONS_INFO, {"function_id": "f"})["namespace"] == "orders"
        call = client.call(FUNCTIONS_INFO, {"function_id": "f", "namespace": "default"})
        error = client.answer_to(call)["error"]
        assert error["code"] == "NOT_FOUND"
        assert "orders" in error["message"]
        bench.client("p", namespace="two").send("registerfunction", id="f")
        assert client.error(FUNCTIONS_INFO, {"function_id": "f"}) == "NOT_FOUND"


async def test_the_trigger_types() -> None:
    async with running_engine() as bench:
        client = worker_b(bench)
        state = {
            "id": "state",
            "namespace": "default",
            "worker_name": "iii-state",
            "description": "State trigger",
        }
        b_type = {
            "id": "b-type",
            "namespace": "default",
            "worker_name": "B",
            "description": "bt",
        }
        assert client.ask(TYPES_LIST, {}) == {"triggers": [b_type, state]}
        assert client.ask(TYPES_LIST, {"worker": "B"}) == {"triggers": [b_type]}
        assert client.ask(TYPES_LIST, {"search": "STATE trig"}) == {"triggers": [state]}
        assert ids(client.ask(TYPES_LIST, {"include_internal": True, "prefix": "engine::"})) == [
            "engine::functions-available",
            "engine::workers-available",
        ]


async def test_the_detail_of_a_trigger_type() -> None:
    async with running_engine() as bench:
        client = bench.client("P")
        client.send(
            "registertriggertype",
            id="pt",
            description="d",
            trigger_request_format={"type": "object"},
            call_request_format={"type": "string"},
        )
        client.bind("a", trigger_type="pt")
        assert client.ask(TYPES_INFO, {"id": "pt"}) == {
            "id": "pt",
            "namespace": "default",
            "worker_name": "P",
            "description": "d",
            "configuration_schema": {"type": "object"},
            "request_schema": {"type": "string"},
            "instance_count": 1,
        }
        assert client.error(TYPES_INFO, {"id": "pt", "namespace": "other"}) == "NOT_FOUND"
        assert client.error(TYPES_INFO, {"id": "none"}) == "NOT_FOUND"
        state = client.ask(TYPES_INFO, {"id": "state"})
        assert state["configuration_schema"]["title"] == "StateTriggerConfig"
        assert state["request_schema"]["title"] == "StateCallRequest"


async def test_the_triggers() -> None:
    async with running_engine() as bench:
        client, binder = worker_b(bench), bench.client("binder")
        binder.bind("tr2", "gone::f", {"key": "k" * 100})
        binder.bind("tr1", "b::typed", {"scope": "s"}, metadata={"q": 1})
        binder.bind("parked", "b::on", trigger_type="nobody's")
        tr1 = {
            "id": "tr1",
            "trigger_type": "state",
            "function_id": "b::typed",
            "worker_name": "B",
            "config": {"scope": "s"},
            "config_summary": '{"scope":"s"}',
        }
        listed = client.ask(TRIGGERS_LIST, {})["registered_triggers"]
        assert [t["id"] for t in listed] == ["tr1", "tr2"]
        assert listed[0] == tr1
        assert listed[1]["worker_name"] == "gone"
        assert listed[1]["config_summary"] == '{"key":"' + "k" * 72 + "…"
        for query in ({"worker": "B"}, {"function_id": "b::typed"}, {"search": "TYPED"}):
            assert client.ask(TRIGGERS_LIST, query) == {"registered_triggers": [tr1]}
        assert ids(client.ask(TRIGGERS_LIST, {"trigger_type": "b-type"})) == []


async def test_the_detail_of_a_trigger() -> None:
    async with running_engine() as bench:
        client = worker_b(bench)
        client.bind("tr1", "b::typed", {"scope": "s"}, metadata={"q": 1})
        client.bind("tr2", "b::typed", trigger_type="b-type")
        told = client.ask(TRIGGERS_INFO, {"id": "tr1"})
        assert told["metadata"] == {"q": 1}
        assert told["trigger"] == client.ask(TYPES_INFO, {"id": "state"})
        assert told["function"] == client.ask(FUNCTIONS_INFO, {"function_id": "b::typed"})
        told = client.ask(TRIGGERS_INFO, {"id": "tr2"})
        assert "status" not in told
        assert "metadata" not in told
        assert client.error(TRIGGERS_INFO, {"id": "nope"}) == "NOT_FOUND"


async def test_the_detail_of_a_state_trigger_tells_how_it_fares() -> None:
    async with running_engine() as bench:
        client = bench.client("w")
        client.send("registerfunction", id="f")
        client.bind("tr1")
        client.ask("state::set", {"scope": "s", "key": "k", "value": 1})
        client.ask("state::set", {"scope": "s", "key": "k", "value": 2})
        await bench.turn()
        client.reply(client.got("invokefunction")[0])
        await bench.turn()
        status = client.ask(TRIGGERS_INFO, {"id": "tr1"})["status"]
        assert status["condition"] == "live"
        assert (status["cursor"], status["lag"], status["in_flight"]) == (1, 1, 1)
        told = {name: count for name, count in status["counters"].items() if count}
        assert told == {"matched": 2, "delivered": 1}


async def test_the_workers() -> None:
    async with running_engine() as bench:
        client = worker_b(bench)
        bench.client("browser", runtime="browser")
        bench.client(None, pid=7)
        listed = client.ask(WORKERS_LIST, {})["workers"]
        assert [w["name"] for w in listed] == [None, "B", "iii-engine-functions", "iii-state"]
        assert listed[1] == {
            "id": client.worker.id,
            "name": "B",
            "namespace": "default",
            "description": None,
            "version": "0.23.0",
            "runtime": "python",
            "os": "x",
            "status": "connected",
            "function_count": 3,
            "connected_at_ms": 1_700_000_000_000,
            "active_invocations": 1,
            "isolation": None,
            "ip_address": "127.0.0.1",
        }
        state = listed[3]
        own = [name for name in bench.engine.functions.builtins if name.startswith("state::")]
        assert state["function_count"] == len(own)
        assert (state["runtime"], state["isolation"]) == ("engine", "in-process")
        assert (state["status"], state["version"]) == ("available", iii_state.__version__)
        assert (state["id"], state["os"], state["ip_address"]) == ("iii-state", None, None)
        assert len(client.ask(WORKERS_LIST, {"runtime": "python"})["workers"]) == 2
        assert len(client.ask(WORKERS_LIST, {"status": "available"})["workers"]) == 2
        assert ids(client.ask(WORKERS_LIST, {"search": "STATE"})) == ["iii-state"]


async def test_calls_that_a_worker_runs_are_counted() -> None:
    async with running_engine() as bench:
        client = worker_b(bench)
        client.call("b::on")
        told = bench.client("x").ask(WORKERS_INFO, {"name": "B"})["worker"]
        assert told["active_invocations"] == 1


async def test_the_detail_of_a_worker() -> None:
    async with running_engine() as bench:
        client, binder = worker_b(bench), bench.client("binder")
        binder.bind("tr1", "b::on")
        told = client.ask(WORKERS_INFO, {"name": "B"})
        assert told["worker"]["pid"] == 4242
        assert told["worker"]["internal"] is False
        assert [f["function_id"] for f in told["functions"]] == ["b::hidden", "b::on", "b::typed"]
        assert [t["id"] for t in told["trigger_types"]] == ["b-type"]
        assert [t["id"] for t in told["registered_triggers"]] == ["tr1"]
        assert client.error(WORKERS_INFO, {"name": "zzz"}) == "NOT_FOUND"
        assert client.error(WORKERS_INFO, {"name": "B", "namespace": "other"}) == "NOT_FOUND"


async def test_the_detail_of_a_worker_without_pid_and_of_one_inside() -> None:
    async with running_engine() as bench:
        client = bench.client("o", namespace="orders")
        told = client.ask(WORKERS_INFO, {"name": "o"})["worker"]
        assert "pid" not in told
        assert told["namespace"] == "orders"
        told = client.ask(WORKERS_INFO, {"name": "iii-state"})
        assert told["worker"]["internal"] is True
        assert [t["id"] for t in told["trigger_types"]] == ["state"]
        assert "state::get" in [f["function_id"] for f in told["functions"]]


async def test_of_workers_with_one_name_the_newest_is_told_of() -> None:
    async with running_engine() as bench:
        bench.client("w", pid=1)
        newest = bench.client("w", pid=2)
        assert newest.ask(WORKERS_INFO, {"name": "w"})["worker"]["pid"] == 2
