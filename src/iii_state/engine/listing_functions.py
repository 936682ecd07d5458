"""Reading many keys, in pages or at once, and removing many.

To add one: its request, a method, a row with its schemas in `functions`.

Source: docs/functions.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

import msgspec

from iii_state.core.changes import Entry
from iii_state.core.commands import Count, GetMany, ListEntries, ListKeys, Outcome
from iii_state.core.names import quoted
from iii_state.core.store import Store
from iii_state.core.values import encode_text
from iii_state.engine.calls import Call
from iii_state.engine.clearings import CHANGES_PER_COMMIT_MAX, Clearing
from iii_state.engine.commits import Commits
from iii_state.engine.conditions import Conditions, RepeatOptions
from iii_state.engine.cursors import Cursor
from iii_state.engine.functions import Builtin
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
from iii_state.engine.timers import Timers
from iii_state.errors import LimitExceeded

KEYS_PER_PAGE_MAX = 10_000
ENTRIES_PER_PAGE = 100
ENTRIES_PER_PAGE_MAX = 1000
PAGE_BYTES = 1_000_000
PAGE_BYTES_MAX = 8_000_000
GET_MANY_KEYS_MAX = 1000

ENVELOPE_BYTES = 512
"""Kept free for what stands around the list in an answer."""

Positive = Annotated[int, msgspec.Meta(ge=1)]


class ListKeysRequest(msgspec.Struct, gc=False):
    """A request for the keys of a scope; with a limit, for a page of them."""

    scope: str
    prefix: str = ""
    cursor: str | None = None
    limit: Positive | None = None


class ListEntriesRequest(msgspec.Struct, gc=False):
    """A request for a page of keys and values."""

    scope: str
    prefix: str = ""
    cursor: str | None = None
    limit: Positive | None = None
    max_bytes: Positive | None = None


class CountRequest(msgspec.Struct, gc=False):
    """A request for the number of keys."""

    scope: str
    prefix: str = ""


class ClearRequest(RepeatOptions, gc=False):
    """A request to remove all keys of a scope."""

    scope: str


class DeletePrefixRequest(RepeatOptions, gc=False):
    """A request to remove all keys of a scope that begin with something."""

    scope: str
    prefix: str


class Place(msgspec.Struct, gc=False):
    """Where a value is."""

    scope: str
    key: str


class GetManyRequest(msgspec.Struct, gc=False):
    """A request to read several keys."""

    keys: list[Place]


class ListingFunctions:
    """Makes the functions that read or remove many keys of a store.

    What is asked for beyond the bounds of a page is not refused; the page is held to them.
    """

    def __init__(
        self, store: Store, commits: Commits, conditions: Conditions, timers: Timers
    ) -> None:
        self._store = store
        self._commits = commits
        self._conditions = conditions
        self._timers = timers

    def functions(self) -> list[Builtin[Any]]:
        """The rows."""
        return [
            state_function("list_keys", _FUNCTIONS["list_keys"], ListKeysRequest, self._list_keys),
            state_function(
                "list_entries", _FUNCTIONS["list_entries"], ListEntriesRequest, self._list_entries
            ),
            state_function("get_many", _FUNCTIONS["get_many"], GetManyRequest, self._get_many),
            state_function("count", _FUNCTIONS["count"], CountRequest, self._count),
            state_function("clear", _FUNCTIONS["clear"], ClearRequest, self._clear),
            state_function(
                "delete_prefix",
                _FUNCTIONS["delete_prefix"],
                DeletePrefixRequest,
                self._delete_prefix,
            ),
        ]

    def _list_keys(self, call: Call, request: ListKeysRequest) -> None:
        scope, prefix, after, limit = request.scope, request.prefix, request.cursor, request.limit
        if limit is None:
            self._commits.submit(call, ListKeys(scope, call.room, prefix, after), _keys)
            return
        count = min(limit, KEYS_PER_PAGE_MAX)
        room = call.room - ENVELOPE_BYTES

        def answer(call: Call, outcome: Outcome) -> None:
            names: list[bytes] = list(outcome.values[:count])
            has_more = len(outcome.values) > count
            # The cursor is the last key once more.
            while len(names) > 1 and sum(map(len, names)) + len(names) + len(names[-1]) > room:
                names.pop()
                has_more = True
            more = b',"next_cursor":%b' % names[-1] if has_more else b""
            call.answer(b",".join(names), b'{"keys":[', b"]%b}" % more)

        self._commits.submit(call, ListKeys(scope, room, prefix, after, count + 1), answer)

    def _list_entries(self, call: Call, request: ListEntriesRequest) -> None:
        scope, prefix = request.scope, request.prefix
        begin = Cursor.begin(scope, prefix)
        if request.cursor is not None:
            begin = Cursor.decode(request.cursor, scope, prefix)
        limit = min(request.limit or ENTRIES_PER_PAGE, ENTRIES_PER_PAGE_MAX)
        room = call.room - ENVELOPE_BYTES
        bytes_max = min(request.max_bytes or PAGE_BYTES, PAGE_BYTES_MAX, room)
        total = b""
        if not prefix:
            counted = self._commits.peek(Count(scope)).values
            total = b',"total":%d' % counted[0]

        def answer(call: Call, outcome: Outcome) -> None:
            rows, last, has_more = _page(outcome.values, limit, bytes_max)
            if rows and len(rows[0]) > room:
                raise _too_large(outcome.values[0], len(rows[0]), room, begin)
            end = b'],"next_cursor":%b,"done":%b,"offset":%d%b}' % (
                begin.behind(last, len(rows)).encode() if has_more else b"null",
                b"false" if has_more else b"true",
                begin.offset,
                total,
            )
            call.answer(b",".join(rows), b'{"entries":[', end)

        command = ListEntries(scope, begin.after, limit + 1, bytes_max, prefix)
        self._commits.submit(call, command, answer)

    def _get_many(self, call: Call, request: GetManyRequest) -> None:
        if len(request.keys) > GET_MANY_KEYS_MAX:
            raise LimitExceeded(
                f"{len(request.keys)} keys at once are more than the {GET_MANY_KEYS_MAX} that are "
                f"allowed; ask for the others in another call",
                limit="get_many_keys_max",
                actual=len(request.keys),
                bound=GET_MANY_KEYS_MAX,
            )
        places = tuple([(place.scope, place.key) for place in request.keys])

        def answer(call: Call, outcome: Outcome) -> None:
            rows = map(_held, places, outcome.values)
            call.answer(b",".join(rows), b'{"entries":[', b"]}")

        self._commits.submit(call, GetMany(places, call.room), answer)

    def _count(self, call: Call, request: CountRequest) -> None:
        self._commits.submit(call, Count(request.scope, request.prefix), _counted)

    def _clear(self, call: Call, request: ClearRequest) -> None:
        self._remove(call, request, request.scope, "")

    def _delete_prefix(self, call: Call, request: DeletePrefixRequest) -> None:
        self._remove(call, request, request.scope, request.prefix)

    def _remove(self, call: Call, options: RepeatOptions, scope: str, prefix: str) -> None:
        # A repetition goes on where the first one stopped, and lets be what was made since.
        began = self._conditions.begin(call, options, scope, prefix)
        clearing = Clearing(call, scope, prefix, began.revision, self._commits, self._timers)
        clearing.begin(began.noted)


def _page(
    entries: Sequence[tuple[str, Entry]], limit: int, bytes_max: int
) -> tuple[list[bytes], int, bool]:
    """The rows of a page, when the last key was made, and whether there may be more.

    If there is an entry, there is a row, of any size.
    """
    rows: list[bytes] = []
    last = 0
    for key, entry in entries[:limit]:
        row = b"[%b,%b]" % (encode_text(key), entry.value)
        bytes_max -= len(row) + 1
        if rows and bytes_max < 0:
            break
        rows.append(row)
        last = entry.created_revision
    return rows, last, bytes_max < 0 or len(rows) < len(entries)


def _too_large(item: tuple[str, Entry], size: int, room: int, cursor: Cursor) -> LimitExceeded:
    key, entry = item
    following = cursor.behind(entry.created_revision, 1)
    return LimitExceeded(
        f"The entry of key {quoted(key)} has {size} bytes, more than the {room} that this caller "
        f"can take in one answer; the cursor in the details leads on behind it",
        code="payload_too_large",
        limit="bytes_max",
        actual=size,
        bound=room,
        key=key,
        next_cursor=msgspec.json.decode(following.encode()),
    )


def _keys(call: Call, outcome: Outcome) -> None:
    call.answer(b",".join(outcome.values), b'{"keys":[', b"]}")


def _held(place: tuple[str, str], entry: Entry | None) -> bytes:
    held = b'"revision":0'
    if entry is not None:
        held = b'"value":%b,"revision":%d' % (entry.value, entry.revision)
    return b'{"scope":%b,"key":%b,%b}' % (encode_text(place[0]), encode_text(place[1]), held)


def _counted(call: Call, outcome: Outcome) -> None:
    keys, size = outcome.values
    call.answer(b'{"count":%d,"bytes":%d}' % (keys, size))


_PREFIX: Schema = {"type": "string", "description": "Only keys that begin with this."}
_KEY_CURSOR: Schema = {"type": "string", "description": "Only keys behind this one."}
_CURSOR: Schema = {
    "type": "string",
    "description": "The next_cursor of the page before; it outlives restarts.",
}

_LIST_KEYS = described(
    "StateListKeysInput",
    {
        "scope": SCOPE,
        "prefix": _PREFIX,
        "cursor": _KEY_CURSOR,
        "limit": integer(f"How many at most, up to {KEYS_PER_PAGE_MAX}; absent: all."),
    },
    ["scope"],
)
_KEYS = described(
    "StateListKeysResult",
    {
        "keys": {"type": "array", "items": {"type": "string"}, "description": "Ascending."},
        "next_cursor": {"type": "string", "description": "Where to go on; absent: that was all."},
    },
    ["keys"],
)
_LIST_ENTRIES = described(
    "StateListEntriesInput",
    {
        "scope": SCOPE,
        "prefix": _PREFIX,
        "cursor": _CURSOR,
        "limit": integer(f"How many at most; {ENTRIES_PER_PAGE} if absent, up to 1000."),
        "max_bytes": integer(f"Of the page, roughly; {PAGE_BYTES} if absent, up to 8000000."),
    },
    ["scope"],
)
_ENTRIES = described(
    "StateListEntriesResult",
    {
        "entries": {
            "type": "array",
            "items": {"type": "array"},
            "description": "Pairs of key and value, oldest key first.",
        },
        "next_cursor": {
            "type": ["string", "null"],
            "description": "Where to go on; null: that was all.",
        },
        "done": {"type": "boolean", "description": "Whether that was all."},
        "offset": integer("How many entries the pages before had."),
        "total": integer("The keys of the scope; absent with a prefix."),
    },
    ["done", "entries", "next_cursor", "offset"],
)
_GET_MANY = described(
    "StateGetManyInput",
    {
        "keys": {
            "type": "array",
            "description": f"At most {GET_MANY_KEYS_MAX}.",
            "items": {
                "type": "object",
                "required": ["key", "scope"],
                "properties": {"scope": SCOPE, "key": KEY},
            },
        }
    },
    ["keys"],
)
_MANY = described(
    "StateGetManyResult",
    {
        "entries": {
            "type": "array",
            "description": "What each key holds, in the order of the request.",
            "items": {"$ref": "#/definitions/StateGetManyEntry"},
        }
    },
    ["entries"],
    {
        "StateGetManyEntry": {
            "type": "object",
            "required": ["key", "revision", "scope"],
            "properties": {
                "scope": SCOPE,
                "key": KEY,
                "value": {"description": "Absent: the key is."},
                "revision": integer("Of the change that wrote it; 0: the key is absent."),
            },
        }
    },
)
_COUNT = described("StateCountInput", {"scope": SCOPE, "prefix": _PREFIX}, ["scope"])
_COUNTED = described(
    "StateCountResult",
    {"count": integer("Of keys."), "bytes": integer("Of their values together.")},
    ["bytes", "count"],
)
_CLEAR = described("StateClearInput", {"scope": SCOPE, **OPTIONS}, ["scope"])
_DELETE_PREFIX = described(
    "StateDeletePrefixInput", {"scope": SCOPE, "prefix": _PREFIX, **OPTIONS}, ["prefix", "scope"]
)
_DELETED = described(
    "StateDeletedResult",
    {
        "deleted": integer(f"How many keys, {CHANGES_PER_COMMIT_MAX} a commit."),
        "last_revision": integer("That of the last delete; 0: there was none."),
    },
    ["deleted", "last_revision"],
)

_FUNCTIONS = {
    "list_keys": FunctionSchema("List the keys of a scope, ascending", _LIST_KEYS, _KEYS),
    "list_entries": FunctionSchema(
        "List keys and values of a scope in pages, oldest key first", _LIST_ENTRIES, _ENTRIES
    ),
    "get_many": FunctionSchema(
        "Get several values from state, all as of the same moment", _GET_MANY, _MANY
    ),
    "count": FunctionSchema("Count the keys of a scope", _COUNT, _COUNTED),
    "clear": FunctionSchema("Delete all keys of a scope", _CLEAR, _DELETED),
    "delete_prefix": FunctionSchema(
        "Delete the keys of a scope that begin with something", _DELETE_PREFIX, _DELETED
    ),
}
