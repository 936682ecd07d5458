"""An engine over a store in memory, with clients whose connections write down what they get."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from itertools import count
from typing import Any

import msgspec
from reaction_bench import HandTimers

from iii_state.core.store import Store
from iii_state.engine.engine import Engine
from iii_state.engine.workers import Worker
from iii_state.settings import Settings
from iii_state.stores.memory import MemoryStore
from iii_state.testing.clocks import FakeClock

Json = Any

SETTINGS = Settings(
    value_bytes_max=1 << 24,
    nesting_max=100,
    ops_max=100,
    name_bytes_max=1000,
    in_flight_max=100,
    gather_us=0,
)


class RecordingPeer:
    """A connection that keeps what is sent through it, and checks that it is JSON objects."""

    def __init__(self) -> None:
        self.sent: list[dict[str, Json]] = []
        self.closed: int | None = None
        self.aborted = False
        self.has_room = True

    def send(self, text: bytes) -> None:
        self.sent.append(msgspec.json.decode(text, type=dict[str, Any]))

    def flush(self) -> None:
        pass

    def close(self, code: int, reason: str) -> None:
        self.closed = code

    def abort(self) -> None:
        self.aborted = True

    def pause_reading(self) -> None:
        pass

    def resume_reading(self) -> None:
        pass


class Timer:
    """A call to come."""

    def __init__(self, callback: Callable[[], object]) -> None:
        self._callback: Callable[[], object] | None = callback

    def cancel(self) -> None:
        self._callback = None

    def run(self) -> None:
        if self._callback is not None:
            self._callback()


class LoopTimers(HandTimers):
    """An event loop's timers, moved by the test, that can be cancelled."""

    def call_later(self, delay: float, callback: Callable[[], object], /) -> Timer:  # type: ignore[override]
        timer = Timer(callback)
        super().call_later(delay, timer.run)
        return timer


class Client:
    """A connected worker, from outside."""

    def __init__(self, bench: EngineBench) -> None:
        self._bench = bench
        self._ids = count(1)
        self.peer = RecordingPeer()
        self.worker: Worker = bench.engine.connect(self.peer, "127.0.0.1")

    def send(self, type: str, **members: Json) -> None:
        """Send a message."""
        text = msgspec.json.encode({"type": type, **members}).decode()
        self._bench.engine.receive(self.worker, text)

    def announce(self, name: str | None = None, **members: Json) -> None:
        """Say who it is, as SDKs do."""
        data = {"runtime": "python", "version": "0.25.0", "name": name, **members}
        self.send(
            "invokefunction",
            function_id="engine::workers::register",
            data=data,
            action={"type": "void"},
        )

    def call(self, function_id: str, data: Json = None, **members: Json) -> str:
        """Call a function; the id of the call."""
        invocation_id = f"call-{next(self._ids)}"
        self.send(
            "invokefunction",
            invocation_id=invocation_id,
            function_id=function_id,
            data=data,
            **members,
        )
        return invocation_id

    def ask(self, function_id: str, data: Json = None, **members: Json) -> Json:
        """Call a function that answers at once; its result. An error is a failed test."""
        answer = self.answer_to(self.call(function_id, data, **members))
        assert "error" not in answer, answer
        return answer.get("result")

    def error(self, function_id: str, data: Json = None, **members: Json) -> str:
        """Call a function that fails at once; the code."""
        return str(self.answer_to(self.call(function_id, data, **members))["error"]["code"])

    def answer_to(self, invocation_id: str) -> dict[str, Json]:
        """The answer to a call, of which there must be exactly one."""
        [answer] = [
            m
            for m in self.got("invocationresult", keep=True)
            if m["invocation_id"] == invocation_id
        ]
        return answer

    def got(self, type: str, *, keep: bool = False) -> list[dict[str, Json]]:
        """The messages of a type that it got since it last asked."""
        found = [message for message in self.peer.sent if message["type"] == type]
        if not keep:
            self.peer.sent = [message for message in self.peer.sent if message["type"] != type]
        return found

    def reply(self, call: dict[str, Json], **members: Json) -> None:
        """Answer a call that it got."""
        self.send(
            "invocationresult",
            invocation_id=call["invocation_id"],
            function_id=call["function_id"],
            **members,
        )

    def bind(
        self,
        id: str = "t",
        function_id: str = "f",
        config: Json = None,
        *,
        trigger_type: str = "state",
        **members: Json,
    ) -> None:
        """Bind a function to what happens."""
        self.send(
            "registertrigger",
            id=id,
            trigger_type=trigger_type,
            function_id=function_id,
            config={} if config is None else config,
            **members,
        )

    def disconnect(self) -> None:
        """The connection ends."""
        self._bench.engine.disconnect(self.worker)


class EngineBench:
    """An engine whose time the test moves."""

    def __init__(self, store: Store | None = None, **settings: Json) -> None:
        self.clock = FakeClock()
        self.timers = LoopTimers()
        ids = count(1)
        self.store = store if store is not None else MemoryStore(self.clock)
        self.engine = Engine(
            self.store,
            msgspec.structs.replace(SETTINGS, **settings),
            self.clock,
            lambda: f"id-{next(ids)}",
            self.timers,
        )

    def client(self, name: str | None = None, *, announce: bool = True, **members: Json) -> Client:
        """A new connection, announced unless told not to."""
        client = Client(self)
        if announce:
            client.announce(name, **members)
        return client

    async def turn(self) -> None:
        """Let everything happen that is due now."""
        for _ in range(10):
            await asyncio.sleep(0)
        self.timers.run()

    async def pass_time(self, seconds: float) -> None:
        """Let time pass, and everything happen that becomes due."""
        self.clock.advance(round(seconds * 1000))
        self.timers.advance(seconds)
        await self.turn()


@asynccontextmanager
async def running_engine(**settings: Json) -> AsyncIterator[EngineBench]:
    """A started engine; stopped at the end."""
    bench = EngineBench(**settings)
    bench.engine.start()
    yield bench
    await bench.engine.stop()
