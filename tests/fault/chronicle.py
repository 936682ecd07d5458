"""All changes of a store, as their writers were told; and what watchers were told, held to that."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from typing import Any, NamedTuple

Json = dict[str, Any]


class Fact(NamedTuple):
    """A change. Values are never null, so that None is an absent key."""

    event_type: str
    scope: str
    key: str
    old_value: Any
    new_value: Any

    @classmethod
    def of_write(cls, scope: str, key: str, old_value: Any, new_value: Any) -> Fact:
        """What a writer did, by what the key held before and after it."""
        kind = "deleted" if new_value is None else "created" if old_value is None else "updated"
        return cls(f"state:{kind}", scope, key, old_value, new_value)

    @classmethod
    def of_event(cls, event: Json) -> Fact:
        """What a watcher was told."""
        return cls(*(event[member] for member in cls._fields))

    def is_selected(self, selection: Json) -> bool:
        """Whether one is told of it who selects by `scope`, `key`, `key_prefix` and `events`."""
        return (
            selection.get("scope", self.scope) == self.scope
            and selection.get("key", self.key) == self.key
            and self.key.startswith(selection.get("key_prefix", ""))
            and self.event_type.removeprefix("state:") in selection.get("events", self.event_type)
        )


class Sighting(NamedTuple):
    """What somebody was told, in that order, who asked for all that is selected after a revision.

    All up to the revision `up_to` was told, but for what was said to be lost: so many revisions,
    the last of them in the range `last_lost`. With `by_key` the order is promised for each key
    only, and some may have been told beyond `up_to`.
    """

    after: int
    selection: Json
    seen: list[tuple[int, Fact]]
    up_to: int
    lost: int = 0
    last_lost: tuple[int, int] = (0, -1)
    by_key: bool = False


class Chronicle:
    """The acknowledged changes, by revision."""

    def __init__(self) -> None:
        self.facts: dict[int, Fact] = {}
        self.newest = 0
        self._awaited: list[tuple[int, asyncio.Future[None]]] = []

    def acknowledge(self, first_revision: int, facts: Sequence[Fact]) -> None:
        """Note changes that were acknowledged together, with revisions behind one another."""
        for revision, fact in enumerate(facts, first_revision):
            assert revision not in self.facts, f"revision {revision} was told of two changes"
            self.facts[revision] = fact
            self.newest = max(self.newest, revision)
        ripe = [future for number, future in self._awaited if number <= len(self.facts)]
        self._awaited = [item for item in self._awaited if item[0] > len(self.facts)]
        for future in ripe:
            if not future.done():
                future.set_result(None)

    async def grown(self, number: int) -> None:
        """Wait until so many more changes are acknowledged."""
        future = asyncio.get_running_loop().create_future()
        self._awaited.append((len(self.facts) + number, future))
        await future

    def bytes_after(self, revision: int) -> int:
        """What the values that were written after a revision take together, at least."""
        later = range(revision + 1, self.newest + 1)
        values = [self.facts[each].new_value for each in later if each in self.facts]
        return sum(len(json.dumps(value)) for value in values)

    def check(self) -> None:
        """No revision is missing, and each change finds what the one before it left."""
        assert sorted(self.facts) == [*range(1, self.newest + 1)]
        held: dict[tuple[str, str], Any] = {}
        for revision in range(1, self.newest + 1):
            fact = self.facts[revision]
            place = fact.scope, fact.key
            assert held.get(place) == fact.old_value, f"revision {revision} found {fact}"
            held[place] = fact.new_value

    def check_sighting(self, sighting: Sighting) -> None:
        """Each selected change was told as it was, once and in order, or was said to be lost."""
        last = max(sighting.up_to, *(revision for revision, _ in sighting.seen), 0)
        due = {
            revision: self.facts[revision]
            for revision in range(sighting.after + 1, last + 1)
            if self.facts[revision].is_selected(sighting.selection)
        }
        told_up_to: dict[tuple[str, str], int] = {}
        for revision, fact in sighting.seen:
            assert due.get(revision) == fact, f"told otherwise than it was: {revision} {fact}"
            # Lanes: all keys are one where the order is promised for all together.
            lane = (fact.scope, fact.key) if sighting.by_key else ("", "")
            assert told_up_to.get(lane, 0) < revision, f"twice, or out of order: {revision} {fact}"
            told_up_to[lane] = revision
        told = {revision for revision, _ in sighting.seen}
        missing = [
            revision
            for revision, fact in due.items()
            if revision not in told
            and revision <= max(sighting.up_to, told_up_to.get((fact.scope, fact.key), 0))
        ]
        self._check_lost(sighting, missing)

    def _check_lost(self, sighting: Sighting, missing: list[int]) -> None:
        first, last = sighting.last_lost
        if sighting.lost == last - first + 1:
            silently = [revision for revision in missing if not first <= revision <= last]
        else:
            silently = missing[sighting.lost :]
        denied = [revision for revision, _ in sighting.seen if first <= revision <= last]
        assert not denied, f"told, and said to be lost: {denied}"
        assert not silently, f"never told: {silently} of {sighting[:2]}, {sighting[3:]}"
