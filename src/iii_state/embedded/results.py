"""What the methods of an open store return. Values are plain Python values."""

from __future__ import annotations

import msgspec

from iii_state.embedded.events import Event, Json


class SetResult(msgspec.Struct, frozen=True):
    """What a key held before and holds now; an absent one held None. The change's revision."""

    old_value: Json
    new_value: Json
    revision: int


class OperationError(msgspec.Struct, frozen=True):
    """An operation of an update that failed: its place in the list, a code, a sentence."""

    op_index: int
    code: str
    message: str


class UpdateResult(msgspec.Struct, frozen=True):
    """What a key held before and holds now, and the operations that failed.

    Also what one write of a transaction did; a deleted key holds None.
    """

    old_value: Json
    new_value: Json
    revision: int
    errors: tuple[OperationError, ...] = ()


class Entry(msgspec.Struct, frozen=True):
    """What a key holds. Times are milliseconds since the epoch; `expires_at_ms` None: never."""

    scope: str
    key: str
    value: Json
    revision: int
    created_at_ms: int
    updated_at_ms: int
    expires_at_ms: int | None = None


class GetManyResult(msgspec.Struct, frozen=True):
    """What a key holds, and the revision of the change that wrote it; 0: it is absent."""

    scope: str
    key: str
    revision: int
    value: Json = None


class CompareAndSetResult(msgspec.Struct, frozen=True):
    """Whether a key was written. If not, `current` is what it holds: None also when it is absent.

    `revision` is that of the change, or of what the key holds; 0: it is absent.
    """

    swapped: bool
    revision: int
    current: Json = None


class CreateResult(msgspec.Struct, frozen=True):
    """Whether a key was created. If not, `current` is what it holds, and `revision` that of it."""

    created: bool
    revision: int
    current: Json = None


class TouchResult(msgspec.Struct, frozen=True):
    """Whether the key is there, and when it expires now, in ms since the epoch; None: never."""

    found: bool
    expires_at_ms: int | None = None


class TransactResult(msgspec.Struct, frozen=True):
    """The revisions of a transaction's first and last write, and what each did, in order."""

    first_revision: int
    last_revision: int
    results: tuple[UpdateResult, ...]


class CountResult(msgspec.Struct, frozen=True):
    """How many keys there are, and how many bytes their values have."""

    count: int
    bytes: int


class DeletedResult(msgspec.Struct, frozen=True):
    """How many keys were deleted, and the revision of the last change."""

    deleted: int
    last_revision: int


class Version(msgspec.Struct, frozen=True):
    """What a key held from a revision on: None when it was deleted, which `event_type` tells.

    `worker` and `function` wrote it, as far as known; `cause` is `expired` for an expiry.
    """

    revision: int
    event_type: str
    timestamp_ms: int
    value: Json = None
    worker: str = ""
    function: str = ""
    cause: str = ""


class Failure(msgspec.Struct, frozen=True):
    """Why a reaction failed: a code, a sentence; the stack, or the revision that it was about."""

    code: str
    message: str
    stacktrace: str | None = None
    revision: int | None = None


class TriggerStatus(msgspec.Struct, frozen=True):
    """How a trigger fares; docs/functions.md has the members, and what `config` can hold.

    `name` is that of a durable one. All up to `cursor` is done; the store is `lag` revisions ahead.
    """

    id: str
    durable: bool
    function_id: str
    config: dict[str, Json]
    status: str
    paused: bool
    cursor: int
    lag: int
    in_flight: int
    waiting: int
    dead_letters: int
    counters: dict[str, int]
    name: str | None = None
    unknown_members: str | None = None
    lost: tuple[int, int] | None = None
    last_error: Failure | None = None


class DeadLetter(msgspec.Struct, frozen=True):
    """An event that was given up after so many attempts, and why. `trigger` is a name or an id."""

    id: str
    trigger: str
    event: Event
    attempts: int
    error: Failure
    parked_at_ms: int
