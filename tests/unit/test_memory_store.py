"""What the in-memory store does beyond the contract: it settles at once, its history is bounded."""

from __future__ import annotations

import pytest

from iii_state.core.commands import Command, Delete, Get, ListScopes, ListValues, Set
from iii_state.errors import RevisionCompacted
from iii_state.stores.memory import MemoryStore
from iii_state.stores.recent import CHANGE_OVERHEAD_BYTES
from iii_state.testing.clocks import FakeClock

VALUE = b"1" * 100
CHANGE_BYTES = len(VALUE) + CHANGE_OVERHEAD_BYTES


def test_every_outcome_is_settled_at_once() -> None:
    store = MemoryStore(FakeClock())
    commands: list[Command] = [
        Set("s", "k", b"1"),
        Get("s", "k"),
        ListValues("s", 100),
        ListScopes(),
        Delete("s", "k"),
    ]

    outcomes = [store.execute(command) for command in commands]

    assert all(outcome.settled for outcome in outcomes)
    assert not any(outcome.reading for outcome in outcomes)


async def test_the_history_keeps_the_newest_changes_that_fit() -> None:
    store = MemoryStore(FakeClock(), history_bytes=3 * CHANGE_BYTES)

    for number in range(10):
        store.execute(Set("s", f"{number}", VALUE))
        await store.commit()

    assert (store.revision, store.oldest_revision) == (10, 7)
    assert [change.key for change in store.changes(7, 100, 1 << 20)] == ["7", "8", "9"]
    with pytest.raises(RevisionCompacted, match="the oldest that can be asked for is 7"):
        store.changes(6, 100, 1 << 20)


async def test_one_change_is_kept_however_large() -> None:
    store = MemoryStore(FakeClock(), history_bytes=1)

    for key in ("a", "b"):
        store.execute(Set("s", key, VALUE))
        await store.commit()

    assert [change.key for change in store.changes(1, 100, 1)] == ["b"]
    assert store.oldest_revision == 1


async def test_forgetting_changes_does_not_forget_values() -> None:
    store = MemoryStore(FakeClock(), history_bytes=1)
    store.execute(Set("s", "a", b"1"))
    store.execute(Set("s", "b", b"2"))
    await store.commit()

    assert store.execute(ListValues("s", 100)).values == [b"1", b"2"]
    assert store.info().bytes == 2


async def test_closing_commits_and_leaves_nothing_pending() -> None:
    store = MemoryStore(FakeClock())
    store.execute(Set("s", "k", b"1"))

    await store.close()

    assert store.revision == 1
    assert list(await store.commit()) == []
