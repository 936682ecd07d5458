"""A connected worker: who it is, what it runs, what it waits for."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Protocol

from iii_state.core.changes import Origin
from iii_state.engine.in_flight import InFlight
from iii_state.engine.invocations import Failure
from iii_state.errors import LimitExceeded
from iii_state.wire import messages

if TYPE_CHECKING:
    from iii_state.engine.calls import Call
    from iii_state.engine.functions import WorkerFunction

log = logging.getLogger("iii_state.calls")

MESSAGE_BYTES_SAFE = 1 << 20
"""What any client can receive. Source: docs/protocol.md, sizes."""

REASON_CHARACTERS_MAX = 10_000
"""What is left of the reason of a failure that would be too large to send."""


class Peer(Protocol):
    """The connection of a worker, as the engine sees it. None of these wait."""

    @property
    def has_room(self) -> bool:
        """Whether it reads quickly enough to be sent what others want of it."""

    def send(self, text: bytes) -> None:
        """Send one message. Silently does nothing once the connection is gone."""

    def flush(self) -> None:
        """Let what was sent leave now: nothing follows soon that it should be gathered with."""

    def close(self, code: int, reason: str) -> None:
        """Send a close frame after all that was sent, then end the connection."""

    def abort(self) -> None:
        """End the connection without a close frame."""

    def pause_reading(self) -> None:
        """Read no further messages for now; those already read may still come."""

    def resume_reading(self) -> None:
        """Read on."""


class Worker:
    """One worker connection.

    `namespace` is None until the worker has announced itself, or the time to do so is over.
    `message_bytes_max` is what its client can receive, learned from the announcement. `in_flight`
    are its calls that wait for the store, `calls_open` those that workers have.
    """

    def __init__(
        self,
        worker_id: str,
        reattach_token: str,
        peer: Peer,
        address: str,
        connected_at_ms: int,
        *,
        calls_max: int,
        call_bytes_max: int,
    ) -> None:
        self.id = worker_id
        self.reattach_token = reattach_token
        self.peer = peer
        self.address = address
        self.connected_at_ms = connected_at_ms
        self.namespace: str | None = None
        self.name: str | None = None
        self.description: str | None = None
        self.runtime = "unknown"
        self.version: str | None = None
        self.os: str | None = None
        self.pid: int | None = None
        self.isolation: str | None = None
        self.message_bytes_max = MESSAGE_BYTES_SAFE
        self.origin = Origin(worker_id)
        self.functions: dict[str, WorkerFunction] = {}
        self.standing_by: dict[str, WorkerFunction] = {}
        """Those that another worker has, and that it would take over."""
        self.executing: dict[str, Call] = {}
        self.in_flight = InFlight(peer, calls_max, call_bytes_max)
        self.calls_open = 0
        self.calls_max = calls_max
        self.connected = True

    def execute(self, call: Call, invocation_id: str) -> None:
        """Send a call to this worker.

        It fails instead when there is too much under way, for the caller or for this worker, or
        when another caller has a call with this `invocation_id` here. If the same caller has, or
        the engine calls, the earlier call is failed.
        """
        earlier = self.executing.get(invocation_id)
        if earlier is not None:
            if call.caller not in (earlier.caller, None):
                call.fail(_used_again(invocation_id))
                return
            self._take(invocation_id)
            earlier.fail(_used_again(invocation_id))
        if call.caller is not None and not self._has_room_for(call, call.caller):
            return
        text = messages.invoke_function(
            invocation_id,
            call.function,
            call.data_for_worker(),
            call.metadata,
            call.trace_for_worker(),
        )
        if len(text) > self.message_bytes_max:
            call.fail(
                Failure(
                    "payload_too_large",
                    f"The call of {call.function_id} takes {len(text)} bytes, more than the "
                    f"{self.message_bytes_max} that the client of worker {self.label} can receive",
                )
            )
            return
        call.data, call.metadata = b"", None  # sent; nobody needs them any more
        self.executing[invocation_id] = call
        if call.caller is not None:
            call.caller.calls_open += 1
        self.peer.send(text)

    def finish(self, invocation_id: str, result: bytes | None, failure: Failure | None) -> None:
        """Take a result from this worker. Ids that it does not execute are ignored."""
        call = self._take(invocation_id)
        if call is None:
            return
        if failure is not None:
            call.fail(failure)
        else:
            call.answer(result)

    def answered(self, calls: int, weight: int) -> None:
        """So many of its calls, which weigh that together, have been answered after a commit."""
        self.in_flight.remove(weight, calls)
        self.peer.flush()

    def forget(self, invocation_id: str) -> None:
        """Drop a call that this worker executes; what it does goes on, and is not waited for."""
        self._take(invocation_id)

    def stop_executing(self) -> None:
        """Fail every call that this worker was executing."""
        for invocation_id in list(self.executing):
            call = self._take(invocation_id)
            if call is not None:
                call.fail(Failure("invocation_stopped", "Invocation stopped"))

    def forget_calls_of(self, caller: Worker) -> None:
        """Drop the calls of one that has gone; what they do goes on, and is not waited for."""
        for invocation_id, call in list(self.executing.items()):
            if call.caller is caller:
                self._take(invocation_id)

    def _take(self, invocation_id: str) -> Call | None:
        call = self.executing.pop(invocation_id, None)
        if call is not None and call.caller is not None:
            call.caller.calls_open -= 1
        return call

    def _has_room_for(self, call: Call, caller: Worker) -> bool:
        if caller.calls_open >= caller.calls_max:
            error = LimitExceeded(
                f"{caller.calls_open} calls of this connection wait for workers, as many as "
                f"in_flight_max allows; wait for answers, and limit how long you wait for each",
                limit="in_flight_max",
                actual=caller.calls_open + 1,
                bound=caller.calls_max,
            )
        elif not self.peer.has_room:
            error = LimitExceeded(
                f"Worker {self.label} reads too slowly: more than half of outbound_bytes_max waits "
                f"for it; try again later",
                limit="outbound_bytes_max",
            )
        else:
            return True
        if call.invocation_id is None:
            log.warning("void call of %s failed: %s", call.function_id, error.message)
        call.fail_with(error)
        return False

    @property
    def label(self) -> str:
        """Its name for people."""
        return self.name or self.id


def _used_again(invocation_id: str) -> Failure:
    return Failure("invocation_error", f"Invocation id {invocation_id} was used again")
