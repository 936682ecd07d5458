"""`state::triggers` and `state::dead_letters`: how reactions fare, and what to do about it.

Source: docs/functions.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Raw

from iii_state.core.dead_letters import DeadLetter
from iii_state.core.events import event_payload
from iii_state.core.names import quoted
from iii_state.engine import trigger_schemas as schemas
from iii_state.engine.calls import Call
from iii_state.engine.commits import Commits
from iii_state.engine.followers import BindingStatus
from iii_state.engine.functions import Builtin
from iii_state.engine.reactions import Reactions
from iii_state.engine.state_function import state_function
from iii_state.engine.store_ledger import StoreLedger
from iii_state.engine.triggers import Triggers
from iii_state.errors import InvalidRequest, NotFound

ENVELOPE_BYTES = 256
"""Kept free for what stands around the list in an answer."""

Entry = dict[str, object]


class TriggersRequest(msgspec.Struct, gc=False):
    """A request about all triggers, or about one by its durable name or its id."""

    action: Literal["list", "show", "pause", "resume", "delete"] = "list"
    name: str | None = None
    id: str | None = None


class DeadLettersRequest(msgspec.Struct, gc=False):
    """A request about letters: all, those of a trigger, or one."""

    action: Literal["list", "redrive", "discard"] = "list"
    name: str | None = None
    id: str | None = None
    all: bool = False
    cursor: str | None = None
    limit: Annotated[int, msgspec.Meta(ge=1)] | None = None


class TriggerFunctions:
    """Makes the functions that look after reactions. What they change is durable once answered."""

    def __init__(
        self, reactions: Reactions, triggers: Triggers, commits: Commits, ledger: StoreLedger
    ) -> None:
        self._reactions = reactions
        self._triggers = triggers
        self._commits = commits
        self._ledger = ledger

    def functions(self) -> list[Builtin[Any]]:
        """The rows."""
        return [
            state_function(
                "triggers", schemas.FUNCTIONS["triggers"], TriggersRequest, self._on_triggers
            ),
            state_function(
                "dead_letters",
                schemas.FUNCTIONS["dead_letters"],
                DeadLettersRequest,
                self._on_dead_letters,
            ),
        ]

    def _on_triggers(self, call: Call, request: TriggersRequest) -> None:
        if request.action == "list":
            _answer(call, {"triggers": [_trigger(each) for each in self._reactions.snapshot()]})
            return
        if request.action == "delete" and self._reactions.is_put_off(request.name):
            self._reactions.delete(request.name or "")
            self._answer_once_durable(call, {"deleted": True})
            return
        status = self._status(request)
        name = status.binding.config.durable or status.binding.id
        if request.action == "show":
            _answer(call, {"trigger": _trigger(status)})
        elif request.action == "delete":
            self._delete(status)
            self._answer_once_durable(call, {"deleted": True})
        else:
            act = self._reactions.pause if request.action == "pause" else self._reactions.resume
            act(name)
            self._answer_once_durable(call, {"trigger": _trigger(self._status(request))})

    def _status(self, request: TriggersRequest) -> BindingStatus:
        """How the one trigger fares that a request means."""
        if (request.name is None) == (request.id is None):
            raise InvalidRequest(f"`{request.action}` needs either a `name` or an `id`")
        for status in self._reactions.snapshot():
            if request.name is not None and status.binding.config.durable == request.name:
                return status
            if request.id is not None and request.id in (status.binding.id, *status.members):
                return status
        name, trigger_id = request.name, request.id
        said = f"name {quoted(name)}" if name is not None else f"id {quoted(trigger_id or '')}"
        raise NotFound(
            f"There is no state trigger with the {said}; `list` of state::triggers tells "
            f"which there are"
        )

    def _delete(self, status: BindingStatus) -> None:
        name = status.binding.config.durable
        if name is None:
            raise InvalidRequest(
                f"The trigger {quoted(status.binding.id)} is not durable: it ends when its worker "
                f"unregisters it or goes away, and leaves nothing to delete"
            )
        for trigger_id in status.members:
            trigger = self._triggers.get(trigger_id)
            if trigger is not None:
                self._triggers.unbind(trigger)
        self._reactions.delete(name)

    def _on_dead_letters(self, call: Call, request: DeadLettersRequest) -> None:
        if request.action == "list":
            self._list_letters(call, request)
            return
        if request.id is None and request.name is None and not request.all:
            raise InvalidRequest(f"`{request.action}` needs an `id`, a `name`, or `all`: true")
        ids = None if request.id is None else [request.id]
        if request.action == "redrive":
            told = {"redriven": self._reactions.redrive(ids, request.name)}
        else:
            told = {"discarded": self._reactions.discard(ids, request.name)}
        self._answer_once_durable(call, told)

    def _list_letters(self, call: Call, request: DeadLettersRequest) -> None:
        limit = min(request.limit or schemas.LIMIT, schemas.LIMIT_MAX)
        if request.id is not None:
            letters = self._reactions.letters([request.id], request.name)
            following = None
        else:
            after = _after(request.cursor)
            letters, following = self._reactions.dead_letters(request.name, after, limit)
        room = call.room - ENVELOPE_BYTES
        texts: list[bytes] = []
        size = 0
        for letter in letters:
            text = _letter(letter, room)
            size += len(text) + 1
            if texts and size > min(schemas.ANSWER_BYTES, room):
                # One letter a page costs no more than what is left of this one.
                _, following = self._reactions.dead_letters(
                    request.name, _after(request.cursor), len(texts)
                )
                break
            texts.append(text)
        answer: Entry = {"dead_letters": [Raw(text) for text in texts]}
        if following is not None:
            answer["next_cursor"] = str(following)
        _answer(call, answer)

    def _answer_once_durable(self, call: Call, result: Mapping[str, object]) -> None:
        text = msgspec.json.encode(result)
        self._commits.await_note(call, self._ledger.latest, lambda call, _: call.answer(text))


def _answer(call: Call, result: Entry) -> None:
    call.answer(msgspec.json.encode(result))


def _after(cursor: str | None) -> int:
    if cursor is None:
        return 0
    if not (cursor.isascii() and cursor.isdecimal()):
        raise InvalidRequest(f"`cursor` is {cursor[:50]!r}, not the next_cursor of an answer")
    return int(cursor[:20])


def _trigger(status: BindingStatus) -> Entry:
    binding = status.binding
    told: Entry = {"id": binding.id}
    if binding.config.durable is not None:
        told["name"] = binding.config.durable
    told |= {
        "durable": binding.config.durable is not None,
        "function_id": binding.function_id,
        "namespace": binding.namespace,
        "config": Raw(binding.raw_config or b"{}"),
        "status": "away" if status.condition == "detached" else status.condition,
        "paused": status.paused,
        "cursor": status.cursor,
        "lag": status.lag,
        "in_flight": status.in_flight,
        "waiting": status.waiting,
        "bound_by": len(status.members),
        "dead_letters": status.dead_letters,
        "counters": status.counters,
    }
    if binding.config.unknown:
        told["unknown_members"] = binding.config.unknown_hint
    if status.lost is not None:
        told["lost"] = status.lost
    if status.last_error is not None:
        told["last_error"] = status.last_error
    return told


def _letter(letter: DeadLetter, room: int) -> bytes:
    """A letter as JSON text; without the event's values if it is too large with them."""
    fault = letter.fault
    error: Entry = {"code": fault.code, "message": fault.message}
    if fault.stacktrace is not None:
        error["stacktrace"] = fault.stacktrace
    told: Entry = {
        "id": letter.id,
        "trigger": letter.trigger,
        "event": Raw(event_payload(letter.change, max(letter.attempts, 1))),
        "attempts": letter.attempts,
        "error": error,
        "parked_at_ms": letter.parked_at_ms,
    }
    text = msgspec.json.encode(told)
    if len(text) > room:
        attempt = max(letter.attempts, 1)
        told["event"] = Raw(event_payload(letter.change, attempt, values_omitted=True))
        text = msgspec.json.encode(told)
    return text
