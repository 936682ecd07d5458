"""SIGKILL under load, again and again: what was acknowledged is there, what was seen stays true."""

from __future__ import annotations

import asyncio
import os
import random
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import pytest
from victims import NO_HISTORY, SMALL_FILES, Victim, found_whole, victim
from witnesses import Counter, Watcher, Writer, line

KILLS = 120
TORTURE_KILLS = int(os.environ.get("KILLS", "2000"))
FIRST_STARTS = 16
LANES = 4
"""Servers that are killed at the same time, each on data of its own."""

WRITERS = 3
DEPTHS = (1, 4, 32)
LOAD_S_MEAN = 0.25
KILLED_WHILE_STARTING = 0.15
STOPPED_IN_ORDER = 0.1
START_S_MAX = 1.0


@pytest.mark.timeout(240)
async def test_a_kill_loses_nothing_that_was_acknowledged(tmp_path: Path) -> None:
    await kill_again_and_again(tmp_path, KILLS)


async def test_a_server_that_keeps_nothing_is_found_out(tmp_path: Path) -> None:
    """The witnesses can tell: a kill of a server in memory loses everything."""
    lane = Lane(tmp_path, 0, "--in-memory")

    with pytest.raises(AssertionError, match="writes sent"):
        await lane.run(10)


async def test_a_first_start_that_was_killed_is_begun_again(tmp_path: Path) -> None:
    seed = random.SystemRandom().randrange(1 << 32)
    print(f"seed {seed}")
    rng = random.Random(seed)

    async def begin(directory: Path) -> None:
        async with victim(directory):
            await asyncio.sleep(rng.uniform(0, START_S_MAX))
        async with victim(directory) as second, line(await second.address()) as opened:
            assert await opened.call("state::list_groups", {}) == {"groups": []}

    for first in range(0, FIRST_STARTS, LANES):
        async with asyncio.TaskGroup() as tasks:
            for number in range(first, first + LANES):
                tasks.create_task(begin(tmp_path / f"store-{number}"))


@pytest.mark.torture
@pytest.mark.timeout(0)
async def test_many_kills_lose_nothing_that_was_acknowledged(tmp_path: Path) -> None:
    await kill_again_and_again(tmp_path, TORTURE_KILLS)


async def kill_again_and_again(directory: Path, kills: int) -> None:
    """Share the kills among the lanes. The seed is printed: it makes the same loads again."""
    seed = random.SystemRandom().randrange(1 << 32)
    print(f"seed {seed}")
    async with asyncio.TaskGroup() as tasks:
        for number in range(LANES):
            # A kill, unlike a power cut, takes nothing from those who do not wait for the disk.
            flags = () if number else ("--durability", "interval")
            lane = Lane(directory / f"lane-{number}", seed + number, *flags)
            lane.settings = NO_HISTORY if number % 2 else SMALL_FILES
            tasks.create_task(lane.run(kills // LANES))


class Lane:
    """One store, served by one victim after the other, and those who hold it to its word."""

    def __init__(self, directory: Path, seed: int, *flags: str) -> None:
        self.directory = directory
        self.flags = flags
        self.settings = SMALL_FILES
        self.seed = seed
        self.rng = random.Random(seed)
        self.writers = [Writer(f"writer {number}", self.rng) for number in range(WRITERS)]
        self.counter = Counter()
        self.watcher = Watcher()

    async def run(self, kills: int) -> None:
        """Kill so many servers; the last one is stopped, and the store checked."""
        for kill in range(kills):
            try:
                await self.kill_one()
            except Exception as error:
                error.add_note(f"in the lane of seed {self.seed}, at kill {kill}")
                raise
        async with self._victim() as last:
            await self._check(await last.address())
            assert await last.stop() == 0, last.said.decode()
        assert await found_whole(self.directory)
        assert len(self.watcher.events) > kills, "too little was seen to prove anything"
        assert self.counter.seen > kills

    async def kill_one(self) -> None:
        """Start a server, check the store, load it and kill it: all of that, or a part."""
        async with self._victim() as running:
            if self.rng.random() < KILLED_WHILE_STARTING:
                await asyncio.sleep(self.rng.uniform(0, START_S_MAX))
                return
            url = await running.address()
            await self._check(url)
            async with asyncio.TaskGroup() as load:
                load.create_task(self.watcher.work(url))
                load.create_task(self.counter.work(url, self.rng.choice(DEPTHS)))
                for writer in self.writers:
                    load.create_task(writer.work(url, self.rng.choice(DEPTHS)))
                await asyncio.sleep(self.rng.expovariate(1 / LOAD_S_MEAN))
                if self.rng.random() < STOPPED_IN_ORDER:
                    assert await running.stop() == 0, running.said.decode()
                else:
                    await running.kill()

    def _victim(self) -> AbstractAsyncContextManager[Victim]:
        return victim(self.directory, *self.flags, settings=self.settings)

    async def _check(self, url: str) -> None:
        async with line(url) as opened:
            for writer in self.writers:
                await writer.check(opened)
            await self.counter.check(opened)
            await self.watcher.check(opened)
