"""An engine over either store, and what is asked of its change log."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from engine_bench import Client, EngineBench

from iii_state.core.store import Store
from iii_state.stores.disk.store import DiskStore
from iii_state.stores.memory import MemoryStore
from iii_state.testing.clocks import FakeClock
from iii_state.testing.executors import InlineExecutor

Json = Any


async def open_disk(directory: Path, **options: Any) -> DiskStore:
    return await DiskStore.open(
        directory, clock_ms=FakeClock(), executor=InlineExecutor, durability="none", **options
    )


@asynccontextmanager
async def running(store: Store) -> AsyncIterator[EngineBench]:
    bench = EngineBench(store)
    bench.engine.start()
    yield bench
    await bench.engine.stop()


@asynccontextmanager
async def over_store(kind: str, directory: Path) -> AsyncIterator[EngineBench]:
    """An engine over a store in memory or on disk."""
    store = MemoryStore(FakeClock()) if kind == "memory" else await open_disk(directory)
    async with running(store) as started:
        yield started
    await store.close()


async def ask(bench: EngineBench, client: Client, name: str, **data: Json) -> Json:
    """Call a function and give its result."""
    call_id = client.call(f"state::{name}", data)
    await bench.turn()
    return result_of(client, call_id)


def result_of(client: Client, call_id: str) -> Json:
    answer = client.answer_to(call_id)
    assert "error" not in answer, answer
    return answer["result"]


async def error_of(bench: EngineBench, client: Client, name: str, **data: Json) -> Json:
    call_id = client.call(f"state::{name}", data)
    await bench.turn()
    return client.answer_to(call_id)["error"]


async def put(bench: EngineBench, client: Client, key: str, value: Json, scope: str = "s") -> None:
    await ask(bench, client, "set", scope=scope, key=key, value=value)


def answers(client: Client) -> list[dict[str, Json]]:
    return client.got("invocationresult", keep=True)


def keys(result: Json) -> list[str]:
    return [event["key"] for event in result["changes"]]
