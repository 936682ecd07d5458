"""What a caller asks of the store, as data, and what comes back.

A write command has one pure method, `apply(before) -> (after, errors)`, so that set, update and
delete exist once for every store. To add a command: a struct here, an arm in each store's
`execute`, a case in `iii_state.testing.store_contract`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Sequence

import msgspec

from iii_state.core.changes import ANONYMOUS, Change, Entry, Origin
from iii_state.core.operations import Operation, OperationError, apply_operations
from iii_state.errors import LimitExceeded, StateError


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
    """Read every key of a scope, ascending by code point.

    Refused with `LimitExceeded` when the keys together have more than `bytes_max` bytes.
    """

    scope: str
    bytes_max: int


class ListScopes(msgspec.Struct, frozen=True, gc=False):
    """Read the names of all scopes that hold a key, ascending by code point."""


class Set(msgspec.Struct, frozen=True, gc=False):
    """Write one key. `value` is checked JSON text."""

    scope: str
    key: str
    value: bytes
    origin: Origin = ANONYMOUS

    def apply(self, before: bytes | None) -> tuple[bytes | None, tuple[OperationError, ...]]:
        """The new value, whatever was there before."""
        return self.value, ()


class Delete(msgspec.Struct, frozen=True, gc=False):
    """Remove one key. Deleting an absent key is a change too."""

    scope: str
    key: str
    origin: Origin = ANONYMOUS

    def apply(self, before: bytes | None) -> tuple[bytes | None, tuple[OperationError, ...]]:
        """Nothing is left."""
        return None, ()


class Update(msgspec.Struct, frozen=True, gc=False):
    """Apply operations in order to one key; those that fail are reported and skipped."""

    scope: str
    key: str
    operations: tuple[Operation, ...]
    origin: Origin = ANONYMOUS
    bytes_max: int = 1 << 62

    def apply(self, before: bytes | None) -> tuple[bytes | None, tuple[OperationError, ...]]:
        """The value after the operations; an absent key starts as `{}`.

        Raises:
            LimitExceeded: that value would have more than `bytes_max` bytes.
        """
        after, errors = apply_operations(before, self.operations)
        if len(after) > self.bytes_max:
            raise LimitExceeded(
                f"The value of key {self.key!r} in scope {self.scope!r} would grow to {len(after)} "
                f"bytes, more than value_bytes_max = {self.bytes_max}; nothing changed",
                code="VALUE_TOO_LARGE",
                limit="value_bytes_max",
                actual=len(after),
                bound=self.bytes_max,
            )
        return after, errors


Read = Get | ListValues | ListKeys | ListScopes
Write = Set | Delete | Update
Command = Read | Write

WRITES = (Set, Update, Delete)
"""What `Write` is, for `isinstance`; in order of how often it comes."""


class Outcome(msgspec.Struct, gc=False):
    """What became of a command. Filled in by the store.

    `settled` turns true, once, when the outcome is final: at once for most reads, with the commit
    for writes and for reads of what is not yet on disk. Then `failure` is set, or the members that
    the command is about: `change` and `errors` (writes), `entry` (`Get`), `values` (the lists: each
    a JSON text). `reading`, when set, must be awaited for the values to be there (a long list, read
    off the event loop), before the commit or after it; if it cannot be read, `failure` says why.
    """

    settled: bool = False
    change: Change | None = None
    errors: tuple[OperationError, ...] = ()
    entry: Entry | None = None
    values: Sequence[bytes] = ()
    failure: StateError | None = None
    reading: Awaitable[None] | None = None


def change_of(
    command: Write, before: Entry | None, revision: int, now_ms: int
) -> tuple[Change, tuple[OperationError, ...]]:
    """The change that `command` makes to a key that holds `before`, at `revision`.

    Pure, and the only place where a write's meaning is decided, for every store.
    """
    after, errors = command.apply(before.value if before is not None else None)
    if after is None:
        entry = None
    elif before is None:
        entry = Entry(after, revision, revision, now_ms, now_ms)
    else:
        entry = Entry(after, revision, before.created_revision, before.created_at_ms, now_ms)
    change = Change(revision, command.scope, command.key, before, entry, now_ms, command.origin)
    return change, errors
