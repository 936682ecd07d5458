"""What an open store does with one key."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import msgspec

from iii_state.embedded.events import Json
from iii_state.embedded.functions import Functions, decode, encode, given
from iii_state.embedded.results import (
    CompareAndSetResult,
    CreateResult,
    Entry,
    GetManyResult,
    SetResult,
    TouchResult,
    UpdateResult,
)


class KeyMethods:
    """The methods about one key. A part of `State`."""

    _functions: Functions

    async def get(self, scope: str, key: str, default: Json = None) -> Json:
        """The value of a key; `default` when there is none. A stored null is None."""
        text = await self._functions.begin("state::get", encode({"scope": scope, "key": key}))
        return default if text is None else decode(text)

    async def get_entry(self, scope: str, key: str) -> Entry | None:
        """What a key holds, with its revision and times; None when it is absent."""
        request = {"scope": scope, "key": key, "with_revision": True}
        members = await self._functions.value("state::get", request)
        if members["revision"] == 0:
            return None
        return Entry(scope=scope, key=key, **members)

    async def get_many(self, keys: Iterable[tuple[str, str]]) -> list[GetManyResult]:
        """What several keys, each a scope and a key, hold at one moment, in the order given.

        At most 1,000. One that is absent has the revision 0.
        """
        places = [{"scope": scope, "key": key} for scope, key in keys]
        return (await self._functions.ask("state::get_many", {"keys": places}, _Many)).entries

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
            **given(
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
            **given(
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
            **given(
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
        ttl_ms: int | None = None,
        if_revision: int | None = None,
        idempotency_key: str | None = None,
        deadline_ms: int | None = None,
    ) -> CompareAndSetResult:
        """Write a key if it holds `expected` (None: nothing, or null), or is at `if_revision`."""
        request = {
            "scope": scope,
            "key": key,
            "value": value,
            **given(
                expected=expected,
                ttl_ms=ttl_ms,
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
            **given(ttl_ms=ttl_ms, idempotency_key=idempotency_key, deadline_ms=deadline_ms),
        }
        return await self._functions.ask("state::create", request, CreateResult)

    async def touch(
        self,
        scope: str,
        key: str,
        ttl_ms: int | None,
        *,
        idempotency_key: str | None = None,
        deadline_ms: int | None = None,
    ) -> TouchResult:
        """Let a key expire so many milliseconds from now; None: never. That is no change."""
        options = given(idempotency_key=idempotency_key, deadline_ms=deadline_ms)
        request = {"scope": scope, "key": key, "ttl_ms": ttl_ms, **options}
        return await self._functions.ask("state::touch", request, TouchResult)


class _Many(msgspec.Struct):
    entries: list[GetManyResult]
