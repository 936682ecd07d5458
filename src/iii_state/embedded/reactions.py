"""Functions of this program that are called for changes."""

from __future__ import annotations

import asyncio
import inspect
import logging
import traceback
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import msgspec

from iii_state.core.bindings import Binding, BindingConfig
from iii_state.core.changes import Origin
from iii_state.embedded.events import Event, Json
from iii_state.embedded.functions import ORIGIN, OWNER, decode, encode
from iii_state.engine.calls import Call
from iii_state.engine.engine import Engine
from iii_state.engine.followers import BindingStatus
from iii_state.engine.functions import DEFAULT_NAMESPACE, Builtin
from iii_state.engine.invocations import Failure

log = logging.getLogger("iii_state.embedded")

Reaction = Callable[[Event], Awaitable[object] | object]
Condition = Callable[[Event], bool]


class LocalReactions:
    """The reactions of this program: bindings whose functions run in its event loop."""

    def __init__(self, engine: Engine, new_id: Callable[[], str]) -> None:
        self._engine = engine
        self._new_id = new_id
        self._running: set[asyncio.Task[object]] = set()

    def bind(
        self, config: Mapping[str, Json], condition: Condition | None, reaction: Reaction
    ) -> None:
        """Call a function for the changes that a config selects. Members that are None go out.

        A durable one is called by its name, so that the next process goes on with it.

        Raises:
            InvalidRequest: the config is wrong, or it is to begin at a revision yet to come.
            RevisionCompacted: the change log does not reach back to where this would begin.
        """
        members = {name: value for name, value in config.items() if value is not None}
        function_id = f"embedded::{members.get('durable') or self._new_id()}"
        if condition is not None:
            members["condition_function_id"] = f"{function_id}::condition"
        raw = encode(members)
        parsed = BindingConfig.parse(raw)
        newest = self._engine.store.executed_revision
        self._engine.reactions.bind(
            self,
            Binding(function_id, function_id, DEFAULT_NAMESPACE, parsed, raw, None, newest),
        )
        # The first call starts in a later turn; one that is refused replaces no function.
        if condition is not None:
            self._serve(f"{function_id}::condition", condition)
        self._serve(function_id, reaction)

    async def finish(self, *, in_flight_only: bool) -> None:
        """End the reactions: those that run are waited for.

        Unless `in_flight_only`, first all changes up to now are delivered, but for those that
        cannot be yet: paused, waiting for another attempt or a newer change, or not readable.
        """
        await self._engine.commits.settled()
        revision = self._engine.store.executed_revision
        while not in_flight_only and await self._has_more(revision):
            if self._running:
                await asyncio.wait(self._running, return_when=asyncio.FIRST_COMPLETED)
        self._engine.reactions.stop()
        while self._running:
            await asyncio.wait(self._running)

    async def _has_more(self, revision: int) -> bool:
        """Whether a reaction runs, or is about to, for changes up to this revision."""
        for _ in range(2):
            # What a reaction that has just ended made ready starts in a turn of its own.
            await asyncio.sleep(0)
            is_stuck = self._engine.reactions.is_stuck
            for status in self._engine.reactions.snapshot():
                is_ours = status.owner is self and status.cursor < revision
                if is_ours and _is_busy(status, is_stuck=is_stuck):
                    return True
        return False

    def _serve(self, function_id: str, function: Callable[[Event], Any]) -> None:
        def handler(call: Call, text: msgspec.Raw) -> None:
            task = asyncio.ensure_future(self._react(call, function, bytes(text)))
            self._running.add(task)
            task.add_done_callback(self._running.discard)

        self._engine.functions.add_builtin(
            Builtin(function_id, "A reaction of this program", msgspec.Raw, handler, owner=OWNER)
        )

    async def _react(self, call: Call, function: Callable[[Event], Any], text: bytes) -> None:
        revision = "?"
        try:
            # Python does not convert a number of more than 4,300 digits: that is a failure too.
            event = msgspec.convert(decode(text), Event)
            revision = str(event.revision)
            ORIGIN.set(Origin(OWNER, call.function_id, event.depth + 1))
            result = function(event)
            if inspect.isawaitable(result):
                result = await result
        except asyncio.CancelledError:  # this one, or what it waited for
            call.fail(Failure("invocation_stopped", "The reaction was cancelled"))
            raise
        except Exception as error:  # whatever a reaction raises is its failure, not ours
            log.exception("a reaction failed on revision %s", revision)
            call.fail(Failure("invocation_failed", str(error), traceback.format_exc()))
        else:
            call.answer(b"false" if result is False else b"null")


def _is_busy(status: BindingStatus, *, is_stuck: bool) -> bool:
    # One that reads on may have to wait for what sleeps.
    reads_on = status.condition == "behind" and not status.sleeping and not is_stuck
    return status.in_flight > 0 or reads_on
