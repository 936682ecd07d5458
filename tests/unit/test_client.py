"""The client, against a real WebSocket server of another make."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import pytest
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response

from iii_state.client import connect
from iii_state.errors import (
    CallFailed,
    ConnectionFailed,
    InvalidRequest,
    LimitExceeded,
    TimedOut,
    Unauthorized,
)

Script = Callable[[ServerConnection], Awaitable[None]]
GREETING = json.dumps({"type": "workerregistered", "worker_id": "w", "reattach_token": "t"})


@asynccontextmanager
async def host(script: Script, **options: Any) -> AsyncIterator[str]:
    async with serve(script, "127.0.0.1", 0, **options) as server:
        port = next(iter(server.sockets)).getsockname()[1]
        yield f"ws://127.0.0.1:{port}"


async def receive(socket: ServerConnection) -> dict[str, Any]:
    message: dict[str, Any] = json.loads(await socket.recv())
    return message


async def greet(socket: ServerConnection) -> dict[str, Any]:
    await socket.send(GREETING)
    return await receive(socket)


def answering(answer: Callable[[dict[str, Any]], dict[str, Any] | None]) -> Script:
    async def script(socket: ServerConnection) -> None:
        await greet(socket)
        async for text in socket:
            call = json.loads(text)
            reply = answer(call) if call["type"] == "invokefunction" else None
            if reply is not None:
                base = {"type": "invocationresult", "invocation_id": call["invocation_id"]}
                await socket.send(json.dumps(base | reply))

    return script


async def test_a_call_brings_back_the_results_own_text() -> None:
    async def script(socket: ServerConnection) -> None:
        await greet(socket)
        call = await receive(socket)
        assert (call["function_id"], call["data"]) == ("f::g", {"a": [1, {"x": 2}]})
        await socket.send(
            '{"type":"invocationresult","result":{"n": 1.0e2},"invocation_id":'
            + json.dumps(call["invocation_id"])
            + "}"
        )
        await socket.wait_closed()

    async with host(script) as url, await connect(url) as client:
        result = await client.call("f::g", {"a": msgspec.Raw(b'[1,{"x":2}]')})

    assert result == b'{"n": 1.0e2}'


async def test_no_result_is_none_and_null_is_null() -> None:
    script = answering(lambda call: {} if call["function_id"] == "absent" else {"result": None})

    async with host(script) as url, await connect(url) as client:
        assert await client.call("absent", {}) is None
        assert await client.call("null", {}) == b"null"


async def test_an_error_keeps_its_code_and_message() -> None:
    script = answering(lambda call: {"error": {"code": "SET_ERROR", "message": "no"}})

    async with host(script) as url, await connect(url) as client:
        with pytest.raises(CallFailed, match="no") as caught:
            await client.call("state::set", {})

    assert caught.value.wire_code == "SET_ERROR"


@pytest.mark.parametrize(
    ("sent", "details"),
    [
        (
            {"revision": 7, "code": "x", "message": "y"},
            {"revision": 7, "code": "x", "message": "y"},
        ),
        (None, {}),
        ("no object", {}),
    ],
)
async def test_an_error_keeps_its_details(sent: Any, details: dict[str, Any]) -> None:
    error = {"code": "CONFLICT", "message": "no", "details": sent}

    async with host(answering(lambda call: {"error": error})) as url, await connect(url) as client:
        with pytest.raises(CallFailed) as caught:
            await client.call("state::set", {})

    assert (caught.value.wire_code, caught.value.message) == ("CONFLICT", "no")
    assert caught.value.details == details


async def test_a_call_that_nobody_answers_times_out() -> None:
    async with host(answering(lambda call: None)) as url, await connect(url) as client:
        with pytest.raises(TimedOut, match="not known"):
            await client.call("f", {}, timeout_s=0.01)


async def test_the_worker_announces_that_it_takes_large_messages() -> None:
    announced: list[dict[str, Any]] = []

    async def script(socket: ServerConnection) -> None:
        announced.append(await greet(socket))

    async with host(script) as url, await connect(url, name="probe") as client:
        await client.ended

    assert announced[0]["function_id"] == "engine::workers::register"
    assert announced[0]["action"] == {"type": "void"}
    assert announced[0]["data"]["name"] == "probe"
    assert announced[0]["data"]["features"] == ["large-messages.v1"]


async def test_the_token_is_sent_as_a_bearer() -> None:
    seen: list[str | None] = []

    async def script(socket: ServerConnection) -> None:
        assert socket.request is not None
        seen.append(socket.request.headers.get("Authorization"))
        await greet(socket)

    async with host(script) as url:
        for token in ("t0ken", None):
            async with await connect(url, token=token) as client:
                await client.ended

    assert seen == ["Bearer t0ken", None]


async def test_a_close_with_4401_means_unauthorized() -> None:
    async def script(socket: ServerConnection) -> None:
        await socket.close(4401, "wrong token")

    async with host(script) as url:
        with pytest.raises(Unauthorized, match="wrong token"):
            await connect(url)


@pytest.mark.parametrize(
    ("status", "error"), [(401, Unauthorized), (403, Unauthorized), (404, ConnectionFailed)]
)
async def test_a_refused_upgrade_is_told_by_its_status(status: int, error: type[Exception]) -> None:
    def refuse(connection: ServerConnection, request: Request) -> Response:
        return connection.respond(status, "no")

    async with host(answering(lambda call: None), process_request=refuse) as url:
        with pytest.raises(error, match=str(status)):
            await connect(url)


async def test_nobody_at_the_address_is_connection_failed() -> None:
    async with host(answering(lambda call: None)) as url:
        pass

    with pytest.raises(ConnectionFailed, match=r"cannot connect to ws://127\.0\.0\.1") as caught:
        await connect(url)
    assert "iii-state serve" in caught.value.details["hint"]


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:1",
        "nonsense",
        "ws://",
        "ws://127.0.0.1:99999",
        "ws://127.0.0.1:-1",
        "ws://127.0.0.1:port",
        "ws://[::1",
        f"ws://{'a' * 64}:1",
        "ws://a..ä:1",
    ],
)
async def test_an_address_that_is_none_is_refused(url: str) -> None:
    with pytest.raises(ConnectionFailed, match="is no WebSocket address"):
        await connect(url)


async def test_a_host_that_does_not_greet_times_out() -> None:
    async def silent(socket: ServerConnection) -> None:
        await socket.wait_closed()

    async with host(silent) as url:
        with pytest.raises(TimedOut, match="did not answer"):
            await connect(url, timeout_s=0.05)


async def test_an_address_that_never_speaks_websocket_times_out() -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as silent,
        pytest.raises(TimedOut, match="did not answer"),
    ):
        await connect(f"ws://127.0.0.1:{silent.getsockname()[1]}", timeout_s=0.05)


async def test_calls_fail_when_the_connection_goes_away() -> None:
    async def script(socket: ServerConnection) -> None:
        await greet(socket)
        await receive(socket)
        await socket.close(1012, "restart")

    async with host(script) as url, await connect(url) as client:
        with pytest.raises(ConnectionFailed, match="1012 restart"):
            await client.call("f", {})
        with pytest.raises(ConnectionFailed, match="1012 restart"):
            await client.call("f", {})


async def test_an_aborted_connection_is_told() -> None:
    async def script(socket: ServerConnection) -> None:
        await greet(socket)
        socket.transport.abort()

    async with host(script) as url, await connect(url) as client:
        assert "was lost" in str(await client.ended)


async def test_a_message_too_large_for_the_host_is_told_with_what_to_do() -> None:
    async with host(answering(lambda call: None), max_size=1000) as url, await connect(url) as own:
        with pytest.raises(LimitExceeded, match="takes no message that large") as caught:
            await own.call("f", "x" * 1000)

    assert "frame_bytes_max" in caught.value.details["hint"]


async def test_a_connection_that_breaks_in_the_middle_of_a_large_message_is_told_as_that() -> None:
    async def script(socket: ServerConnection) -> None:
        await greet(socket)
        socket.transport.pause_reading()
        await is_sent.wait()
        socket.transport.abort()

    is_sent = asyncio.Event()
    async with host(script, max_size=None) as url, await connect(url) as client:
        call = asyncio.create_task(client.call("f", "x" * (64 << 20)))
        await asyncio.sleep(0)
        is_sent.set()
        with pytest.raises(ConnectionFailed, match="was lost while a large") as caught:
            await call

    assert "frame_bytes_max" in caught.value.details["hint"]


async def test_fragmented_messages_are_put_together() -> None:
    async def script(socket: ServerConnection) -> None:
        await greet(socket)
        call = await receive(socket)
        text = json.dumps(
            {"type": "invocationresult", "invocation_id": call["invocation_id"], "result": "äö"}
        )
        await socket.send([text[:5], text[5:-4], text[-4:]])
        await socket.wait_closed()

    async with host(script) as url, await connect(url) as client:
        assert await client.call("f", {}) == b'"\\u00e4\\u00f6"'


async def test_a_function_of_ours_is_called_and_answered() -> None:
    answers: asyncio.Queue[dict[str, Any]] = asyncio.Queue()

    async def script(socket: ServerConnection) -> None:
        await greet(socket)
        assert (await receive(socket))["id"] == "mine"
        trigger = await receive(socket)
        assert trigger["config"] == {"scope": "s"}
        for function_id, data in [("mine", [1]), ("mine", "refuse"), ("other", 0)]:
            await socket.send(
                json.dumps(
                    {
                        "type": "invokefunction",
                        "invocation_id": "i",
                        "function_id": function_id,
                        "data": data,
                    }
                )
            )
            await answers.put(await receive(socket))

    def mine(data: bytes) -> None:
        if data == b'"refuse"':
            raise InvalidRequest("not this")

    async with host(script) as url, await connect(url) as client:
        client.register_function("mine", mine)
        client.register_trigger("t", "state", "mine", {"scope": "s"})
        done = [await answers.get() for _ in range(3)]

    assert done[0]["result"] is None
    assert done[0]["invocation_id"] == "i"
    assert done[1]["error"]["code"] == "deserialization_error"
    assert done[2]["error"]["code"] == "function_not_found"


async def test_a_refused_trigger_ends_the_connection() -> None:
    async def script(socket: ServerConnection) -> None:
        await greet(socket)
        await receive(socket)
        refusal = {"code": "trigger_registration_failed", "message": "bad scope"}
        await socket.send(
            json.dumps({"type": "triggerregistrationresult", "id": "t", "error": refusal})
        )
        await socket.wait_closed()

    async with host(script) as url, await connect(url) as client:
        client.register_trigger("t", "state", "mine", {"scope": 5})
        reason = await client.ended

    assert isinstance(reason, CallFailed)
    assert reason.wire_code == "trigger_registration_failed"


async def test_pings_of_both_kinds_are_answered() -> None:
    async def script(socket: ServerConnection) -> None:
        await greet(socket)
        await (await socket.ping())
        await socket.send('{"type":"ping"}')
        assert await receive(socket) == {"type": "pong"}
        await socket.close(1012, "all answered")

    async with host(script) as url, await connect(url) as client:
        assert "all answered" in str(await client.ended)


async def test_a_message_that_is_none_is_passed_over() -> None:
    async def script(socket: ServerConnection) -> None:
        await greet(socket)
        await socket.send("{nonsense")
        await socket.send('{"type":"invented"}')
        await socket.close(1012, "still here")

    async with host(script) as url, await connect(url) as client:
        assert "still here" in str(await client.ended)


async def test_closing_says_goodbye() -> None:
    codes: asyncio.Queue[int] = asyncio.Queue()

    async def script(socket: ServerConnection) -> None:
        await greet(socket)
        try:
            await socket.recv()
        except ConnectionClosed as closed:
            await codes.put(closed.rcvd.code if closed.rcvd else 0)

    async with host(script) as url:
        client = await connect(url)
        await client.close()
        await client.close()

        assert await codes.get() == 1000


async def test_a_ping_returns_when_the_host_has_taken_what_was_sent_before() -> None:
    async def script(socket: ServerConnection) -> None:
        await greet(socket)
        assert (await receive(socket))["type"] == "registerfunction"
        assert await receive(socket) == {"type": "ping"}
        await socket.send('{"type":"pong"}')
        await receive(socket)
        await socket.close(1012, "enough")

    async with host(script) as url, await connect(url) as client:
        client.register_function("f", lambda data: None)
        await client.ping()
        with pytest.raises(ConnectionFailed, match="enough"):
            await client.ping()
        with pytest.raises(ConnectionFailed, match="enough"):
            await client.ping()


async def test_a_ping_that_nobody_answers_times_out() -> None:
    async with host(answering(lambda call: None)) as url, await connect(url) as client:
        with pytest.raises(TimedOut):
            await client.ping(timeout_s=0.01)
