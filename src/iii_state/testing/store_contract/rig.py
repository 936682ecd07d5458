"""What every contract test stands on: a fresh store, a scope of its own, and few words to use it.

A store's own test file supplies `Contract.open`; nothing else of it is ever overridden.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, Protocol

import pytest
import pytest_asyncio

from iii_state.core.changes import Change, Entry
from iii_state.core.commands import (
    Command,
    Delete,
    Get,
    ListKeys,
    ListScopes,
    ListValues,
    Outcome,
    Set,
    Update,
)
from iii_state.core.operations import decode_operations
from iii_state.core.store import Store
from iii_state.testing.clocks import FakeClock

UNBOUNDED = 1 << 40
"""A bound in bytes that no test reaches."""


class OpenStore(Protocol):
    """Opens the store that lives at `place`, and closes it at the end of the block.

    `place` is a directory of the test's own, empty at first. The same place is the same store; one
    that keeps no files may use its name. With `short_history` the store keeps as few changes as it
    can be told to, 64 KiB or less.
    """

    def __call__(
        self, place: Path, clock: FakeClock, *, short_history: bool = False
    ) -> AbstractAsyncContextManager[Store]:
        """See the class."""


class Rig:
    """A store, opened, with the clock it was given and a scope that nobody else uses."""

    store: Store

    def __init__(self, open_store: OpenStore, place: Path) -> None:
        self.clock = FakeClock()
        self.scope = f"scope of {place.name}"
        self._open_store = open_store
        self._place = place
        self._stack = AsyncExitStack()

    async def open(self, *, short_history: bool = False) -> None:
        """Open the store, after closing it if it is open."""
        await self.close()
        opening = self._open_store(self._place, self.clock, short_history=short_history)
        self.store = await self._stack.enter_async_context(opening)

    async def close(self) -> None:
        """Close the store, if it is open."""
        await self._stack.aclose()

    async def finish(self, outcome: Outcome) -> Outcome:
        """Commit until the outcome is final, wait for what it reads, raise its failure."""
        if not outcome.settled:
            await self.store.commit()
        assert outcome.settled, "a commit settles everything that was executed before it"
        if outcome.reading is not None:
            await outcome.reading
        if outcome.failure is not None:
            raise outcome.failure
        return outcome

    async def run(self, *commands: Command) -> list[Outcome]:
        """Execute the commands in order, commit once, give their outcomes."""
        outcomes = [self.store.execute(command) for command in commands]
        await self.store.commit()
        return [await self.finish(outcome) for outcome in outcomes]

    async def write(self, *commands: Set | Delete | Update) -> list[Change]:
        """Execute the writes in order, commit once, give the changes they made."""
        changes = [outcome.change for outcome in await self.run(*commands)]
        made = [change for change in changes if change is not None]
        assert len(made) == len(commands), "a write that did not fail has made a change"
        return made

    async def set(self, key: str, value: bytes) -> Change:
        """Write one key of the rig's scope."""
        return (await self.write(Set(self.scope, key, value)))[0]

    async def delete(self, key: str) -> Change:
        """Remove one key of the rig's scope."""
        return (await self.write(Delete(self.scope, key)))[0]

    async def update(self, key: str, *operations: dict[str, Any]) -> Outcome:
        """Apply operations to one key of the rig's scope."""
        return (await self.run(update_of(self.scope, key, *operations)))[0]

    async def get(self, key: str, scope: str | None = None) -> Entry | None:
        """Read one key, of the rig's scope if none is given."""
        command = Get(self.scope if scope is None else scope, key)
        return (await self.finish(self.store.execute(command))).entry

    async def value(self, key: str, scope: str | None = None) -> bytes | None:
        """The value of one key, of the rig's scope if none is given."""
        entry = await self.get(key, scope)
        return None if entry is None else entry.value

    async def values(self, scope: str | None = None) -> list[bytes]:
        """All values of a scope in the store's order, of the rig's if none is given."""
        command = ListValues(self.scope if scope is None else scope, UNBOUNDED)
        return list((await self.finish(self.store.execute(command))).values)

    async def keys(self, scope: str | None = None) -> list[str]:
        """All keys of a scope in the store's order, of the rig's if none is given."""
        command = ListKeys(self.scope if scope is None else scope, UNBOUNDED)
        outcome = await self.finish(self.store.execute(command))
        return [json.loads(name) for name in outcome.values]

    async def scopes(self) -> list[str]:
        """The names of all scopes in the store's order."""
        outcome = await self.finish(self.store.execute(ListScopes()))
        return [json.loads(name) for name in outcome.values]

    async def fill(self, keys: Iterable[str]) -> None:
        """Write keys in order, each holding its own name, with one commit."""
        await self.write(*(Set(self.scope, key, json_text(key)) for key in keys))

    def feed(self, after: int, limit: int = 1 << 30, bytes_max: int = UNBOUNDED) -> list[Change]:
        """The store's changes after a revision."""
        return list(self.store.changes(after, limit, bytes_max))


def json_text(value: Any) -> bytes:
    """A JSON text of a value."""
    return json.dumps(value).encode()


def update_of(scope: str, key: str, *operations: dict[str, Any]) -> Update:
    """An update of one key by operations in the form that requests have."""
    return Update(scope, key, decode_operations(json_text(operations), len(operations)))


@asynccontextmanager
async def open_rig(contract: Contract, place: Path) -> AsyncIterator[Rig]:
    """A rig around the contract's store at `place`, closed at the end of the block."""
    rig = Rig(contract.open, place)
    await rig.open()
    try:
        yield rig
    finally:
        await rig.close()


@pytest.mark.asyncio
class Contract:
    """The root of all contract classes: what a store's test file must supply."""

    def open(
        self, place: Path, clock: FakeClock, *, short_history: bool = False
    ) -> AbstractAsyncContextManager[Store]:
        """Open the store under test; see `OpenStore`."""
        raise NotImplementedError("a contract test class supplies `open`")

    @pytest_asyncio.fixture
    async def rig(self, tmp_path: Path) -> AsyncIterator[Rig]:
        """A fresh store, closed after the test."""
        async with open_rig(self, tmp_path) as rig:
            yield rig
