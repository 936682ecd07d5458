"""One event on its way through a binding: the condition, if there is one, then the function."""

from __future__ import annotations

from collections.abc import Callable

from iii_state.core.delivery import Delivery, Result
from iii_state.core.events import event_payload
from iii_state.engine.followers import Follower
from iii_state.engine.invocations import Failure, Forget, Invoker

TOO_LARGE = "payload_too_large"
INTERRUPTED = "invocation_stopped"
MISSING = "function_not_found"

Finish = Callable[[Follower, Delivery, Result, Failure | None], None]
"""Called exactly once: whose delivery ended, how, and why if it failed."""


class Firing:
    """Delivers one event to one binding's function, which is called once at most.

    Not at all when the condition answers after the time for the whole is over.
    """

    __slots__ = (
        "_delivery",
        "_finish",
        "_follower",
        "_forget",
        "_invoker",
        "_payload",
        "_refusable",
    )

    def __init__(
        self, invoker: Invoker, follower: Follower, delivery: Delivery, finish: Finish
    ) -> None:
        self._invoker = invoker
        self._follower = follower
        self._delivery = delivery
        self._finish = finish
        self._payload = b""
        self._forget: Forget | None = None
        self._refusable = False
        """While a call is being made: what fails now was not said by the function."""

    def abandon(self) -> None:
        """Wait no longer for whom was called last."""
        if self._forget is not None:
            self._forget()

    def start(self, payload: bytes) -> None:
        """Make the first call. `payload` is the event's JSON text."""
        if self._follower.binding.config.condition_function_id is None:
            self._call(self._handler, payload)
        else:
            self._payload = payload
            self._call(self._condition, payload)

    def _call(self, function: Callable[[bytes], None], payload: bytes) -> None:
        """Call a function; without the values if its client cannot receive them, said at once."""
        self._refusable = True
        function(payload)
        self._refusable = False

    def _condition(self, payload: bytes) -> None:
        binding = self._follower.binding
        condition = binding.config.condition_function_id or ""
        self._forget = self._invoker.invoke(
            binding.namespace,
            condition,
            payload,
            self._decided,
            is_shared=self._follower.is_durable,
        )

    def _decided(self, result: bytes | None, failure: Failure | None) -> None:
        if failure is not None:
            self._failed(self._condition, failure)
        elif result == b"false":
            self._finish(self._follower, self._delivery, Result.SKIPPED, None)
        elif self._follower.deliveries.is_running(self._delivery):
            if result is None:
                self._follower.warn_of_no_result()
            payload, self._payload = self._payload, b""
            self._call(self._handler, payload)

    def _handler(self, payload: bytes) -> None:
        binding = self._follower.binding
        self._forget = self._invoker.invoke(
            binding.namespace,
            binding.function_id,
            payload,
            self._handled,
            metadata=binding.metadata,
            depth=self._delivery.change.origin.depth + 1,
            is_shared=self._follower.is_durable,
        )

    def _handled(self, result: bytes | None, failure: Failure | None) -> None:
        if failure is not None:
            self._failed(self._handler, failure)
        else:
            self._finish(self._follower, self._delivery, Result.DELIVERED, None)

    def _failed(self, function: Callable[[bytes], None], failure: Failure) -> None:
        change, attempt = self._delivery.change, self._delivery.attempt
        if self._refusable and failure.code == TOO_LARGE:
            self._refusable = False
            function(event_payload(change, attempt, values_omitted=True))
            return
        result = Result.FAILED
        if failure.code == INTERRUPTED:
            result = Result.INTERRUPTED
        elif self._refusable and failure.code == MISSING:
            result = Result.ABSENT
        self._finish(self._follower, self._delivery, result, failure)
