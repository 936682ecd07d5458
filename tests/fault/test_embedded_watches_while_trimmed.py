"""The same in one's own program: each change once, in order, or it is said that some are gone."""

from __future__ import annotations

import asyncio
import random
from functools import partial
from pathlib import Path

from authors import writing
from chronicle import Chronicle, Fact, Json, Sighting
from observers import LITTLE_KEPT, SELECTIONS, SLOW, Observations, any_start

import iii_state
from iii_state.errors import RevisionCompacted

ROUNDS = 6
"""In each the store is opened anew: what is not in memory any more is read."""

AUTHORS = 3
WATCHERS = 6
TURNS = 3
CHANGES_MAX = 400
"""Of which a watch is told what it selects, roughly."""


async def test_whoever_watches_an_embedded_store_misses_nothing_unsaid(tmp_path: Path) -> None:
    seed = random.SystemRandom().randrange(1 << 32)
    print(f"seed {seed}")
    rng = random.Random(seed)
    observations = Observations(Chronicle())
    for number in range(ROUNDS):
        async with iii_state.open(tmp_path / "data", **LITTLE_KEPT) as state:
            await watch_and_write(state, observations, rng, is_last=number == ROUNDS - 1)

    observations.judge()
    counts = observations.counts
    for what in ("read", "compacted at once", "compacted on the way", "refused a reaction"):
        assert counts[what], (what, counts)
    for what in ("a reaction had all", "a reaction lost some"):
        assert counts[what], (what, counts)
    assert len(observations.oldest) > 20


async def watch_and_write(
    state: iii_state.State, observations: Observations, rng: random.Random, is_last: bool
) -> None:
    """Let some watch while others write; in the last round there are reactions, too."""
    authors = [partial(write_embedded, state)] * AUTHORS
    speeds = (False, True) if is_last else ()
    reactions = [
        Reaction(state, observations, is_slow, number) for number, is_slow in enumerate(speeds)
    ]
    async with (
        writing(observations.chronicle, authors, rng),
        asyncio.TaskGroup() as watching,
    ):
        for _ in range(WATCHERS):
            watching.create_task(
                watch_again_and_again(state, observations, random.Random(rng.random()))
            )
        for reaction in reactions[1:]:
            watching.create_task(reaction.until_it_has_fallen_behind())
    for reaction in reactions:
        await reaction.conclude()


async def write_embedded(state: iii_state.State, writes: list[Json]) -> tuple[int, list[Fact]]:
    """Carry out writes, in a transaction unless it is a single set."""
    if len(writes) == 1 and writes[0]["op"] == "set":
        [write] = writes
        done = await state.set(write["scope"], write["key"], write["value"])
        fact = Fact.of_write(write["scope"], write["key"], done.old_value, done.new_value)
        return done.revision, [fact]
    async with state.transaction() as transaction:
        for write in writes:
            place = write["scope"], write["key"]
            match write["op"]:
                case "set":
                    transaction.set(*place, write["value"])
                case "update":
                    transaction.update(*place, *write["ops"])
                case "delete":
                    transaction.delete(*place)
    assert transaction.result is not None
    return transaction.result.first_revision, [
        Fact.of_write(write["scope"], write["key"], did.old_value, did.new_value)
        for write, did in zip(writes, transaction.result.results, strict=True)
    ]


async def until_gone(state: iii_state.State, observations: Observations, revision: int) -> None:
    """Wait until the log does not reach back to a revision any more."""
    while (oldest := state.info().oldest_revision) <= revision:
        await observations.chronicle.grown(20)
    observations.oldest.add(oldest)


async def watch_again_and_again(
    state: iii_state.State, observations: Observations, rng: random.Random
) -> None:
    """Watch from one revision after the other, now and then slower than the log is trimmed."""
    for _ in range(TURNS):
        before = state.info().oldest_revision
        observations.oldest.add(before)
        after = any_start(rng, before, observations.chronicle.newest)
        selection, seen = rng.choice(SELECTIONS), list[tuple[int, Fact]]()
        watch = state.watch(from_revision=after, **selection)
        events = 1 + rng.randrange(CHANGES_MAX) // (8 if selection else 1)
        stops_at = rng.randrange(events) if rng.random() < SLOW else -1
        end = "read"
        try:
            for number in range(events):
                if number == stops_at:
                    await until_gone(state, observations, watch.revision)
                before = state.info().oldest_revision
                seen.append(told(await anext(watch)))
        except RevisionCompacted as error:
            oldest = error.details["oldest_revision"]
            now = state.info().oldest_revision
            observations.check_refusal(oldest, watch.revision, before, now)
            end = "compacted on the way" if seen else "compacted at once"
        observations.counts[end] += 1
        observations.sightings.append(Sighting(after, selection, seen, watch.revision))
        watch.close()


class Reaction:
    """A function that is called for everything after the newest revision.

    A slow one does not return from its first call until the log is trimmed beyond all that it was
    sent.
    """

    def __init__(
        self, state: iii_state.State, observations: Observations, is_slow: bool, number: int
    ) -> None:
        self._state = state
        self._observations = observations
        self._after = observations.chronicle.newest
        self._seen: list[tuple[int, Fact]] = []
        self._number = number
        self._may_return = asyncio.Event()
        if not is_slow:
            self._may_return.set()
        try:
            state.on(start=0)(self._react)
        except RevisionCompacted as error:
            oldest = state.info().oldest_revision
            observations.check_refusal(error.details["oldest_revision"], 0, oldest, oldest)
            observations.counts["refused a reaction"] += 1
        state.on(start=self._after)(self._react)

    async def _react(self, event: iii_state.Event) -> None:
        self._seen.append(told(event))
        await self._may_return.wait()

    async def until_it_has_fallen_behind(self) -> None:
        """Let the first call return when it has."""
        while (status := await self._status()).status != "full":
            await self._observations.chronicle.grown(20)
        await until_gone(self._state, self._observations, status.cursor + status.waiting + 100)
        self._may_return.set()

    async def conclude(self) -> None:
        """Note what it was told, when nothing is written any more and all of it is done."""
        while (status := await self._status()).lag or status.in_flight:
            await asyncio.sleep(0)
        lost = status.counters["lost"]
        self._observations.counts[f"a reaction {'lost some' if lost else 'had all'}"] += 1
        last_lost = status.lost or (0, -1)
        self._observations.sightings.append(
            Sighting(self._after, {}, self._seen, status.cursor, lost, last_lost, by_key=True)
        )

    async def _status(self) -> iii_state.TriggerStatus:
        return (await self._state.triggers())[self._number]


def told(event: iii_state.Event) -> tuple[int, Fact]:
    """What a watcher or a reaction was told."""
    values = event.old_value, event.new_value
    return event.revision, Fact(event.event_type, event.scope, event.key, *values)
