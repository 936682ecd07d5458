"""A connected worker: who it is, what it runs, what it waits for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from iii_state.core.changes import Origin
from iii_state.engine.invocations import Failure
from iii_state.wire import messages

if TYPE_CHECKING:
    from iii_state.engine.calls import Call
    from iii_state.engine.functions import WorkerFunction

MESSAGE_BYTES_SAFE = 1 << 20
"""What any client can receive. Source: docs/protocol.md, sizes."""

REASON_CHARACTERS_MAX = 10_000
"""What is left of the reason of a failure that would be too large to send."""


class Peer(Protocol):
    """The connection of a worker, as the engine sees it. None of these wait."""

    def send(self, text: bytes) -> None:
        """Send one message. Silently does nothing once the connection is gone."""

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
    `message_bytes_max` is what its client can receive, learned from the announcement.
    """

    def __init__(
        self, worker_id: str, reattach_token: str, peer: Peer, address: str, connected_at_ms: int
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
        self.executing: dict[str, Call] = {}
        self.commits_open = 0
        self.calls_open = 0
        self.connected = True

    def execute(self, call: Call, invocation_id: str) -> None:
        """Send a call to this worker. `invocation_id` must be new, or its old call is failed."""
        earlier = self.executing.pop(invocation_id, None)
        if earlier is not None:
            earlier.fail(
                Failure("invocation_error", f"Invocation id {invocation_id} was used again")
            )
        text = messages.invoke_function(
            invocation_id,
            call.function_text,
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
        self.executing[invocation_id] = call
        self.peer.send(text)

    def finish(self, invocation_id: str, result: bytes | None, failure: Failure | None) -> None:
        """Take a result from this worker. Ids that it does not execute are ignored."""
        call = self.executing.pop(invocation_id, None)
        if call is None:
            return
        if failure is not None:
            call.fail(failure)
        else:
            call.answer(result)

    def stop_executing(self) -> None:
        """Fail every call that this worker was executing."""
        executing, self.executing = self.executing, {}
        for call in executing.values():
            call.fail(Failure("invocation_stopped", "Invocation stopped"))

    @property
    def label(self) -> str:
        """Its name for people."""
        return self.name or self.id
