"""What a caller asks of the store, as data, and what comes back.

What a write means is decided in `change_of`, once for every store. To add a command: a struct here,
an arm in each store's `execute`, a case in `iii_state.testing.store_contract`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import msgspec

from iii_state.core.changes import ANONYMOUS, Change, Entry, Origin
from iii_state.core.names import quoted
from iii_state.core.operations import Operation, OperationError, apply_operations
from iii_state.core.values import equal
from iii_state.errors import LimitExceeded, StateError, UpdateRejected


class Get(msgspec.Struct, frozen=True, gc=False):
    """Read one key."""

    scope: str
    key: str


class ListValues(msgspec.Struct, frozen=True, gc=False):
    """Read every value of a scope, in order of creation.

    Refused with `LimitExceeded` when the values together have more than `bytes_max` bytes.
    """

    scope: str
    bytes_max: int


class ListKeys(msgspec.Struct, frozen=True, gc=False):
    """Read the keys of a scope that have a prefix, ascending by code point.

    Without a `limit`: all behind the key `after`; refused with `LimitExceeded` when together they
    have more than `bytes_max` bytes. With one: the first so many of them, and none behind the one
    with which they have more bytes. So a caller who asks for one more than it takes learns from
    that one whether there are more.
    """

    scope: str
    bytes_max: int
    prefix: str = ""
    after: str | None = None
    limit: int | None = None


class ListEntries(msgspec.Struct, frozen=True, gc=False):
    """Read keys of a scope that have a prefix, with their entries, in order of creation.

    The first `limit` of those made after the revision `after`, and none behind the one with which
    keys, as JSON texts, and values have more than `bytes_max` bytes. Each is seen as it was at one
    moment between execution and answer. Whoever goes on behind the `created_revision` of the last
    one meets every key that is there all the time exactly once, whatever is written meanwhile.
    """

    scope: str
    after: int
    limit: int
    bytes_max: int
    prefix: str = ""


class Count(msgspec.Struct, frozen=True, gc=False):
    """Count the keys of a scope that have a prefix, and the bytes of their values."""

    scope: str
    prefix: str = ""


class GetMany(msgspec.Struct, frozen=True, gc=False):
    """Read several keys, each by scope and key, all as of the same moment.

    Refused with `LimitExceeded` when their values together have more than `bytes_max` bytes.
    """

    places: tuple[tuple[str, str], ...]
    bytes_max: int


class ListScopes(msgspec.Struct, frozen=True, gc=False):
    """Read the names of all scopes that hold a key, ascending by code point."""


class Set(msgspec.Struct, frozen=True, gc=False):
    """Write one key. `value` is checked JSON text; 0 in `expires_at_ms` stands for never."""

    scope: str
    key: str
    value: bytes
    origin: Origin = ANONYMOUS
    expires_at_ms: int = 0


class Delete(msgspec.Struct, frozen=True, gc=False):
    """Remove one key. Deleting an absent key is a change too.

    `cause` says why, if nobody asked for it: `expired`.
    """

    scope: str
    key: str
    origin: Origin = ANONYMOUS
    cause: str = ""


class Update(msgspec.Struct, frozen=True, gc=False):
    """Apply operations in order to one key; those that fail are reported and skipped.

    With `is_strict`, one that fails refuses them all. When the key expires stays as it was.
    """

    scope: str
    key: str
    operations: tuple[Operation, ...]
    origin: Origin = ANONYMOUS
    bytes_max: int = 1 << 62
    is_strict: bool = False

    def apply(self, before: bytes | None) -> tuple[bytes, tuple[OperationError, ...]]:
        """The value after the operations; an absent key starts as `{}`.

        Raises:
            LimitExceeded: that value would have more than `bytes_max` bytes.
            UpdateRejected: an operation failed, and all must apply.
        """
        after, errors = apply_operations(before, self.operations)
        if errors and self.is_strict:
            raise UpdateRejected(
                f"{len(errors)} of {len(self.operations)} operations on key {quoted(self.key)} in "
                f"scope {quoted(self.scope)} failed: {errors[0].message}; nothing changed",
                errors=msgspec.to_builtins(errors),
            )
        if len(after) > self.bytes_max:
            raise LimitExceeded(
                f"The value of key {quoted(self.key)} in scope {quoted(self.scope)} would grow to "
                f"{len(after)} bytes, more than value_bytes_max = {self.bytes_max}; nothing "
                f"changed",
                code="VALUE_TOO_LARGE",
                limit="value_bytes_max",
                actual=len(after),
                bound=self.bytes_max,
            )
        return after, errors


class Guard(msgspec.Struct, frozen=True, gc=False):
    """What must be true of a key for a transaction to be carried out.

    With a `revision`, that the key holds what that revision wrote; 0 means absent. Without, that it
    holds a JSON value equal to `value`, or, with `is_absent`, that it is absent; either will do.
    """

    scope: str
    key: str
    revision: int | None = None
    value: bytes | None = None
    is_absent: bool = False

    def holds(self, entry: Entry | None) -> bool:
        """Whether it is true of a key that holds `entry`."""
        if self.revision is not None:
            return self.revision == (entry.revision if entry is not None else 0)
        if entry is None:
            return self.is_absent
        return self.value is not None and equal(self.value, entry.value)


class Transact(msgspec.Struct, frozen=True, gc=False):
    """Carry out all of some writes, in order, as one commit; or none, unless every guard holds."""

    guards: tuple[Guard, ...]
    writes: tuple[Set | Delete | Update, ...]


Read = Get | ListValues | ListKeys | ListScopes | ListEntries | Count | GetMany
Write = Set | Delete | Update
Command = Read | Write | Transact

WRITES = (Set, Update, Delete)
"""What `Write` is, for `isinstance`; in order of how often it comes."""


Result = tuple[Change, tuple[OperationError, ...]]


class Outcome(msgspec.Struct, gc=False):
    """What became of a command. Filled in by the store.

    `settled` turns true, once, when the outcome is final: at once for most reads, with the commit
    for writes and for reads of what is not yet on disk. Then `failure` is set, or the members that
    the command is about: `change` and `errors` (writes), `entry` (`Get`), `values` (other reads).
    `reading`, when set, must be awaited for the values to be there (much to read, off the event
    loop), before the commit or after it; if it cannot be read, `failure` says why.

    `values` are JSON texts of `ListValues`, `ListKeys` and `ListScopes`; pairs of key and `Entry`
    of `ListEntries`; an `Entry` or None for each place of `GetMany`; of `Count` two numbers, of
    keys and of bytes.

    Of a `Transact`, `failed` has the guards that do not hold, by their index, with what their keys
    hold; if there are none, `results` has each write's change and errors, and `change` the last.
    """

    settled: bool = False
    change: Change | None = None
    errors: tuple[OperationError, ...] = ()
    entry: Entry | None = None
    values: Sequence[Any] = ()
    failure: StateError | None = None
    reading: Awaitable[None] | None = None
    results: Sequence[Result] = ()
    failed: Sequence[tuple[int, Entry | None]] = ()


def change_of(
    command: Write, before: Entry | None, revision: int, now_ms: int
) -> tuple[Change, tuple[OperationError, ...]]:
    """The change that `command` makes to a key that holds `before`, at `revision`.

    Pure, and the only place where a write's meaning is decided, for every store.
    """
    scope, key, origin = command.scope, command.key, command.origin
    errors: tuple[OperationError, ...] = ()
    if isinstance(command, Set):
        after, expires_at_ms = command.value, command.expires_at_ms
    elif isinstance(command, Update):
        after, errors = command.apply(before.value if before is not None else None)
        expires_at_ms = before.expires_at_ms if before is not None else 0
    else:
        cause = command.cause
        return Change(revision, scope, key, before, None, now_ms, origin, cause), errors
    created, created_at_ms = revision, now_ms
    if before is not None:
        created, created_at_ms = before.created_revision, before.created_at_ms
    entry = Entry(after, revision, created, created_at_ms, now_ms, expires_at_ms)
    return Change(revision, scope, key, before, entry, now_ms, origin), errors


def failed_guards(
    guards: Sequence[Guard], read: Callable[[str, str], Entry | None]
) -> list[tuple[int, Entry | None]]:
    """The guards that do not hold, by index, with what their keys hold; `read` tells that."""
    entries = [read(guard.scope, guard.key) for guard in guards]
    return [
        (index, entry)
        for index, (guard, entry) in enumerate(zip(guards, entries, strict=True))
        if not guard.holds(entry)
    ]


def results_of(
    writes: Sequence[Write], read: Callable[[str, str], Entry | None], revision: int, now_ms: int
) -> list[Result]:
    """What writes do, one after the other, their changes beginning at `revision`.

    `read` tells what a key holds before all of them. Pure: a store then applies all, or none.

    Raises:
        LimitExceeded, UpdateRejected: one of the writes is refused, and with it all.
    """
    written: dict[tuple[str, str], Entry | None] = {}
    results: list[Result] = []
    for write in writes:
        place = write.scope, write.key
        before = written[place] if place in written else read(*place)
        change, errors = change_of(write, before, revision + len(results), now_ms)
        written[place] = change.entry
        results.append((change, errors))
    return results
