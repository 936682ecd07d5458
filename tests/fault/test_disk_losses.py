"""A key whose value rotted while the store was open: it can be written and deleted again."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

import pytest
from disk_story import model_of, open_store, state_of
from msgspec import Raw

from iii_state.core.changes import Change
from iii_state.core.commands import (
    Count,
    Delete,
    Get,
    Guard,
    ListEntries,
    Set,
    Transact,
    Update,
    Write,
)
from iii_state.core.operations import SetOperation
from iii_state.errors import OutcomeUnknown, StoreDamaged
from iii_state.stores.disk.store import DiskStore
from iii_state.testing.faulty_files import FaultyFiles

KEYS = [f"key {number}" for number in range(12)]
ROTTEN = KEYS[2:6]
PAGE = ListEntries("a", 0, 100, 1 << 30)


def value_of(key: str) -> bytes:
    return b'"%b"' % (key.encode() * 40)


class Rotten:
    """A store in which the values of some keys have rotted, in a segment that is sealed."""

    def __init__(self, store: DiskStore, files: FaultyFiles) -> None:
        self.store = store
        self.files = files
        self.changes: list[Change] = []

    @classmethod
    async def made(cls) -> Rotten:
        files = FaultyFiles()
        rotten = cls(await open_store(files), files)
        await rotten.write(*[Set("a", key, value_of(key)) for key in KEYS])
        while rotten.store.oldest_revision < len(KEYS):
            await rotten.write(Set("b", "key 0", b'"%b"' % (b"x" * 200)))
        await rotten.store.close()
        rotten.store = await open_store(files, cache_bytes=0)
        for key in ROTTEN:
            rotten.rot(value_of(key))
        return rotten

    @property
    def path(self) -> Path:
        """The file with the rotten values."""
        return min(path for path in self.files.paths() if path.suffix == ".seg")

    def rot(self, text: bytes) -> None:
        self.files.rot(self.path, self.files.contents(self.path).index(text) + 1)

    async def write(self, *writes: Write) -> Sequence[Change]:
        """Commit writes, together if they are several."""
        command = Transact((), writes) if len(writes) > 1 else writes[0]
        outcome = self.store.execute(command)
        await self.store.commit()
        if outcome.failure is not None:
            raise outcome.failure
        assert outcome.change is not None
        made = [change for change, _ in outcome.results] or [outcome.change]
        self.changes += made
        return made

    async def is_mended(self) -> None:
        """The store is what was written, as is that of the next start; the feed tells the same."""
        model = model_of(self.changes)
        assert state_of(self.store) == model
        in_order = sorted((value[1], key) for (scope, key), value in model.items() if scope == "a")
        assert [key for key, _ in self.store.execute(PAGE).values] == [key for _, key in in_order]
        await self.store.close()
        self.store = await open_store(self.files)
        assert state_of(self.store) == model
        after = max(self.store.oldest_revision, len(KEYS))
        kept = [change for change in self.changes if change.revision > after]
        assert list(self.store.changes(after, 10_000, 1 << 30)) == kept
        await self.store.close()


async def test_a_damaged_value_is_written_over_as_if_the_key_had_been_absent() -> None:
    rotten = await Rotten.made()
    with pytest.raises(StoreDamaged):
        rotten.store.execute(PAGE)  # the order in which it shows the keys is kept

    for key in ROTTEN:
        [change] = await rotten.write(Set("a", key, b'"new"'))

        assert (change.event_type, change.before, change.after) == ("state:created", None, b'"new"')
    await rotten.is_mended()


async def test_a_damaged_value_can_be_deleted() -> None:
    rotten = await Rotten.made()

    for key in ROTTEN:
        [change] = await rotten.write(Delete("a", key))

        assert (change.event_type, change.before) == ("state:deleted", None)
    await rotten.is_mended()


async def test_a_transaction_writes_over_damaged_values_too() -> None:
    rotten = await Rotten.made()
    first, second, third, fourth = ROTTEN
    operation = SetOperation("n", Raw(b"1"))

    changes = await rotten.write(
        Delete("a", first),
        Set("a", second, b"{}"),
        Update("a", second, (operation,)),
        Delete("a", KEYS[0]),
        Set("a", third, b"3"),
        Delete("a", third),
        Set("a", first, b"4"),
        Delete("a", fourth),
    )

    assert [change.before for change in changes] == [
        None,
        None,
        b"{}",
        value_of(KEYS[0]),
        None,
        b"3",
        None,
        None,
    ]
    await rotten.is_mended()


async def test_scopes_are_counted_right_while_a_damaged_value_is_written_over() -> None:
    rotten = await Rotten.made()
    count, left = Count("a"), [key for key in KEYS if key not in ROTTEN[:2]]

    rotten.store.execute(Set("a", ROTTEN[0], b"1"))
    rotten.store.execute(Delete("a", ROTTEN[1]))
    outcome = rotten.store.execute(count)
    await rotten.store.commit()

    assert list(outcome.values) == [len(left) + 1, sum(map(len, map(value_of, left))) + 1]
    assert list(rotten.store.execute(count).values) == list(outcome.values)
    await rotten.store.close()


async def test_the_log_names_what_was_lost_and_where(caplog: pytest.LogCaptureFixture) -> None:
    rotten = await Rotten.made()
    place = rotten.files.contents(rotten.path).index(value_of(ROTTEN[1])[2:]) - 2 - 48

    with caplog.at_level(logging.WARNING):
        await rotten.write(Set("a", ROTTEN[1], b"1"))
        await rotten.write(Set("a", ROTTEN[1], b"2"))

    [line] = [record.getMessage() for record in caplog.records if "damaged" in record.getMessage()]
    assert repr(ROTTEN[1]) in line
    assert f"{rotten.path}, offset {place}" in line


async def test_what_depends_on_a_damaged_value_is_refused_and_changes_nothing() -> None:
    rotten = await Rotten.made()
    key = ROTTEN[0]
    update = Update("a", key, (SetOperation("n", Raw(b"1")),))
    revision = rotten.store.revision

    for command in (
        Get("a", key),
        update,
        Transact((), (Set("a", "new", b"1"), update)),
        Transact((Guard("a", key, is_absent=True),), (Set("a", key, b"1"),)),
        Transact((Guard("a", key, revision=1),), (Delete("a", key),)),
    ):
        with pytest.raises(StoreDamaged):
            rotten.store.execute(command)
    await rotten.store.commit()

    assert rotten.store.revision == revision
    assert rotten.store.execute(Get("a", "new")).entry is None
    await rotten.store.close()


async def test_a_write_over_a_damaged_value_that_fails_leaves_it_damaged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    rotten = await Rotten.made()
    info = rotten.store.info()
    rotten.files.failing_sync = rotten.files.syncs + 1

    with caplog.at_level(logging.WARNING), pytest.raises(OutcomeUnknown):
        await rotten.write(Set("a", ROTTEN[0], b"1"))

    with pytest.raises(StoreDamaged):
        rotten.store.execute(Get("a", ROTTEN[0]))
    assert (rotten.store.info().keys, rotten.store.info().bytes) == (info.keys, info.bytes)
    assert "written over" not in caplog.text


@pytest.mark.parametrize("what", ["columns", "header"])
async def test_a_damaged_block_hides_at_most_how_long_a_value_was(what: str) -> None:
    rotten = await Rotten.made()
    rotten.rot(ROTTEN[0].encode() if what == "columns" else b"iB\n")
    info = rotten.store.info()

    for key in ROTTEN:
        await rotten.write(Delete("a", key))

    assert rotten.store.info().keys == info.keys - len(ROTTEN)
    assert rotten.store.execute(Get("a", KEYS[0])).entry is not None
    for key in ROTTEN:
        assert rotten.store.execute(Get("a", key)).entry is None
    await rotten.store.close()
    rotten.store = await open_store(rotten.files)
    assert state_of(rotten.store) == model_of(rotten.changes)
    await rotten.store.close()
