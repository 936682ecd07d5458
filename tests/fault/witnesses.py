"""Clients that remember what the server told them, and hold it to it after a crash."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from itertools import count
from typing import Any

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake


class Refused(Exception):
    """The server is stopping, and says that it did not carry out a call."""


CUT_OFF = (ConnectionClosed, InvalidHandshake, OSError, EOFError, Refused)
"""How a client notices that the server is gone, or will be."""

COUNTER = {"scope": "shared", "key": "counter"}
KEYS = 12
PADDING_BYTES_MAX = 20_000

Json = dict[str, Any]


class Line:
    """A connection on which calls are made, many at a time."""

    def __init__(self, socket: ClientConnection) -> None:
        self.socket = socket
        self._ids = count()
        self._answered: dict[str, Callable[[Json], None]] = {}

    async def send(self, function_id: str, data: Json, answered: Callable[[Json], None]) -> None:
        """Call a function; `answered` gets the whole answer, once, if there ever is one."""
        invocation_id = f"{next(self._ids)}"
        self._answered[invocation_id] = answered
        await self.tell(
            "invokefunction", invocation_id=invocation_id, function_id=function_id, data=data
        )

    async def call(self, function_id: str, data: Json) -> Any:
        """Call a function and wait for its result; None when there is none."""
        answer: asyncio.Future[Json] = asyncio.get_running_loop().create_future()
        await self.send(function_id, data, answer.set_result)
        while not answer.done():
            await self.receive()
        assert "error" not in answer.result(), answer.result()
        return answer.result().get("result")

    async def tell(self, type_: str, **members: Any) -> None:
        """Send any message."""
        await self.socket.send(json.dumps({"type": type_, **members}))

    async def introduce(self, name: str) -> None:
        """Say who this is, as SDKs do; without it, registrations wait for a while."""
        await self.tell(
            "invokefunction",
            function_id="engine::workers::register",
            data={"name": name, "runtime": "python"},
            action={"type": "void"},
        )

    async def receive(self) -> Json:
        """The next message; an answer has been handed to whoever waits for it."""
        message: Json = json.loads(await self.socket.recv())
        if message["type"] == "invocationresult":
            self._answered.pop(message["invocation_id"])(message)
        return message


@asynccontextmanager
async def line(url: str) -> AsyncIterator[Line]:
    """A connection to the server, greeted."""
    async with connect(url, max_size=None, compression=None) as socket:
        opened = Line(socket)
        greeting = await opened.receive()
        assert greeting["type"] == "workerregistered"
        yield opened


class Writer:
    """Writes to a scope of its own, and knows what it may hold.

    Calls of one connection are carried out in order. So after a crash the scope must be as after
    the first n writes that were sent, for an n not smaller than what was acknowledged.
    """

    def __init__(self, scope: str, rng: random.Random) -> None:
        self.scope = scope
        self.rng = rng
        self.held: dict[str, Json] = {}
        self.sent: list[tuple[str, Json | None]] = []
        self.acknowledged = 0
        self._serial = count()

    async def work(self, url: str, depth: int) -> None:
        """Write without end, `depth` calls in flight, until the server is gone."""
        with suppress(*CUT_OFF):
            async with line(url) as opened:
                for _ in range(depth):
                    await self._write(opened)
                while await opened.receive():
                    await self._write(opened)

    async def _write(self, opened: Line) -> None:
        key = f"{self.rng.randrange(KEYS)}"
        value = None if self.rng.random() < 0.2 else self._value(key)
        self.sent.append((key, value))
        number = len(self.sent)

        def answered(answer: Json) -> None:
            if "error" in answer:
                del self.sent[number - 1 :]
                _require_stopping(answer)
            self.acknowledged = max(self.acknowledged, number)

        data = {"scope": self.scope, "key": key}
        if value is None:
            await opened.send("state::delete", data, answered)
        else:
            await opened.send("state::set", {**data, "value": value}, answered)

    def _value(self, key: str) -> Json:
        padding = "x" * self.rng.randrange(PADDING_BYTES_MAX if self.rng.random() < 0.1 else 100)
        return {"key": key, "serial": next(self._serial), "padding": padding}

    async def check(self, opened: Line) -> None:
        """Compare what the server holds with what it may hold, and start from there."""
        found = await opened.call("state::list", {"scope": self.scope})
        for write in self.sent[: self.acknowledged]:
            self._apply(write)
        rest = self.sent[self.acknowledged :]
        for write in rest:
            if [*self.held.values()] == found:
                break
            self._apply(write)
        assert [*self.held.values()] == found, (
            f"{self.scope}: {len(self.sent)} writes sent, {self.acknowledged} acknowledged, and "
            f"what is there is as after none of the {len(rest)} in between: {_short(found)}, "
            f"not {_short([*self.held.values()])}"
        )
        for key, value in self.held.items():
            assert await opened.call("state::get", {"scope": self.scope, "key": key}) == value
        self.sent.clear()
        self.acknowledged = 0

    def _apply(self, write: tuple[str, Json | None]) -> None:
        key, value = write
        if value is None:
            self.held.pop(key, None)
        else:
            self.held[key] = value


class Counter:
    """Increments one key together with others: none is lost, none counts twice."""

    def __init__(self) -> None:
        self.sent = 0
        self.seen = 0

    async def work(self, url: str, depth: int) -> None:
        """Increment without end, `depth` calls in flight, until the server is gone."""
        with suppress(*CUT_OFF):
            async with line(url) as opened:
                for _ in range(depth):
                    await self._increment(opened)
                while await opened.receive():
                    await self._increment(opened)

    async def _increment(self, opened: Line) -> None:
        def answered(answer: Json) -> None:
            if "error" in answer:
                self.sent -= 1
                _require_stopping(answer)
            self.seen = max(self.seen, answer["result"]["new_value"]["n"])

        self.sent += 1
        ops = [{"type": "increment", "path": "n", "by": 1}]
        await opened.send("state::update", {**COUNTER, "ops": ops}, answered)

    async def check(self, opened: Line) -> None:
        """What was seen is still counted, and nothing that was not sent."""
        found = (await opened.call("state::get", COUNTER) or {"n": 0})["n"]
        assert self.seen <= found <= self.sent
        self.seen = self.sent = found


class Watcher:
    """Sees events and revisions, and remembers what each revision was."""

    def __init__(self) -> None:
        self.events: dict[int, Json] = {}
        self.revision = 0

    async def work(self, url: str) -> None:
        """Bind a trigger to everything and acknowledge each event, until the server is gone."""
        with suppress(*CUT_OFF):
            async with line(url) as opened:
                await opened.introduce("crash-watcher")
                await opened.tell("registerfunction", id="crash::seen")
                await opened.tell(
                    "registertrigger",
                    id="crash-watcher",
                    trigger_type="state",
                    function_id="crash::seen",
                    config={},
                )
                while True:
                    message = await opened.receive()
                    if message["type"] == "invokefunction":
                        self._see(message["data"])
                        await opened.tell(
                            "invocationresult",
                            invocation_id=message["invocation_id"],
                            function_id="crash::seen",
                            result=None,
                        )

    def _see(self, event: Json) -> None:
        revision = event["revision"]
        what = {member: event[member] for member in ("event_type", "scope", "key", "new_value")}
        assert self.events.setdefault(revision, what) == what, f"revision {revision} was reused"
        self.revision = max(self.revision, revision)

    async def check(self, opened: Line) -> None:
        """The newest revision is none that is older than one that was seen."""
        found = (await opened.call("state::info", {}))["revision"]
        assert found >= self.revision
        self.revision = found


def _require_stopping(answer: Json) -> None:
    assert answer["error"]["code"] == "invocation_stopped", answer
    raise Refused


def _short(values: list[Json]) -> list[Json]:
    return [{**value, "padding": len(value["padding"])} for value in values]
