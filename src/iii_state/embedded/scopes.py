"""What an open store does with many keys."""

from __future__ import annotations

import builtins

from iii_state.embedded.events import Json
from iii_state.embedded.functions import Functions


class ScopeMethods:
    """The methods about scopes. A part of `State`."""

    _functions: Functions

    async def list(self, scope: str) -> builtins.list[Json]:
        """The values of a scope, in order of creation."""
        return list(await self._functions.value("state::list", {"scope": scope}))

    async def list_keys(self, scope: str) -> builtins.list[str]:
        """The keys of a scope, ascending by code point."""
        return list((await self._functions.value("state::list_keys", {"scope": scope}))["keys"])

    async def list_groups(self) -> builtins.list[str]:
        """The scopes that hold a key, ascending by code point."""
        return list((await self._functions.value("state::list_groups", {}))["groups"])
