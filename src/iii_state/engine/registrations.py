"""What workers register: functions, trigger types, triggers; and who they say they are.

A fresh connection's namespace is known only from its announcement (`engine::workers::register`),
which comes after its registrations. So these wait, in order, until it comes, or until the grace
time is over; calls do not wait.

Source: docs/protocol.md, namespaces.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from msgspec import Raw

from iii_state.engine.functions import DEFAULT_NAMESPACE, WorkerFunction
from iii_state.engine.timers import Timer
from iii_state.engine.trigger_types import Provided
from iii_state.engine.triggers import Trigger
from iii_state.engine.workers import Worker
from iii_state.errors import InvalidRequest, LimitExceeded, StateError
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
        self._waiting: dict[Worker, list[Callable[[], None]]] = {}
        self._grace: dict[Worker, Timer] = {}

    def handlers(self) -> dict[str, Handler]:
        """The message types that are served here."""
        return {
            "registerfunction": self._in_turn(self._register_function),
            "unregisterfunction": self._in_turn(self._unregister_function),
            "registertriggertype": self._in_turn(self._register_trigger_type),
            "unregistertriggertype": self._in_turn(self._unregister_trigger_type),
            "registertrigger": self._take_trigger,
            "unregistertrigger": self._in_turn(self._unregister_trigger),
            "triggerregistrationresult": self._on_trigger_result,
        }

    def refuse_size(self, worker: Worker, frame: Registration, size: int) -> None:
        """Drop a message that is too large; of a trigger, its owner is told."""
        bound = self._engine.settings.registration_bytes_max
        message = f"a {frame.type} of {size} bytes is more than registration_bytes_max = {bound}"
        if frame.type == "registertrigger" and frame.id is not None:
            self._trigger_of(worker, frame, 0).refuse(LimitExceeded.code, message)
        else:
            log.warning("worker %s: %s; dropped", worker.label, message)

    def begin(self, worker: Worker) -> None:
        """Hold back the registrations of a fresh connection."""
        self._waiting[worker] = []
        self._grace[worker] = self._engine.timers.call_later(
            self._engine.settings.namespace_grace_ms / 1000,
            partial(self.settle, worker, DEFAULT_NAMESPACE),
        )

    def settle(self, worker: Worker, namespace: str) -> None:
        """File a worker under a namespace, for good, and apply what waited."""
        if worker.namespace is not None:
            return
        worker.namespace = namespace
        self._grace.pop(worker).cancel()
        for apply in self._waiting.pop(worker):
            apply()

    def end(self, worker: Worker) -> None:
        """Undo all that a worker registered, and what it executes.

        The order is that of the original: functions, calls, triggers, trigger types.
        """
        if worker.namespace is None:
            self._grace.pop(worker).cancel()
            del self._waiting[worker]
        for function_id in [*worker.standing_by, *worker.functions]:
            self._engine.functions.unregister(worker, function_id)
        worker.stop_executing()
        self._engine.triggers.owner_left(worker)
        self._engine.triggers.provider_left(worker)

    def _in_turn(self, handler: Handler) -> Handler:
        def take(worker: Worker, frame: Registration) -> None:
            self._apply_in_turn(worker, partial(handler, worker, frame))

        return take

    def _apply_in_turn(self, worker: Worker, apply: Callable[[], None]) -> None:
        if worker.namespace is None:
            waiting = self._waiting[worker]
            waiting.append(apply)
            if len(waiting) >= self._engine.settings.registrations_max:
                self.settle(worker, DEFAULT_NAMESPACE)  # so many do not wait for it
        else:
            apply()

    def _register_function(self, worker: Worker, frame: Registration) -> None:
        function_id = frame.id
        if function_id is None:
            log.info("worker %s registered a function without id; dropped", worker.label)
            return
        namespace = worker.namespace or DEFAULT_NAMESPACE
        if function_id in self._engine.functions.builtins or function_id.startswith(
            ("engine::", "state::")
        ):
            log.warning("worker %s may not take the function id %.200r", worker.label, function_id)
            self._reject(worker, namespace, function_id, "")
            return
        known = worker.functions.keys() | worker.standing_by.keys()
        if function_id not in known and self._is_full(worker, "functions", len(known)):
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
                "worker %s stands by for %.200r: worker %s has it",
                worker.label,
                function_id,
                owner.label,
            )
            self._reject(worker, namespace, function_id, owner.id)
        self._engine.reactions.registered(namespace, function_id)

    def _is_full(self, worker: Worker, what: str, count: int) -> bool:
        """Whether a worker has as many as it may. No answer says so: clients would not survive."""
        bound = self._engine.settings.registrations_max
        if count == bound:
            log.warning(
                "worker %s has %d %s, registrations_max; dropped", worker.label, count, what
            )
        return count >= bound

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

    def _register_trigger_type(self, worker: Worker, frame: Registration) -> None:
        type_id = frame.id
        namespace = frame.namespace if frame.namespace is not None else worker.namespace
        if type_id is None or namespace is None or not namespace.strip():
            log.warning("worker %s sent a trigger type without id or namespace", worker.label)
            return
        if type_id == "state" or type_id.startswith("engine::"):
            log.warning("worker %s may not take the trigger type %.200r", worker.label, type_id)
            return
        triggers = self._engine.triggers
        known = triggers.type_of(namespace, type_id)
        if (known is None or known.provider is not worker) and self._is_full(
            worker, "trigger types", triggers.count_provided_by(worker)
        ):
            return
        self._engine.triggers.provide(
            Provided(
                worker,
                namespace,
                type_id,
                frame.description or "",
                _schema(frame.trigger_request_format),
                _schema(frame.call_request_format),
            )
        )

    def _unregister_trigger_type(self, worker: Worker, frame: Registration) -> None:
        namespace = frame.namespace if frame.namespace is not None else worker.namespace
        trigger_type = self._engine.triggers.type_of(namespace or DEFAULT_NAMESPACE, frame.id or "")
        if trigger_type is not None and trigger_type.provider is worker:
            self._engine.triggers.withdraw(trigger_type)

    def _take_trigger(self, worker: Worker, frame: Registration) -> None:
        """A trigger hears of what is written after its message, also when that has to wait."""
        revision = self._engine.store.executed_revision
        self._apply_in_turn(worker, partial(self._register_trigger, worker, frame, revision))

    def _register_trigger(self, worker: Worker, frame: Registration, revision: int) -> None:
        if frame.id is None:
            log.info("worker %s registered a trigger without id; dropped", worker.label)
            return
        trigger = self._trigger_of(worker, frame, revision)
        try:
            _check_trigger(frame)
            self._check_count(trigger)
            self._engine.triggers.bind(trigger)
        except StateError as error:
            trigger.refuse(error.wire_code, error.message)

    @staticmethod
    def _trigger_of(worker: Worker, frame: Registration, revision: int) -> Trigger:
        return Trigger(
            frame.id or "",
            frame.trigger_type or "",
            frame.function_id or "",
            worker,
            revision,
            bytes(frame.config) or None,
            sent(frame.metadata),
            frame.namespace,
            frame.trigger_namespace,
        )

    def _check_count(self, trigger: Trigger) -> None:
        triggers = self._engine.triggers
        bound = self._engine.settings.registrations_max
        known = triggers.get(trigger.id)
        if known is not None and known.owner is trigger.owner:
            return
        if triggers.count_of(trigger.owner) >= bound:
            raise LimitExceeded(
                f"This connection has {bound} triggers, as many as registrations_max allows; "
                f"unregister some, or bind whole scopes instead of keys",
                limit="registrations_max",
                actual=bound + 1,
                bound=bound,
            )

    def _unregister_trigger(self, worker: Worker, frame: Registration) -> None:
        trigger = self._engine.triggers.get(frame.id or "")
        if trigger is None:
            return
        if trigger.owner is not worker:
            log.warning(
                "worker %s may not unregister another's trigger %.200r", worker.label, frame.id
            )
            return
        self._engine.triggers.unbind(trigger)

    def _on_trigger_result(self, worker: Worker, frame: Registration) -> None:
        """What a provider says of a trigger. Success needs nothing done."""
        trigger = self._engine.triggers.get(frame.id or "")
        if trigger is None or trigger.type is None or trigger.type.provider is not worker:
            return
        error = frame.error
        if error is None:
            return
        trigger.refuse(error.code, error.message, error.stacktrace)
        self._engine.triggers.park(trigger)


def _check_trigger(frame: Registration) -> None:
    if frame.trigger_type is None or frame.function_id is None:
        raise InvalidRequest(
            "A trigger needs the strings `trigger_type` and `function_id`; nothing is bound",
            code="trigger_registration_failed",
        )
    for name in ("namespace", "trigger_namespace"):
        given: str | None = getattr(frame, name)
        if given is not None and not given.strip():
            raise InvalidRequest(
                f"The {name} of a trigger cannot be blank; leave it out for the default",
                code="INVALID_NAMESPACE",
            )


def _schema(raw: Raw) -> Raw | None:
    text = sent(raw)
    return Raw(text) if text is not None else None
