"""Moves what the original engine left in files into a store, and compares the two afterwards.

A file is read whole, one at a time, so that memory is bounded by the largest scope.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice

import msgspec

from iii_state.core.changes import Origin
from iii_state.core.commands import Get, ListKeys, ListScopes, Outcome, Read, Set
from iii_state.core.store import Store
from iii_state.errors import StateError, StoreDamaged
from iii_state.stores.original import OtherFile, ScopeFile, read_scope

ORIGIN = Origin("migrate")
"""Who wrote what was moved in, as the store keeps it."""

COMMIT_KEYS_MAX = 4096
COMMIT_BYTES_MAX = 4 << 20
"""A commit takes that many keys, or ends with the value that brings it to that many bytes."""

DIFFERENCES_MAX = 20
"""Differences of a scope that are told one by one."""

_ANY_SIZE = 1 << 62

COUNTED_BYTES = 1 << 20
"""Progress is told in steps of about that many."""

Count = Callable[[int], None]
"""Told, again and again, how many more bytes are done with."""


class ScopeContents(msgspec.Struct, frozen=True):
    """What a scope's file holds: keys, and the bytes of their values."""

    scope: str
    file: str
    keys: int
    bytes: int


def read_all(
    files: Iterable[ScopeFile], count: Count
) -> tuple[list[tuple[ScopeFile, ScopeContents]], list[OtherFile]]:
    """Read every file: what it holds, or why it does not decode. Counts bytes of files."""
    readable: list[tuple[ScopeFile, ScopeContents]] = []
    damaged: list[OtherFile] = []
    for file in files:
        try:
            entries = read_scope(file)
        except StoreDamaged as error:
            damaged.append(OtherFile(file.name, error.details["reason"]))
        else:
            value_bytes = sum(len(memoryview(value)) for value in entries.values())
            contents = ScopeContents(file.scope, file.name, len(entries), value_bytes)
            readable.append((file, contents))
        count(file.bytes)
    return readable, damaged


async def write_all(store: Store, files: Iterable[ScopeFile], count: Count) -> None:
    """Write every entry of the files into a store, scope by scope, in order of the keys.

    Counts bytes of values.

    Raises:
        StoreDamaged: a file can no longer be read.
        StateError: the store does not take it, see `Store.execute` and `Store.commit`.
    """
    pending: list[Outcome] = []
    pending_bytes = 0
    for file in files:
        for key, value in read_scope(file).items():
            text = bytes(value)
            pending.append(store.execute(Set(file.scope, key, text, ORIGIN)))
            pending_bytes += len(text)
            if len(pending) == COMMIT_KEYS_MAX or pending_bytes >= COMMIT_BYTES_MAX:
                await _commit(store, pending)
                count(pending_bytes)
                pending, pending_bytes = [], 0
    await _commit(store, pending)
    count(pending_bytes)


async def _commit(store: Store, pending: list[Outcome]) -> None:
    await store.commit()
    for outcome in pending:
        _require(outcome)


async def compare_all(store: Store, files: Sequence[ScopeFile], count: Count) -> list[str]:
    """Compare a store with the files: which scopes, how many keys, each value, and the order.

    Returns the differences as sentences, for a scope only the first of them; none: the store holds
    what the files hold, byte for byte, in the same order, and nothing else. Counts bytes of values.

    Raises:
        StoreDamaged: a file can no longer be read.
        StateError: the store cannot read something.
    """
    differences: list[str] = []
    expected: set[str] = set()
    for file in files:
        entries = read_scope(file)
        if entries:
            expected.add(file.scope)
        found = await _read(store, ListKeys(file.scope, _ANY_SIZE))
        if len(found) != len(entries):
            differences.append(
                f"scope {file.scope!r} has {len(found)} keys, {file.name} has {len(entries)}"
            )
        of_scope = _compare_scope(store, file, entries, count)
        differences += islice(of_scope, DIFFERENCES_MAX)
    names = {msgspec.json.decode(name, type=str) for name in await _read(store, ListScopes())}
    for scope in sorted(names - expected):
        differences.append(f"scope {scope!r} is in no file")
    return differences


def _compare_scope(
    store: Store, file: ScopeFile, entries: dict[str, msgspec.Raw], count: Count
) -> Iterator[str]:
    newest = uncounted = 0
    for key, value in entries.items():
        entry = _require(store.execute(Get(file.scope, key))).entry
        text = bytes(value)
        if entry is None:
            yield f"key {key!r} of {file.name} is missing"
        elif entry.value != text:
            yield f"key {key!r} of {file.name} has another value"
        elif entry.created_revision <= newest:
            yield f"key {key!r} of {file.name} has another place in the order"
        newest = entry.created_revision if entry is not None else newest
        uncounted += len(text)
        if uncounted >= COUNTED_BYTES:
            count(uncounted)
            uncounted = 0
    count(uncounted)


async def _read(store: Store, command: Read) -> Sequence[bytes]:
    outcome = store.execute(command)
    if outcome.reading is not None:
        await outcome.reading
    return _require(outcome).values


def _require(outcome: Outcome) -> Outcome:
    """The outcome, unless it is a failure, which is raised."""
    failure: StateError | None = outcome.failure
    if failure is not None:
        raise failure
    return outcome
