"""Those who watch a store from a revision on: by the feed, by a binding, by the command line."""

from __future__ import annotations

import asyncio
import json
import os
import random
import re
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import count
from typing import Any

from chronicle import Chronicle, Fact, Json, Sighting
from victims import PROGRAM
from witnesses import Line, line

SEGMENT_BYTES = 64 << 10
HISTORY_BYTES = 256 << 10
LITTLE_KEPT = {"segment_bytes": SEGMENT_BYTES, "history_bytes": HISTORY_BYTES}

SELECTIONS: list[Json] = [
    {},
    {},
    {"scope": "s"},
    {"scope": "t", "key": "3"},
    {"key_prefix": "1"},
    {"events": ["deleted"]},
    {"scope": "s", "events": ["created", "deleted"]},
]
SLOW = 0.4
KEPT_BYTES_MIN = HISTORY_BYTES - 2 * SEGMENT_BYTES
"""The log is trimmed by whole segments, and not all that is written is acknowledged yet."""


class Observations:
    """What all observers of one store have seen, to be judged when all is acknowledged."""

    def __init__(self, chronicle: Chronicle) -> None:
        self.chronicle = chronicle
        self.sightings: list[Sighting] = []
        self.counts: Counter[str] = Counter()
        self.oldest: set[int] = set()
        """Where the log began, at one time or another."""

    def judge(self) -> None:
        """Hold everything to the history as its writers know it."""
        self.chronicle.check()
        for sighting in self.sightings:
            self.chronicle.check_sighting(sighting)

    def check_refusal(self, told: int, position: int, before: int, after: int) -> None:
        """To be refused at a position is right, and the oldest revision that was told is too.

        `before` and `after` it was asked for, the oldest was these.
        """
        assert position < told, f"{position} was refused, although {told} would do"
        assert before <= told <= after
        assert self.chronicle.bytes_after(told) > KEPT_BYTES_MIN, f"{told} is not that old"


def any_start(rng: random.Random, oldest: int, newest: int) -> int:
    """A revision: kept, or not, or just about to go."""
    return rng.choice(
        (
            0,
            oldest,
            max(0, oldest - rng.randrange(1, 200)),
            rng.randint(min(oldest, newest), newest),
            rng.randint(0, newest),
            newest,
        )
    )


class Observer:
    """One who watches, again and again. `name` is its own."""

    names = count(1)

    def __init__(self, asking: Line, observations: Observations, rng: random.Random) -> None:
        self.name = f"observer-{next(self.names)}"
        self._asking = asking
        self._observations = observations
        self._chronicle = observations.chronicle
        self._rng = rng

    async def oldest(self) -> int:
        """The revision from which on the log is kept, now."""
        oldest = int((await self._asking.call("state::info", {}))["oldest_revision"])
        self._observations.oldest.add(oldest)
        return oldest

    async def any_start(self) -> int:
        """A revision, as `any_start` chooses it."""
        return any_start(self._rng, await self.oldest(), self._chronicle.newest)

    async def until_gone(self, revision: int) -> None:
        """Wait until the log does not reach back to a revision any more."""
        while await self.oldest() <= revision:
            await self._chronicle.grown(20)

    async def check_refusal(self, told: int, position: int, oldest_before: int) -> None:
        """A refusal is right, and tells the oldest revision that there is."""
        self._observations.check_refusal(told, position, oldest_before, await self.oldest())


class FeedReader(Observer):
    """One who reads page after page of `state::changes`, some slower than the log is trimmed."""

    async def watch(self) -> None:
        """Read on from a revision, until there are enough pages, or no more to be had."""
        rng, seen = self._rng, list[tuple[int, Fact]]()
        selection = rng.choice(SELECTIONS)
        after = position = await self.any_start()
        is_slow = rng.random() < SLOW
        end = "read"
        for page in range(rng.randrange(1, 8)):
            oldest_before = await self.oldest()
            request = {
                **selection,
                "after": position,
                "limit": rng.choice((1, 10, 1000)),
                "max_bytes": rng.choice((1, 50_000, 1_000_000)),
                "wait_ms": rng.choice((0, 1000)),
            }
            answer = await self._ask("state::changes", request)
            if "error" in answer:
                assert answer["error"]["code"] == "REVISION_COMPACTED", answer
                told = answer["error"]["details"]["oldest_revision"]
                await self.check_refusal(told, position, oldest_before)
                end = "compacted on the way" if page else "compacted at once"
                break
            assert position >= oldest_before, "the log was told of where it is not kept"
            result = answer["result"]
            assert result["last_revision"] >= position
            assert result["oldest_revision"] >= oldest_before
            seen += [(event["revision"], Fact.of_event(event)) for event in result["changes"]]
            position = result["last_revision"]
            if is_slow:
                await self.until_gone(position)
        self._observations.counts[end] += 1
        self._observations.sightings.append(Sighting(after, selection, seen, position))

    async def _ask(self, function_id: str, data: Json) -> Json:
        answers: list[Json] = []
        await self._asking.send(function_id, data, answers.append)
        while not answers:
            await self._asking.receive()
        return answers[0]


class Binding(Observer):
    """One who binds a function from a revision on. `name` is that of the binding, too."""

    async def _trigger(self) -> Json:
        shown = await self._asking.call("state::triggers", {"action": "show", "id": self.name})
        return dict(shown["trigger"])

    async def _conclude(
        self, after: int, selection: Json, seen: list[tuple[int, Fact]]
    ) -> Sighting:
        trigger = await self._trigger()
        lost = trigger["counters"]["lost"]
        first, last = trigger.get("lost") or (0, -1)
        self._observations.counts["binding lost some" if lost else "binding had all"] += 1
        cursor = trigger["cursor"]
        sighting = Sighting(after, selection, seen, cursor, lost, (first, last), by_key=True)
        self._observations.sightings.append(sighting)
        return sighting

    @asynccontextmanager
    async def _connected(self, url: str) -> AsyncIterator[Line]:
        self.name = f"observer-{next(self.names)}"
        async with line(url) as opened:
            await opened.introduce(self.name)
            await opened.tell("registerfunction", id=self.name)
            yield opened

    async def _bind(self, opened: Line, config: Json) -> None:
        await opened.tell(
            "registertrigger",
            id=self.name,
            trigger_type="state",
            function_id=self.name,
            config=config,
        )


class Visitor(Binding):
    """One who binds from anywhere, has some events delivered one after another, and goes."""

    async def watch(self, url: str) -> None:
        """Do that once."""
        selection = self._rng.choice(SELECTIONS)
        oldest_before, after = await self.oldest(), await self.any_start()
        seen: list[tuple[int, Fact]] = []
        async with self._connected(url) as opened:
            await self._bind(opened, {**selection, "from": after, "max_in_flight": 1})
            for _ in range(self._rng.randrange(1, 15)):
                message = await _next(opened)
                if message["type"] == "triggerregistrationresult":
                    told = _oldest_told(message["error"], r"(\d+) is the lowest")
                    await self.check_refusal(told, after, oldest_before)
                    self._observations.counts["binding refused"] += 1
                    return
                assert after >= oldest_before, "a binding began where the log is not kept"
                seen.append(_seen(message))
                await _acknowledge(opened, message)
            await self._conclude(after, selection, seen)


class Resident(Binding):
    """One who binds from the newest revision on, and stays.

    `is_slow`: it keeps its first event until the log is trimmed beyond all that it was sent.
    """

    def __init__(
        self,
        asking: Line,
        observations: Observations,
        rng: random.Random,
        *,
        is_slow: bool,
        **config: Any,
    ) -> None:
        super().__init__(asking, observations, rng)
        self.may_go_on = asyncio.Event()
        """Not set while a slow one has not fallen behind."""
        if not is_slow:
            self.may_go_on.set()
        self._config = config
        self._after = 0
        self._seen: list[tuple[int, Fact]] = []

    async def stay(self, url: str, ended: asyncio.Event) -> None:
        """Have everything delivered, until nothing more is written and all of it is done.

        `ended` says that nothing is, which must not be before it `may_go_on`.
        """
        async with self._connected(url) as opened:
            async with asyncio.TaskGroup() as tasks:
                taking = tasks.create_task(self._take(opened))
                await ended.wait()
                while (trigger := await self._trigger())["lag"] or trigger["in_flight"]:
                    pass
                taking.cancel()
            sighting = await self._conclude(self._after, {}, self._seen)
            assert sighting.up_to >= self._chronicle.newest

    async def _take(self, opened: Line) -> None:
        await self._begin(opened)
        while True:
            message = await _next(opened)
            if message["type"] == "triggerregistrationresult":
                # It went meanwhile.
                assert message["error"]["code"] == "REVISION_COMPACTED", message
                await self._begin(opened)
                continue
            self._seen.append(_seen(message))
            if not self.may_go_on.is_set():
                await self._fall_behind()
            await _acknowledge(opened, message)

    async def _begin(self, opened: Line) -> None:
        self._after = self._chronicle.newest
        await self._bind(opened, {**self._config, "from": self._after})

    async def _fall_behind(self) -> None:
        while (trigger := await self._trigger())["status"] != "full":
            await self._chronicle.grown(20)
        await self.until_gone(trigger["cursor"] + trigger["waiting"] + 2)
        self.may_go_on.set()


class CommandLine(Observer):
    """One who runs `iii-state watch --from`."""

    async def watch(self, url: str, start: str, changes: int) -> None:
        """Have so many changes printed, or be told that they are gone."""
        oldest_before = await self.oldest()
        process = await asyncio.create_subprocess_exec(
            PROGRAM,
            *("watch", "--from", start, "--count", str(changes), "-o", "json"),
            env={**os.environ, "III_URL": url},
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        try:
            printed, said = await process.communicate()
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        events = [json.loads(text) for text in printed.splitlines()]
        seen = [(event["revision"], Fact.of_event(event)) for event in events]
        after = int(start) if start.isdigit() else seen[0][0] - 1 if seen else 0
        if process.returncode:
            error = json.loads(said.splitlines()[-1])["error"]
            told = _oldest_told(error, r"oldest that can be asked for is (\d+)")
            await self.check_refusal(told, seen[-1][0] if seen else after, oldest_before)
            self._observations.counts["command refused"] += 1
        else:
            assert len(seen) == changes
            self._observations.counts["command printed all"] += 1
        if seen:
            self._observations.sightings.append(Sighting(after, {}, seen, seen[-1][0]))


def _oldest_told(error: Json, pattern: str) -> int:
    assert error["code"] == "REVISION_COMPACTED", error
    told = re.search(pattern, error["message"])
    assert told is not None, error
    return int(told[1])


async def _next(opened: Line) -> Json:
    while True:
        message = await opened.receive()
        if message["type"] in ("invokefunction", "triggerregistrationresult"):
            return message


def _seen(message: Json) -> tuple[int, Fact]:
    return message["data"]["revision"], Fact.of_event(message["data"])


async def _acknowledge(opened: Line, message: Json) -> None:
    await opened.tell(
        "invocationresult",
        invocation_id=message["invocation_id"],
        function_id=message["function_id"],
        result=None,
    )
