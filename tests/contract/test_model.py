"""Stores beside a model made of dicts, under whatever hypothesis comes up with.

Hypothesis has no asynchronous rules, so each machine drives its store through an event loop of its
own.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import settings
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from iii_state.core.changes import Change, Entry, Origin
from iii_state.core.commands import (
    Command,
    Count,
    Delete,
    Get,
    GetMany,
    ListEntries,
    ListKeys,
    ListScopes,
    ListValues,
    Outcome,
    Set,
    Update,
)
from iii_state.core.operations import apply_operations
from iii_state.core.store import Store
from iii_state.core.values import encode_text
from iii_state.stores.disk.store import DiskStore
from iii_state.stores.memory import MemoryStore
from iii_state.testing.clocks import FakeClock
from iii_state.testing.store_contract.rig import update_of

UNBOUNDED = 1 << 40
SEGMENT_BYTES = 4096

names = st.sampled_from(["", "a", "b", "a:b", "🦊", "\0", "é", "../x"]) | st.text(
    st.characters(exclude_categories=["Cs"]), max_size=3
)
scopes = st.sampled_from(["", "s", "t", "s:a"])
values = st.sampled_from([b"null", b"0", b'{"n":1}', b"[]", b'"text"', b'"' + b"x" * 3000 + b'"'])
operations = st.lists(
    st.sampled_from(
        [
            {"type": "increment", "path": "n", "by": 1},
            {"type": "set", "path": "", "value": None},
            {"type": "append", "path": "log", "value": "entry"},
            {"type": "remove", "path": "n"},
        ]
    ),
    max_size=2,
)


class Model:
    """What a store is, in as few lines as possible."""

    def __init__(self) -> None:
        self.scopes: dict[str, dict[str, Entry]] = {}
        self.changes: list[Change] = []

    def write(self, command: Set | Delete | Update, now_ms: int) -> Change:
        entries = self.scopes.setdefault(command.scope, {})
        old = entries.get(command.key)
        after: bytes | None = None
        if isinstance(command, Set):
            after = command.value
        elif isinstance(command, Update):
            after, _ = apply_operations(old.value if old else None, command.operations)
        revision = len(self.changes) + 1
        entry = None
        if after is not None:
            created = old.created_revision if old else revision
            created_at = old.created_at_ms if old else now_ms
            entry = entries[command.key] = Entry(after, revision, created, created_at, now_ms)
        else:
            entries.pop(command.key, None)
        change = Change(revision, command.scope, command.key, old, entry, now_ms, command.origin)
        if not entries:
            del self.scopes[command.scope]
        self.changes.append(change)
        return change


class StoreMachine(RuleBasedStateMachine):
    """Runs a store and the model side by side; outcomes are compared when they settle."""

    keeps_data = False

    def __init__(self) -> None:
        super().__init__()
        self.directory = TemporaryDirectory()
        self.runner = asyncio.Runner()
        self.clock = FakeClock()
        self.model = Model()
        self.committed = 0
        self.begun_ms = 0
        self.waiting: list[tuple[Outcome, Callable[[Outcome], Any], Any]] = []
        self.store = self.runner.run(self.open(Path(self.directory.name)))

    async def open(self, place: Path) -> Store:
        return MemoryStore(self.clock)

    def teardown(self) -> None:
        self.runner.run(self.store.close())
        self.settle()
        self.runner.close()
        self.directory.cleanup()

    def run(self, command: Command, told: Callable[[Outcome], Any], expected: Any) -> None:
        outcome = self.store.execute(command)
        self.waiting.append((outcome, told, expected))

    def settle(self) -> None:
        for outcome, told, expected in self.waiting:
            assert outcome.settled
            self.runner.run(_read(outcome))
            assert outcome.failure is None
            assert told(outcome) == expected
        self.waiting.clear()
        self.committed = len(self.model.changes)

    @rule(scope=scopes, key=names, value=values, depth=st.integers(0, 2))
    def set(self, scope: str, key: str, value: bytes, depth: int) -> None:
        self.write(Set(scope, key, value, Origin("w", "f", depth) if depth else Origin()))

    @rule(scope=scopes, key=names)
    def delete(self, scope: str, key: str) -> None:
        self.write(Delete(scope, key))

    @rule(scope=scopes, key=names, operations=operations)
    def update(self, scope: str, key: str, operations: list[dict[str, Any]]) -> None:
        self.write(update_of(scope, key, *operations))

    def write(self, command: Set | Delete | Update) -> None:
        if len(self.model.changes) == self.committed:
            self.begun_ms = self.clock.now_ms
        self.run(command, lambda o: o.change, self.model.write(command, self.begun_ms))

    @rule(scope=scopes, key=names)
    def get(self, scope: str, key: str) -> None:
        expected = self.model.scopes.get(scope, {}).get(key)
        self.run(Get(scope, key), lambda o: o.entry, expected)

    @rule(scope=scopes)
    def list(self, scope: str) -> None:
        expected = [entry.value for entry in self.model.scopes.get(scope, {}).values()]
        self.run(ListValues(scope, UNBOUNDED), lambda o: [*o.values], expected)

    @rule(scope=scopes)
    def list_keys(self, scope: str) -> None:
        expected = [encode_text(key) for key in sorted(self.model.scopes.get(scope, {}))]
        self.run(ListKeys(scope, UNBOUNDED), lambda o: [*o.values], expected)

    @rule(scope=scopes, prefix=names, after=st.integers(0, 20), limit=st.integers(1, 4))
    def list_entries(self, scope: str, prefix: str, after: int, limit: int) -> None:
        expected = [
            (key, entry)
            for key, entry in self.model.scopes.get(scope, {}).items()
            if entry.created_revision > after and key.startswith(prefix)
        ]
        command = ListEntries(scope, after, limit, UNBOUNDED, prefix)
        self.run(command, lambda o: [*o.values], expected[:limit])

    @rule(scope=scopes, prefix=names, after=names, limit=st.integers(1, 4))
    def list_some_keys(self, scope: str, prefix: str, after: str, limit: int) -> None:
        keys = sorted(self.model.scopes.get(scope, {}))
        expected = [encode_text(key) for key in keys if key > after and key.startswith(prefix)]
        command = ListKeys(scope, UNBOUNDED, prefix, after, limit)
        self.run(command, lambda o: [*o.values], expected[:limit])

    @rule(scope=scopes, prefix=names)
    def count(self, scope: str, prefix: str) -> None:
        entries = self.model.scopes.get(scope, {}).items()
        sizes = [len(entry.value) for key, entry in entries if key.startswith(prefix)]
        self.run(Count(scope, prefix), lambda o: [*o.values], [len(sizes), sum(sizes)])

    @rule(places=st.lists(st.tuples(scopes, names), max_size=5))
    def get_many(self, places: Sequence[tuple[str, str]]) -> None:
        expected = [self.model.scopes.get(scope, {}).get(key) for scope, key in places]
        self.run(GetMany(tuple(places), UNBOUNDED), lambda o: [*o.values], expected)

    @rule()
    def list_scopes(self) -> None:
        expected = [encode_text(name) for name in sorted(self.model.scopes)]
        self.run(ListScopes(), lambda o: [*o.values], expected)

    @rule()
    def commit(self) -> None:
        changes = self.runner.run(self.store.commit())
        assert [*changes] == self.model.changes[self.committed :]
        self.settle()

    @rule(back=st.integers(0, 30), limit=st.integers(1, 10))
    def read_changes(self, back: int, limit: int) -> None:
        after = max(self.committed - back, self.store.oldest_revision)
        expected = self.model.changes[after : min(after + limit, self.committed)]
        assert [*self.store.changes(after, limit, UNBOUNDED)] == expected

    @rule(milliseconds=st.integers(-100, 100))
    def let_time_pass(self, milliseconds: int) -> None:
        self.clock.advance(milliseconds)

    @precondition(lambda self: self.keeps_data)
    @rule()
    def reopen(self) -> None:
        self.runner.run(self.store.close())
        self.settle()
        self.store = self.runner.run(self.open(Path(self.directory.name)))

    @invariant()
    def the_revision_is_that_of_the_last_commit(self) -> None:
        assert self.store.revision == self.committed

    @invariant()
    def the_figures_are_right_when_nothing_is_pending(self) -> None:
        if self.committed == len(self.model.changes):
            info, entries = self.store.info(), self.model.scopes.values()
            assert (info.scopes, info.keys) == (len(entries), sum(map(len, entries)))
            assert info.bytes == sum(len(e.value) for scope in entries for e in scope.values())


class DiskStoreMachine(StoreMachine):
    """Rolls to a new segment after a few writes, and forgets changes soon."""

    keeps_data = True

    async def open(self, place: Path) -> Store:
        return await DiskStore.open(
            place,
            clock_ms=self.clock,
            segment_bytes=SEGMENT_BYTES,
            history_bytes=4 * SEGMENT_BYTES,
            cache_bytes=SEGMENT_BYTES,
        )


async def _read(outcome: Outcome) -> None:
    if outcome.reading is not None:
        await outcome.reading


@pytest.mark.parametrize("machine", [StoreMachine, DiskStoreMachine], ids=["memory", "disk"])
def test_the_store_behaves_as_the_model(machine: type[StoreMachine]) -> None:
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=60, stateful_step_count=40, deadline=None, database=None, print_blob=True
        ),
    )
