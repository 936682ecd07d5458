"""An open store: its methods are the functions `state::*`, on plain Python values."""

from __future__ import annotations

import builtins
from collections.abc import Callable, Iterable, Mapping
from typing import Literal

import msgspec

from iii_state.core.bindings import EventName, Retry
from iii_state.core.store import StoreInfo
from iii_state.embedded.events import Json
from iii_state.embedded.functions import Functions
from iii_state.embedded.pages import Pages
from iii_state.embedded.reactions import Condition, LocalReactions, Reaction
from iii_state.embedded.results import (
    CompareAndSetResult,
    CreateResult,
    Entry,
    SetResult,
    TouchResult,
    UpdateResult,
    Version,
)
from iii_state.embedded.transaction import Transaction
from iii_state.embedded.watch import Watch
from iii_state.engine.engine import Engine


class State:
    """An open store. Made by `open`; use it from the event loop that opened it.

    Calls are carried out in the order in which they are made. What every write may ask for:

    - `if_revision`: only if the key is at that revision, 0: absent; else `Conflict`;
    - `idempotency_key`: a repetition within ten minutes is answered, not carried out again;
    - `deadline_ms`: taken up after that time, in ms since the epoch, it is `TooLate`;
    - `ttl_ms`, where it can be given: the key is deleted so many milliseconds later.

    Raises:
        LimitExceeded: a value, a name or a list is over a bound.
        StorageError: the store cannot do it; see the subclasses for what is known.
        Stopped: the store is closed.
    """

    def __init__(self, engine: Engine, functions: Functions, reactions: LocalReactions) -> None:
        self._engine = engine
        self._functions = functions
        self._reactions = reactions

    async def get(self, scope: str, key: str, default: Json = None) -> Json:
        """The value of a key; `default` when there is none. A stored null is None."""
        entry = await self.get_entry(scope, key)
        return default if entry is None else entry.value

    async def get_entry(self, scope: str, key: str) -> Entry | None:
        """What a key holds, with its revision and times; None when it is absent."""
        request = {"scope": scope, "key": key, "with_revision": True}
        members = await self._functions.value("state::get", request)
        if members["revision"] == 0:
            return None
        return Entry(scope=scope, key=key, **members)

    async def set(
        self,
        scope: str,
        key: str,
        value: Json,
        *,
        ttl_ms: int | None = None,
        if_revision: int | None = None,
        idempotency_key: str | None = None,
        deadline_ms: int | None = None,
    ) -> SetResult:
        """Write a key. On return the change is as durable as the store's mode says."""
        request = {
            "scope": scope,
            "key": key,
            "value": value,
            "with_revision": True,
            **_given(
                ttl_ms=ttl_ms,
                if_revision=if_revision,
                idempotency_key=idempotency_key,
                deadline_ms=deadline_ms,
            ),
        }
        return await self._functions.ask("state::set", request, SetResult)

    async def delete(
        self,
        scope: str,
        key: str,
        *,
        if_revision: int | None = None,
        idempotency_key: str | None = None,
        deadline_ms: int | None = None,
    ) -> Json:
        """Remove a key; returns what it held, None when it held nothing."""
        request = {
            "scope": scope,
            "key": key,
            **_given(
                if_revision=if_revision, idempotency_key=idempotency_key, deadline_ms=deadline_ms
            ),
        }
        return await self._functions.value("state::delete", request)

    async def update(
        self,
        scope: str,
        key: str,
        *operations: Mapping[str, Json],
        strict: bool = False,
        if_revision: int | None = None,
        idempotency_key: str | None = None,
        deadline_ms: int | None = None,
    ) -> UpdateResult:
        """Apply operations such as `{"type": "increment", "path": "n", "by": 1}`, as one change.

        An operation that fails is reported in `errors`; the others apply. With `strict`, nothing
        applies then, and `UpdateRejected` is raised.
        """
        request = {
            "scope": scope,
            "key": key,
            "ops": operations,
            "strict": strict,
            "with_revision": True,
            **_given(
                if_revision=if_revision, idempotency_key=idempotency_key, deadline_ms=deadline_ms
            ),
        }
        return await self._functions.ask("state::update", request, UpdateResult)

    async def compare_and_set(
        self,
        scope: str,
        key: str,
        value: Json,
        *,
        expected: Json = None,
        if_revision: int | None = None,
        idempotency_key: str | None = None,
        deadline_ms: int | None = None,
    ) -> CompareAndSetResult:
        """Write a key if it holds `expected` (None: nothing, or null), or is at `if_revision`."""
        request = {
            "scope": scope,
            "key": key,
            "value": value,
            **_given(
                expected=expected,
                if_revision=if_revision,
                idempotency_key=idempotency_key,
                deadline_ms=deadline_ms,
            ),
        }
        return await self._functions.ask("state::compare-and-set", request, CompareAndSetResult)

    async def create(
        self,
        scope: str,
        key: str,
        value: Json,
        *,
        ttl_ms: int | None = None,
        idempotency_key: str | None = None,
        deadline_ms: int | None = None,
    ) -> CreateResult:
        """Write a key if it is absent."""
        request = {
            "scope": scope,
            "key": key,
            "value": value,
            **_given(ttl_ms=ttl_ms, idempotency_key=idempotency_key, deadline_ms=deadline_ms),
        }
        return await self._functions.ask("state::create", request, CreateResult)

    async def touch(self, scope: str, key: str, ttl_ms: int | None) -> TouchResult:
        """Let a key expire so many milliseconds from now; None: never. That is no change."""
        request = {"scope": scope, "key": key, "ttl_ms": ttl_ms}
        return await self._functions.ask("state::touch", request, TouchResult)

    def transaction(
        self, *, idempotency_key: str | None = None, deadline_ms: int | None = None
    ) -> Transaction:
        """Several writes as one, committed at the end of the block: `async with ... as t`."""
        return Transaction(self._functions, idempotency_key, deadline_ms)

    async def list(self, scope: str) -> builtins.list[Json]:
        """The values of a scope, in order of creation."""
        return list(await self._functions.value("state::list", {"scope": scope}))

    async def list_keys(self, scope: str) -> builtins.list[str]:
        """The keys of a scope, ascending by code point."""
        return list((await self._functions.value("state::list_keys", {"scope": scope}))["keys"])

    async def list_groups(self) -> builtins.list[str]:
        """The scopes that hold a key, ascending by code point."""
        return list((await self._functions.value("state::list_groups", {}))["groups"])

    def watch(
        self,
        *,
        scope: str | None = None,
        key: str | None = None,
        key_prefix: str | None = None,
        events: Iterable[EventName] | None = None,
        from_revision: int | None = None,
    ) -> Watch:
        """The changes after a revision, all and in order: `async for event in state.watch(...)`.

        They begin after `from_revision`: 0 with the first change of all, None with the next one.
        """
        selection = _given(
            scope=scope,
            key=key,
            key_prefix=key_prefix,
            events=list(events) if events is not None else None,
        )
        newest = self._engine.store.executed_revision
        return Watch(
            self._functions, selection, from_revision if from_revision is not None else newest
        )

    def history(self, scope: str, key: str, *, before: int | None = None) -> Pages[Version]:
        """The versions of a key that are kept, newest first; only those older than `before`."""

        async def fetch(place: int | None) -> tuple[builtins.list[Version], int | None]:
            request = {"scope": scope, "key": key, **_given(before=place or before)}
            answer = await self._functions.ask("state::history", request, _History)
            return answer.versions, answer.next_before

        return Pages(fetch)

    def info(self) -> StoreInfo:
        """Durability, revision and size of the store."""
        return self._engine.store.info()

    def on(
        self,
        scope: str | None = None,
        *,
        key: str | None = None,
        key_prefix: str | None = None,
        keys: Iterable[str] | None = None,
        events: Iterable[EventName] | None = None,
        changed_only: bool = False,
        filters: Json = None,
        condition: Condition | None = None,
        start: Literal["now", "initial"] | int = "now",
        durable: str | None = None,
        retry: Retry | None = None,
        timeout_ms: int | None = None,
        max_in_flight: int | None = None,
        debounce_ms: int | None = None,
    ) -> Callable[[Reaction], Reaction]:
        """Have a function called for every change from now on, or after the revision `start`.

        What selects has to hold all together. Events of one key come one after another, in order;
        those of different keys side by side. A reaction that raises is logged; it is tried again as
        `retry` says, then the next event comes. When `condition` returns False, the event is
        skipped. A `durable` one goes on, in the next process too, where its name stopped.

        The members of a trigger's config; docs/triggers.md says what they mean.

        Raises:
            InvalidRequest: one of them is wrong.
        """
        config = {
            "scope": scope,
            "key": key,
            "key_prefix": key_prefix,
            "keys": list(keys) if keys is not None else None,
            "events": list(events) if events is not None else None,
            "changed_only": changed_only or None,
            "filters": filters,
            "from": start,
            "durable": durable,
            "retry": msgspec.to_builtins(retry),
            "timeout_ms": timeout_ms,
            "max_in_flight": max_in_flight,
            "debounce_ms": debounce_ms,
        }

        def bind(reaction: Reaction) -> Reaction:
            self._reactions.bind(config, condition, reaction)
            return reaction

        return bind


class _History(msgspec.Struct):
    versions: list[Version]
    next_before: int | None = None


def _given(**members: Json) -> dict[str, Json]:
    """The members that are not None."""
    return {name: value for name, value in members.items() if value is not None}
