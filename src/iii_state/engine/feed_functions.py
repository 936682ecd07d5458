"""The change feed as functions: `state::changes` and `state::history`.

Source: docs/functions.md.
"""

from __future__ import annotations

from typing import Annotated, Any

import msgspec

from iii_state.core.binding_config import BindingConfig, EventName
from iii_state.core.store import Store
from iii_state.engine import feed_schemas as schemas
from iii_state.engine.calls import Call
from iii_state.engine.feed_calls import FeedCalls
from iii_state.engine.feed_scans import ChangesScan, HistoryScan, Page
from iii_state.engine.functions import Builtin
from iii_state.engine.state_function import state_function
from iii_state.errors import InvalidRequest

ENVELOPE_BYTES = 256
"""Kept free for what stands around the list in an answer."""

Positive = Annotated[int, msgspec.Meta(ge=1)]
NotNegative = Annotated[int, msgspec.Meta(ge=0)]


class ChangesRequest(msgspec.Struct, gc=False):
    """A request for the changes after a revision."""

    after: NotNegative
    scope: str | None = None
    key: str | None = None
    key_prefix: str | None = None
    events: frozenset[EventName] | None = None
    limit: Positive | None = None
    max_bytes: Positive | None = None
    wait_ms: NotNegative | None = None


class HistoryRequest(msgspec.Struct, gc=False):
    """A request for the versions of one key."""

    scope: str
    key: str
    limit: Positive | None = None
    before: Positive | None = None


class FeedFunctions:
    """Makes the functions that read the change log of a store.

    What is asked for beyond a bound is not refused; the answer is held to it.
    """

    def __init__(self, store: Store, calls: FeedCalls) -> None:
        self._store = store
        self._calls = calls

    def functions(self) -> list[Builtin[Any]]:
        """The rows."""
        return [
            state_function("changes", schemas.FUNCTIONS["changes"], ChangesRequest, self._changes),
            state_function("history", schemas.FUNCTIONS["history"], HistoryRequest, self._history),
        ]

    def _changes(self, call: Call, request: ChangesRequest) -> None:
        after, newest = request.after, self._store.executed_revision
        if after > newest:
            raise InvalidRequest(
                f"`after` is {after}, but the newest revision is {newest}: the store is another "
                f"one, or has lost its newest changes; take the revision from state::info",
                revision=newest,
            )
        room = call.room - ENVELOPE_BYTES
        page = _page(request.limit, request.max_bytes, room)
        config = BindingConfig(
            scope=request.scope,
            key=request.key,
            key_prefix=request.key_prefix,
            events=request.events,
        )
        wait_ms = min(request.wait_ms or 0, schemas.WAIT_MS_MAX)
        scan = ChangesScan(self._store, after, config, page, room)
        self._calls.begin(call, scan, wait_ms / 1000)

    def _history(self, call: Call, request: HistoryRequest) -> None:
        room = call.room - ENVELOPE_BYTES
        page = _page(request.limit, None, room)
        scan = HistoryScan(self._store, request.scope, request.key, request.before, page, room)
        self._calls.begin(call, scan)


def _page(limit: int | None, bytes_max: int | None, room: int) -> Page:
    return Page(
        min(limit or schemas.LIMIT, schemas.LIMIT_MAX),
        min(bytes_max or schemas.ANSWER_BYTES, schemas.ANSWER_BYTES_MAX, room),
    )
