"""An engine over a store on disk whose process can be killed: the next one has what was synced."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from itertools import count
from pathlib import Path
from typing import Any

from engine_bench import SETTINGS, Client

from iii_state.engine.engine import Engine, random_ids
from iii_state.stores.disk.store import DiskStore
from iii_state.testing.clocks import FakeClock

ATTEMPTS = 1000


class DiskBench:
    """A running engine over a directory, on the real loop."""

    def __init__(self, place: Path, store: DiskStore, clock: FakeClock) -> None:
        self.place = place
        self.clock = clock
        self.store = store
        self.engine = Engine(store, SETTINGS, clock, random_ids())
        self.engine.start()

    def client(self, name: str = "w") -> Client:
        """A new connection."""
        client = Client(self)  # type: ignore[arg-type]
        client.announce(name)
        return client

    async def ask(self, client: Client, function_id: str, **data: Any) -> Any:
        """Call a function and wait for its result, or its error."""
        call = client.call(function_id, data)
        await self.engine.commits.settled()
        answer = client.answer_to(call)
        return answer["error"] if "error" in answer else answer.get("result")

    async def set(self, client: Client, *keys: str, scope: str = "s") -> None:
        """Write 1 to each of the keys, one after the other."""
        for key in keys:
            await self.ask(client, "state::set", scope=scope, key=key, value=1)

    async def killed(self) -> DiskBench:
        """What a new process finds when this one is killed now."""
        place = self.place.with_name(f"{self.place.name}.next")
        shutil.copytree(self.place, place)
        return await opened(place, self.clock)

    async def stop(self) -> None:
        await self.engine.stop()
        await self.store.close()


async def opened(place: Path, clock: FakeClock) -> DiskBench:
    return DiskBench(place, await DiskStore.open(place, clock_ms=clock), clock)


class Benches:
    """Opens benches, and stops them all at the end."""

    def __init__(self, place: Path) -> None:
        self.clock = FakeClock()
        self._place = place
        self._ids = count()
        self._open: list[DiskBench] = []

    async def start(self) -> DiskBench:
        """A first process."""
        return self._keep(await opened(self._place / f"data-{next(self._ids)}", self.clock))

    async def kill(self, bench: DiskBench) -> DiskBench:
        """The process after one that is killed."""
        return self._keep(await bench.killed())

    async def restart(self, bench: DiskBench) -> DiskBench:
        """The process after one that ends as it should."""
        await self.stop(bench)
        return self._keep(await opened(bench.place, self.clock))

    async def stop(self, bench: DiskBench) -> None:
        self._open.remove(bench)
        await bench.stop()

    async def stop_all(self) -> None:
        for bench in self._open:
            await bench.stop()

    def _keep(self, bench: DiskBench) -> DiskBench:
        self._open.append(bench)
        return bench


@asynccontextmanager
async def benches(place: Path) -> AsyncIterator[Benches]:
    made = Benches(place)
    try:
        yield made
    finally:
        await made.stop_all()


async def until(condition: Callable[[], object]) -> None:
    """Let the loop turn until something is so."""
    for _ in range(ATTEMPTS):
        if condition():
            return
        await asyncio.sleep(0.005)
    raise AssertionError("it never came to that")


class Handler:
    """Takes the calls of a worker's function, and answers them in its own time."""

    def __init__(self, client: Client, function_id: str = "f") -> None:
        self.client = client
        self.events: list[dict[str, Any]] = []
        self._open: list[dict[str, Any]] = []
        client.send("registerfunction", id=function_id)

    def take(self) -> list[tuple[str, int]]:
        """The key and the attempt of each event that came, since the last time this was asked."""
        calls = self.client.got("invokefunction")
        self._open += calls
        taken = [call["data"] for call in calls]
        self.events += taken
        return [(event["key"], event["attempt"]) for event in taken]

    def answer(self, key: str) -> None:
        """Answer the call about a key."""
        self.take()
        [call] = [call for call in self._open if call["data"]["key"] == key]
        self._open.remove(call)
        self.client.reply(call, result=None)

    def answer_all(self) -> None:
        """Answer what came."""
        self.take()
        for call in self._open:
            self.client.reply(call, result=None)
        self._open.clear()

    def fail_all(self, message: str = "no", stacktrace: str | None = None) -> None:
        """Fail what came."""
        self.take()
        error = {"code": "invocation_failed", "message": message, "stacktrace": stacktrace}
        for call in self._open:
            self.client.reply(call, error=error)
        self._open.clear()

    async def next(self, number: int = 1) -> list[tuple[str, int]]:
        """Wait for so many events."""
        taken: list[tuple[str, int]] = []

        def is_enough() -> bool:
            taken.extend(self.take())
            return len(taken) >= number

        await until(is_enough)
        return taken
