"""Channels over real sockets: upgrades, frames, pings, and how connections end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosedError, ConnectionClosedOK, InvalidStatus

from iii_state.clock import wall_clock_ms
from iii_state.host.server import Server, open_server
from iii_state.settings import Settings
from iii_state.stores.memory import MemoryStore

LARGE = 4 << 20


class Rig:
    """A server, and a worker that asks it for channels."""

    def __init__(self, server: Server, worker: ClientConnection) -> None:
        self.server = server
        self._worker = worker

    async def create(self, **data: Any) -> str:
        """A channel's address, without the direction."""
        call = {"type": "invokefunction", "invocation_id": "i", "data": data}
        call["function_id"] = "engine::channels::create"
        await self._worker.send(msgspec.json.encode(call), text=True)
        while True:
            answer = msgspec.json.decode(await self._worker.recv())
            if answer["type"] == "invocationresult":
                end = answer["result"]["writer"]
                base = f"{self.server.address}/ws/channels/{end['channel_id']}"
                return f"{base}?key={end['access_key']}"


@asynccontextmanager
async def running_server(**settings: Any) -> AsyncIterator[Rig]:
    chosen = Settings(port=0, **settings)
    async with (
        open_server(chosen, MemoryStore(wall_clock_ms)) as server,
        connect(server.address) as worker,
    ):
        yield Rig(server, worker)


async def close_code(socket: ClientConnection) -> int | None:
    """How the other side ended the connection, once it has."""
    await socket.wait_closed()
    return socket.close_code


async def test_frames_pass_unchanged_and_the_end_is_an_empty_close() -> None:
    async with running_server() as rig:
        address = await rig.create(buffer_size=None)
        sent: list[str | bytes] = ["text", b"\0\xff", "", b"", bytes(LARGE)]
        async with (
            connect(address + "&dir=write") as writer,
            connect(address + "&dir=read", max_size=None) as reader,
        ):
            for message in sent:
                await writer.send(message)
            await writer.send(["frag", "ment", "ed"])
            assert [await reader.recv() for _ in sent] == sent
            assert await reader.recv() == "fragmented"
            await writer.close(1000, "stream_complete")
            assert (writer.close_code, writer.close_reason) == (1000, "stream_complete")
            with pytest.raises(ConnectionClosedOK) as ended:
                await reader.recv()
            assert ended.value.rcvd is not None
            assert ended.value.rcvd.code == 1005


async def test_a_writer_may_be_gone_before_the_reader_comes() -> None:
    async with running_server() as rig:
        address = await rig.create()
        async with connect(address + "&dir=write") as writer:
            await writer.send("kept")
        async with connect(address + "&dir=read") as reader:
            assert [message async for message in reader] == ["kept"]


async def test_a_reader_that_does_not_read_holds_up_the_writer_and_loses_nothing() -> None:
    async with running_server() as rig:
        address = await rig.create(buffer_size=2)
        chunk = bytes(1 << 18)
        total = 64
        async with (
            connect(address + "&dir=write") as writer,
            connect(address + "&dir=read", max_queue=1) as reader,
        ):

            async def write() -> None:
                for _ in range(total):
                    await writer.send(chunk)
                await writer.close()

            writing = asyncio.create_task(write())
            done, _ = await asyncio.wait([writing], timeout=0.3)
            assert not done
            got = [message async for message in reader]
            await writing
            assert (len(got), set(got)) == (total, {chunk})


async def test_a_reader_is_answered_its_pings_while_nothing_comes() -> None:
    async with running_server() as rig:
        address = await rig.create()
        for direction in ("read", "write"):
            async with connect(f"{address}&dir={direction}") as socket:
                await (await socket.ping())


async def test_a_second_taker_is_closed_at_once_and_the_first_not_disturbed() -> None:
    async with running_server() as rig:
        address = await rig.create()
        async with (
            connect(address + "&dir=write") as writer,
            connect(address + "&dir=read") as reader,
        ):
            for direction in ("read", "write"):
                async with connect(f"{address}&dir={direction}") as second:
                    assert await close_code(second) == 1005
            await writer.send("still here")
            assert await reader.recv() == "still here"


async def test_a_stream_whose_writer_is_cut_off_does_not_look_complete() -> None:
    async with running_server() as rig:
        address = await rig.create()
        async with (
            connect(address + "&dir=write") as writer,
            connect(address + "&dir=read") as reader,
        ):
            await writer.send("half")
            assert await reader.recv() == "half"
            writer.transport.abort()
            with pytest.raises(ConnectionClosedError) as ended:
                await reader.recv()
            assert ended.value.rcvd is not None
            assert ended.value.rcvd.code == 1011


async def test_a_writer_learns_at_its_next_frame_that_the_reader_left() -> None:
    async with running_server() as rig:
        address = await rig.create()
        async with connect(address + "&dir=write") as writer:
            async with connect(address + "&dir=read") as reader:
                await reader.send("ignored")
            await writer.send("a")
            assert await close_code(writer) == 1006


@pytest.mark.parametrize(
    ("bad", "code"), [([b"x" * 600, b"x" * 600], 1009), (["x" * 600, "x" * 600], 1009)]
)
async def test_a_message_over_the_bound_closes_the_writer(bad: Any, code: int) -> None:
    async with running_server(message_bytes_max=1000) as rig:
        address = await rig.create()
        async with (
            connect(address + "&dir=write") as writer,
            connect(address + "&dir=read") as reader,
        ):
            await writer.send(bad)
            assert await close_code(writer) == code
            assert await close_code(reader) == 1011


async def test_text_that_is_not_utf8_closes_the_writer() -> None:
    async with running_server() as rig:
        address = await rig.create()
        async with connect(address + "&dir=write") as writer:
            await writer.send(b"\xff", text=True)
            assert await close_code(writer) == 1007


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ("?key=wrong&dir=read", 404),
        ("?dir=read", 400),
        ("?key=k", 400),
        ("?key=k&dir=both", 400),
        ("?key=k&dir=read&dir=write", 400),
        ("", 400),
    ],
)
async def test_a_request_that_names_no_channel_is_refused(query: str, status: int) -> None:
    async with running_server() as rig:
        address = (await rig.create()).partition("?")[0]
        with pytest.raises(InvalidStatus) as refused:
            await connect(address + query)
        assert refused.value.response.status_code == status


async def test_a_channel_needs_no_token() -> None:
    async with open_server(
        Settings(port=0, token="secret"),
        MemoryStore(wall_clock_ms),
    ) as server:
        headers = {"Authorization": "Bearer secret"}
        async with connect(server.address, additional_headers=headers) as worker:
            address = await Rig(server, worker).create()
            async with connect(address + "&dir=read"):
                pass


async def test_a_stop_of_the_server_ends_channels_with_1012() -> None:
    async with running_server() as rig:
        address = await rig.create()
        async with (
            connect(address + "&dir=write") as writer,
            connect(address + "&dir=read") as reader,
        ):
            await rig.server.stop()
            assert await close_code(writer) == 1012
            assert await close_code(reader) == 1012
