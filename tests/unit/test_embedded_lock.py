"""The recipe of a lock: one holder at a time, and a late one can do no harm."""

from __future__ import annotations

import asyncio
import importlib.util
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import iii_state

RECIPE = Path(__file__).parents[2] / "examples" / "lock.py"


@pytest.fixture(scope="module")
def recipe() -> ModuleType:
    spec = importlib.util.spec_from_file_location("lock", RECIPE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


async def write(state: iii_state.State, lock: Any, value: str) -> None:
    async with state.transaction() as transaction:
        lock.fence(transaction)
        transaction.set("shared", "k", value)


async def test_two_contenders_never_hold_it_at_once(recipe: ModuleType) -> None:
    holders: set[str] = set()
    tokens: list[int] = []

    async def contend(state: iii_state.State, owner: str) -> None:
        lock = recipe.Lock(state, "l", owner, ttl_ms=60_000)
        for _ in range(25):
            await lock.acquire()
            assert holders == set()
            holders.add(owner)
            tokens.append(lock.revision)
            for _ in range(3):
                await asyncio.sleep(0)
                assert not await recipe.Lock(state, "l", "other", ttl_ms=1).try_acquire()
            holders.remove(owner)
            await lock.release()

    async with iii_state.open(None) as state:
        await asyncio.gather(contend(state, "a"), contend(state, "b"), contend(state, "c"))

    assert len(tokens) == 75
    assert tokens == sorted(set(tokens))


async def test_a_late_holder_is_fenced_off(recipe: ModuleType) -> None:
    async with iii_state.open(None) as state:
        expiries = state.watch(events=["expired"])
        late = recipe.Lock(state, "l", "late", ttl_ms=1)
        current = recipe.Lock(state, "l", "current", ttl_ms=60_000)
        await late.acquire()
        await anext(expiries)
        await current.acquire()

        with pytest.raises(iii_state.Conflict):
            await write(state, late, "from the late one")
        with pytest.raises(iii_state.Conflict):
            await late.renew()
        assert late.revision < current.revision
        await late.release()

        await write(state, current, "from the current one")
        assert await state.list("shared") == ["from the current one"]
        assert await state.get("locks", "l") == "current"


async def test_who_waits_gets_it_when_the_holder_lets_it_expire(recipe: ModuleType) -> None:
    async with iii_state.open(None) as state:
        hanging = recipe.Lock(state, "l", "hanging", ttl_ms=1)
        waiting = recipe.Lock(state, "l", "waiting", ttl_ms=60_000)
        await hanging.acquire()

        await waiting.acquire()

        assert hanging.revision < waiting.revision


async def test_a_holder_that_renews_it_keeps_it(recipe: ModuleType) -> None:
    async with iii_state.open(None) as state:
        lock = recipe.Lock(state, "l", "a", ttl_ms=60_000)
        await lock.acquire()
        first = lock.revision
        await lock.renew()

        await write(state, lock, "as before")
        assert lock.revision > first
        assert not await recipe.Lock(state, "l", "b", ttl_ms=60_000).try_acquire()
        await lock.release()
        assert await recipe.Lock(state, "l", "b", ttl_ms=60_000).try_acquire()


def test_the_example_counts_to_thirty() -> None:
    done = subprocess.run([sys.executable, RECIPE], capture_output=True, text=True, check=False)

    assert (done.returncode, done.stdout) == (0, "counted to 30\n"), done.stderr
