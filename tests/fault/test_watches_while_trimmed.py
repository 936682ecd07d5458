"""Who watches from a revision on has every change once, in order, or hears that some are gone."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from authors import write_over, writing
from chronicle import Chronicle
from observers import (
    LITTLE_KEPT,
    CommandLine,
    FeedReader,
    Observations,
    Observer,
    Resident,
    Visitor,
)
from victims import found_whole, victim
from witnesses import line

ROUNDS = 5
"""Of a server, each on what the one before it left: what is not in memory any more is read."""

WRITERS = 4
FEED_READERS = 6
VISITORS = 4
TURNS = 5

Kind = TypeVar("Kind", bound=Observer)


async def test_whoever_watches_a_server_misses_nothing_unsaid(tmp_path: Path) -> None:
    seed = random.SystemRandom().randrange(1 << 32)
    print(f"seed {seed}")
    observations = Observations(Chronicle())
    settings = {f"III_STATE_{name.upper()}": f"{value}" for name, value in LITTLE_KEPT.items()}
    rng = random.Random(seed)
    for number in range(ROUNDS):
        async with victim(tmp_path / "data", settings=settings) as running:
            url = await running.address()
            await watch_and_write(url, observations, rng, is_last=number == ROUNDS - 1)
            assert await running.stop() == 0, running.said.decode()
    assert await found_whole(tmp_path / "data")
    assert any(is_merged(path) for path in (tmp_path / "data").glob("*.seg"))

    observations.judge()
    assert len(observations.oldest) > 20
    counts = observations.counts
    for what in ("read", "compacted at once", "compacted on the way", "command refused"):
        assert counts[what], (what, counts)
    for what in ("binding had all", "binding lost some", "binding refused"):
        assert counts[what], (what, counts)


async def watch_and_write(
    url: str, observations: Observations, rng: random.Random, is_last: bool
) -> None:
    """Let observers watch while others write. In the last round all kinds of them do."""
    ended = asyncio.Event()
    async with AsyncExitStack() as lines:

        async def observer(kind: Callable[..., Kind], **how: Any) -> Kind:
            asking = await lines.enter_async_context(line(url))
            return kind(asking, observations, random.Random(rng.random()), **how)

        authors = [
            partial(write_over, await lines.enter_async_context(line(url))) for _ in range(WRITERS)
        ]
        watches = [(await observer(FeedReader)).watch for _ in range(FEED_READERS)]
        watches += [partial((await observer(Visitor)).watch, url) for _ in range(VISITORS)]
        turns = [partial(take_turns, watch) for watch in watches]
        residents = []
        if is_last:
            turns += [
                partial((await observer(CommandLine)).watch, url, start, 30)
                for start in ("0", "oldest", "now", f"{observations.chronicle.newest}")
            ]
            slow = {"is_slow": True, "max_in_flight": 1}
            kept = {**slow, "durable": "kept", "timeout_ms": 80_000_000}
            residents = [
                await observer(Resident, **how) for how in ({"is_slow": False}, slow, kept)
            ]
        async with asyncio.TaskGroup() as staying:
            async with (
                writing(observations.chronicle, authors, rng),
                asyncio.TaskGroup() as watching,
            ):
                for resident in residents:
                    staying.create_task(resident.stay(url, ended))
                    watching.create_task(resident.may_go_on.wait())
                for turn in turns:
                    watching.create_task(turn())
            ended.set()


async def take_turns(watch: Callable[[], Awaitable[None]]) -> None:
    """Watch again and again."""
    for _ in range(TURNS):
        await watch()


def is_merged(segment: Path) -> bool:
    """Whether a file has taken the place of several."""
    first, _, last = segment.stem.partition("-")
    return first != last
