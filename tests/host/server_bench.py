"""A server in this process, and clients that speak to it frame by frame.

`serving` fails the test if the server logs an error or leaves an exception to the event loop: no
client may bring it that far.
"""

from __future__ import annotations

import asyncio
import base64
import gc
import logging
import os
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Iterable
from contextlib import asynccontextmanager, suppress
from itertools import count
from typing import Any, NamedTuple, TypeVar

import msgspec

from iii_state.clock import wall_clock_ms
from iii_state.core.store import Store
from iii_state.host.server import Server, open_server
from iii_state.settings import Settings
from iii_state.stores.memory import MemoryStore

Json = Any
T = TypeVar("T")

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10

PATIENCE_S = 20.0
"""Nothing takes so long; a test that waits longer has failed."""


class Frame(NamedTuple):
    """A frame as it arrived."""

    opcode: int
    fin: bool
    payload: bytes

    @property
    def code(self) -> int | None:
        """The code of a close frame; None when it has none."""
        return struct.unpack(">H", self.payload[:2])[0] if self.payload else None


def frame(
    opcode: int, payload: bytes = b"", *, fin: bool = True, rsv: int = 0, masked: bool = True
) -> bytes:
    """A frame as clients send it. The mask is zero: nobody can tell."""
    return header(opcode, len(payload), fin=fin, rsv=rsv, masked=masked) + payload


def header(opcode: int, size: int, *, fin: bool = True, rsv: int = 0, masked: bool = True) -> bytes:
    """The beginning of a frame whose payload has `size` bytes."""
    first = bytes([fin << 7 | rsv << 4 | opcode])
    mask_bit = masked << 7
    if size < 126:
        length = bytes([mask_bit | size])
    elif size < 1 << 16:
        length = struct.pack(">BH", mask_bit | 126, size)
    else:
        length = struct.pack(">BQ", mask_bit | 127, size)
    return first + length + (bytes(4) if masked else b"")


def upgrade(path: str = "/", **headers: str | None) -> bytes:
    """A request to upgrade; `headers` replace those of it, None leaves one out."""
    lines: dict[str, str | None] = {
        "host": "localhost",
        "upgrade": "websocket",
        "connection": "Upgrade",
        "sec_websocket_key": base64.b64encode(os.urandom(16)).decode(),
        "sec_websocket_version": "13",
        **headers,
    }
    text = f"GET {path} HTTP/1.1\r\n" + "".join(
        f"{name.replace('_', '-')}: {value}\r\n"
        for name, value in lines.items()
        if value is not None
    )
    return text.encode() + b"\r\n"


def call(function_id: str, data: Json, invocation_id: str | None = "1", **members: Json) -> bytes:
    """The text of a call."""
    message = {"type": "invokefunction", "function_id": function_id, "data": data, **members}
    if invocation_id is not None:
        message["invocation_id"] = invocation_id
    return msgspec.json.encode(message)


class Client:
    """A connection of which every byte is in the test's hand."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self._ids = count(1)
        self.greeting: dict[str, Json] = {}
        self.messages: list[dict[str, Json]] = []

    async def request(self, raw: bytes) -> bytes:
        """Send an HTTP request; the head of its answer, empty if there is none."""
        self.writer.write(raw)
        try:
            return await self._soon(self.reader.readuntil(b"\r\n\r\n"))
        except (asyncio.IncompleteReadError, ConnectionError):
            return b""

    def write(self, *frames: bytes) -> None:
        """Send bytes as they are; once the connection has ended, nothing."""
        with suppress(RuntimeError):  # uvloop says so, where asyncio drops them
            self.writer.write(b"".join(frames))

    def send(self, type: str, **members: Json) -> None:
        """Send a message."""
        self.write(frame(TEXT, msgspec.json.encode({"type": type, **members})))

    def announce(self, name: str = "w", **members: Json) -> None:
        """Say who it is, as SDKs do."""
        data = {"runtime": "node", "version": "0.22.1", "name": name, **members}
        self.send(
            "invokefunction",
            function_id="engine::workers::register",
            action={"type": "void"},
            data=data,
        )

    async def drain(self) -> None:
        """Wait until the server has taken what was sent, as far as it may wait."""
        await self._soon(self.writer.drain())

    async def next_frame(self) -> Frame | None:
        """The next frame; None when the connection has ended."""
        return await self._soon(self._read_frame())

    async def next_message(self) -> dict[str, Json]:
        """The next message. Anything else is a failed test."""
        got = await self.next_frame()
        assert got is not None, "the connection has ended"
        assert got.opcode == TEXT, got
        return msgspec.json.decode(got.payload, type=dict[str, Any])

    async def got(self, type: str, **members: Json) -> dict[str, Json]:
        """The next message of a type with these members; others are put aside."""

        def is_it(message: dict[str, Json]) -> bool:
            return message["type"] == type and members.items() <= message.items()

        for position, message in enumerate(self.messages):
            if is_it(message):
                return self.messages.pop(position)
        while not is_it(message := await self.next_message()):
            self.messages.append(message)
        return message

    async def ask(self, function_id: str, data: Json = None, **members: Json) -> dict[str, Json]:
        """Call a function; the answer."""
        invocation_id = f"call-{next(self._ids)}"
        self.write(frame(TEXT, call(function_id, data, invocation_id, **members)))
        return await self.got("invocationresult", invocation_id=invocation_id)

    async def result(self, function_id: str, data: Json = None, **members: Json) -> Json:
        """Call a function that must not fail; the result, absent as None."""
        answer = await self.ask(function_id, data, **members)
        assert "error" not in answer, answer
        return answer.get("result")

    async def error(self, function_id: str, data: Json = None, **members: Json) -> dict[str, Json]:
        """Call a function that must fail; the error."""
        answer: dict[str, Json] = (await self.ask(function_id, data, **members))["error"]
        return answer

    async def end(self) -> Frame | None:
        """Read until the connection ends; the close frame, if there was one."""
        close = None
        while (got := await self.next_frame()) is not None:
            if got.opcode == CLOSE:
                assert close is None, "two close frames"
                close = got
        self.writer.close()
        return close

    async def end_code(self) -> int | None:
        """Read until the connection ends; the code of the close frame that has to be there."""
        close = await self.end()
        assert close is not None, "ended without a close frame"
        return close.code

    async def settled(self) -> None:
        """Wait until all that was sent before has been received."""
        self.write(frame(PING, b"settled"))
        while True:
            got = await self.next_frame()
            assert got is not None, "the connection has ended"
            if (got.opcode, got.payload) == (PONG, b"settled"):
                return
            if got.opcode == TEXT:
                self.messages.append(msgspec.json.decode(got.payload))

    def vanish(self) -> None:
        """End the connection at once."""
        self.writer.transport.abort()

    async def _read_frame(self) -> Frame | None:
        try:
            first, second = await self.reader.readexactly(2)
            assert not second & 0x80, "a server masks nothing"
            size = second & 0x7F
            if size == 126:
                [size] = struct.unpack(">H", await self.reader.readexactly(2))
            elif size == 127:
                [size] = struct.unpack(">Q", await self.reader.readexactly(8))
            payload = await self.reader.readexactly(size)
        except (asyncio.IncompleteReadError, ConnectionError):
            return None
        assert not first & 0x70, "nothing is compressed"
        return Frame(first & 0x0F, bool(first & 0x80), payload)

    @staticmethod
    async def _soon(awaitable: Awaitable[T]) -> T:
        async with asyncio.timeout(PATIENCE_S):
            return await awaitable


class Bench:
    """A running server and what it says."""

    def __init__(self, server: Server, said: list[logging.LogRecord]) -> None:
        self.server = server
        self.port = int(server.address.rpartition(":")[2])
        self._said = said
        self._clients: list[Client] = []

    async def tcp(self, *, window: int | None = None) -> Client:
        """A TCP connection; `window` bounds what its kernel takes without being read."""
        plain = socket.socket(proto=socket.IPPROTO_TCP)
        if window is not None:
            plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, window)
        plain.setblocking(False)
        try:
            await asyncio.get_running_loop().sock_connect(plain, ("127.0.0.1", self.port))
        except OSError:
            plain.close()
            raise
        client = Client(*await asyncio.open_connection(sock=plain, limit=1 << 10))
        self._clients.append(client)
        return client

    async def upgraded(
        self, path: str = "/", *, window: int | None = None, **headers: str | None
    ) -> Client:
        """A connection on which frames may pass."""
        client = await self.tcp(window=window)
        head = await client.request(upgrade(path, **headers))
        assert head.startswith(b"HTTP/1.1 101 "), head
        return client

    async def worker(
        self, *, window: int | None = None, announce: bool = True, **headers: str | None
    ) -> Client:
        """A greeted worker."""
        client = await self.upgraded("/", window=window, **headers)
        client.greeting = await client.next_message()
        assert client.greeting["type"] == "workerregistered"
        if announce:
            client.announce()
        return client

    async def answered(self, raw: bytes) -> bytes:
        """The head of the answer to an HTTP request on a connection of its own."""
        return await (await self.tcp()).request(raw)

    async def answers_rightly(self) -> None:
        """Somebody else is served as if nothing had happened."""
        client = await self.worker()
        place = {"scope": "health", "key": "k"}
        await client.result("state::set", {**place, "value": [1, "ä"]})
        assert await client.result("state::get", place) == [1, "ä"]
        await client.result("state::delete", place)
        client.vanish()

    def warnings(self, containing: str) -> list[str]:
        """The warnings with a text in them."""
        return [text for record in self._said if containing in (text := record.getMessage())]

    async def workers(self, count: int) -> None:
        """Wait until so many workers are connected."""
        async with asyncio.timeout(PATIENCE_S):
            while len(self.server.engine.workers) != count:
                await asyncio.sleep(0.001)

    def hang_up(self) -> None:
        """End all connections of this bench."""
        for client in self._clients:
            client.vanish()


class Listener(logging.Handler):
    """Keeps what is logged from `WARNING` on."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)


@asynccontextmanager
async def serving(
    store: Store | None = None, *, errors: Iterable[str] = (), **settings: Any
) -> AsyncIterator[Bench]:
    """A server with these settings, stopped at the end; `errors` are texts it may log as errors."""
    unhandled: list[dict[str, Any]] = []
    listener = Listener()
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: unhandled.append(context))
    logging.getLogger().addHandler(listener)
    try:
        chosen = Settings(**{"port": 0, **settings})
        async with open_server(chosen, store or MemoryStore(wall_clock_ms)) as server:
            bench = Bench(server, listener.records)
            try:
                yield bench
            finally:
                bench.hang_up()
    finally:
        logging.getLogger().removeHandler(listener)
    gc.collect()  # futures whose exceptions nobody wanted complain when they go
    await asyncio.sleep(0)
    loop.set_exception_handler(None)
    assert unhandled == []
    said = [r.getMessage() for r in listener.records if r.levelno >= logging.ERROR]
    assert [text for text in said if not any(known in text for known in errors)] == []
