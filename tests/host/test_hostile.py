"""Input that means harm, or nothing: answered or dropped; nobody else notices, nothing changes."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from server_bench import PATIENCE_S, TEXT, Bench, Client, call, frame, serving

from iii_state.clock import wall_clock_ms
from iii_state.engine.workers import Worker
from iii_state.stores.memory import MemoryStore

Json = Any

KEPT = {"scope": "kept", "key": "k"}

HOSTILE_NAMES = [
    "",
    "\0",
    "../x",
    "/etc/passwd",
    "a\nb\r\n",
    "😀",
    "\u202e",
    "ﬀ",
    "e\u0301",
    "__proto__",
    "x" * 65_536,
]


@asynccontextmanager
async def under_attack(**settings: Any) -> AsyncIterator[tuple[Bench, Client]]:
    """A server with a key, and an attacker. At the end all is as it was for everybody else."""
    store = MemoryStore(wall_clock_ms)
    async with serving(store, **settings) as bench:
        witness = await bench.worker()
        await witness.result("state::set", {**KEPT, "value": {"n": 1}})
        await witness.settled()
        attacker = await bench.worker()
        yield bench, attacker
        assert await witness.result("state::get", KEPT) == {"n": 1}
        assert await witness.result("state::list_groups", {}) == {"groups": ["kept"]}
        assert store.revision == 1
        await bench.answers_rightly()


def text(message: Json) -> bytes:
    return json.dumps(message).encode("utf-8", "surrogatepass")


UNDECODABLE = [
    b"{",
    b"}",
    b"nul",
    b"null",
    b"true",
    b"1",
    b'"text"',
    b"[]",
    b'[{"type":"ping"}]',
    b"{}",
    b'{"type":null}',
    b'{"type":1}',
    b'{"type":["ping"]}',
    b'{"type":"PING"}',
    b'{"type":""}',
    b'{"type":"\\ud800"}',
    b'{"type":"ping","type":"invokefunction"}',
    b'{"type":"ping"},',
    b"{'type':'ping'}",
    b'{"type":"ping",}',
    b'{"type":"workerregistered","worker_id":"x"}',
    b'{"type":"invocationresult"}',
    b'{"type":"invocationresult","invocation_id":1}',
    b'{"type":"registerfunction"}',
    b'{"type":"registertrigger","id":{}}',
    b'{"type":"invokefunction"}',
    b'{"type":"invokefunction","function_id":null}',
    b'{"type":"invokefunction","function_id":"state::set","data":{"scope":"a","key":"b","value":1',
]


async def test_what_is_no_message_is_dropped_without_an_answer() -> None:
    async with under_attack() as (_, attacker):
        attacker.write(*[frame(TEXT, each) for each in UNDECODABLE])
        attacker.send("ping")
        assert await attacker.next_message() == {"type": "pong"}
        attacker.send("ping")
        assert await attacker.next_message() == {"type": "pong"}


@pytest.mark.parametrize(
    "value",
    [
        b"NaN",
        b"Infinity",
        b"-Infinity",
        b"01",
        b"1.",
        b".5",
        b"+1",
        b"0x10",
        b'"\\ud800"',
        b'"\\udc00\\ud800"',
        b'"\\x41"',
        b'"\t"',
        b"{1:2}",
        b'{"a":1,}',
        b"[1,]",
        b"[1 2]",
        b"tru",
        b"",
        b"'x'",
    ],
)
async def test_a_value_that_is_no_json_is_refused(value: bytes) -> None:
    async with under_attack() as (_, attacker):
        attacker.write(
            frame(
                TEXT,
                b'{"type":"invokefunction","invocation_id":"x","function_id":"state::set",'
                b'"data":{"scope":"kept","key":"k","value":%b}}' % value,
            )
        )
        answer = await attacker.got("invocationresult", invocation_id="x")
        assert answer["error"]["code"] == "deserialization_error"


WRONG: list[Json] = [None, True, 1, 1.5, "text", "", [], {}, [1], {"a": 1}, 10**30]

TYPES = {
    "invokefunction": [
        *("invocation_id", "function_id", "data", "action", "namespace", "metadata"),
        *("traceparent", "baggage"),
    ],
    "invocationresult": ["invocation_id", "function_id", "result", "error", "traceparent"],
    "registerfunction": [
        *("id", "description", "request_format", "response_format", "metadata", "invocation"),
    ],
    "unregisterfunction": ["id"],
    "registertriggertype": [
        *("id", "description", "trigger_request_format", "call_request_format", "namespace"),
    ],
    "unregistertriggertype": ["id", "namespace"],
    "registertrigger": [
        *("id", "trigger_type", "function_id", "config", "metadata", "namespace"),
        "trigger_namespace",
    ],
    "unregistertrigger": ["id"],
    "triggerregistrationresult": ["id", "trigger_type", "function_id", "error"],
    "reattach": ["previous_worker_id", "reattach_token"],
    "registerservice": ["id"],
    "ping": ["id"],
    "pong": ["id"],
}


@pytest.mark.parametrize("type_", TYPES)
async def test_wrong_types_of_every_member_of_every_message(type_: str) -> None:
    complete: dict[str, Json] = {
        "type": type_,
        "invocation_id": "i",
        "function_id": "state::get",
        "data": KEPT,
        "id": "x",
        "trigger_type": "state",
        "config": {"scope": "other"},
        "error": {"code": "c", "message": "m"},
        "previous_worker_id": "w",
        "reattach_token": "t",
    }
    async with under_attack() as (_, attacker):
        attacker.send("registerfunction", id="x")
        for member in TYPES[type_]:
            without = {name: value for name, value in complete.items() if name != member}
            attacker.write(frame(TEXT, text(without)))
            for wrong in WRONG:
                attacker.write(frame(TEXT, text({**complete, member: wrong})))
        await attacker.settled()
        attacker.send("ping")
        await attacker.got("pong")


REQUESTS: dict[str, dict[str, Json]] = {
    "state::set": {"scope": "kept", "key": "k", "value": 2},
    "state::update": {
        "scope": "kept",
        "key": "k",
        "ops": [{"type": "set", "path": "n", "value": 2}],
    },
    "state::delete": {"scope": "kept", "key": "k"},
    "state::get": {"scope": "kept", "key": "k"},
    "state::list": {"scope": "kept"},
    "state::list_keys": {"scope": "kept"},
}


@pytest.mark.parametrize("function_id", REQUESTS)
async def test_wrong_types_of_every_member_of_every_request(function_id: str) -> None:
    request = REQUESTS[function_id]
    async with under_attack() as (_, attacker):
        for member in request:
            if member == "value":
                continue
            missing = {name: value for name, value in request.items() if name != member}
            wrong = [w for w in WRONG if not isinstance(w, str if member != "ops" else list)]
            for data in [missing, *({**request, member: each} for each in wrong)]:
                error = await attacker.error(function_id, data)
                assert error["code"] == "deserialization_error", data
                assert function_id in error["message"]
        for no_object in (None, 1, "text", [], [request], True):
            error = await attacker.error(function_id, no_object)
            assert error["code"] == "deserialization_error"


@pytest.mark.parametrize(
    "operation",
    [
        None,
        1,
        [],
        {},
        {"type": "nothing"},
        {"type": "SET", "path": "n", "value": 1},
        {"type": "set", "path": 1, "value": 1},
        {"type": "set", "path": ["a", 1], "value": 1},
        {"type": "increment", "path": "n", "by": "1"},
        {"type": "increment", "path": "n", "by": 1.5},
        {"type": "increment", "path": "n", "by": 10**30},
        {"type": "remove"},
    ],
)
async def test_one_wrong_operation_refuses_the_whole_update(operation: Json) -> None:
    async with under_attack() as (_, attacker):
        good = {"type": "set", "path": "n", "value": 2}
        error = await attacker.error("state::update", {**KEPT, "ops": [good, operation]})
        assert error["code"] == "deserialization_error"


@pytest.mark.parametrize("name", HOSTILE_NAMES)
async def test_any_text_is_a_name(name: str) -> None:
    async with serving() as bench:
        client = await bench.worker()
        for place in ({"scope": name, "key": "k"}, {"scope": "s", "key": name}):
            await client.result("state::set", {**place, "value": name})
            assert await client.result("state::get", place) == name
        assert (await client.result("state::list_groups", {}))["groups"] == sorted(["s", name])
        assert (await client.result("state::list_keys", {"scope": "s"}))["keys"] == [name]
        client.send("registerfunction", id=name)
        client.send(
            "registertrigger", id=name, trigger_type="state", function_id=name, config={"key": name}
        )
        await client.settled()
        await client.result("state::set", {"scope": "s", "key": name, "value": 1})
        assert (await client.got("invokefunction"))["function_id"] == name


@pytest.mark.parametrize("member", ["scope", "key"])
async def test_a_name_of_a_megabyte_is_refused(member: str) -> None:
    async with under_attack() as (_, attacker):
        for function_id in ("state::set", "state::update", "state::delete"):
            data = {**REQUESTS[function_id], member: "x" * (1 << 20)}
            error = await attacker.error(function_id, data)
            assert error["code"] == "LIMIT_EXCEEDED"
            assert len(error["message"]) < 1000


async def test_the_log_holds_no_megabytes() -> None:
    async with under_attack() as (bench, attacker):
        long = "x" * 100_000
        for type_, names in TYPES.items():
            members = dict.fromkeys(names, long)
            attacker.send(type_, **members)
            attacker.send(type_, **{**members, "id": "state::" + long})
        attacker.send(
            "registertrigger",
            id=long,
            trigger_type="state",
            function_id=long,
            config={long: 1, **{f"{n} {long[:99]}": 1 for n in range(1000)}},
        )
        attacker.send(long)
        attacker.send("invokefunction", function_id=long, data=1)
        await attacker.settled()
        assert max(map(len, bench.warnings("")), default=0) < 5000


async def test_built_in_ids_and_the_type_state_cannot_be_taken() -> None:
    async with under_attack() as (bench, attacker):
        taken = [
            "state::get",
            "state::anything",
            "state::",
            "engine::workers::register",
            "engine::",
        ]
        for function_id in taken:
            attacker.send("registerfunction", id=function_id)
            rejected = await attacker.got("registrationrejected")
            assert rejected["function_id"] == function_id
            assert rejected["code"] == "FUNCTION_NAMESPACE_CONFLICT"
        for type_ in ("state", "engine::workers-available", "engine::mine"):
            attacker.send("registertriggertype", id=type_)
        attacker.send("unregistertriggertype", id="state")
        for function_id in taken:
            attacker.send("unregisterfunction", id=function_id)
        other = await bench.worker()
        other.send(
            "registertrigger", id="t", trigger_type="state", function_id="f", config={"scope": "z"}
        )
        await other.settled()
        attacker.send("ping")
        await attacker.got("pong")
        assert attacker.messages == []
        other.send("unregistertrigger", id="t")


async def test_functions_and_triggers_of_others_cannot_be_taken_or_undone() -> None:
    async with under_attack() as (bench, attacker):
        owner, caller = await bench.worker(), await bench.worker()
        owner.send("registerfunction", id="f")
        owner.send(
            "registertrigger", id="t", trigger_type="state", function_id="f", config={"scope": "z"}
        )
        await owner.settled()
        for _ in range(2):
            attacker.send("registerfunction", id="f")
            rejected = await attacker.got("registrationrejected")
            assert rejected["owner_worker_id"] == owner.greeting["worker_id"]
            attacker.send("unregisterfunction", id="f")
            attacker.send("unregistertrigger", id="t")
        await attacker.settled()
        caller.write(frame(TEXT, call("f", 1, "c")))
        assert (await owner.got("invokefunction"))["data"] == 1
        assert bench.server.engine.triggers.get("t") is not None


async def test_a_forged_result_is_ignored() -> None:
    async with under_attack() as (bench, attacker):
        owner, caller = await bench.worker(), await bench.worker()
        owner.send("registerfunction", id="f")
        await owner.settled()
        caller.write(frame(TEXT, call("f", 1, "secret")))
        await owner.got("invokefunction")
        for forger in (attacker, caller):
            forger.send("invocationresult", invocation_id="secret", function_id="f", result=666)
            await forger.settled()
        owner.send("invocationresult", invocation_id="secret", function_id="f", result=1)
        owner.send("invocationresult", invocation_id="secret", function_id="f", result=2)
        assert (await caller.got("invocationresult"))["result"] == 1
        await owner.settled()
        await caller.settled()
        assert caller.messages == []


async def test_somebody_elses_invocation_id_cannot_be_used_to_break_his_call() -> None:
    async with under_attack() as (bench, attacker):
        owner, caller = await bench.worker(), await bench.worker()
        owner.send("registerfunction", id="f")
        await owner.settled()
        caller.write(frame(TEXT, call("f", 1, "one")))
        await owner.got("invokefunction")
        attacker.write(frame(TEXT, call("f", 2, "one")))
        refused = await attacker.got("invocationresult")
        assert refused["error"]["code"] == "invocation_error"
        owner.send("invocationresult", invocation_id="one", result="mine")
        assert (await caller.got("invocationresult"))["result"] == "mine"


async def test_the_same_invocation_id_twice_fails_the_earlier_call() -> None:
    async with serving() as bench:
        owner, caller = await bench.worker(), await bench.worker()
        owner.send("registerfunction", id="f")
        await owner.settled()
        caller.write(frame(TEXT, call("f", 1, "one")), frame(TEXT, call("f", 2, "one")))
        assert (await caller.got("invocationresult"))["error"]["code"] == "invocation_error"
        owner.send("invocationresult", invocation_id="one", result=1)
        assert (await caller.got("invocationresult"))["result"] == 1
        worker = bench.server.engine.workers[caller.greeting["worker_id"]]
        assert worker.calls_open == 0


async def test_an_id_that_is_used_twice_for_state_is_answered_twice() -> None:
    async with serving() as bench:
        client = await bench.worker()
        text_ = call("state::list_groups", {}, "same")
        client.write(frame(TEXT, text_), frame(TEXT, text_))
        for _ in range(2):
            assert (await client.got("invocationresult"))["result"] == {"groups": []}


@pytest.mark.parametrize("token", ["", "wrong", "ä", None, 5, "\ud800", "x" * 100_000])
async def test_a_wrong_token_retires_nobody(token: Json) -> None:
    async with under_attack() as (bench, attacker):
        victim = await bench.worker()
        attacker.write(
            frame(
                TEXT,
                text(
                    {
                        "type": "reattach",
                        "previous_worker_id": victim.greeting["worker_id"],
                        "reattach_token": token,
                    }
                ),
            )
        )
        await attacker.settled()
        assert await victim.result("state::get", KEPT) == {"n": 1}


async def test_calls_to_a_worker_that_dies_are_failed_at_once() -> None:
    async with under_attack() as (bench, attacker):
        attacker.send("registerfunction", id="f")
        await attacker.settled()
        caller = await bench.worker()
        caller.write(*[frame(TEXT, call("f", n, f"c-{n}")) for n in range(100)])
        await attacker.got("invokefunction")
        attacker.vanish()
        for _ in range(100):
            failed = await caller.got("invocationresult")
            assert failed["error"]["code"] == "invocation_stopped"
        assert (await caller.error("f"))["code"] == "function_not_found"


async def test_a_worker_whose_frames_are_damaged_fails_its_calls_at_once() -> None:
    async with under_attack() as (bench, attacker):
        attacker.send("registerfunction", id="f")
        await attacker.settled()
        caller = await bench.worker()
        caller.write(frame(TEXT, call("f", 1, "c")))
        await attacker.got("invokefunction")
        attacker.write(frame(TEXT, b"\xff"))
        failed = await caller.got("invocationresult")
        assert failed["error"]["code"] == "invocation_stopped"
        assert (await caller.error("f"))["code"] == "function_not_found"


@pytest.mark.parametrize(
    "members",
    [
        {"action": {"type": "nothing"}},
        {"action": {"type": "enqueue"}},
        {"action": {"type": "enqueue", "queue": "q"}},
        {"namespace": " "},
        {"namespace": "\0"},
        {"traceparent": "\r\n\0", "baggage": "x" * 100_000},
    ],
)
async def test_odd_ways_to_call_are_answered(members: dict[str, Json]) -> None:
    async with under_attack() as (_, attacker):
        answer = await attacker.ask("state::get", KEPT, **members)
        assert ("error" in answer) != ("result" in answer)


async def test_connections_that_come_and_go_amid_everything_leave_nothing() -> None:
    async with under_attack() as (bench, attacker):
        attacker.vanish()
        request = call("state::get", KEPT)
        for cut in range(0, 200, 7):
            client = await bench.worker()
            client.send("registerfunction", id=f"f-{cut}")
            client.send("registertriggertype", id=f"t-{cut}")
            client.send("registertrigger", id=f"{cut}", trigger_type="state", function_id="f")
            client.write((frame(TEXT, request) * 2)[:cut])
            client.vanish()
        await bench.workers(1)
        engine = bench.server.engine
        assert [f for f in engine.functions.all() if f.id.startswith("f-")] == []
        assert engine.triggers.active() == []


async def test_a_message_that_the_engine_cannot_handle_ends_only_its_own_connection(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """There is no such message that we know of; so one is made."""
    async with serving(errors=["cannot be handled"]) as bench:
        client, other = await bench.worker(), await bench.worker()

        def fail(worker: Worker, frame: Any) -> None:
            raise ZeroDivisionError

        monkeypatch.setitem(bench.server.engine._handlers, "boom", fail)
        client.send("boom")
        assert await client.end_code() == 1011
        assert await other.result("state::list_groups", {}) == {"groups": []}


@pytest.mark.parametrize("message", [b"[]", b'{"type":"unknown"}'])
async def test_a_flood_on_one_connection_holds_up_nobody(
    message: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    count, seen = 20_000, 0
    async with under_attack() as (bench, attacker):
        witness = await bench.worker()
        engine = bench.server.engine
        receive = engine.receive

        def watch(worker: Worker, text: str) -> None:
            nonlocal seen
            seen += text.encode() == message
            receive(worker, text)

        monkeypatch.setattr(engine, "receive", watch)
        attacker.write(frame(TEXT, message) * count)
        for _ in range(5):
            assert await witness.result("state::get", KEPT) == {"n": 1}
        before_the_witness = seen
        async with asyncio.timeout(PATIENCE_S):
            while seen < count:
                await asyncio.sleep(0)
    assert before_the_witness < count // 2
