"""The state functions: a request becomes a command, its outcome a result.

To add a function: its request, a method that submits the command it means together with what makes
the outcome's JSON text, a row in `functions`, its schemas in `state_schemas.py`.

Source: docs/functions.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any, TypeVar

import msgspec
from msgspec import Raw

from iii_state import __version__
from iii_state.core.changes import Change
from iii_state.core.commands import (
    Delete,
    Get,
    ListScopes,
    ListValues,
    Outcome,
    Set,
    Update,
    Write,
)
from iii_state.core.operations import OperationError, decode_operations
from iii_state.core.store import Store
from iii_state.core.values import check_value
from iii_state.engine import state_schemas as schemas
from iii_state.engine.bounds import Bounds, require_ttl
from iii_state.engine.calls import Call
from iii_state.engine.commits import Answer, Commits
from iii_state.engine.conditions import Conditions, WriteOptions
from iii_state.engine.functions import Builtin
from iii_state.engine.state_function import state_function
from iii_state.errors import InvalidRequest
from iii_state.settings import Settings
from iii_state.wire.frames import ABSENT


class GetRequest(msgspec.Struct, gc=False):
    """A request to read one key."""

    scope: str
    key: str
    with_revision: bool | None = None


class DeleteRequest(WriteOptions, gc=False):
    """A request to remove one key."""

    scope: str
    key: str


class SetRequest(WriteOptions, gc=False):
    """A request to write one key. `data` is the older name of `value`."""

    scope: str
    key: str
    value: Raw = ABSENT
    data: Raw = ABSENT
    ttl_ms: int | None = None


class UpdateRequest(WriteOptions, gc=False):
    """A request to apply operations to one key."""

    scope: str
    key: str
    ops: Raw
    strict: bool | None = None


class ScopeRequest(msgspec.Struct):
    """A request about one scope."""

    scope: str


class EmptyRequest(msgspec.Struct):
    """A request that needs nothing."""


Request = TypeVar("Request")

_join = b"".join


class StateFunctions:
    """Makes the built-in functions `state::*` for a store."""

    def __init__(
        self, store: Store, commits: Commits, conditions: Conditions, settings: Settings
    ) -> None:
        self._store = store
        self._commits = commits
        self._submit = commits.submit
        self._expiries = commits.expiries
        self._settings = settings
        self._bounds = Bounds(settings)
        self._conditions = conditions

    def functions(self) -> list[Builtin[Any]]:
        """The rows."""
        return [
            state_function("set", schemas.FUNCTIONS["set"], SetRequest, self._set),
            state_function("get", schemas.FUNCTIONS["get"], GetRequest, self._get),
            state_function("delete", schemas.FUNCTIONS["delete"], DeleteRequest, self._delete),
            state_function("update", schemas.FUNCTIONS["update"], UpdateRequest, self._update),
            state_function("list", schemas.FUNCTIONS["list"], ScopeRequest, self._list),
            state_function(
                "list_groups", schemas.FUNCTIONS["list_groups"], EmptyRequest, self._list_groups
            ),
            state_function("info", schemas.FUNCTIONS["info"], EmptyRequest, self._info),
        ]

    def _set(self, call: Call, request: SetRequest) -> None:
        value = bytes(request.value)
        if request.data is not ABSENT:
            value = _only_one(value, bytes(request.data))
        if not value:
            raise InvalidRequest("Object missing required field `value`")
        scope, key = request.scope, request.key
        if len(call.data) > self._bounds.harmless_bytes:
            self._bounds.check_names(scope, key)
            self._bounds.check_value(value)
        expires_at_ms = 0
        if request.ttl_ms is not None:
            expires_at_ms = self._expiries.after(require_ttl(request.ttl_ms))
        command = Set(scope, key, value, call.origin, expires_at_ms)
        answer = _written_with_revision if request.with_revision else _written
        self._write(call, request, command, answer)

    def _get(self, call: Call, request: GetRequest) -> None:
        scope, key = request.scope, request.key
        answer: Answer = _value
        if request.with_revision:
            answer = _entry
            expiries = self._expiries
            if expiries.is_used and (expires_at_ms := expiries.at(scope, key)) is not None:
                answer = partial(_expiring_entry, expires_at_ms)
        self._submit(call, Get(scope, key), answer)

    def _delete(self, call: Call, request: DeleteRequest) -> None:
        self._bounds.check_names(request.scope, request.key)
        answer = _old_and_revision if request.with_revision else _old
        self._write(call, request, Delete(request.scope, request.key, call.origin), answer)

    def _update(self, call: Call, request: UpdateRequest) -> None:
        self._bounds.check_names(request.scope, request.key)
        text = bytes(request.ops)
        # The values of operations stand two levels deep in the list.
        check_value(text, self._settings.nesting_max + 2)
        command = Update(
            request.scope,
            request.key,
            decode_operations(text, self._settings.ops_max),
            call.origin,
            self._settings.value_bytes_max,
            request.strict is True,
        )
        answer = _written_with_revision if request.with_revision else _written
        self._write(call, request, command, answer)

    def _write(self, call: Call, options: WriteOptions, command: Write, answer: Answer) -> None:
        if options.if_revision is options.deadline_ms is None and options.idempotency_key is None:
            self._submit(call, command, answer)
        else:
            self._conditions.submit(call, options, command, answer)

    def _list(self, call: Call, request: ScopeRequest) -> None:
        self._submit(call, ListValues(request.scope, call.room), _array)

    def _list_groups(self, call: Call, request: EmptyRequest) -> None:
        self._submit(call, ListScopes(), _groups)

    def _info(self, call: Call, request: EmptyRequest) -> None:
        info = msgspec.to_builtins(self._store.info())
        call.answer(msgspec.json.encode({"version": __version__, **info}))


def _only_one(value: bytes, alias: bytes) -> bytes:
    if value:
        raise InvalidRequest("duplicate field `value` (`data` is the same)")
    return alias


def _written(call: Call, outcome: Outcome) -> None:
    assert outcome.change is not None
    call.answer(old_and_new(outcome.change, outcome.errors))


def _written_with_revision(call: Call, outcome: Outcome) -> None:
    change = outcome.change
    assert change is not None
    call.answer(old_and_new(change, outcome.errors, b',"revision":%d' % change.revision))


def old_and_new(change: Change, errors: Sequence[OperationError] = (), more: bytes = b"") -> bytes:
    """What a write of a key did: its values around it, and the operations that failed."""
    entry, replaced = change.entry, change.replaced
    return _join(
        (
            b'{"errors":%b,"new_value":' % msgspec.json.encode(errors)
            if errors
            else b'{"new_value":',
            entry.value if entry is not None else b"null",
            b',"old_value":',
            replaced.value if replaced is not None else b"null",
            more,
            b"}",
        )
    )


def _value(call: Call, outcome: Outcome) -> None:
    entry = outcome.entry
    call.answer(entry.value if entry is not None else None)


def _entry(call: Call, outcome: Outcome) -> None:
    entry = outcome.entry
    if entry is None:
        call.answer(b'{"revision":0}')
    else:
        call.answer(entry.value, b'{"value":', entry.stamp or entry.stamped())


def _expiring_entry(expires_at_ms: int, call: Call, outcome: Outcome) -> None:
    entry = outcome.entry
    if entry is None:
        _entry(call, outcome)
    else:
        more = b'%b,"expires_at_ms":%d}' % (entry.stamped()[:-1], expires_at_ms)
        call.answer(entry.value, b'{"value":', more)


def _old(call: Call, outcome: Outcome) -> None:
    assert outcome.change is not None
    call.answer(outcome.change.before)


def _old_and_revision(call: Call, outcome: Outcome) -> None:
    assert outcome.change is not None
    old, revision = outcome.change.before, outcome.change.revision
    if old is None:
        call.answer(b'{"revision":%d}' % revision)
    else:
        call.answer(old, b'{"old_value":', b',"revision":%d}' % revision)


def _array(call: Call, outcome: Outcome) -> None:
    call.answer(b",".join(outcome.values), b"[", b"]")


def _groups(call: Call, outcome: Outcome) -> None:
    call.answer(b",".join(outcome.values), b'{"groups":[', b"]}")
