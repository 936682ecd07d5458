"""What writes note beside the data outlives the process."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from engine_bench import SETTINGS, Client

from iii_state.engine.engine import Engine, random_ids
from iii_state.stores.disk import DiskStore
from iii_state.testing.clocks import FakeClock

KEY = {"scope": "s", "key": "k"}


class DiskBench:
    """A running engine over a store on disk, and a worker connected to it."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.client = Client(self)  # type: ignore[arg-type]

    async def ask(self, name: str, **members: Any) -> Any:
        """Call a function and wait for its answer."""
        call = self.client.call(f"state::{name}", {**KEY, **members})
        await self.engine.commits.settled()
        answer = self.client.answer_to(call)
        return answer.get("result", answer.get("error"))


@asynccontextmanager
async def running(place: Path, clock: FakeClock) -> AsyncIterator[DiskBench]:
    store = await DiskStore.open(place, clock_ms=clock)
    engine = Engine(store, SETTINGS, clock, random_ids())
    engine.start()
    yield DiskBench(engine)
    await engine.stop()
    await store.close()


async def test_what_expired_while_the_server_was_down_is_gone_at_its_start(tmp_path: Path) -> None:
    clock = FakeClock()
    async with running(tmp_path, clock) as bench:
        await bench.ask("set", value=1, ttl_ms=60_000)
        await bench.ask("touch", ttl_ms=120_000)
    clock.advance(119_000)
    async with running(tmp_path, clock) as bench:
        alive = await bench.ask("get")
    clock.advance(2_000)
    async with running(tmp_path, clock) as bench:
        await asyncio.sleep(0.05)
        revision = (await bench.ask("info"))["revision"]
        gone = await bench.ask("get", with_revision=True)

    assert (alive, revision, gone) == (1, 2, {"revision": 0})


async def test_a_touch_is_answered_once_it_is_on_disk(tmp_path: Path) -> None:
    clock = FakeClock()
    async with running(tmp_path, clock) as bench:
        await bench.ask("set", value=1)
        call = bench.client.call("state::touch", {**KEY, "ttl_ms": 1000})
        early = bench.client.got("invocationresult", keep=True)
        await bench.engine.commits.settled()
        late = bench.client.answer_to(call)

    assert call not in [m["invocation_id"] for m in early]
    assert late["result"]["found"]


async def test_an_idempotency_key_is_known_after_a_restart(tmp_path: Path) -> None:
    clock = FakeClock()
    request = {"value": 1, "idempotency_key": "x", "with_revision": True}
    async with running(tmp_path, clock) as bench:
        first = await bench.ask("set", **request)
        await bench.ask("set", value=2)
    async with running(tmp_path, clock) as bench:
        again = await bench.ask("set", **request)
        now = await bench.ask("get")

    assert (first, again, now) == ({"old_value": None, "new_value": 1, "revision": 1}, first, 2)


async def test_a_repetition_of_what_is_still_pending_waits_for_it(tmp_path: Path) -> None:
    request = {**KEY, "value": 1, "idempotency_key": "x"}
    async with running(tmp_path, FakeClock()) as bench:
        calls = [bench.client.call("state::set", request) for _ in range(3)]
        await bench.engine.commits.settled()
        answers = [bench.client.answer_to(call)["result"] for call in calls]
        revision = (await bench.ask("info"))["revision"]

    assert answers == [{"old_value": None, "new_value": 1}] * 3
    assert revision == 1
