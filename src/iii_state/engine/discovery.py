"""Discovery: the functions `engine::{functions,triggers,registered-triggers,workers}::{list,info}`.

Each is a row in `Discovery.functions`: its request, and a method that answers. What the answers
look like is in `catalogue.py`.

Source: docs/protocol.md, discovery.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import msgspec

from iii_state.core.names import quoted
from iii_state.engine import inprocess
from iii_state.engine.calls import Call
from iii_state.engine.catalogue import (
    Catalogue,
    Entry,
    Function,
    is_internal,
    matches,
    provider_of,
    server_of,
)
from iii_state.engine.functions import DEFAULT_NAMESPACE, Builtin, FunctionTable
from iii_state.engine.inprocess import engine_function
from iii_state.engine.triggers import Triggers
from iii_state.engine.workers import Worker
from iii_state.errors import InvalidRequest, NotFound

BATCH_MAX = 32

Request = TypeVar("Request")


class FunctionsQuery(msgspec.Struct):
    """Which functions to list."""

    search: str | None = None
    prefix: str | None = None
    worker: str | None = None
    workers: list[str] | None = None
    include_internal: bool | None = None


class FunctionQuery(msgspec.Struct):
    """The function to tell of, or several."""

    function_id: str | None = None
    function_ids: list[str] | None = None
    namespace: str | None = None


class TypesQuery(msgspec.Struct):
    """Which trigger types to list."""

    search: str | None = None
    prefix: str | None = None
    worker: str | None = None
    include_internal: bool | None = None


class TypeQuery(msgspec.Struct):
    """The trigger type to tell of."""

    id: str
    namespace: str | None = None


class TriggersQuery(msgspec.Struct):
    """Which triggers to list."""

    search: str | None = None
    trigger_type: str | None = None
    function_id: str | None = None
    worker: str | None = None
    include_internal: bool | None = None


class TriggerQuery(msgspec.Struct):
    """The trigger to tell of."""

    id: str


class WorkersQuery(msgspec.Struct):
    """Which workers to list."""

    search: str | None = None
    runtime: str | None = None
    status: str | None = None


class WorkerQuery(msgspec.Struct):
    """The worker to tell of."""

    name: str
    namespace: str | None = None


class Discovery:
    """Answers what there is."""

    def __init__(
        self,
        catalogue: Catalogue,
        functions: FunctionTable,
        triggers: Triggers,
        workers: dict[str, Worker],
    ) -> None:
        self._catalogue = catalogue
        self._functions = functions
        self._triggers = triggers
        self._workers = workers

    def functions(self) -> list[Builtin[Any]]:
        """The rows."""
        return [
            _row("functions::list", "List functions", FunctionsQuery, self._list_functions),
            _row("functions::info", "Tell all of a function", FunctionQuery, self._function),
            _row("triggers::list", "List trigger types", TypesQuery, self._list_types),
            _row("triggers::info", "Tell all of a trigger type", TypeQuery, self._type),
            _row("registered-triggers::list", "List triggers", TriggersQuery, self._list_triggers),
            _row("registered-triggers::info", "Tell all of a trigger", TriggerQuery, self._trigger),
            _row("workers::list", "List connected workers", WorkersQuery, self._list_workers),
            _row("workers::info", "Tell all of a worker", WorkerQuery, self._worker),
        ]

    def _list_functions(self, call: Call, query: FunctionsQuery) -> Entry:
        wanted = set(query.workers or ())
        if query.worker is not None:
            wanted.add(query.worker)
        found = [
            function
            for function in self._catalogue.functions()
            if (query.include_internal or not is_internal(function))
            and function.id.startswith(query.prefix or "")
            and (not wanted or server_of(function) in wanted)
            and matches(query.search, (function.id, function.description))
        ]
        if query.search:
            search = query.search.casefold()
            found.sort(key=lambda function: _rank(search, function))
        return {"functions": [self._catalogue.function_summary(function) for function in found]}

    def _function(self, call: Call, query: FunctionQuery) -> Entry:
        one, many = query.function_id, query.function_ids
        if (one is None) == (many is None):
            raise _invalid("Give either function_id or function_ids")
        if one is not None:
            function = self._find(one, query.namespace)
            if function is None:
                raise self._no_function(one, query.namespace)
            return self._catalogue.function_detail(function)
        many = many or []
        if not 1 <= len(many) <= BATCH_MAX:
            raise _invalid(f"function_ids takes 1 to {BATCH_MAX} ids, not {len(many)}")
        details: list[Entry] = []
        for function_id in dict.fromkeys(many):
            function = self._find(function_id, query.namespace)
            if function is None:
                details.append({"function_id": function_id, "error": "not_found"})
            else:
                details.append(self._catalogue.function_detail(function))
        return {"functions": details}

    def _find(self, function_id: str, namespace: str | None) -> Function | None:
        """Without a namespace: the default one, else the only one that has the id."""
        if namespace is not None:
            return self._functions.find(namespace, function_id)
        function = self._functions.find(DEFAULT_NAMESPACE, function_id)
        if function is not None:
            return function
        namespaces = self._functions.namespaces_of(function_id)
        return self._functions.find(namespaces[0], function_id) if len(namespaces) == 1 else None

    def _no_function(self, function_id: str, namespace: str | None) -> NotFound:
        return NotFound(
            self._functions.missing(namespace or DEFAULT_NAMESPACE, function_id).message
        )

    def _list_types(self, call: Call, query: TypesQuery) -> Entry:
        return {
            "triggers": [
                self._catalogue.type_summary(trigger_type)
                for trigger_type in self._triggers.types()
                if (query.include_internal or not trigger_type.id.startswith("engine::"))
                and trigger_type.id.startswith(query.prefix or "")
                and (query.worker is None or provider_of(trigger_type) == query.worker)
                and matches(query.search, (trigger_type.id, trigger_type.description))
            ]
        }

    def _type(self, call: Call, query: TypeQuery) -> Entry:
        namespace = query.namespace if query.namespace is not None else DEFAULT_NAMESPACE
        trigger_type = self._triggers.type_of(namespace, query.id)
        if trigger_type is None:
            raise NotFound(f"No trigger type {quoted(query.id)} in namespace {quoted(namespace)}")
        return self._catalogue.type_detail(trigger_type)

    def _list_triggers(self, call: Call, query: TriggersQuery) -> Entry:
        return {
            "registered_triggers": [
                self._catalogue.trigger_summary(trigger)
                for trigger in self._triggers.active()
                if query.trigger_type in (None, trigger.type_id)
                and query.function_id in (None, trigger.function_id)
                and query.worker in (None, self._catalogue.server_of_target(trigger))
                and matches(query.search, (trigger.id, trigger.type_id, trigger.function_id))
            ]
        }

    def _trigger(self, call: Call, query: TriggerQuery) -> Entry:
        trigger = self._triggers.get(query.id)
        if trigger is None or trigger.type is None:
            raise NotFound(f"No trigger {quoted(query.id)} is registered")
        return self._catalogue.trigger_detail(trigger)

    def _list_workers(self, call: Call, query: WorkersQuery) -> Entry:
        catalogue = self._catalogue
        summaries = [
            catalogue.worker_summary(worker, call.caller)
            for worker in self._workers.values()
            if worker.pid is not None
        ]
        summaries += [catalogue.inprocess_summary(name) for name in inprocess.DESCRIPTIONS]
        found = [
            summary
            for summary in summaries
            if query.runtime in (None, summary["runtime"])
            and query.status in (None, summary["status"])
            and matches(query.search, (_text(summary["name"]), _text(summary["description"])))
        ]
        return {"workers": sorted(found, key=_by_name)}

    def _worker(self, call: Call, query: WorkerQuery) -> Entry:
        worker = self._named(query.name, query.namespace)
        if worker is not None:
            summary = self._catalogue.worker_summary(worker, call.caller)
        elif query.name in inprocess.DESCRIPTIONS and query.namespace in (None, DEFAULT_NAMESPACE):
            summary = self._catalogue.inprocess_summary(query.name)
        else:
            raise NotFound(f"No worker named {quoted(query.name)} is connected")
        return self._catalogue.worker_detail(summary, worker)

    def _named(self, name: str, namespace: str | None) -> Worker | None:
        """The worker with this name that connected last, in the namespace or in any."""
        for worker in reversed(self._workers.values()):
            own = worker.namespace or DEFAULT_NAMESPACE
            if worker.name == name and namespace in (None, own):
                return worker
        return None


def _row(
    name: str, description: str, query: type[Request], answer: Callable[[Call, Request], Entry]
) -> Builtin[Request]:
    def handler(call: Call, request: Request) -> None:
        call.answer(msgspec.json.encode(answer(call, request)))

    return engine_function(name, description, query, handler)


def _rank(search: str, function: Function) -> int:
    """Ids that begin with what is searched first, then those that hold it, then descriptions."""
    function_id = function.id.casefold()
    if function_id.startswith(search):
        return 0
    return 1 if search in function_id else 2


def _by_name(summary: Entry) -> tuple[bool, str, str]:
    name = summary["name"]
    return (name is not None, str(name), str(summary["id"]))


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None


def _invalid(message: str) -> InvalidRequest:
    return InvalidRequest(message, code="INVALID_ARGUMENTS")
