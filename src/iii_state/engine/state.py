"""The state functions: a request becomes a command, its outcome a result.

To add a function: its request, a method that submits the command it means together with what makes
the outcome's JSON text, a row in `functions`, its schemas in `state_schemas.py`.

Source: docs/functions.md.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import msgspec
from msgspec import Raw

from iii_state import __version__
from iii_state.core.commands import (
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
from iii_state.core.values import check_value, compact_size
from iii_state.engine import state_schemas as schemas
from iii_state.engine.calls import Call
from iii_state.engine.commits import Commits
from iii_state.engine.functions import Builtin
from iii_state.errors import InvalidRequest, LimitExceeded
from iii_state.settings import Settings
from iii_state.wire.frames import ABSENT

OWNER = "iii-state"
"""The worker under which discovery lists the state functions."""


class KeyRequest(msgspec.Struct, gc=False):
    """A request about one key."""

    scope: str
    key: str


class SetRequest(msgspec.Struct, gc=False):
    """A request to write one key. `data` is the older name of `value`."""

    scope: str
    key: str
    value: Raw = ABSENT
    data: Raw = ABSENT


class UpdateRequest(msgspec.Struct):
    """A request to apply operations to one key."""

    scope: str
    key: str
    ops: Raw


class ScopeRequest(msgspec.Struct):
    """A request about one scope."""

    scope: str


class EmptyRequest(msgspec.Struct):
    """A request that needs nothing."""


Request = TypeVar("Request")


class StateFunctions:
    """Makes the built-in functions `state::*` for a store."""

    def __init__(self, store: Store, commits: Commits, settings: Settings) -> None:
        self._store = store
        self._submit = commits.submit
        self._settings = settings
        # A request that is no longer than this breaks no bound: a value needs two bytes a level.
        self._harmless_bytes = min(
            settings.name_bytes_max,
            settings.value_bytes_max,
            2 * settings.nesting_max,
            0 if settings.max_value_bytes is not None else settings.value_bytes_max,
        )

    def functions(self) -> list[Builtin[Any]]:
        """The rows."""
        return [
            _row("set", SetRequest, self._set),
            _row("get", KeyRequest, self._get),
            _row("delete", KeyRequest, self._delete),
            _row("update", UpdateRequest, self._update),
            _row("list", ScopeRequest, self._list),
            _row("list_groups", EmptyRequest, self._list_groups),
            _row("list_keys", ScopeRequest, self._list_keys),
            _row("info", EmptyRequest, self._info),
        ]

    def _set(self, call: Call, request: SetRequest) -> None:
        value = bytes(request.value)
        if request.data is not ABSENT:
            value = _only_one(value, bytes(request.data))
        if not value:
            raise InvalidRequest("Object missing required field `value`")
        scope, key = request.scope, request.key
        if len(call.data) > self._harmless_bytes:
            self._check_names(scope, key)
            self._check_value(value)
        self._submit(call, Set(scope, key, value, call.origin), _old_and_new)

    def _get(self, call: Call, request: KeyRequest) -> None:
        self._submit(call, Get(request.scope, request.key), _value)

    def _delete(self, call: Call, request: KeyRequest) -> None:
        self._check_names(request.scope, request.key)
        self._submit(call, Delete(request.scope, request.key, call.origin), _old)

    def _update(self, call: Call, request: UpdateRequest) -> None:
        self._check_names(request.scope, request.key)
        text = bytes(request.ops)
        # The values of operations stand two levels deep in the list.
        check_value(text, self._settings.nesting_max + 2)
        command = Update(
            request.scope,
            request.key,
            decode_operations(text, self._settings.ops_max),
            call.origin,
            self._settings.value_bytes_max,
        )
        self._submit(call, command, _old_and_new_and_errors)

    def _list(self, call: Call, request: ScopeRequest) -> None:
        self._submit(call, ListValues(request.scope, call.room), _array)

    def _list_keys(self, call: Call, request: ScopeRequest) -> None:
        self._submit(call, ListKeys(request.scope, call.room), _keys)

    def _list_groups(self, call: Call, request: EmptyRequest) -> None:
        self._submit(call, ListScopes(), _groups)

    def _info(self, call: Call, request: EmptyRequest) -> None:
        info = msgspec.to_builtins(self._store.info())
        call.answer(msgspec.json.encode({"version": __version__, **info}))

    def _check_names(self, scope: str, key: str) -> None:
        bound = self._settings.name_bytes_max
        for what, name in (("scope", scope), ("key", key)):
            size = len(name.encode())
            if size > bound:
                raise LimitExceeded(
                    f"The {what} has {size} bytes, more than name_bytes_max = {bound}; "
                    f"nothing changed",
                    limit="name_bytes_max",
                    actual=size,
                    bound=bound,
                )

    def _check_value(self, value: bytes) -> None:
        settings = self._settings
        if len(value) > settings.value_bytes_max:
            raise _value_too_large("value_bytes_max", len(value), settings.value_bytes_max)
        check_value(value, settings.nesting_max)
        if settings.max_value_bytes is not None:
            size = compact_size(value)
            if size > settings.max_value_bytes:
                raise _value_too_large("max_value_bytes", size, settings.max_value_bytes)


def _row(
    name: str, request: type[Request], handler: Callable[[Call, Request], None]
) -> Builtin[Request]:
    schema = schemas.FUNCTIONS[name]
    return Builtin(
        f"state::{name}",
        schema.description,
        request,
        handler,
        owner=OWNER,
        request_schema=schema.request,
        response_schema=schema.response,
    )


def _only_one(value: bytes, alias: bytes) -> bytes:
    if value:
        raise InvalidRequest("duplicate field `value` (`data` is the same)")
    return alias


def _value_too_large(limit: str, actual: int, bound: int) -> LimitExceeded:
    return LimitExceeded(
        f"The value has {actual} bytes, more than {limit} = {bound}; nothing changed",
        code="VALUE_TOO_LARGE",
        limit=limit,
        actual=actual,
        bound=bound,
    )


def _old_and_new(outcome: Outcome) -> bytes:
    change = outcome.change
    assert change is not None
    entry, replaced = change.entry, change.replaced
    assert entry is not None
    return b'{"new_value":%b,"old_value":%b}' % (
        entry.value,
        replaced.value if replaced is not None else b"null",
    )


def _old_and_new_and_errors(outcome: Outcome) -> bytes:
    result = _old_and_new(outcome)
    if not outcome.errors:
        return result
    return b'{"errors":%b,%b' % (msgspec.json.encode(outcome.errors), result[1:])


def _value(outcome: Outcome) -> bytes | None:
    return outcome.entry.value if outcome.entry is not None else None


def _old(outcome: Outcome) -> bytes | None:
    assert outcome.change is not None
    return outcome.change.before


def _array(outcome: Outcome) -> bytes:
    return b"[%b]" % b",".join(outcome.values)


def _groups(outcome: Outcome) -> bytes:
    return b'{"groups":%b}' % _array(outcome)


def _keys(outcome: Outcome) -> bytes:
    return b'{"keys":%b}' % _array(outcome)
