"""An open store: its methods are the functions `state::*`, on plain Python values."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from iii_state.core.bindings import EventName
from iii_state.core.store import StoreInfo
from iii_state.embedded.functions import Functions, given
from iii_state.embedded.keys import KeyMethods
from iii_state.embedded.pages import Pages
from iii_state.embedded.reactions import LocalReactions
from iii_state.embedded.results import Version
from iii_state.embedded.scopes import ScopeMethods
from iii_state.embedded.transaction import Transaction
from iii_state.embedded.triggers import TriggerMethods
from iii_state.embedded.watch import Watch
from iii_state.engine.engine import Engine


class State(KeyMethods, ScopeMethods, TriggerMethods):
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

    def transaction(
        self, *, idempotency_key: str | None = None, deadline_ms: int | None = None
    ) -> Transaction:
        """Several writes as one, committed at the end of the block: `async with ... as t`."""
        return Transaction(self._functions, idempotency_key, deadline_ms)

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
        selection = given(
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

        async def fetch(place: int | None) -> tuple[list[Version], int | None]:
            request = {"scope": scope, "key": key, **given(before=place or before)}
            answer = await self._functions.ask("state::history", request, _History)
            return answer.versions, answer.next_before

        return Pages(fetch)

    def info(self) -> StoreInfo:
        """Durability, revision and size of the store."""
        return self._engine.store.info()


class _History(msgspec.Struct):
    versions: list[Version]
    next_before: int | None = None
