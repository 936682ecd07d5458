"""A deterministic life of a disk store, told to a model, so that any crash can be judged."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from random import Random

from iii_state.core.changes import Change
from iii_state.core.commands import Delete, Get, ListValues, Set
from iii_state.core.store import Durability
from iii_state.errors import StateError
from iii_state.stores.disk.store import DiskStore
from iii_state.testing.clocks import FakeClock
from iii_state.testing.executors import InlineExecutor
from iii_state.testing.faulty_files import FaultyFiles

DIRECTORY = Path("/data")
SCOPES = ("a", "b")
NOTE = 99
"""A kind of note."""

Model = dict[tuple[str, str], tuple[bytes, int]]
"""The value and the created revision of every key."""


async def open_store(
    files: FaultyFiles, durability: Durability = "commit", *, cache_bytes: int = 3000
) -> DiskStore:
    """A store in segments so small that everything happens often."""
    return await DiskStore.open(
        DIRECTORY,
        clock_ms=FakeClock(),
        durability=durability,
        sync_interval_ms=3_600_000,
        segment_bytes=3000,
        history_bytes=5000,
        cache_bytes=cache_bytes,
        files=files,
        executor=InlineExecutor,
    )


class Story:
    """What was done to a store, batch by batch, and how much of it was acknowledged."""

    def __init__(self) -> None:
        self.batches: list[list[Change]] = []
        self.acknowledged = 0

    @property
    def changes(self) -> list[Change]:
        """All changes, also those that were never acknowledged."""
        return [change for batch in self.batches for change in batch]

    def ends(self) -> set[int]:
        """The revisions at which a batch ends: a store must never stop at any other."""
        return {0, *(batch[-1].revision for batch in self.batches)}

    def model_at(self, revision: int) -> Model:
        """The state at a revision."""
        return model_of([change for change in self.changes if change.revision <= revision])

    async def live(
        self, files: FaultyFiles, random: Random, steps: int, durability: Durability = "commit"
    ) -> None:
        """Write, compact, close and reopen. Ends early when the power is cut."""
        try:
            store = await open_store(files, durability)
            for step in range(steps):
                await self.write(store, random)
                if step % 9 == 8:
                    await store.compact()
                if step % 17 == 16:
                    await store.close()
                    store = await open_store(files, durability)
            await store.close()
        except (StateError, OSError):
            if not files.is_cut:
                raise

    async def write(self, store: DiskStore, random: Random) -> None:
        """One batch of random changes."""
        outcomes = []
        for _ in range(random.choice([1, 2, 7])):
            scope, key = random.choice(SCOPES), f"key {random.randrange(12)}"
            if random.random() < 0.3:
                outcomes.append(store.execute(Delete(scope, key)))
            else:
                value = b'"%b"' % (random.choice([b"x", b"y"]) * random.randrange(120))
                outcomes.append(store.execute(Set(scope, key, value)))
            change = outcomes[-1].change
            assert change is not None
            note = b"%d" % change.revision if change.entry is not None else None
            store.note(NOTE, f"{scope}/{key}", note, is_tied=True)
        self.batches.append([outcome.change for outcome in outcomes if outcome.change])
        await store.commit()
        assert all(outcome.settled for outcome in outcomes)
        if all(outcome.failure is None for outcome in outcomes):
            self.acknowledged = self.batches[-1][-1].revision


def model_of(changes: Sequence[Change]) -> Model:
    """The state that changes lead to."""
    model: Model = {}
    for change in changes:
        key = (change.scope, change.key)
        if change.entry is None:
            model.pop(key, None)
        else:
            model[key] = (change.entry.value, change.entry.created_revision)
    return model


def notes_of(changes: Sequence[Change]) -> dict[str, bytes]:
    """What is noted with changes: which one made what each key holds."""
    notes: dict[str, bytes] = {}
    for change in changes:
        name = f"{change.scope}/{change.key}"
        notes.pop(name, None)
        if change.entry is not None:
            notes[name] = b"%d" % change.revision
    return notes


def state_of(store: DiskStore) -> Model:
    """The state that a store shows, by every way of reading it."""
    model: Model = {}
    for scope in SCOPES:
        for number in range(12):
            key = f"key {number}"
            entry = store.execute(Get(scope, key)).entry
            if entry is not None:
                model[scope, key] = (entry.value, entry.created_revision)
        listed = store.execute(ListValues(scope, 1 << 30)).values
        in_order = sorted((v for (s, _), v in model.items() if s == scope), key=lambda v: v[1])
        assert listed == [value for value, _ in in_order]
    info = store.info()
    assert (info.keys, info.bytes) == (len(model), sum(len(value) for value, _ in model.values()))
    return model
