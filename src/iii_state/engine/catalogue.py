"""What there is, in the words of discovery: summaries and details, ready to be encoded.

Source: docs/protocol.md, discovery.
"""

from __future__ import annotations

from collections.abc import Iterable
from operator import attrgetter
from typing import Any

import msgspec
from msgspec import Raw

from iii_state import __version__
from iii_state.engine import inprocess
from iii_state.engine.functions import DEFAULT_NAMESPACE, Builtin, FunctionTable, WorkerFunction
from iii_state.engine.reactions import Reactions
from iii_state.engine.triggers import Trigger, Triggers, TriggerType
from iii_state.engine.workers import Worker

Entry = dict[str, object]
Function = Builtin[Any] | WorkerFunction

SUMMARY_CHARACTERS_MAX = 80


class Catalogue:
    """Describes what is registered and connected, now."""

    def __init__(
        self,
        functions: FunctionTable,
        triggers: Triggers,
        workers: dict[str, Worker],
        reactions: Reactions,
        started_at_ms: int,
    ) -> None:
        self._functions = functions
        self._triggers = triggers
        self._workers = workers
        self._reactions = reactions
        self._started_at_ms = started_at_ms

    def functions(self) -> list[Function]:
        """Every function, in ascending order of id and namespace."""
        return sorted(self._functions.all(), key=attrgetter("id", "namespace"))

    def function_summaries(self) -> list[Entry]:
        """The summary of every function, in no order."""
        return [self.function_summary(function) for function in self._functions.all()]

    def function_summary(self, function: Function) -> Entry:
        """What lists tell of a function."""
        entry: Entry = {
            "function_id": function.id,
            "namespace": function.namespace,
            "worker_name": server_of(function),
        }
        if function.description is not None:
            entry["description"] = function.description
        if isinstance(function, WorkerFunction) and function.metadata is not None:
            entry["metadata"] = Raw(function.metadata)
        return entry

    def function_detail(self, function: Function) -> Entry:
        """All that is told of a function."""
        entry = self.function_summary(function)
        for name, schema in zip(
            ("request_schema", "response_schema"), _schemas_of(function), strict=True
        ):
            if schema is not None:
                entry[name] = schema
        entry["registered_triggers"] = [
            {"id": trigger.id, "trigger_type": trigger.type_id, "config": _config(trigger)}
            for trigger in self._triggers.of_function(function.namespace, function.id)
        ]
        return entry

    def type_summary(self, trigger_type: TriggerType) -> Entry:
        """What lists tell of a trigger type."""
        return {
            "id": trigger_type.id,
            "namespace": trigger_type.namespace,
            "worker_name": provider_of(trigger_type),
            "description": trigger_type.description,
        }

    def type_detail(self, trigger_type: TriggerType) -> Entry:
        """All that is told of a trigger type."""
        entry = self.type_summary(trigger_type)
        if trigger_type.config_schema is not None:
            entry["configuration_schema"] = trigger_type.config_schema
        if trigger_type.call_schema is not None:
            entry["request_schema"] = trigger_type.call_schema
        entry["instance_count"] = len(trigger_type.triggers)
        return entry

    def trigger_summary(self, trigger: Trigger) -> Entry:
        """What lists tell of a trigger."""
        config = _config(trigger)
        return {
            "id": trigger.id,
            "trigger_type": trigger.type_id,
            "function_id": trigger.function_id,
            "worker_name": self.server_of_target(trigger),
            "config": config,
            "config_summary": _shortened(config),
        }

    def trigger_detail(self, trigger: Trigger) -> Entry:
        """All that is told of a trigger; `status` is ours, for those of type `state`."""
        entry = self.trigger_summary(trigger)
        if trigger.metadata is not None:
            entry["metadata"] = Raw(trigger.metadata)
        entry["trigger"] = self.type_detail(trigger.type) if trigger.type is not None else None
        function = self._target(trigger)
        entry["function"] = self.function_detail(function) if function is not None else None
        status = self._status(trigger)
        if status is not None:
            entry["status"] = status
        return entry

    def server_of_target(self, trigger: Trigger) -> str:
        """The name of the worker that serves a trigger's function."""
        function = self._target(trigger)
        return server_of(function) if function is not None else _first_part(trigger.function_id)

    def worker_summary(self, worker: Worker, caller: Worker | None) -> Entry:
        """What lists tell of a worker. The call of `caller` that asks counts as active."""
        return {
            "id": worker.id,
            "name": worker.name,
            "namespace": worker.namespace or DEFAULT_NAMESPACE,
            "description": worker.description,
            "version": worker.version,
            "runtime": worker.runtime,
            "os": worker.os,
            "status": "connected",
            "function_count": len(worker.functions),
            "connected_at_ms": worker.connected_at_ms,
            "active_invocations": len(worker.executing) + (worker is caller),
            "isolation": worker.isolation,
            "ip_address": worker.address or None,
        }

    def inprocess_summary(self, name: str) -> Entry:
        """The same of a worker inside this process."""
        return {
            "id": name,
            "name": name,
            "namespace": DEFAULT_NAMESPACE,
            "description": inprocess.DESCRIPTIONS[name],
            "version": __version__,
            "runtime": "engine",
            "os": None,
            "status": "available",
            "function_count": sum(f.owner == name for f in self._functions.builtins.values()),
            "connected_at_ms": self._started_at_ms,
            "active_invocations": 0,
            "isolation": "in-process",
            "ip_address": None,
        }

    def worker_detail(self, summary: Entry, worker: Worker | None) -> Entry:
        """All that is told of a worker; None is one inside this process."""
        entry: Entry = {**summary, "internal": worker is None}
        if worker is not None and worker.pid is not None:
            entry["pid"] = worker.pid
        return {
            "worker": entry,
            "functions": [
                self.function_summary(function)
                for function in self.functions()
                if _serves(summary["name"], worker, function)
            ],
            "trigger_types": [
                self.type_summary(trigger_type)
                for trigger_type in self._triggers.types()
                if trigger_type.provider is worker
                and (worker is not None or trigger_type.owner == summary["name"])
            ],
            "registered_triggers": [
                self.trigger_summary(trigger)
                for trigger in self._triggers.active()
                if _serves(summary["name"], worker, self._target(trigger))
            ],
        }

    def _target(self, trigger: Trigger) -> Function | None:
        return self._functions.find(trigger.target_namespace, trigger.function_id)

    def _status(self, trigger: Trigger) -> Entry | None:
        for status in self._reactions.snapshot():
            if trigger.id in status.members:
                told: Entry = {
                    name: getattr(status, name)
                    for name in status.__struct_fields__
                    if name not in ("binding", "owner", "members")
                }
                told["unknown_members"] = status.binding.config.unknown_hint or None
                return told
        return None


def is_internal(function: Function) -> bool:
    """Whether lists leave a function out unless asked for it."""
    if function.id.startswith("engine::"):
        return True
    if isinstance(function, Builtin) or function.metadata is None:
        return False
    metadata = msgspec.json.decode(function.metadata)
    return isinstance(metadata, dict) and metadata.get("internal") is True


def server_of(function: Function) -> str:
    """The name of the worker that serves a function, or else the first part of its id."""
    if isinstance(function, Builtin):
        return function.owner
    return function.worker.name or _first_part(function.id)


def provider_of(trigger_type: TriggerType) -> str:
    """The name of the worker that provides a type, or else the first part of its id."""
    if trigger_type.provider is None:
        return trigger_type.owner
    return trigger_type.provider.name or _first_part(trigger_type.id)


def matches(search: str | None, texts: Iterable[str | None]) -> bool:
    """Whether a text holds what is searched, in any case."""
    if not search:
        return True
    wanted = search.casefold()
    return any(wanted in text.casefold() for text in texts if text is not None)


def _serves(name: object, worker: Worker | None, function: Function | None) -> bool:
    if isinstance(function, WorkerFunction):
        return function.worker is worker
    return function is not None and worker is None and function.owner == name


def _schemas_of(function: Function) -> tuple[object, object]:
    if isinstance(function, Builtin):
        return function.request_schema, function.response_schema
    return _raw(function.request_format), _raw(function.response_format)


def _raw(text: bytes | None) -> Raw | None:
    return Raw(text) if text is not None else None


def _config(trigger: Trigger) -> Raw:
    return Raw(trigger.config or b"{}")


def _shortened(config: Raw) -> str:
    text = msgspec.json.format(bytes(config), indent=-1).decode()
    if len(text) <= SUMMARY_CHARACTERS_MAX:
        return text
    return text[:SUMMARY_CHARACTERS_MAX] + "…"


def _first_part(function_id: str) -> str:
    return function_id.split("::", 1)[0]
