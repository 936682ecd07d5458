"""What clients of a server that is killed see is what one client after the other could see."""

from __future__ import annotations

import asyncio
import os
import random
from itertools import count
from pathlib import Path

import pytest
from linearizability import NotLinearizable, check
from recorders import Asker, Record
from registers import NEVER_WRITTEN, check_revisions, steps
from victims import NO_HISTORY, SMALL_FILES, found_whole, victim

KILLS = 20
TORTURE_KILLS = int(os.environ.get("KILLS", "2000"))
ANSWERS_MAX = 600
CLIENTS = 6
KEYS = ["a", "b", "c"]


async def test_a_history_over_kills_is_linearizable(tmp_path: Path) -> None:
    await judge_again_and_again(tmp_path, KILLS)


@pytest.mark.torture
@pytest.mark.timeout(0)
async def test_a_long_history_over_kills_is_linearizable(tmp_path: Path) -> None:
    await judge_again_and_again(tmp_path, TORTURE_KILLS)


async def test_a_server_that_forgets_is_no_register(tmp_path: Path) -> None:
    """The judge can tell: what a server in memory had is gone with it."""
    story = Story(tmp_path, random.SystemRandom().randrange(1 << 32), "--in-memory")
    for _ in range(3):
        await story.live_and_die()

    with pytest.raises(NotLinearizable):
        story.judge()


async def judge_again_and_again(directory: Path, kills: int) -> None:
    """Two stores at the same time. The seed is printed: it makes the same clients again."""
    seed = random.SystemRandom().randrange(1 << 32)
    print(f"seed {seed}")
    durable = Story(directory / "durable", seed)
    # A kill, unlike a power cut, takes nothing from those who do not wait for the disk.
    relaxed = Story(directory / "relaxed", seed + 1, "--durability", "interval")
    relaxed.settings = NO_HISTORY
    async with asyncio.TaskGroup() as tasks:
        for story in (durable, relaxed):
            tasks.create_task(story.tell(kills))


class Story:
    """One store, served by one victim after the other, and the record of its clients' calls."""

    def __init__(self, directory: Path, seed: int, *flags: str) -> None:
        self.directory = directory
        self.flags = flags
        self.settings = SMALL_FILES
        self.seed = seed
        self.rng = random.Random(seed)
        self.record = Record()
        self.serials = count(1)
        self.clients = [
            Asker(self.record, "s", KEYS, random.Random(seed + number)) for number in range(CLIENTS)
        ]

    async def tell(self, kills: int) -> None:
        """Kill so many servers, then judge the whole history, and the files."""
        try:
            for _ in range(kills):
                await self.live_and_die()
            self.judge()
        except Exception as error:
            error.add_note(f"in the story of seed {self.seed}")
            raise
        assert await found_whole(self.directory)
        calls = [call for of_key in self.record.calls.values() for call in of_key]
        assert len([call for call in calls if call.is_certain]) > 20 * kills
        assert len([call for call in calls if not call.is_certain]) > kills

    async def live_and_die(self) -> None:
        """Start a server, and kill it while it answers."""
        async with victim(self.directory, *self.flags, settings=self.settings) as running:
            url = await running.address()
            async with asyncio.TaskGroup() as load:
                for client in self.clients:
                    load.create_task(client.work(url, self.serials))
                await self.record.answered(self.rng.randrange(1, ANSWERS_MAX))
                await running.kill()
        self.record.server_gone()

    def judge(self) -> None:
        """Look for an order of the calls of each key, and of all revisions."""
        for history in self.record.calls.values():
            check(history, NEVER_WRITTEN, steps)
        check_revisions([call for of_key in self.record.calls.values() for call in of_key])
