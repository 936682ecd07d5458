"""A small client of the worker protocol: calls functions, serves a few, binds triggers.

The commands use it, and whatever else in this project has to talk to a host. One `Client` is one
connection: when that ends, the client has ended, and `ended` says why. Whoever wants to go on makes
a new one (as `iii-state watch` does), so no state survives that the user did not ask for.

Source: docs/protocol.md, transport, session, invocation.
"""

from __future__ import annotations

import asyncio
import logging
import os
import platform
import uuid
from collections import deque
from collections.abc import Callable
from typing import Any

import msgspec
from picows import (
    WSCloseCode,
    WSError,
    WSFrame,
    WSInvalidStatusError,
    WSInvalidURL,
    WSListener,
    WSMsgType,
    WSTransport,
    ws_connect,
)

from iii_state import connection_failures as failures
from iii_state.errors import CallFailed, StateError, TimedOut

MESSAGE_BYTES_MAX = 1 << 30
"""The largest message that is taken. A list of a large scope comes as one."""

PING_AFTER_IDLE_S = 20.0
"""A server that is silent for that long is pinged; silent as long again, it counts as gone."""

Handler = Callable[[bytes], None]
"""Takes the JSON text of a call's data. What it raises is answered as the call's error."""

log = logging.getLogger("iii_state.client")


class _Error(msgspec.Struct):
    code: str = "UNKNOWN"
    message: str = ""
    details: Any = None

    def raised(self) -> CallFailed:
        """The error as it is raised here, with the details that the host sent, if any."""
        failure = CallFailed(self.message, code=self.code)
        if isinstance(self.details, dict):
            failure.details = self.details
        return failure


class _Message(msgspec.Struct):
    """Any message that a host sends. An empty `data` or `result` was not sent."""

    type: str
    invocation_id: str | None = None
    function_id: str | None = None
    data: msgspec.Raw = msgspec.Raw()
    result: msgspec.Raw = msgspec.Raw()
    error: _Error | None = None


_decode = msgspec.json.Decoder(_Message).decode


async def connect(
    url: str, *, token: str | None = None, name: str = "iii-state", timeout_s: float = 10.0
) -> Client:
    """Connect to a host and announce this worker under `name`.

    Raises:
        ConnectionFailed: nobody answers at `url`, or somebody who is no host.
        Unauthorized: the host wants a token, or another one.
        TimedOut: the host did not greet within `timeout_s`.
    """
    headers = {"Authorization": f"Bearer {token}"} if token else None
    client = Client(url)
    try:
        # The handshake has a clock of its own, which lets go of the socket.
        async with asyncio.timeout(timeout_s + 1):
            await _open(client, url, headers, timeout_s)
            async with asyncio.timeout(timeout_s):
                await client._greeted.wait()
    except TimeoutError as error:
        client._abort()
        raise TimedOut(
            f"{url} did not answer within {timeout_s:g} s", url=url, hint="is it an iii host?"
        ) from error
    if client.ended.done():
        raise client.ended.result()
    client._announce(name)
    return client


class Client:
    """One connection to a host. Made by `connect`; used from one event loop."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._transport: WSTransport | None = None
        self._greeted = asyncio.Event()
        self._pending: dict[str, asyncio.Future[bytes | None]] = {}
        self._pings: deque[asyncio.Future[None]] = deque()
        self._handlers: dict[str, Handler] = {}
        self.ended: asyncio.Future[StateError] = asyncio.get_running_loop().create_future()
        """Done when the connection has ended; the result says why."""

    async def __aenter__(self) -> Client:
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self.close()

    async def call(
        self, function_id: str, data: object, *, timeout_s: float = 30.0
    ) -> bytes | None:
        """Call a function; `data` is anything msgspec encodes, `msgspec.Raw` for JSON text.

        Returns the JSON text of the result, None when there is none (which is not `null`).

        Raises:
            CallFailed: the function answered with an error; `wire_code` and `details` are the
                error's.
            TimedOut: no answer within `timeout_s`. The call may still be carried out.
            ConnectionFailed, Unauthorized: the connection ended before the answer.
            LimitExceeded: it ended because the host takes no message that large.
        """
        if self.ended.done():
            raise self.ended.result()
        invocation_id = str(uuid.uuid4())
        future: asyncio.Future[bytes | None] = asyncio.get_running_loop().create_future()
        self._pending[invocation_id] = future
        try:
            self._send(
                type="invokefunction",
                invocation_id=invocation_id,
                function_id=function_id,
                data=data,
            )
            async with asyncio.timeout(timeout_s):
                return await future
        except TimeoutError as error:
            raise TimedOut(
                f"{function_id} was not answered within {timeout_s:g} s; "
                "whether it was carried out is not known"
            ) from error
        finally:
            del self._pending[invocation_id]

    async def ping(self, *, timeout_s: float = 30.0) -> None:
        """Wait until the host has taken everything that was sent before.

        Raises:
            TimedOut: no answer within `timeout_s`.
            ConnectionFailed, Unauthorized, CallFailed: the connection ended before the answer.
        """
        if self.ended.done():
            raise self.ended.result()
        pong: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._pings.append(pong)
        self._send(type="ping")
        try:
            async with asyncio.timeout(timeout_s):
                await pong
        except TimeoutError as error:
            raise TimedOut(f"{self._url} did not answer within {timeout_s:g} s") from error

    def register_function(self, function_id: str, handler: Handler, description: str = "") -> None:
        """Serve a function over this connection. Success is silent, as the protocol has it."""
        self._handlers[function_id] = handler
        self._send(type="registerfunction", id=function_id, description=description)

    def register_trigger(
        self, trigger_id: str, trigger_type: str, function_id: str, config: object
    ) -> None:
        """Bind a function to a trigger. A refusal ends the connection; see `ended`."""
        self._send(
            type="registertrigger",
            id=trigger_id,
            trigger_type=trigger_type,
            function_id=function_id,
            config=config,
        )

    def unregister_trigger(self, trigger_id: str, trigger_type: str) -> None:
        """Bind it no longer. A host keeps the place of one whose connection just ends."""
        self._send(type="unregistertrigger", id=trigger_id, trigger_type=trigger_type)

    async def close(self) -> None:
        """Close the connection. Calls that wait fail with `ConnectionFailed`."""
        if self._transport is not None and not self.ended.done():
            self._transport.send_close(WSCloseCode.OK)
            self._transport.disconnect()
            await self.ended

    def _abort(self) -> None:
        if self._transport is not None:
            self._transport.disconnect(False)

    def _announce(self, name: str) -> None:
        # Without the feature a host keeps results under 1 MiB, which is what old SDKs can take.
        data = {
            "runtime": "iii-state",
            "name": name,
            "os": platform.system(),
            "pid": os.getpid(),
            "features": ["large-messages.v1"],
        }
        self._send(
            type="invokefunction",
            function_id="engine::workers::register",
            data=data,
            action={"type": "void"},
        )

    def _send(self, **message: Any) -> None:
        if self._transport is not None:
            self._transport.send(WSMsgType.TEXT, msgspec.json.encode(message))

    def _opened(self, transport: WSTransport) -> None:
        self._transport = transport

    def _received(self, text: bytes) -> None:
        try:
            message = _decode(text)
        except (msgspec.DecodeError, RecursionError) as error:
            log.warning("%s sent something that is no message: %s", self._url, error)
            return
        match message.type:
            case "workerregistered":
                self._greeted.set()
            case "invocationresult":
                self._answered(message)
            case "invokefunction":
                self._called(message)
            case "triggerregistrationresult" if message.error is not None:
                self._end(message.error.raised())
                self._abort()
            case "ping":
                self._send(type="pong")
            case "pong":
                self._ponged()

    def _answered(self, message: _Message) -> None:
        future = self._pending.get(message.invocation_id or "")
        if future is None or future.done():
            return
        if message.error is not None:
            future.set_exception(message.error.raised())
        else:
            future.set_result(bytes(message.result) or None)

    def _ponged(self) -> None:
        if self._pings and not (pong := self._pings.popleft()).done():
            pong.set_result(None)

    def _called(self, message: _Message) -> None:
        handler = self._handlers.get(message.function_id or "")
        answer: dict[str, Any] = {"result": None}
        if handler is None:
            answer = _failure("function_not_found", f"there is no function {message.function_id}")
        else:
            try:
                handler(bytes(message.data) or b"null")
            except StateError as error:
                answer = _failure(error.wire_code, error.message)
        if message.invocation_id is not None:
            self._send(
                type="invocationresult",
                invocation_id=message.invocation_id,
                function_id=message.function_id,
                **answer,
            )

    def _end(self, reason: StateError) -> None:
        if self.ended.done():
            return
        self.ended.set_result(reason)
        self._greeted.set()
        waiting: list[asyncio.Future[Any]] = [*self._pending.values(), *self._pings]
        for future in waiting:
            if not future.done():
                future.set_exception(reason)


class _Listener(WSListener):
    """Puts fragments together and says how the connection ended."""

    def __init__(self, client: Client, url: str) -> None:
        self._client = client
        self._url = url
        self._parts: list[bytes] = []
        self._size = 0
        self._has_sent_much = False
        """And has not heard of the host since."""

    def on_ws_connected(self, transport: WSTransport) -> None:
        self._client._opened(transport)

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        if frame.msg_type == WSMsgType.CLOSE:
            self._client._end(failures.closed(self._url, frame.get_payload_as_bytes()))
            transport.disconnect()
        elif frame.msg_type in (WSMsgType.TEXT, WSMsgType.BINARY, WSMsgType.CONTINUATION):
            self._data(transport, frame)

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        self._client._end(failures.lost(self._url, is_sending=self._has_sent_much))

    def pause_writing(self) -> None:
        """The host reads slower than it is sent to. What it has not read waits in memory."""
        self._has_sent_much = True

    def resume_writing(self) -> None:
        """What was sent is under way."""

    def _data(self, transport: WSTransport, frame: WSFrame) -> None:
        self._size += frame.payload_size
        if self._size > MESSAGE_BYTES_MAX:
            transport.send_close(WSCloseCode.MESSAGE_TOO_BIG)
            transport.disconnect()
            return
        self._parts.append(frame.get_payload_as_bytes())
        if not frame.fin:
            return
        message = b"".join(self._parts)
        self._parts, self._size = [], 0
        self._has_sent_much = False
        self._client._received(message)


async def _open(client: Client, url: str, headers: dict[str, str] | None, timeout_s: float) -> None:
    try:
        await ws_connect(
            lambda: _Listener(client, url),
            url,
            extra_headers=headers,
            max_frame_size=MESSAGE_BYTES_MAX,
            max_redirects=0,
            websocket_handshake_timeout=timeout_s,
            enable_auto_ping=True,
            auto_ping_idle_timeout=PING_AFTER_IDLE_S,
            auto_ping_reply_timeout=PING_AFTER_IDLE_S,
            use_aiofastnet=False,
            logger_name=log,
        )
    except TimeoutError:
        raise
    except (WSInvalidURL, ValueError) as error:  # which of them, depends on what is wrong
        raise failures.no_address(url) from error
    except WSInvalidStatusError as error:
        status = int(error.response.status) if error.response is not None else 0
        raise failures.no_host(url, status) from error
    except (WSError, OSError) as error:
        raise failures.not_connected(url, error) from error


def _failure(code: str, message: str) -> dict[str, Any]:
    return {"error": {"code": code, "message": message}}
