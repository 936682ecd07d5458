"""Triggers: functions bound to what happens, and the types that say what can.

A trigger whose type nobody provides is parked: it waits, silently and in no list, until the type
appears. It is parked again when its provider leaves or refuses it.

Source: docs/protocol.md, registration.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from operator import attrgetter
from typing import Any

import msgspec

from iii_state.engine.functions import DEFAULT_NAMESPACE
from iii_state.engine.workers import REASON_CHARACTERS_MAX, Worker
from iii_state.errors import StateError
from iii_state.wire import messages

log = logging.getLogger("iii_state.triggers")

Schema = dict[str, Any] | msgspec.Raw


class Trigger(msgspec.Struct, eq=False):
    """A function bound to a type, as its owner sent it.

    `namespace` and `type_namespace` are None when they were not sent; `config` and `metadata` are
    JSON texts. `revision` is that of the store when it was sent. `type` is None while it is parked.
    """

    id: str
    type_id: str
    function_id: str
    owner: Worker
    revision: int
    config: bytes | None = None
    metadata: bytes | None = None
    namespace: str | None = None
    type_namespace: str | None = None
    type: TriggerType | None = None

    @property
    def target_namespace(self) -> str:
        """Where the function is looked up."""
        return self.namespace or DEFAULT_NAMESPACE

    def refuse(self, code: str, message: str, stacktrace: str | None = None) -> None:
        """Tell the owner that it is not active, and why."""
        log.warning("trigger %.200r of worker %s: %s: %s", self.id, self.owner.label, code, message)
        self.owner.peer.send(
            messages.trigger_registration_failed(
                trigger_id=self.id,
                trigger_type=self.type_id,
                function_id=self.function_id,
                code=code,
                message=message[:REASON_CHARACTERS_MAX],
                stacktrace=stacktrace[:REASON_CHARACTERS_MAX] if stacktrace is not None else None,
            )
        )


class TriggerType:
    """A kind of event, and whoever watches for it.

    `provider` is the worker that does; None when the engine does, as the in-process worker `owner`.
    `triggers` are those that are active, by id.
    """

    def __init__(
        self,
        type_id: str,
        description: str,
        *,
        namespace: str = DEFAULT_NAMESPACE,
        provider: Worker | None = None,
        owner: str = "",
        config_schema: Schema | None = None,
        call_schema: Schema | None = None,
    ) -> None:
        self.id = type_id
        self.description = description
        self.namespace = namespace
        self.provider = provider
        self.owner = owner
        self.config_schema = config_schema
        self.call_schema = call_schema
        self.triggers: dict[str, Trigger] = {}

    def bind(self, trigger: Trigger) -> None:
        """Watch for a trigger, instead of the one with the same id, if there is one.

        Raises:
            StateError: it is refused; the earlier one stays.
        """
        raise NotImplementedError

    def unbind(self, trigger: Trigger) -> None:
        """Watch no longer for a trigger."""
        raise NotImplementedError

    def owner_left(self, owner: Worker, triggers: Sequence[Trigger]) -> None:
        """Watch no longer for these, all there are of an owner that has gone."""
        for trigger in triggers:
            self.unbind(trigger)


class Triggers:
    """All triggers and all types. A built-in type is there in every namespace."""

    def __init__(self) -> None:
        self._builtin_types: dict[str, TriggerType] = {}
        self._types: dict[tuple[str, str], TriggerType] = {}
        self._triggers: dict[str, Trigger] = {}
        self._owned: dict[Worker, dict[str, Trigger]] = {}
        self._parked: dict[str, dict[str, Trigger]] = {}

    def add_builtin(self, trigger_type: TriggerType) -> None:
        """Add a type of the engine's own."""
        self._builtin_types[trigger_type.id] = trigger_type

    def types(self) -> list[TriggerType]:
        """Every type, in ascending order of id and namespace."""
        every = [*self._builtin_types.values(), *self._types.values()]
        return sorted(every, key=attrgetter("id", "namespace"))

    def type_of(self, namespace: str, type_id: str) -> TriggerType | None:
        """The type with this id in this namespace."""
        builtin = self._builtin_types.get(type_id)
        return builtin if builtin is not None else self._types.get((namespace, type_id))

    def get(self, trigger_id: str) -> Trigger | None:
        """A trigger, parked ones included."""
        return self._triggers.get(trigger_id)

    def count_of(self, owner: Worker) -> int:
        """How many triggers a worker has, parked ones included."""
        return len(self._owned.get(owner, ()))

    def count_provided_by(self, provider: Worker) -> int:
        """How many types a worker provides."""
        return sum(trigger_type.provider is provider for trigger_type in self._types.values())

    def of_function(self, namespace: str, function_id: str) -> list[Trigger]:
        """The active triggers that call a function, in ascending order of id."""
        return [
            trigger
            for trigger in self.active()
            if trigger.function_id == function_id and trigger.target_namespace == namespace
        ]

    def active(self) -> list[Trigger]:
        """Every trigger that is not parked, in ascending order of id."""
        every = (trigger for trigger in self._triggers.values() if trigger.type is not None)
        return sorted(every, key=attrgetter("id"))

    def bind(self, trigger: Trigger) -> None:
        """Add a trigger, or replace the one with the same id, whoever owns that.

        Raises:
            StateError: its type refuses it; nothing has changed.
        """
        trigger_type = self._type_for(trigger)
        if trigger_type is not None:
            trigger_type.bind(trigger)
        earlier = self._triggers.get(trigger.id)
        if earlier is not None:
            if earlier.type is not None and earlier.type is not trigger_type:
                earlier.type.unbind(earlier)
            self._remove(earlier)
        self._triggers[trigger.id] = trigger
        self._owned.setdefault(trigger.owner, {})[trigger.id] = trigger
        self._file(trigger, trigger_type)

    def unbind(self, trigger: Trigger) -> None:
        """Remove a trigger."""
        if trigger.type is not None:
            trigger.type.unbind(trigger)
        self._remove(trigger)

    def park(self, trigger: Trigger) -> None:
        """Set aside a trigger that its provider refuses."""
        self._unfile(trigger)
        self._file(trigger, None)

    def owner_left(self, owner: Worker) -> None:
        """Remove all triggers of a worker that has gone."""
        by_type: dict[TriggerType, list[Trigger]] = {}
        for trigger in self._owned.pop(owner, {}).values():
            if trigger.type is not None:
                by_type.setdefault(trigger.type, []).append(trigger)
            self._unfile(trigger)
            del self._triggers[trigger.id]
        for trigger_type, triggers in by_type.items():
            trigger_type.owner_left(owner, triggers)

    def provide(self, trigger_type: TriggerType) -> None:
        """Add a worker's type, or replace it, and bind all that want it to it.

        A worker that provides a type of another one takes it over.
        """
        place = (trigger_type.namespace, trigger_type.id)
        earlier = self._types.get(place)
        self._types[place] = trigger_type
        triggers = list(earlier.triggers.values()) if earlier is not None else []
        for parked in self._parked.get(trigger_type.id, {}).values():
            if self._type_for(parked) is trigger_type:
                triggers.append(parked)
        self._rebind(triggers)

    def withdraw(self, trigger_type: TriggerType) -> None:
        """Remove a worker's type; park its triggers, or bind them elsewhere."""
        del self._types[(trigger_type.namespace, trigger_type.id)]
        self._rebind(list(trigger_type.triggers.values()))

    def provider_left(self, provider: Worker) -> None:
        """Remove all types of a worker that has gone."""
        for trigger_type in list(self._types.values()):
            if trigger_type.provider is provider:
                self.withdraw(trigger_type)

    def _rebind(self, triggers: Iterable[Trigger]) -> None:
        for trigger in triggers:
            self._unfile(trigger)
            trigger_type = self._type_for(trigger)
            try:
                if trigger_type is not None:
                    trigger_type.bind(trigger)
            except StateError as error:
                trigger.refuse(error.wire_code, error.message)
                trigger_type = None
            self._file(trigger, trigger_type)

    def _type_for(self, trigger: Trigger) -> TriggerType | None:
        """The type that a trigger means: of its owner's namespace, else of the default one."""
        if trigger.type_namespace is not None:
            return self.type_of(trigger.type_namespace, trigger.type_id)
        own = self.type_of(trigger.owner.namespace or DEFAULT_NAMESPACE, trigger.type_id)
        return own if own is not None else self.type_of(DEFAULT_NAMESPACE, trigger.type_id)

    def _file(self, trigger: Trigger, trigger_type: TriggerType | None) -> None:
        trigger.type = trigger_type
        if trigger_type is not None:
            trigger_type.triggers[trigger.id] = trigger
        else:
            self._parked.setdefault(trigger.type_id, {})[trigger.id] = trigger

    def _unfile(self, trigger: Trigger) -> None:
        if trigger.type is not None:
            del trigger.type.triggers[trigger.id]
            return
        parked = self._parked[trigger.type_id]
        del parked[trigger.id]
        if not parked:
            del self._parked[trigger.type_id]

    def _remove(self, trigger: Trigger) -> None:
        self._unfile(trigger)
        del self._triggers[trigger.id]
        owned = self._owned[trigger.owner]
        del owned[trigger.id]
        if not owned:
            del self._owned[trigger.owner]
