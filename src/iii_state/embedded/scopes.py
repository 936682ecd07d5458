"""What an open store does with many keys."""

from __future__ import annotations

import builtins

import msgspec

from iii_state.embedded.events import Json
from iii_state.embedded.functions import Functions, given
from iii_state.embedded.pages import Pages
from iii_state.embedded.results import CountResult, DeletedResult

PAGE = 1000
"""Keys that are read at a time, if their values are not too large together."""


class ScopeMethods:
    """The methods about scopes. A part of `State`."""

    _functions: Functions

    async def list(self, scope: str) -> builtins.list[Json]:
        """The values of a scope, in order of creation."""
        return list(await self._functions.value("state::list", {"scope": scope}))

    async def list_keys(self, scope: str, prefix: str | None = None) -> builtins.list[str]:
        """The keys of a scope that begin with a prefix, ascending by code point."""
        request = {"scope": scope, **given(prefix=prefix)}
        return list((await self._functions.value("state::list_keys", request))["keys"])

    def entries(self, scope: str, prefix: str | None = None) -> Pages[tuple[str, Json]]:
        """The keys of a scope that begin with a prefix, with their values, in order of creation.

        `async for key, value in state.entries(scope)`. A key that is there all the time comes once;
        one that is written or deleted meanwhile may come or not.
        """

        async def fetch(cursor: str | None) -> tuple[builtins.list[tuple[str, Json]], str | None]:
            request = {"scope": scope, "limit": PAGE, **given(prefix=prefix, cursor=cursor)}
            answer = await self._functions.ask("state::list_entries", request, _Entries)
            return answer.entries, answer.next_cursor

        return Pages(fetch)

    async def count(self, scope: str, prefix: str | None = None) -> CountResult:
        """How many keys of a scope begin with a prefix, and the bytes of their values."""
        request = {"scope": scope, **given(prefix=prefix)}
        return await self._functions.ask("state::count", request, CountResult)

    async def clear(
        self, scope: str, *, idempotency_key: str | None = None, deadline_ms: int | None = None
    ) -> DeletedResult:
        """Delete every key of a scope: a change each, and not all in one commit.

        Repeated with the same `idempotency_key` it lets be what was made since the first time.
        """
        options = given(idempotency_key=idempotency_key, deadline_ms=deadline_ms)
        return await self._functions.ask("state::clear", {"scope": scope, **options}, DeletedResult)

    async def delete_prefix(
        self,
        scope: str,
        prefix: str,
        *,
        idempotency_key: str | None = None,
        deadline_ms: int | None = None,
    ) -> DeletedResult:
        """Delete the keys of a scope that begin with a prefix, as `clear` does."""
        options = given(idempotency_key=idempotency_key, deadline_ms=deadline_ms)
        request = {"scope": scope, "prefix": prefix, **options}
        return await self._functions.ask("state::delete_prefix", request, DeletedResult)

    async def list_groups(self) -> builtins.list[str]:
        """The scopes that hold a key, ascending by code point."""
        return list((await self._functions.value("state::list_groups", {}))["groups"])


class _Entries(msgspec.Struct):
    entries: builtins.list[tuple[str, Json]]
    next_cursor: str | None = None
