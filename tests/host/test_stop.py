"""How a server stops: what is in flight is answered, everybody is told, and soon it is over."""

from __future__ import annotations

import asyncio
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import takewhile
from pathlib import Path

import msgspec
import pytest
from server_bench import PATIENCE_S, TEXT, Bench, Client, call, frame, serving
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from iii_state.clock import wall_clock_ms
from iii_state.stores.disk.store import DiskStore

COMMAND = str(Path(sys.executable).parent / "iii-state")


@contextmanager
def within(seconds: float) -> Iterator[None]:
    begun = time.monotonic()
    yield
    assert time.monotonic() - begun < seconds


def set_frame(n: int) -> bytes:
    data = {"scope": "s", "key": f"{n}", "value": n}
    return frame(TEXT, call("state::set", data, f"set-{n}"))


async def worker_with_function(bench: Bench, function_id: str = "f") -> Client:
    worker = await bench.worker()
    worker.send("registerfunction", id=function_id)
    await worker.settled()
    return worker


async def test_every_client_is_closed_with_1012(monkeypatch: pytest.MonkeyPatch) -> None:
    """And none is waited for longer than it takes to close its side."""
    monkeypatch.setattr("iii_state.host.sockets.LINGER_S", PATIENCE_S)
    monkeypatch.setattr("iii_state.host.server.LINGER_S", PATIENCE_S)
    async with serving() as bench:
        clients = [await bench.worker(), await bench.worker(announce=False)]
        clients.append(await bench.upgraded("/otel"))
        with within(5):
            stopping = asyncio.create_task(bench.server.stop())
            for client in clients:
                close = await client.end()
                assert close is not None
                assert (close.code, close.payload[2:]) == (1012, b"the server stops")
            await stopping
        assert bench.server._sockets == set()


async def test_the_library_that_sdks_use_sees_1012() -> None:
    async with serving() as bench, connect(bench.server.address) as client:
        await client.recv()
        await bench.server.stop()
        await client.wait_closed()
        assert client.close_code == 1012


async def test_writes_that_were_taken_are_answered_and_durable(tmp_path: Path) -> None:
    store = await DiskStore.open(tmp_path, clock_ms=wall_clock_ms)
    async with serving(store, in_flight_max=50) as bench:
        client = await bench.worker()
        client.write(*[set_frame(n) for n in range(5000)])
        answers = [await client.got("invocationresult")]
        stopping = asyncio.create_task(bench.server.stop())
        while (got := await client.next_frame()) is not None and got.opcode == TEXT:
            answers.append(msgspec.json.decode(got.payload))
        await stopping
        assert got is not None
        assert got.code == 1012
        errors = {answer["invocation_id"]: answer.get("error") for answer in answers}
        taken = list(takewhile(lambda n: errors.get(f"set-{n}", "none") is None, range(5000)))
        refused = [error for error in errors.values() if error is not None]
        assert {error["code"] for error in refused} <= {"invocation_stopped"}
        assert len(errors) == len(answers) == len(taken) + len(refused)
        assert store.revision == len(taken) < 5000
    await store.close()
    reopened = await DiskStore.open(tmp_path, clock_ms=wall_clock_ms)
    assert reopened.revision == len(taken)
    await reopened.close()


async def test_handlers_that_run_may_finish_and_calls_that_come_are_refused() -> None:
    async with serving(stop_grace_s=PATIENCE_S) as bench:
        worker = await worker_with_function(bench)
        caller = await bench.worker()
        caller.write(frame(TEXT, call("f", 1, "running")))
        await worker.got("invokefunction")
        with within(5):
            stopping = asyncio.create_task(bench.server.stop())
            while not bench.server._is_stopping:
                await asyncio.sleep(0)
            await asyncio.sleep(0)
            for client in (worker, caller):
                for function_id in ("state::set", "state::get", "f", "nobody"):
                    error = await client.error(function_id, {"scope": "s", "key": "k", "value": 1})
                    assert error["code"] == "invocation_stopped"
            worker.send("invocationresult", invocation_id="running", result="done")
            assert (await caller.got("invocationresult"))["result"] == "done"
            assert await caller.end_code() == 1012
            await stopping
        assert bench.server.engine.store.revision == 0


async def test_handlers_that_do_not_finish_in_time_are_given_up() -> None:
    async with serving(stop_grace_s=0.1) as bench:
        worker = await worker_with_function(bench)
        caller = await bench.worker()
        caller.write(frame(TEXT, call("f", 1, "running")))
        await worker.got("invokefunction")
        with within(3):
            stopping = asyncio.create_task(bench.server.stop())
            failed = await caller.got("invocationresult")
            assert failed["error"]["code"] == "invocation_stopped"
            assert await caller.end_code() == 1012
            assert await worker.end_code() == 1012
            await stopping


async def test_nobody_who_comes_during_the_stop_stays() -> None:
    async with serving(stop_grace_s=PATIENCE_S) as bench:
        worker = await worker_with_function(bench)
        early = await bench.tcp()
        await worker.settled()
        worker.write(frame(TEXT, call("f", 1, "own")))
        await worker.got("invokefunction")
        stopping = asyncio.create_task(bench.server.stop())
        while not bench.server._is_stopping:
            await asyncio.sleep(0)
        early.write(b"GET / HTTP/1.1\r\nhost: x\r\nupgrade: websocket\r\nconnection: upgrade\r\n")
        early.write(b"sec-websocket-version: 13\r\nsec-websocket-key: AAAAAAAAAAAAAAAAAAAAAA==\r\n")
        head = await early.request(b"\r\n")
        assert head.startswith(b"HTTP/1.1 101 ")
        assert await early.end_code() == 1012
        with pytest.raises(ConnectionRefusedError):
            await bench.tcp()
        worker.send("invocationresult", invocation_id="own", result=1)
        assert await worker.end_code() == 1012
        await stopping


async def test_clients_that_do_not_read_delay_it_by_a_second_at_most() -> None:
    async with serving() as bench:
        clients = [await bench.worker(window=4096) for _ in range(5)]
        for client in clients:
            await client.result("state::set", {"scope": "s", "key": "k", "value": "x" * 100_000})
            client.write(*[frame(TEXT, call("state::get", {"scope": "s", "key": "k"}))] * 100)
            await client.drain()
        with within(3):
            await bench.server.stop()
        assert bench.server._sockets == set()


async def test_a_stop_amid_a_storm_ends() -> None:
    """Clients go on sending until they are told."""
    async with serving() as bench:

        async def storm(client: Client) -> int | None:
            async def send() -> None:
                n = 0
                while not client.writer.is_closing():
                    client.write(set_frame(n), frame(1, b"{"), frame(9, b"p"))
                    n += 1
                    await client.writer.drain()
                    await asyncio.sleep(0)

            sending = asyncio.create_task(send())
            close = await client.end()
            client.vanish()
            await asyncio.gather(sending, return_exceptions=True)
            return close.code if close is not None else None

        clients = [await bench.worker() for _ in range(5)]
        storms = [asyncio.create_task(storm(client)) for client in clients]
        await asyncio.sleep(0.1)
        with within(5):
            await bench.server.stop()
        async with asyncio.timeout(PATIENCE_S):
            assert set(await asyncio.gather(*storms)) == {1012}


async def test_a_server_process_stops_in_order(tmp_path: Path) -> None:
    process = await asyncio.create_subprocess_exec(
        *(COMMAND, "serve", "--port", "0", "--data-dir", str(tmp_path / "data")),
        stderr=asyncio.subprocess.PIPE,
    )
    assert process.stderr is not None
    try:
        async with asyncio.timeout(PATIENCE_S):
            while b"address=" not in (line := await process.stderr.readline()):
                assert line, "it ended"
        address = line.partition(b"address=")[2].split()[0].decode()
        async with connect(address) as client, connect(address + "/otel") as telemetry:
            await client.recv()
            for n in range(200):
                data = {"scope": "s", "key": f"{n}", "value": n}
                await client.send(call("state::set", data, f"{n}"), text=True)
            await client.recv()
            with within(5):
                process.send_signal(signal.SIGTERM)
                with suppress(ConnectionClosed):
                    async for _ in client:
                        pass
                await telemetry.wait_closed()
                said = (await process.stderr.read()).decode()
                assert await process.wait() == 0
            assert client.close_code == telemetry.close_code == 1012
        assert "stopped" in said
        assert "Traceback" not in said
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
