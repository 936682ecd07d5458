"""SIGKILL of handlers, writers and servers during deliveries: each event arrives, in order."""

from __future__ import annotations

import asyncio
import os
import random
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from delivery_story import Story
from journal import Journal
from killed_programs import KilledProgram, KilledServer
from victims import NotStarted, found_whole
from witnesses import CUT_OFF, Line, line

SDK_PYTHON = Path(__file__).parents[2] / ".cache" / "sdk" / "python" / "bin" / "python"

ROUNDS = 38
ROUNDS_WITH_SDK = 12
TORTURE_ROUNDS = int(os.environ.get("KILLS", "2000"))

WRITES = 120
STRETCH = 25
"""After so many rounds all is delivered. Until then, less is written than the log keeps for those
that are behind, which is four times as long as for others."""

TWO_AT_ONCE = 0.2
KILLED_WHILE_STARTING = 0.2
START_S_MAX = 0.3
MOMENT_S_MAX = 0.02
DRAINED_S_MAX = 60
LOOK_AGAIN_S = 0.02
WAIT_MS = 60_000

RETRY = {"max_attempts": 1000, "initial_ms": 1, "max_ms": 20}
ALL = {"durable": "all", "from": 0, "max_in_flight": 8, "retry": RETRY}
ORDERS = {"durable": "orders", "scope": "orders", "from": 0, "retry": RETRY}
HANDLERS = {"all-1": ALL, "orders-1": ORDERS, "orders-2": ORDERS}
"""What binds what: the last two share the work."""

Json = dict[str, Any]


@pytest.mark.timeout(240)
async def test_kills_during_deliveries_skip_nothing(tmp_path: Path) -> None:
    async with begun(tmp_path, Path(sys.executable), "raw") as play:
        await play.run(ROUNDS)


@pytest.mark.timeout(240)
async def test_kills_of_programs_of_the_sdk_skip_nothing(tmp_path: Path) -> None:
    assert SDK_PYTHON.exists(), "run `make sdks` first"
    async with begun(tmp_path, SDK_PYTHON, "sdk") as play:
        await play.run(ROUNDS_WITH_SDK)


@pytest.mark.torture
@pytest.mark.timeout(0)
async def test_many_kills_during_deliveries_skip_nothing(tmp_path: Path) -> None:
    async with begun(tmp_path, Path(sys.executable), "raw") as play:
        await play.run(TORTURE_ROUNDS)


@asynccontextmanager
async def begun(directory: Path, python: Path, kind: str) -> AsyncIterator[Play]:
    """A play on an empty store, begun. The seed is printed: it makes the same choices again."""
    seed = random.SystemRandom().randrange(1 << 32)
    print(f"seed {seed}")
    play = Play(directory, python, kind, seed)
    try:
        await play.begin()
        yield play
    except Exception as error:
        ended = "\n".join(filter(None, (program.said() for program in play.programs)))
        error.add_note(f"the seed was {seed}\n{ended}")
        raise
    finally:
        await play.end()


class Play:
    """A server, handlers of two durable triggers, a writer, and the journal of what they did."""

    def __init__(self, directory: Path, python: Path, kind: str, seed: int) -> None:
        self.directory = directory
        self.seed = seed
        self.rng = random.Random(seed)
        self.journal = Journal()
        self.server = KilledServer(directory / "data", self.journal)
        self.handlers = [
            KilledProgram(
                role,
                str(config["durable"]),
                (python, f"{kind}_handler.py"),
                self.journal,
                config=config,
            )
            for role, config in HANDLERS.items()
        ]
        script = (python, f"{kind}_writer.py")
        self.writer = KilledProgram("writer", "writers", script, self.journal, config={})
        self.programs = (*self.handlers, self.writer)
        self.url = ""
        self.changes: dict[int, Json] = {}
        self.reading: asyncio.Task[None] | None = None

    async def begin(self) -> None:
        """Start all, and wait until the handlers are there."""
        await self.server.start()
        self.url = await self.server.address()
        self.reading = asyncio.create_task(self.read_changes())
        for program in self.programs:
            await self.start(program)
        for handler in self.handlers:
            await self.is_connected(handler)

    async def end(self) -> None:
        """End whatever still runs."""
        if self.reading is not None:
            self.reading.cancel()
            with suppress(asyncio.CancelledError):
                await self.reading
        for program in self.programs:
            await program.end()
        await self.server.kill()
        self.journal.close()

    async def run(self, rounds: int) -> None:
        """Kill in so many rounds, wait until all is delivered, and see whether it was right."""
        for number in range(rounds):
            try:
                await self.kill_some()
            except Exception as error:
                error.add_note(f"in round {number}")
                raise
            if number % STRETCH == STRETCH - 1:
                await self.drain()
        await self.finish_writing()
        await self.drain()
        for handler in self.handlers:
            await handler.kill()
        await self.server.stop()
        await self.server.start()
        async with line(await self.server.address()) as opened:
            for trigger in await self.triggers(opened):
                assert trigger["cursor"] == max(self.changes), f"{trigger}"
        await self.server.stop()
        assert await found_whole(self.directory / "data")
        self.judge(rounds)

    async def kill_some(self) -> None:
        """Have writes made, and kill one or two while these, or their events, are under way."""
        everybody: list[KilledServer | KilledProgram] = [self.server, *self.programs]
        weights = [3, *(1 for _ in self.handlers), 2]
        chosen = self.rng.choices(everybody, weights)
        if self.rng.random() < TWO_AT_ONCE:
            chosen.append(self.rng.choice([one for one in everybody if one not in chosen]))
        await self.moment(chosen[0])
        await asyncio.sleep(self.rng.uniform(0, MOMENT_S_MAX))
        for one in chosen:
            await one.kill()
        for one in chosen:
            await self.start(one)
        if self.server in chosen and self.rng.random() < KILLED_WHILE_STARTING:
            await asyncio.sleep(self.rng.uniform(0, START_S_MAX))
            await self.server.kill()
            await self.server.start()

    async def start(self, one: KilledServer | KilledProgram) -> None:
        """Start a server or program, and don't wait for it."""
        if isinstance(one, KilledServer):
            await one.start()
        else:
            await one.start(self.url, self.seed, self.directory)

    async def moment(self, one: KilledServer | KilledProgram) -> None:
        """Have writes made, and wait until so many of what one does, or brings about, are done."""
        group, what, most = "all", "delivered", WRITES
        if one is self.writer:
            group, what, most = one.name, "wrote", WRITES // 2
        elif isinstance(one, KilledProgram):
            await self.is_connected(one)
            group, what, most = one.group, "delivered", WRITES // 4
        seen = self.journal.seen
        many = seen[group, what] + self.rng.randint(1, most)
        self.writer.say(f"{WRITES}")
        await self.journal.until(lambda: seen[group, what] >= many, f"{many} {what} by {group}")

    async def is_connected(self, program: KilledProgram) -> None:
        """Wait until a handler is connected, or was."""
        connected = program.name, "connected"
        await self.journal.until(lambda: self.journal.seen[connected] > 0, f"{program.name}")

    async def finish_writing(self) -> None:
        """Wait until a writer has made all writes that it is to make, and end it."""
        await self.writer.kill()
        await self.start(self.writer)
        self.writer.say(f"{WRITES}")
        spent = self.writer.name, "spent"
        await self.journal.until(lambda: self.journal.seen[spent] > 0, "the last writes")
        await self.writer.kill()

    async def drain(self) -> None:
        """Wait until all is delivered and acknowledged, and read."""
        async with asyncio.timeout(DRAINED_S_MAX), line(await self.server.address()) as opened:
            while any(trigger["lag"] for trigger in await self.triggers(opened)):
                await asyncio.sleep(LOOK_AGAIN_S)
            while max(self.changes) < (await opened.call("state::info", {}))["revision"]:
                await asyncio.sleep(LOOK_AGAIN_S)

    async def triggers(self, opened: Line) -> Sequence[Json]:
        """How the two triggers fare. They have lost nothing, and given up nothing."""
        letters = await opened.call("state::dead_letters", {})
        assert letters == {"dead_letters": []}
        triggers: list[Json] = (await opened.call("state::triggers", {}))["triggers"]
        assert {trigger["name"] for trigger in triggers} == {"all", "orders"}
        for trigger in triggers:
            assert "lost" not in trigger, f"{trigger}"
            assert trigger["counters"]["lost"] == 0, f"{trigger}"
        return triggers

    async def read_changes(self) -> None:
        """Follow the log from its beginning, without end, from one server to the next."""
        after = 0
        while True:
            with suppress(*CUT_OFF, NotStarted):
                async with line(await self.server.address()) as opened:
                    while True:
                        request = {"after": after, "limit": 1000, "wait_ms": WAIT_MS}
                        page = await opened.call("state::changes", request)
                        self.changes |= {change["revision"]: change for change in page["changes"]}
                        after = page["last_revision"]
            await asyncio.sleep(LOOK_AGAIN_S)

    def judge(self, rounds: int) -> None:
        """See whether what the journal tells is what was promised."""
        story = Story(self.journal.entries)
        story.require_witnessed(self.changes)
        story.require_kept_connections()
        orders = {r: c for r, c in self.changes.items() if c["scope"] == "orders"}
        again = story.require_reliable("all", self.changes)
        again += story.require_reliable("orders", orders)
        print(
            f"{len(story.kills)} kills of programs, {len(story.server_kills)} of the server; "
            f"{len(story.writes)} writes acknowledged of {len(self.changes)}; "
            f"{len(story.deliveries)} deliveries, {again} of them again"
        )
        assert len(story.writes) > rounds, "too little was seen to prove anything"
        assert again > rounds, "too little was cut off to prove anything"
