"""Writes beyond the six: on a condition, several at once, and when a key expires.

To add one: its request, a method, a row with its schemas in `functions`.

Source: docs/functions.md.
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec
from msgspec import Raw

from iii_state.core.changes import Entry
from iii_state.core.commands import Delete, Get, Guard, Outcome, Set, Transact, Update, Write
from iii_state.core.names import quoted
from iii_state.core.operations import decode_operations
from iii_state.core.store import Store
from iii_state.core.values import check_value
from iii_state.engine.bounds import Bounds, require_ttl
from iii_state.engine.calls import Call
from iii_state.engine.commits import Commits
from iii_state.engine.conditions import Conditions, RepeatOptions, Revision, WriteOptions
from iii_state.engine.functions import Builtin
from iii_state.engine.state import old_and_new
from iii_state.engine.state_function import state_function
from iii_state.engine.state_schemas import (
    KEY,
    OPTIONS,
    SCOPE,
    FunctionSchema,
    Schema,
    described,
    integer,
)
from iii_state.errors import InvalidRequest, LimitExceeded
from iii_state.settings import Settings
from iii_state.wire.frames import ABSENT

TRANSACTION_WRITES_MAX = 1000
TRANSACTION_BYTES_MAX = 16 << 20

_NULL = b"null"


class CompareAndSetRequest(WriteOptions, gc=False):
    """A request to write a key if it holds what the caller says; nothing or null: is absent."""

    scope: str
    key: str
    value: Raw
    expected: Raw = ABSENT
    ttl_ms: int | None = None


class CreateRequest(WriteOptions, gc=False):
    """A request to write a key if it is absent."""

    scope: str
    key: str
    value: Raw
    ttl_ms: int | None = None


class TouchRequest(RepeatOptions, gc=False):
    """A request to let a key expire at another time, or never."""

    scope: str
    key: str
    ttl_ms: int | None


class GuardRequest(msgspec.Struct, gc=False):
    """What must be true of a key: one of the last three."""

    scope: str
    key: str
    revision: Revision | None = None
    value: Raw = ABSENT
    absent: bool | None = None


class WriteRequest(msgspec.Struct, gc=False):
    """One write of a transaction."""

    op: Literal["set", "delete", "update"]
    scope: str
    key: str
    value: Raw = ABSENT
    ops: Raw = ABSENT
    strict: bool | None = None
    ttl_ms: int | None = None


class TransactRequest(WriteOptions, gc=False):
    """A request to carry out all of some writes, or none."""

    writes: list[WriteRequest]
    guards: tuple[GuardRequest, ...] = ()


class WritingFunctions:
    """Makes `state::compare-and-set`, `create`, `transact` and `touch` for a store."""

    def __init__(
        self, store: Store, commits: Commits, conditions: Conditions, settings: Settings
    ) -> None:
        self._store = store
        self._commits = commits
        self._conditions = conditions
        self._settings = settings
        self._bounds = Bounds(settings)

    def functions(self) -> list[Builtin[Any]]:
        """The rows."""
        return [
            state_function(
                "compare-and-set",
                _FUNCTIONS["compare-and-set"],
                CompareAndSetRequest,
                self._compare_and_set,
            ),
            state_function("create", _FUNCTIONS["create"], CreateRequest, self._create),
            state_function("transact", _FUNCTIONS["transact"], TransactRequest, self._transact),
            state_function("touch", _FUNCTIONS["touch"], TouchRequest, self._touch),
        ]

    def _compare_and_set(self, call: Call, request: CompareAndSetRequest) -> None:
        scope, key, value = request.scope, request.key, self._value(request)
        expected = bytes(request.expected)
        if request.if_revision is None:
            is_absent = expected in (b"", _NULL)
            guard = Guard(scope, key, value=expected or _NULL, is_absent=is_absent)
        elif expected:
            raise InvalidRequest("give `expected` or `if_revision`, not both")
        else:
            guard = Guard(scope, key, revision=request.if_revision)
        write = Set(scope, key, value, call.origin, self._expires_at(request.ttl_ms))
        command = Transact((guard,), (write,))
        self._conditions.transact(call, request, command, _swapped)

    def _create(self, call: Call, request: CreateRequest) -> None:
        scope, key, value = request.scope, request.key, self._value(request)
        if request.if_revision not in (None, 0):
            raise InvalidRequest("a key that is created has no revision; leave out `if_revision`")
        expires_at_ms = self._expires_at(request.ttl_ms)
        write = Set(scope, key, value, call.origin, expires_at_ms)
        command = Transact((Guard(scope, key, is_absent=True),), (write,))
        self._conditions.transact(call, request, command, _created)

    def _transact(self, call: Call, request: TransactRequest) -> None:
        if request.if_revision is not None:
            raise InvalidRequest("a transaction takes `guards`, not `if_revision`")
        if not request.writes:
            raise InvalidRequest("`writes` is empty; a transaction needs at least one")
        _require_bound("writes", len(request.writes), TRANSACTION_WRITES_MAX)
        _require_bound("guards", len(request.guards), TRANSACTION_WRITES_MAX)
        _require_bound("bytes", len(call.data), TRANSACTION_BYTES_MAX)
        command = Transact(
            tuple(map(_guard, request.guards)),
            tuple([self._write(call, write) for write in request.writes]),
        )
        self._conditions.transact(call, request, command, _transacted)

    def _write(self, call: Call, request: WriteRequest) -> Write:
        scope, key, origin = request.scope, request.key, call.origin
        self._bounds.check_names(scope, key)
        if request.op == "delete":
            return Delete(scope, key, origin)
        if request.op == "set":
            value = bytes(request.value)
            if not value:
                raise InvalidRequest(f"the set of key {quoted(key)} has no `value`")
            self._bounds.check_value(value)
            return Set(scope, key, value, origin, self._expires_at(request.ttl_ms))
        settings = self._settings
        text = bytes(request.ops)
        if not text:
            raise InvalidRequest(f"the update of key {quoted(key)} has no `ops`")
        # The values of operations stand two levels deep in the list.
        check_value(text, settings.nesting_max + 2)
        operations = decode_operations(text, settings.ops_max)
        is_strict = request.strict is True
        return Update(scope, key, operations, origin, settings.value_bytes_max, is_strict)

    def _touch(self, call: Call, request: TouchRequest) -> None:
        scope, key = request.scope, request.key
        expires_at_ms = self._expires_at(request.ttl_ms) or None
        began = self._conditions.begin(call, request, scope, key)
        read = self._commits.peek(Get(scope, key))
        if read.entry is None:
            self._commits.submit(call, Get(scope, key), _not_found)
            return
        expiries = self._commits.expiries
        if began.noted is not None and not began.is_first:
            expires_at_ms, outcome = expiries.at(scope, key), began.noted
        else:
            outcome = expiries.touch(scope, key, expires_at_ms)
        expiry = b',"expires_at_ms":%d' % expires_at_ms if expires_at_ms is not None else b""
        text = b'{"found":true%b}' % expiry
        self._commits.await_note(call, outcome, lambda call, _: call.answer(text))

    def _expires_at(self, ttl_ms: int | None) -> int:
        return self._commits.expiries.after(require_ttl(ttl_ms)) if ttl_ms is not None else 0

    def _value(self, request: CompareAndSetRequest | CreateRequest) -> bytes:
        value = bytes(request.value)
        self._bounds.check_names(request.scope, request.key)
        self._bounds.check_value(value)
        return value


def _guard(request: GuardRequest) -> Guard:
    value = bytes(request.value)
    given = (request.revision is not None) + bool(value) + (request.absent is not None)
    if given != 1 or request.absent is False:
        raise InvalidRequest(
            f"the guard of key {quoted(request.key)} needs one of `revision`, `value` and "
            f"`absent: true`"
        )
    return Guard(
        request.scope, request.key, request.revision, value or None, request.absent is True
    )


def _require_bound(what: str, actual: int, bound: int) -> None:
    if actual > bound:
        raise LimitExceeded(
            f"a transaction with {actual} {what} is more than the {bound} that are allowed; "
            f"nothing changed",
            limit=f"transaction_{what}_max",
            actual=actual,
            bound=bound,
        )


def _held(entry: Entry | None) -> bytes:
    if entry is None:
        return b'"current":null,"revision":0'
    return b'"current":%b,"revision":%d' % (entry.value, entry.revision)


def _swapped(call: Call, outcome: Outcome) -> None:
    if outcome.failed:
        call.answer(_held(outcome.failed[0][1]), b'{"swapped":false,', b"}")
    else:
        call.answer(b'{"swapped":true,"revision":%d}' % outcome.results[0][0].revision)


def _created(call: Call, outcome: Outcome) -> None:
    if outcome.failed:
        call.answer(_held(outcome.failed[0][1]), b'{"created":false,', b"}")
    else:
        call.answer(b'{"created":true,"revision":%d}' % outcome.results[0][0].revision)


def _transacted(call: Call, outcome: Outcome) -> None:
    if outcome.failed:
        failed = [
            b'{"guard_index":%d,%b}' % (index, _held(entry)) for index, entry in outcome.failed
        ]
        call.answer(b",".join(failed), b'{"committed":false,"failed":[', b"]}")
        return
    results = [old_and_new(change, errors) for change, errors in outcome.results]
    begin = b'{"committed":true,"first_revision":%d,"last_revision":%d,"results":[' % (
        outcome.results[0][0].revision,
        outcome.results[-1][0].revision,
    )
    call.answer(b",".join(results), begin, b"]}")


def _not_found(call: Call, outcome: Outcome) -> None:
    call.answer(b'{"found":false}')


_VALUE: Schema = {"description": "Any JSON; null is a value."}
_CURRENT: Schema = {"description": "What the key holds now; null when it is absent."}
_REVISION = integer("That of the change, or of what the key holds; 0: absent.")
_TTL = integer("Milliseconds after which the key is deleted; absent: never.")

_COMPARE_AND_SET = described(
    "StateCompareAndSetInput",
    {
        "scope": SCOPE,
        "key": KEY,
        "expected": {"description": "What the key must hold; absent or null: nothing, or null."},
        "if_revision": integer("Instead: the revision of what the key must hold; 0: absent."),
        "value": _VALUE,
        "ttl_ms": _TTL,
        **OPTIONS,
    },
    ["key", "scope", "value"],
)
_SWAPPED = described(
    "StateCompareAndSetResult",
    {"swapped": {"type": "boolean"}, "current": _CURRENT, "revision": _REVISION},
    ["revision", "swapped"],
)
_CREATE = described(
    "StateCreateInput",
    {"scope": SCOPE, "key": KEY, "value": _VALUE, "ttl_ms": _TTL, **OPTIONS},
    ["key", "scope", "value"],
)
_CREATED = described(
    "StateCreateResult",
    {"created": {"type": "boolean"}, "current": _CURRENT, "revision": _REVISION},
    ["created", "revision"],
)
_TRANSACT = described(
    "StateTransactInput",
    {
        "guards": {
            "type": "array",
            "description": "What must be true before; each needs one of the last three.",
            "items": {
                "type": "object",
                "required": ["key", "scope"],
                "properties": {
                    "scope": SCOPE,
                    "key": KEY,
                    "revision": integer("Of what the key holds; 0: absent."),
                    "value": {"description": "Equal, as JSON, to what the key holds."},
                    "absent": {"type": "boolean", "enum": [True]},
                },
            },
        },
        "writes": {
            "type": "array",
            "description": f"Carried out in order; at most {TRANSACTION_WRITES_MAX}.",
            "items": {
                "type": "object",
                "required": ["key", "op", "scope"],
                "properties": {
                    "op": {"type": "string", "enum": ["set", "delete", "update"]},
                    "scope": SCOPE,
                    "key": KEY,
                    "value": _VALUE,
                    "ops": {"type": "array", "description": "As in state::update."},
                    "strict": {"type": "boolean", "description": "As in state::update."},
                    "ttl_ms": _TTL,
                },
            },
        },
        **OPTIONS,
    },
    ["writes"],
)
_TRANSACTED = described(
    "StateTransactResult",
    {
        "committed": {"type": "boolean"},
        "first_revision": integer("That of the first write; the others follow."),
        "last_revision": integer("That of the last write."),
        "results": {"type": "array", "description": "What each write answers, in order."},
        "failed": {
            "type": "array",
            "description": "The guards that do not hold: guard_index, current, revision.",
        },
    },
    ["committed"],
)
_TOUCH = described(
    "StateTouchInput",
    {
        "scope": SCOPE,
        "key": KEY,
        "ttl_ms": {"type": ["integer", "null"], "description": "From now; null: never."},
        **OPTIONS,
    },
    ["key", "scope", "ttl_ms"],
)
_TOUCHED = described(
    "StateTouchResult",
    {"found": {"type": "boolean"}, "expires_at_ms": integer("Since the epoch; absent: never.")},
    ["found"],
)

_FUNCTIONS = {
    "compare-and-set": FunctionSchema(
        "Set a value if the key holds what is expected", _COMPARE_AND_SET, _SWAPPED
    ),
    "create": FunctionSchema("Set a value if the key is absent", _CREATE, _CREATED),
    "transact": FunctionSchema(
        "Carry out several writes as one commit, or none of them", _TRANSACT, _TRANSACTED
    ),
    "touch": FunctionSchema("Let a key expire at another time, or never", _TOUCH, _TOUCHED),
}
