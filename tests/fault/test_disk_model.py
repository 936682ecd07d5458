"""Any order of writes, commits, compactions, restarts and crashes leads where a dict would."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from random import Random
from typing import TypeVar

from disk_story import DIRECTORY, SCOPES, Model, model_of, open_store
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from iii_state.core.changes import Change
from iii_state.core.commands import Delete, Get, ListKeys, ListScopes, ListValues, Set, Write
from iii_state.core.values import encode_text
from iii_state.stores.disk.inspection import check_store
from iii_state.stores.disk.store import DiskStore
from iii_state.testing.faulty_files import FaultyFiles

T = TypeVar("T")
scopes = st.sampled_from(SCOPES)
keys = st.sampled_from([f"key {number}" for number in range(6)])
values = st.integers(0, 400).map(lambda size: b'"%b"' % (b"x" * size))


class DiskMachine(RuleBasedStateMachine):
    """A disk store beside a list of the changes it has made."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.files = FaultyFiles()
        self.store: DiskStore
        self.executed: list[Change] = []
        self.committed = 0

    def wait(self, awaitable: Awaitable[T]) -> T:
        async def waited() -> T:
            return await awaitable

        return self.loop.run_until_complete(waited())

    def teardown(self) -> None:
        self.wait(self.store.close())
        assert check_store(DIRECTORY, self.files).damage == []
        self.loop.close()

    @property
    def model(self) -> Model:
        return model_of(self.executed)

    @initialize()
    def open(self) -> None:
        self.store = self.wait(open_store(self.files, cache_bytes=1000))

    def write(self, command: Write) -> None:
        before = self.model.get((command.scope, command.key))
        outcome = self.store.execute(command)
        assert outcome.change is not None
        assert outcome.change.before == (before[0] if before else None)
        assert outcome.change.revision == len(self.executed) + 1
        self.executed.append(outcome.change)

    @rule(scope=scopes, key=keys, value=values)
    def set(self, scope: str, key: str, value: bytes) -> None:
        self.write(Set(scope, key, value))

    @rule(scope=scopes, key=keys)
    def delete(self, scope: str, key: str) -> None:
        self.write(Delete(scope, key))

    @rule()
    def commit(self) -> None:
        changes = list(self.wait(self.store.commit()))
        assert changes == self.executed[self.committed :]
        self.committed = len(self.executed)

    @rule()
    def compact(self) -> None:
        self.wait(self.store.compact())

    @rule()
    def restart(self) -> None:
        self.wait(self.store.close())
        self.committed = len(self.executed)
        self.open()

    @rule(seed=st.integers(0, 1 << 16))
    def lose_power(self, seed: int) -> None:
        self.files = self.files.after_power_cut(Random(seed))
        del self.executed[self.committed :]
        self.open()

    @rule(data=st.data())
    def read_feed(self, data: st.DataObject) -> None:
        after = data.draw(st.integers(self.store.oldest_revision, self.store.revision))
        limit = data.draw(st.integers(1, 20))
        changes = self.store.changes(after, limit, 1 << 30)
        assert list(changes) == self.executed[after : min(after + limit, self.committed)]

    @invariant()
    def every_way_of_reading_agrees(self) -> None:
        model = self.model
        pending = {(change.scope, change.key) for change in self.executed[self.committed :]}
        for scope in SCOPES:
            own = {key: value for (s, key), value in model.items() if s == scope}
            in_order = sorted(own.values(), key=lambda value: value[1])
            listed = self.store.execute(ListValues(scope, 1 << 30))
            assert listed.values == [value for value, _ in in_order]
            assert listed.settled == all(s != scope for s, _ in pending)
            names = self.store.execute(ListKeys(scope, 1 << 30)).values
            assert names == [encode_text(key) for key in sorted(own)]
            for key in {*own, "key 0"}:
                outcome = self.store.execute(Get(scope, key))
                assert outcome.settled == ((scope, key) not in pending)
                expected = own.get(key)
                assert (outcome.entry is None) == (expected is None)
                if outcome.entry is not None:
                    assert (outcome.entry.value, outcome.entry.created_revision) == expected
        names = self.store.execute(ListScopes()).values
        assert names == [encode_text(scope) for scope in sorted({scope for scope, _ in model})]


DiskMachine.TestCase.settings = settings(
    max_examples=60, stateful_step_count=60, deadline=None, print_blob=True
)
TestDiskMachine = DiskMachine.TestCase
