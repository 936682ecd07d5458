"""Those who write at random, and note what they were told of it."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from itertools import count

from chronicle import Chronicle, Fact, Json
from witnesses import Line

KEYS = 20
PADDING_BYTES_MAX = 4_000

CarryOut = Callable[[list[Json]], Awaitable[tuple[int, list[Fact]]]]
"""Carries out writes, as `state::transact` takes them: the first revision, and what they did."""


@asynccontextmanager
async def writing(
    chronicle: Chronicle, authors: Sequence[CarryOut], rng: random.Random
) -> AsyncIterator[None]:
    """Let authors write, each one thing after the other, until the end of the block."""
    ended = asyncio.Event()
    serials = count(1)

    async def write(carry_out: CarryOut, rng: random.Random) -> None:
        while not ended.is_set():
            number = 1 if rng.random() < 0.8 else rng.randrange(2, 6)
            chronicle.acknowledge(
                *await carry_out([_any_write(rng, next(serials)) for _ in range(number)])
            )

    async with asyncio.TaskGroup() as tasks:
        for carry_out in authors:
            tasks.create_task(write(carry_out, random.Random(rng.random())))
        yield
        ended.set()


def _any_write(rng: random.Random, serial: int) -> Json:
    place = {"scope": rng.choice("st"), "key": f"{rng.randrange(KEYS)}"}
    kind = rng.random()
    if kind < 0.2:
        return {"op": "delete", **place}
    if kind < 0.3:
        return {"op": "update", **place, "ops": [{"type": "set", "path": "n", "value": serial}]}
    padding = "x" * rng.randrange(PADDING_BYTES_MAX)
    return {"op": "set", **place, "value": {"n": serial, "padding": padding}}


async def write_over(opened: Line, writes: list[Json]) -> tuple[int, list[Fact]]:
    """Carry out writes over a connection."""
    if len(writes) > 1:
        done = await opened.call("state::transact", {"writes": writes})
        assert done["committed"], done
        return done["first_revision"], [
            Fact.of_write(write["scope"], write["key"], result["old_value"], result["new_value"])
            for write, result in zip(writes, done["results"], strict=True)
        ]
    [write] = writes
    done = await opened.call(f"state::{write['op']}", {**write, "with_revision": True})
    values = done.get("old_value"), done.get("new_value")
    return done["revision"], [Fact.of_write(write["scope"], write["key"], *values)]
