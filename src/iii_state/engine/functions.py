"""Which function id is answered by whom: by the engine itself, or by a worker.

Other workers that register an id that a worker has are its standbys: when the owner goes, the one
that has stood by longest takes its place. Durable triggers share their work among all of them.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from itertools import count
from typing import Any, Generic, TypeVar

import msgspec

from iii_state.core.names import shortened
from iii_state.engine.calls import Call
from iii_state.engine.invocations import Failure
from iii_state.engine.request_faults import fault_of
from iii_state.engine.workers import Worker
from iii_state.errors import InvalidRequest, StateError
from iii_state.wire.messages import function_member

log = logging.getLogger("iii_state.functions")

Request = TypeVar("Request")

DEFAULT_NAMESPACE = "default"


class WorkerFunction(msgspec.Struct):
    """A function that a worker runs. Formats and metadata are JSON texts, for discovery."""

    id: str
    namespace: str
    worker: Worker
    new_id: Callable[[], str]
    description: str | None = None
    request_format: bytes | None = None
    response_format: bytes | None = None
    metadata: bytes | None = None
    http: bool = False
    member: bytes = b""

    def __post_init__(self) -> None:
        self.member = function_member(self.id)

    def run(self, call: Call) -> None:
        """Send the call to the worker, under the caller's id, or a new one for a void call."""
        if self.http:
            call.fail(
                Failure(
                    "function_not_invokable",
                    f"{shortened(self.id)} is an HTTP function; this host does not make HTTP "
                    f"calls. Register it with a handler instead",
                )
            )
            return
        self.worker.execute(call, call.invocation_id or self.new_id())


class Builtin(Generic[Request]):
    """A function that the engine answers itself, in every namespace.

    `run` decodes the data to `request` and hands it to `handler`, which answers the call, now or
    later, or raises a `StateError`.
    """

    namespace = DEFAULT_NAMESPACE

    def __init__(
        self,
        function_id: str,
        description: str,
        request: type[Request],
        handler: Callable[[Call, Request], None],
        *,
        owner: str,
        request_schema: dict[str, Any] | None = None,
        response_schema: dict[str, Any] | None = None,
    ) -> None:
        self.id = function_id
        self.member = function_member(function_id)
        self.description = description
        self.owner = owner
        self.request_schema = request_schema
        self.response_schema = response_schema
        self._request = request
        self._decode = msgspec.json.Decoder(request).decode
        self._handler = handler

    def run(self, call: Call) -> None:
        """Answer the call."""
        try:
            try:
                decode = self._decode  # an attribute that is called costs a look-up more
                request = decode(call.data)
            except (msgspec.DecodeError, RecursionError) as error:
                raise InvalidRequest(fault_of(self._request, error)) from error
            handler = self._handler
            handler(call, request)
        except StateError as error:
            if error.wire_code == InvalidRequest.code:
                error.message = f"Invalid request for {self.id}: {error.message}"
            if call.invocation_id is None:
                log.warning("void call of %s failed: %s", self.id, error.message)
            call.fail_with(error)


class FunctionTable:
    """All functions, by namespace and id. A built-in id is taken in every namespace."""

    def __init__(self) -> None:
        self.builtins: dict[str, Builtin[Any]] = {}
        self._of_workers: dict[tuple[str, str], WorkerFunction] = {}
        self._namespaces: dict[str, set[str]] = {}
        self._standbys: dict[tuple[str, str], dict[Worker, WorkerFunction]] = {}
        self._turns = count()

    def add_builtin(self, function: Builtin[Any]) -> None:
        """Add a function of the engine's own."""
        self.builtins[function.id] = function

    def find(self, namespace: str, function_id: str) -> Builtin[Any] | WorkerFunction | None:
        """The function with this id in this namespace."""
        builtin = self.builtins.get(function_id)
        return builtin if builtin is not None else self._of_workers.get((namespace, function_id))

    def find_any(self, namespace: str, function_id: str) -> Builtin[Any] | WorkerFunction | None:
        """The same, but of those who stand by as well: whoever runs least, each in its turn."""
        place = (namespace, function_id)
        standbys = self._standbys.get(place)
        if standbys is None:
            return self.find(namespace, function_id)
        every = [self._of_workers[place], *standbys.values()]
        turn = next(self._turns) % len(every)
        return min(every[turn:] + every[:turn], key=lambda each: len(each.worker.executing))

    def register(self, function: WorkerFunction) -> Worker | None:
        """Add or replace a worker's function.

        Returns the worker that has the id already, if another one does; then this one stands by.
        """
        place = (function.namespace, function.id)
        present = self._of_workers.get(place)
        if present is not None and present.worker is not function.worker:
            self._standbys.setdefault(place, {})[function.worker] = function
            function.worker.standing_by[function.id] = function
            return present.worker
        self._own(place, function)
        return None

    def unregister(self, worker: Worker, function_id: str) -> None:
        """Remove a function of this worker; others' are left alone. A standby takes its place."""
        standby = worker.standing_by.pop(function_id, None)
        if standby is not None:
            self._leave((standby.namespace, function_id), worker)
        function = worker.functions.pop(function_id, None)
        if function is None:
            return
        place = (function.namespace, function_id)
        standbys = self._standbys.get(place)
        if standbys is not None:
            successor = next(iter(standbys.values()))
            self._leave(place, successor.worker)
            del successor.worker.standing_by[function_id]
            self._own(place, successor)
            log.info("function %.200r goes over to worker %s", function_id, successor.worker.label)
            return
        del self._of_workers[place]
        namespaces = self._namespaces[function_id]
        namespaces.discard(function.namespace)
        if not namespaces:
            del self._namespaces[function_id]

    def _own(self, place: tuple[str, str], function: WorkerFunction) -> None:
        self._of_workers[place] = function
        self._namespaces.setdefault(function.id, set()).add(function.namespace)
        function.worker.functions[function.id] = function

    def _leave(self, place: tuple[str, str], worker: Worker) -> None:
        """Let a worker stand by no longer."""
        standbys = self._standbys[place]
        del standbys[worker]
        if not standbys:
            del self._standbys[place]

    def namespaces_of(self, function_id: str) -> list[str]:
        """The namespaces in which workers have this id, sorted."""
        return sorted(self._namespaces.get(function_id, ()))

    def all(self) -> Iterator[Builtin[Any] | WorkerFunction]:
        """Every function, in no order."""
        yield from self.builtins.values()
        yield from self._of_workers.values()

    def missing(self, namespace: str, function_id: str) -> Failure:
        """The failure of a call to a function that is not there."""
        where = f"namespace '{shortened(namespace)}'"
        message = f"Function '{shortened(function_id)}' not found in {where}"
        elsewhere = self.namespaces_of(function_id)
        if elsewhere:
            message += f"; it is registered in: {', '.join(elsewhere)}"
        return Failure("function_not_found", message)
