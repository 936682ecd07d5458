"""What an open store does with reactions, those of this program and durable ones of others."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Literal

import msgspec

from iii_state.core.bindings import EventName, Retry
from iii_state.embedded.events import Json
from iii_state.embedded.functions import Functions, given
from iii_state.embedded.pages import Pages
from iii_state.embedded.reactions import Condition, LocalReactions, Reaction
from iii_state.embedded.results import DeadLetter, TriggerStatus


class TriggerMethods:
    """The methods about reactions. A part of `State`."""

    _functions: Functions
    _reactions: LocalReactions

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

        With `start="initial"` it is first told of the entries that are there.
        What selects has to hold all together. Events of one key come one after another, in order;
        those of different keys side by side. A reaction that raises is logged; it is tried again as
        `retry` says, then the next event comes. When `condition` returns False, the event is
        skipped. A `durable` one goes on, in the next process too, where its name stopped.

        The members of a trigger's config; docs/triggers.md says what they mean.

        Raises:
            InvalidRequest: one of them is wrong.
            RevisionCompacted: the change log does not reach back to `start`.
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

    async def triggers(self) -> list[TriggerStatus]:
        """How every reaction and durable trigger of the store fares, in the order of binding."""
        answer = await self._functions.ask("state::triggers", {"action": "list"}, _Triggers)
        return answer.triggers

    async def pause(self, name: str | None = None, *, id: str | None = None) -> TriggerStatus:
        """Start nothing more for a trigger, by its durable name or its id, until it is resumed.

        Raises:
            NotFound: there is no such trigger.
        """
        return await self._act("pause", name, id)

    async def resume(self, name: str | None = None, *, id: str | None = None) -> TriggerStatus:
        """Let a paused trigger go on. Raises as `pause`."""
        return await self._act("resume", name, id)

    async def delete_trigger(self, name: str) -> None:
        """Forget a durable trigger and how far it has got, for good. Its dead letters stay.

        Raises:
            NotFound: there is no such trigger.
        """
        await self._functions.value("state::triggers", {"action": "delete", "name": name})

    def dead_letters(self, name: str | None = None) -> Pages[DeadLetter]:
        """The events that were given up, in that order; those of one trigger, or of all."""

        async def fetch(place: str | None) -> tuple[list[DeadLetter], str | None]:
            request = {"action": "list", **given(name=name, cursor=place)}
            answer = await self._functions.ask("state::dead_letters", request, _DeadLetters)
            return answer.dead_letters, answer.next_cursor

        return Pages(fetch)

    async def redrive(
        self, name: str | None = None, *, id: str | None = None, all: bool = False
    ) -> int:
        """Deliver again what was given up: one letter, those of a trigger, or all. How many."""
        request = {"action": "redrive", "all": all, **given(name=name, id=id)}
        return int((await self._functions.value("state::dead_letters", request))["redriven"])

    async def discard(
        self, name: str | None = None, *, id: str | None = None, all: bool = False
    ) -> int:
        """Forget what was given up: one letter, those of a trigger, or all. How many."""
        request = {"action": "discard", "all": all, **given(name=name, id=id)}
        return int((await self._functions.value("state::dead_letters", request))["discarded"])

    async def _act(self, action: str, name: str | None, id: str | None) -> TriggerStatus:
        request = {"action": action, **given(name=name, id=id)}
        return (await self._functions.ask("state::triggers", request, _Trigger)).trigger


class _Trigger(msgspec.Struct):
    trigger: TriggerStatus


class _Triggers(msgspec.Struct):
    triggers: list[TriggerStatus]


class _DeadLetters(msgspec.Struct):
    dead_letters: list[DeadLetter]
    next_cursor: str | None = None
