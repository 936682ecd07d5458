"""Every bound that a connection can meet: what lies past it is refused, or waits; nothing grows."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import count
from pathlib import Path
from typing import Any

import msgspec
import pytest
from server_bench import PATIENCE_S, PING, TEXT, Bench, Client, call, frame, serving

from iii_state.clock import wall_clock_ms
from iii_state.engine.in_flight import READINGS_MAX
from iii_state.engine.workers import Worker
from iii_state.host.connection import Connection
from iii_state.stores.disk.store import DiskStore

KIB = 1 << 10
MIB = 1 << 20


@asynccontextmanager
async def durable(directory: Path, **settings: Any) -> AsyncIterator[Bench]:
    """A server whose writes wait for the disk."""
    store = await DiskStore.open(directory, clock_ms=wall_clock_ms)
    try:
        async with serving(store, **settings) as bench:
            yield bench
    finally:
        await store.close()


def connection_of(bench: Bench, client: Client) -> Connection:
    """The server's side of a worker."""
    peer = bench.server.engine.workers[client.greeting["worker_id"]].peer
    assert isinstance(peer, Connection)
    return peer


def set_frame(key: str, value: Any, scope: str = "s") -> bytes:
    data = {"scope": scope, "key": key, "value": value}
    return frame(TEXT, call("state::set", data, f"set-{key}"))


class Peak:
    """Looks on while calls of a worker begin to wait: how many did at most."""

    def __init__(self, worker: Worker) -> None:
        self.calls = 0
        self._real: Any = worker.in_flight
        worker.in_flight = self  # type: ignore[assignment]

    def add(self, weight: int) -> None:
        self._real.add(weight)
        self.calls = max(self.calls, self._real._calls)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)


@pytest.mark.parametrize(
    ("settings", "function_id", "data", "code", "limit"),
    [
        (
            {"value_bytes_max": 10},
            "state::set",
            {"scope": "s", "key": "k", "value": "x" * 9},
            "VALUE_TOO_LARGE",
            "value_bytes_max",
        ),
        (
            {"value_bytes_max": 10},
            "state::update",
            {"scope": "s", "key": "k", "ops": [{"type": "set", "path": "a", "value": "xxxxx"}]},
            "VALUE_TOO_LARGE",
            "value_bytes_max",
        ),
        (
            {"max_value_bytes": 10},
            "state::set",
            {"scope": "s", "key": "k", "value": "x" * 9},
            "VALUE_TOO_LARGE",
            "max_value_bytes",
        ),
        (
            {"name_bytes_max": 10},
            "state::set",
            {"scope": "s" * 11, "key": "k", "value": 1},
            "LIMIT_EXCEEDED",
            "name_bytes_max",
        ),
        (
            {"name_bytes_max": 10},
            "state::update",
            {"scope": "s", "key": "ä" * 6, "ops": []},
            "LIMIT_EXCEEDED",
            "name_bytes_max",
        ),
        (
            {"ops_max": 2},
            "state::update",
            {"scope": "s", "key": "k", "ops": [{"type": "increment", "path": "a", "by": 1}] * 3},
            "LIMIT_EXCEEDED",
            "ops_max",
        ),
    ],
)
async def test_past_a_bound_of_requests_there_is_an_error_that_names_it_and_nothing_changes(
    settings: dict[str, Any], function_id: str, data: Any, code: str, limit: str
) -> None:
    async with serving(**settings) as bench:
        client = await bench.worker()

        error = await client.error(function_id, data)

        assert error["code"] == code
        assert error["details"]["limit"] == limit
        assert error["details"]["actual"] > error["details"]["bound"] == settings[limit]
        assert limit in error["message"]
        assert bench.server.engine.store.revision == 0


async def test_a_value_may_nest_as_deep_as_the_bound_and_no_deeper() -> None:
    async with serving(nesting_max=8) as bench:
        client = await bench.worker()
        place = {"scope": "s", "key": "k"}
        deep: Any = [[[[[[[[]]]]]]]]
        await client.result("state::set", {**place, "value": deep})
        error = await client.error("state::set", {**place, "value": [deep]})

        assert error["code"] == "deserialization_error"
        assert "more than the 8" in error["message"]


@pytest.mark.parametrize("opening", [b"[", b'{"a":'])
@pytest.mark.parametrize("depth", [600, 10_000, 1_000_000])
async def test_frames_that_nest_far_too_deep_are_answered(depth: int, opening: bytes) -> None:
    async with serving() as bench:
        client = await bench.worker()
        closing = (b"]" if opening == b"[" else b"}") * depth
        value = opening * depth + (b"1" if opening != b"[" else b"") + closing
        start = b'{"type":"invokefunction","invocation_id":"deep","function_id":"state::set",'
        rest = b'"data":{"scope":"s","key":"k","value":%b}}' % value
        for text in (start + rest, start[:-1] + b"," + rest[:-2], b"[" * depth):
            client.write(frame(TEXT, text))

        error = (await client.got("invocationresult", invocation_id="deep"))["error"]

        assert error["code"] == "deserialization_error"
        await bench.answers_rightly()


async def test_past_in_flight_max_a_connection_is_read_no_further_until_it_is_answered(
    tmp_path: Path,
) -> None:
    async with durable(tmp_path, in_flight_max=10) as bench:
        client = await bench.worker()
        await client.settled()
        peak = Peak(bench.server.engine.workers[client.greeting["worker_id"]])
        client.write(*[set_frame(str(n), n) for n in range(1000)])

        for n in range(1000):
            answer = await client.got("invocationresult")
            assert answer["invocation_id"] == f"set-{n}"
        assert peak.calls == 10


async def test_a_hundred_thousand_writes_before_the_first_answer_is_read(tmp_path: Path) -> None:
    count_ = 100_000
    async with durable(tmp_path, in_flight_max=500) as bench:
        client = await bench.worker(window=64 * KIB)
        await client.settled()
        worker = bench.server.engine.workers[client.greeting["worker_id"]]

        async def write() -> None:
            for at in range(0, count_, 500):
                client.write(*[set_frame(str(n), n) for n in range(at, at + 500)])
                await client.drain()

        writing = asyncio.create_task(write())
        other = await bench.worker()
        while not writing.done():
            await other.result("state::get", {"scope": "s", "key": "0"})
            assert worker.in_flight._calls <= 500
        for n in range(count_):
            got = await client.next_frame()
            assert got is not None
            assert b'"invocation_id":"set-%d"' % n in got.payload
        assert bench.server.engine.store.revision == count_


async def test_bytes_in_flight_are_bounded_too(tmp_path: Path) -> None:
    async with durable(tmp_path, in_flight_bytes_max=4 * MIB) as bench:
        client = await bench.worker()
        worker = bench.server.engine.workers[client.greeting["worker_id"]]

        async def write() -> None:
            for n in range(60):
                client.write(set_frame(str(n % 3), "x" * MIB))
                await client.drain()

        writing = asyncio.create_task(write())
        for _ in range(60):
            await client.got("invocationresult")
            assert worker.in_flight._bytes < 4 * MIB + 2 * (MIB + 200)
        await writing
        assert (worker.in_flight._calls, worker.in_flight._bytes) == (0, 0)


async def test_long_lists_are_read_a_few_at_a_time(tmp_path: Path) -> None:
    async with durable(tmp_path) as bench:
        client = await bench.worker()
        client.write(*[set_frame(str(n), "x" * 1000) for n in range(1500)])
        for _ in range(1500):
            await client.got("invocationresult")
        peak = Peak(bench.server.engine.workers[client.greeting["worker_id"]])
        client.write(
            *[frame(TEXT, call("state::list", {"scope": "s"}, f"list-{n}")) for n in range(100)]
        )
        for _ in range(100):
            assert len((await client.got("invocationresult"))["result"]) == 1500
        assert peak.calls == READINGS_MAX


async def test_a_worker_that_calls_itself_past_every_bound_still_gets_its_results_read(
    tmp_path: Path,
) -> None:
    """Its handlers write, too; and nobody waits for somebody who waits for him."""
    async with durable(tmp_path, in_flight_max=50) as bench:
        client = await bench.worker()
        client.send("registerfunction", id="mine")
        client.write(*[frame(TEXT, call("mine", n, f"mine-{n}")) for n in range(2000)])
        refused, writes = 0, count()
        done: set[str] = set()
        while refused + len(done) < 2000:
            message = await client.next_message()
            if message["type"] == "invokefunction":
                n = next(writes)
                client.write(set_frame(f"{n}", message["data"]))
                client.send("invocationresult", invocation_id=message["invocation_id"], result=1)
            elif message["invocation_id"].startswith("mine"):
                if "error" in message:
                    assert message["error"]["code"] == "LIMIT_EXCEEDED"
                    refused += 1
                else:
                    done.add(message["invocation_id"])
        assert len(done) >= 50
        assert bench.server.engine.workers[client.greeting["worker_id"]].calls_open == 0


async def test_calls_that_a_worker_never_answers_are_bounded_for_each_caller() -> None:
    async with serving(in_flight_max=5) as bench:
        silent, caller, other = [await bench.worker() for _ in range(3)]
        silent.send("registerfunction", id="silent")
        await silent.settled()
        for n in range(20):
            caller.write(frame(TEXT, call("silent", n, f"c-{n}")))
            caller.write(frame(TEXT, call("silent", n, None, action={"type": "void"})))
        errors = [await caller.got("invocationresult") for _ in range(17)]

        assert {e["error"]["code"] for e in errors} == {"LIMIT_EXCEEDED"}
        assert errors[0]["error"]["details"] == {"limit": "in_flight_max", "actual": 6, "bound": 5}
        worker = bench.server.engine.workers[silent.greeting["worker_id"]]
        assert len(worker.executing) == 5
        other.write(frame(TEXT, call("silent", "other", "o")))
        while (await silent.got("invokefunction"))["data"] != "other":
            pass
        assert len(worker.executing) == 6


async def test_calls_of_one_that_has_gone_are_forgotten() -> None:
    async with serving(in_flight_max=5) as bench:
        silent = await bench.worker()
        silent.send("registerfunction", id="silent")
        await silent.settled()
        worker = bench.server.engine.workers[silent.greeting["worker_id"]]
        for _ in range(10):
            caller = await bench.worker()
            caller.write(*[frame(TEXT, call("silent", n, f"c-{n}")) for n in range(5)])
            await caller.settled()
            caller.vanish()
            await bench.workers(1)
        assert worker.executing == {}
        silent.send("invocationresult", invocation_id="c-1", result=1)
        await bench.answers_rightly()


async def test_answers_make_room_for_further_calls() -> None:
    async with serving(in_flight_max=2) as bench:
        server, caller = await bench.worker(), await bench.worker()
        server.send("registerfunction", id="f")
        await server.settled()
        for n in range(10):
            caller.write(frame(TEXT, call("f", n, f"c-{n}")))
            got = await server.got("invokefunction")
            server.send("invocationresult", invocation_id=got["invocation_id"], result=n)
            answer = await caller.got("invocationresult", invocation_id=f"c-{n}")
            assert answer["result"] == n


async def test_a_client_that_reads_slowly_is_read_slowly_and_gets_everything() -> None:
    async with serving(outbound_bytes_max=MIB) as bench:
        client = await bench.worker(window=16 * KIB)
        await client.result("state::set", {"scope": "s", "key": "k", "value": "x" * 50_000})
        get = [call("state::get", {"scope": "s", "key": "k"}, f"get-{n}") for n in range(1000)]
        client.write(*[frame(TEXT, text) for text in get])
        connection = connection_of(bench, client)
        async with asyncio.timeout(PATIENCE_S):
            while not connection.is_behind:
                await asyncio.sleep(0)
        assert connection._tcp.get_write_buffer_size() < MIB
        await bench.answers_rightly()
        assert connection.is_behind

        for n in range(1000):
            answer = await client.got("invocationresult")
            assert answer["invocation_id"] == f"get-{n}"
            assert connection._tcp.get_write_buffer_size() < MIB


async def test_a_client_that_takes_nothing_is_cut_off_after_a_while() -> None:
    async with serving(outbound_bytes_max=MIB, stall_timeout_s=0.1) as bench:
        client = await bench.worker(window=4 * KIB)
        await client.result("state::set", {"scope": "s", "key": "k", "value": "x" * 50_000})
        get = frame(TEXT, call("state::get", {"scope": "s", "key": "k"}))
        client.write(*[get] * 200)
        await bench.workers(0)

        assert bench.warnings("worker w does not read: ")
        await bench.answers_rightly()


async def test_a_client_that_takes_a_little_is_not_cut_off() -> None:
    async with serving(outbound_bytes_max=MIB, stall_timeout_s=0.4) as bench:
        client = await bench.worker(window=4 * KIB)
        await client.result("state::set", {"scope": "s", "key": "k", "value": "x" * 50_000})
        get = frame(TEXT, call("state::get", {"scope": "s", "key": "k"}))
        client.write(*[get] * 40)
        until = time.monotonic() + 1.0
        while time.monotonic() < until:
            await client.reader.readexactly(10_000)
            await asyncio.sleep(0.02)
        assert len(bench.server.engine.workers) == 1


async def test_one_that_does_not_read_what_others_cause_is_cut_off_and_they_do_not_notice() -> None:
    async with serving(outbound_bytes_max=MIB) as bench:
        deaf = await bench.worker(window=4 * KIB)
        deaf.send("registerfunction", id="deaf")
        for n in range(100):
            deaf.send(
                "registertrigger",
                id=f"t-{n}",
                trigger_type="state",
                function_id="deaf",
                config={"scope": "loud"},
            )
        await deaf.settled()
        writer = await bench.worker()
        slowest = 0.0
        for n in range(30):
            begun = time.monotonic()
            await writer.result("state::set", {"scope": "loud", "key": str(n), "value": "x" * 9000})
            slowest = max(slowest, time.monotonic() - begun)

        await bench.workers(1)
        assert bench.warnings("more than outbound_bytes_max = 1048576 bytes wait")
        assert slowest < 1
        assert await writer.result("state::get", {"scope": "loud", "key": "29"}) == "x" * 9000


async def test_calls_of_a_worker_that_reads_slowly_are_refused_before_it_is_cut_off() -> None:
    async with serving(outbound_bytes_max=MIB) as bench:
        slow, caller = await bench.worker(window=4 * KIB), await bench.worker()
        slow.send("registerfunction", id="slow")
        await slow.settled()
        caller.write(*[frame(TEXT, call("slow", "x" * 50_000, f"c-{n}")) for n in range(100)])
        error = (await caller.got("invocationresult"))["error"]

        assert error["code"] == "LIMIT_EXCEEDED"
        assert error["details"] == {"limit": "outbound_bytes_max"}
        await caller.settled()
        await slow.got("invokefunction")
        assert len(bench.server.engine.workers) == 2


@pytest.mark.parametrize("path", ["/", "/otel"])
async def test_pings_of_one_that_does_not_read_take_no_memory(path: str) -> None:
    async with serving(outbound_bytes_max=128 * KIB) as bench:
        client = await bench.upgraded(path, window=4 * KIB)
        pings = frame(PING, b"x" * 125) * 1000
        sending = asyncio.create_task(send_many(client, pings, 100))
        async with asyncio.timeout(PATIENCE_S):
            while not sending.done():
                await asyncio.sleep(0.001)
                for held in bench.server._sockets:
                    assert held._tcp.get_write_buffer_size() <= 128 * KIB
                    if held.is_behind and path == "/":
                        sending.cancel()
        await asyncio.gather(sending, return_exceptions=True)
        await bench.answers_rightly()


async def send_many(client: Client, data: bytes, times: int) -> None:
    for _ in range(times):
        client.write(data)
        await client.drain()


async def test_a_message_in_tiny_fragments_takes_the_memory_of_its_bytes() -> None:
    async with serving() as bench:
        client = await bench.worker()
        connection = connection_of(bench, client)
        text = call("state::list_groups", {}).rjust(20_000)
        parts = [frame(0, text[n : n + 1], fin=False) for n in range(1, len(text) - 1)]
        client.write(frame(TEXT, text[:1], fin=False), *parts)
        await client.settled()
        assert len(connection._assembly._collected) == len(text) - 1
        client.write(frame(0, text[-1:]))
        assert (await client.got("invocationresult"))["result"] == {"groups": []}


@pytest.mark.parametrize("is_announced", [True, False])
async def test_registrations_are_bounded_and_may_be_replaced(is_announced: bool) -> None:
    async with serving(registrations_max=10) as bench:
        client = await bench.worker(announce=is_announced)
        for n in range(30):
            client.send("registerfunction", id=f"f-{n}")
            client.send("registertriggertype", id=f"type-{n}")
            client.send(
                "registertrigger", id=f"t-{n}", trigger_type="state", function_id="f", config={}
            )
        refused = [await client.got("triggerregistrationresult") for _ in range(20)]

        assert [r["id"] for r in refused] == [f"t-{n}" for n in range(10, 30)]
        assert {r["error"]["code"] for r in refused} == {"LIMIT_EXCEEDED"}
        engine = bench.server.engine
        worker = engine.workers[client.greeting["worker_id"]]
        assert list(worker.functions) == [f"f-{n}" for n in range(10)]
        assert engine.triggers.count_of(worker) == 10
        assert engine.triggers.count_provided_by(worker) == 10
        client.send("registerfunction", id="f-3", description="again")
        client.send("registertrigger", id="t-3", trigger_type="state", function_id="g", config={})
        client.send("registertriggertype", id="type-3", description="again")
        client.send("unregisterfunction", id="f-4")
        client.send("registerfunction", id="f-40")
        await client.settled()
        assert client.messages == []
        assert worker.functions["f-3"].description == "again"
        assert "f-40" in worker.functions
        assert engine.triggers.get("t-3").function_id == "g"  # type: ignore[union-attr]


async def test_a_registration_that_is_too_large_is_refused() -> None:
    async with serving(registration_bytes_max=KIB) as bench:
        client = await bench.worker()
        client.send("registerfunction", id="f", description="x" * KIB)
        client.send(
            "registertrigger",
            id="t",
            trigger_type="state",
            function_id="f",
            config={},
            metadata="x" * KIB,
        )
        refused = await client.got("triggerregistrationresult")

        assert (refused["id"], refused["error"]["code"]) == ("t", "LIMIT_EXCEEDED")
        assert "registration_bytes_max" in refused["error"]["message"]
        assert (await client.error("f"))["code"] == "function_not_found"


@pytest.mark.parametrize("member", ["name", "description", "runtime", "version", "os", "isolation"])
async def test_what_an_announcement_tells_is_cut(member: str) -> None:
    async with serving() as bench:
        client = await bench.worker(announce=False)
        told_of_itself: dict[str, Any] = {"pid": 1, member: "x" * MIB}
        client.announce(**told_of_itself)
        listed = (await client.result("engine::workers::list", {}))["workers"]
        [told] = [row for row in listed if row["id"] == client.greeting["worker_id"]]
        assert told[member] == "x" * 280


async def test_a_namespace_has_a_bound() -> None:
    async with serving() as bench:
        client = await bench.worker(announce=False)
        error = await client.error("engine::workers::register", {"namespace": "n" * 281})
        assert error["code"] == "LIMIT_EXCEEDED"


async def test_notices_that_are_never_answered_are_bounded(monkeypatch: Any) -> None:
    monkeypatch.setattr("iii_state.engine.notices.UNANSWERED_MAX", 3)
    async with serving() as bench:
        silent = await bench.worker()
        silent.send("registerfunction", id="f")
        silent.send(
            "registertrigger", id="t", trigger_type="engine::workers-available", function_id="f"
        )
        await silent.settled()
        for _ in range(5):
            (await bench.worker()).vanish()
            await bench.workers(1)
        worker = bench.server.engine.workers[silent.greeting["worker_id"]]
        assert len(worker.executing) == 3
        got = await silent.got("invokefunction")
        silent.send("invocationresult", invocation_id=got["invocation_id"])
        await silent.settled()
        (await bench.worker()).vanish()
        await bench.workers(1)
        assert len(worker.executing) == 3


async def test_an_answer_too_large_for_the_client_is_an_error() -> None:
    async with serving() as bench:
        client, old = await bench.worker(), await bench.worker(announce=False)
        old.announce(runtime="python", version="0.19.7")
        await client.result("state::set", {"scope": "s", "key": "k", "value": "x" * MIB})
        assert await client.result("state::get", {"scope": "s", "key": "k"}) == "x" * MIB
        error = await old.error("state::get", {"scope": "s", "key": "k"})
        assert error["code"] == "payload_too_large"
        assert msgspec.json.encode(error)
