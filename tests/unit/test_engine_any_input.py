"""Nothing that a client sends makes the engine raise, or send anything but JSON objects."""

from __future__ import annotations

from typing import Any

import msgspec
from engine_bench import running_engine
from hypothesis import given, settings
from hypothesis import strategies as st

TYPES = [
    "invokefunction",
    "invocationresult",
    "registerfunction",
    "unregisterfunction",
    "registerservice",
    "registertriggertype",
    "unregistertriggertype",
    "registertrigger",
    "unregistertrigger",
    "triggerregistrationresult",
    "reattach",
    "ping",
    "pong",
    "workerregistered",
]
FUNCTIONS = [
    *(f"state::{n}" for n in ("set", "get", "delete", "update", "list", "list_groups", "info")),
    *(f"engine::{n}::list" for n in ("functions", "triggers", "registered-triggers", "workers")),
    *(f"engine::{n}::info" for n in ("functions", "triggers", "registered-triggers", "workers")),
    *(f"engine::{n}" for n in ("workers::register", "channels::create", "log::info")),
    *(f"engine::baggage::{n}" for n in ("get", "set", "get_all")),
    "f",
    "pt",
    "",
]
NAMES = [*FUNCTIONS, "t", "s", "default", " ", "orders", "id-1", "call-1", "state"]
WORDS = ["void", "enqueue", "set", "merge", "append", "remove", "increment"]
MEMBERS = [
    *("id", "invocation_id", "function_id", "data", "result", "error", "code", "message"),
    *("action", "type", "namespace", "metadata", "traceparent", "baggage", "description"),
    *("trigger_type", "trigger_namespace", "config", "request_format", "invocation"),
    *("previous_worker_id", "reattach_token", "scope", "key", "value", "ops", "path", "by"),
    *("name", "pid", "version", "features", "search", "function_ids", "buffer_size"),
    *("condition_function_id", "trigger_request_format", "worker", "workers"),
]

names = st.sampled_from(NAMES) | st.sampled_from(WORDS)
scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=8).filter(lambda text: not any("\ud800" <= c <= "\udfff" for c in text))
    | names
)
values = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(MEMBERS) | st.text("ab", max_size=2), inner, max_size=5)
    ),
    max_leaves=12,
)
members = st.fixed_dictionaries(
    {},
    optional={
        name: (names if name.endswith("id") or name == "trigger_type" else values) | values
        for name in MEMBERS
        if name != "type"
    },
)
documents = st.builds(lambda kind, rest: {**rest, "type": kind}, st.sampled_from(TYPES), members)
raw_texts = st.sampled_from(
    [
        "",
        " ",
        "null",
        "[]",
        "{}",
        '{"type":null}',
        '{"type":"ping"}{"type":"ping"}',
        '{"type":"invokefunction","invocation_id":"x","function_id":"f","data":"\\ud800"}',
        '{"type":"invokefunction","invocation_id":"x","function_id":"\\ud800","data":1}',
        '{"type":"registerfunction","id":"\\udfff"}',
        '{"type":"invokefunction","invocation_id":"x","data":' + "[" * 10_000,
        '{"type":"invokefunction","invocation_id":"x","function_id":"state::set","data":'
        '{"scope":"s","key":"k","value":' + "[" * 900 + "]" * 900 + "}}",
        '{"type":"invokefunction","invocation_id":"x","function_id":"f","data":NaN}',
        '{"type":"registertrigger","id":"t","trigger_type":"state","function_id":"f",'
        '"config":{"scope":1e999}}',
    ]
)
texts = documents.map(lambda document: msgspec.json.encode(document).decode()) | raw_texts


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 2), texts), max_size=20))
async def test_no_message_raises_or_is_answered_with_anything_but_json(
    sent: list[tuple[int, str]],
) -> None:
    async with running_engine() as bench:
        clients = [bench.client("a"), bench.client("b"), bench.client(announce=False)]
        for number, text in sent:
            worker = clients[number].worker
            if worker.connected:
                bench.engine.receive(worker, text)
        await bench.turn()
        await bench.pass_time(10)
        for client in clients:
            client.disconnect()
        last = bench.client("last")
        last.ask("state::set", {"scope": "s", "key": "k", "value": 1})


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(FUNCTIONS[:-3]), values)
async def test_every_function_of_the_engine_answers_any_data_exactly_once(
    function_id: str, data: Any
) -> None:
    async with running_engine() as bench:
        client = bench.client("w")
        call = client.call(function_id, data)
        await bench.turn()
        answer = client.answer_to(call)
        if "error" in answer:
            assert isinstance(answer["error"]["code"], str)
            assert isinstance(answer["error"]["message"], str)
