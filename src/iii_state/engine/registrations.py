"""What workers register: functions, trigger types, triggers; and who they say they are.

A fresh connection's namespace is known only from its announcement (`engine::workers::register`),
which comes after its registrations. So these wait, in order, until it comes, or until the grace
time is over; calls do not wait.

Source: docs/protocol.md, namespaces.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import TYPE_CHECKING

from iii_state.engine.functions import DEFAULT_NAMESPACE, WorkerFunction
from iii_state.engine.workers import Worker
from iii_state.wire import messages
from iii_state.wire.frames import Registration, sent

if TYPE_CHECKING:
    from iii_state.engine.engine import Engine

log = logging.getLogger("iii_state.registrations")

Handler = Callable[[Worker, Registration], None]


class Registrations:
    """Applies registrations, once the namespace of their worker is settled."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._waiting: dict[Worker, list[tuple[Handler, Registration]]] = {}
        self._grace: dict[Worker, asyncio.TimerHandle] = {}

    def handlers(self) -> dict[str, Handler]:
        """The message types that are served here."""
        return {
            "registerfunction": self._in_turn(self._register_function),
            "unregisterfunction": self._in_turn(self._unregister_function),
        }

    def begin(self, worker: Worker) -> None:
        """Hold back the registrations of a fresh connection."""
        self._waiting[worker] = []
        self._grace[worker] = asyncio.get_running_loop().call_later(
            self._engine.limits.namespace_grace_s, self.settle, worker, DEFAULT_NAMESPACE
        )

    def settle(self, worker: Worker, namespace: str) -> None:
        """File a worker under a namespace, for good, and apply what waited."""
        if worker.namespace is not None:
            return
        worker.namespace = namespace
        self._grace.pop(worker).cancel()
        for handler, frame in self._waiting.pop(worker):
            handler(worker, frame)

    def end(self, worker: Worker) -> None:
        """Undo all that a worker registered."""
        if worker.namespace is None:
            self._grace.pop(worker).cancel()
            del self._waiting[worker]
        for function_id in list(worker.functions):
            self._engine.functions.unregister(worker, function_id)

    def _in_turn(self, handler: Handler) -> Handler:
        def take(worker: Worker, frame: Registration) -> None:
            if worker.namespace is None:
                self._waiting[worker].append((handler, frame))
            else:
                handler(worker, frame)

        return take

    def _register_function(self, worker: Worker, frame: Registration) -> None:
        function_id = frame.id
        if function_id is None:
            log.info("worker %s registered a function without id; dropped", worker.label)
            return
        namespace = worker.namespace or DEFAULT_NAMESPACE
        if function_id in self._engine.functions.builtins or function_id.startswith(
            ("engine::", "state::")
        ):
            log.warning("worker %s may not take the function id %r", worker.label, function_id)
            self._reject(worker, namespace, function_id, "")
            return
        owner = self._engine.functions.register(
            WorkerFunction(
                function_id,
                namespace,
                worker,
                self._engine.new_id,
                frame.description,
                sent(frame.request_format),
                sent(frame.response_format),
                sent(frame.metadata),
                sent(frame.invocation) is not None,
            )
        )
        if owner is not None:
            log.warning(
                "worker %s may not register %r: worker %s has it",
                worker.label,
                function_id,
                owner.label,
            )
            self._reject(worker, namespace, function_id, owner.id)

    @staticmethod
    def _reject(worker: Worker, namespace: str, function_id: str, owner_id: str) -> None:
        worker.peer.send(
            messages.registration_rejected(
                "FUNCTION_NAMESPACE_CONFLICT", namespace, function_id, owner_id
            )
        )

    def _unregister_function(self, worker: Worker, frame: Registration) -> None:
        if frame.id is not None:
            self._engine.functions.unregister(worker, frame.id)
