"""A call on its way to a function, and its way back."""

from __future__ import annotations

import re
from collections.abc import Mapping

import msgspec

from iii_state.core.changes import ANONYMOUS, Origin
from iii_state.core.names import shortened
from iii_state.core.values import JsonText, encode_text
from iii_state.engine.invocations import Failure, Reply
from iii_state.engine.workers import REASON_CHARACTERS_MAX, Worker
from iii_state.errors import StateError
from iii_state.wire import messages

_TRACEPARENT = re.compile(r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}")


ENVELOPE_BYTES = 512
"""Kept free in a message for what stands around a result."""


class Call(msgspec.Struct):
    """What is asked of a function. Answered, or failed, exactly once.

    `function` names it, as `messages.function_member` does; `data` and `metadata` are JSON texts.
    `invocation_id` is None for a void call. `caller` is the worker that asks, None when the engine
    itself does; `origin` names it in the record of a change.
    """

    function: bytes
    data: JsonText
    invocation_id: str | None = None
    metadata: bytes | None = None
    origin: Origin = ANONYMOUS
    caller: Worker | None = None

    @property
    def function_id(self) -> str:
        """The id of the function that is called."""
        return messages.function_id_of(self.function)

    @property
    def room(self) -> int:
        """How many bytes of JSON an answer to this caller can carry."""
        return 1 << 62

    def answer(self, result: bytes | None, before: bytes = b"", after: bytes = b"") -> None:
        """Give the result's JSON text; None means that there is none.

        `before` and `after` belong around it: so what is wrapped need not be copied for that.
        """
        raise NotImplementedError

    def fail(self, failure: Failure, details: dict[str, object] | None = None) -> None:
        """Say why there is no result."""
        raise NotImplementedError

    def fail_with(self, error: StateError) -> None:
        """Fail with an error of the tree."""
        self.fail(Failure(error.wire_code, error.message), error.details)

    def data_for_worker(self) -> bytes:
        """The data as the executing worker gets it."""
        return bytes(self.data)

    def trace_for_worker(self) -> bytes:
        """The trace members as the executing worker gets them."""
        return b""


class WorkerCall(Call, gc=False):
    """A call made by a worker."""

    caller: Worker = None  # type: ignore[assignment]  # always given
    traceparent: str | None = None
    baggage: str | None = None

    @property
    def room(self) -> int:
        """See `Call.room`."""
        return self.caller.message_bytes_max - ENVELOPE_BYTES

    def answer(self, result: bytes | None, before: bytes = b"", after: bytes = b"") -> None:
        """See `Call.answer`. A result too large for the caller's client becomes an error."""
        invocation_id = self.invocation_id
        if invocation_id is None:
            return
        caller = self.caller
        if self.traceparent is not None or self.baggage is not None:
            after += self._trace()
        text = messages.invocation_result(invocation_id, self.function, result, before, after)
        if len(text) > caller.message_bytes_max:
            self.fail(
                Failure(
                    "payload_too_large",
                    f"The answer of {shortened(self.function_id)} takes {len(text)} bytes, more "
                    f"than the {caller.message_bytes_max} that this client can receive; a write "
                    f"was carried out all the same. Ask for less at a time, or use a newer SDK",
                )
            )
            return
        caller.peer.send(text)

    def fail(self, failure: Failure, details: dict[str, object] | None = None) -> None:
        """See `Call.fail`. What is too large for the caller's client is cut."""
        if self.invocation_id is None:
            return
        error: dict[str, object] = {"code": failure.code, "message": failure.message}
        if failure.stacktrace is not None:
            error["stacktrace"] = failure.stacktrace
        if details:
            error["details"] = details
        text = self._failure(self.invocation_id, error)
        if len(text) > self.caller.message_bytes_max:
            cut = {name: str(error[name])[:REASON_CHARACTERS_MAX] for name in ("code", "message")}
            text = self._failure(self.invocation_id, cut)
        self.caller.peer.send(text)

    def _failure(self, invocation_id: str, error: Mapping[str, object]) -> bytes:
        return messages.invocation_failure(invocation_id, self.function, error, self._trace())

    def data_for_worker(self) -> bytes:
        """The data, with the caller's id put into it when it is an object.

        Source: docs/protocol.md, `_caller_worker_id`.
        """
        data = bytes(self.data)
        if not data.startswith(b"{"):
            return data
        if b'"_caller_worker_id"' in data:
            members = msgspec.json.decode(data, type=dict[str, msgspec.Raw])
            members.pop("_caller_worker_id", None)
            data = msgspec.json.encode(members)
        inside = data[1:-1].strip()
        member = b'"_caller_worker_id":' + encode_text(self.caller.id)
        return b"{%b,%b}" % (inside, member) if inside else b"{%b}" % member

    def trace_for_worker(self) -> bytes:
        """The trace members, with the function's id added to the baggage.

        Source: docs/protocol.md, trace fields.
        """
        if self.traceparent is None and self.baggage is None:
            return b""
        item = f"iii.function.id={self.function_id}"
        parent = self.traceparent
        if parent is not None and not _TRACEPARENT.fullmatch(parent):
            parent = None
        return messages.trace_members(parent, f"{self.baggage},{item}" if self.baggage else item)

    def _trace(self) -> bytes:
        return messages.trace_members(self.traceparent, self.baggage)


class EngineCall(Call):
    """A call that starts in the engine: a fire, a condition."""

    reply: Reply = None  # type: ignore[assignment]  # always given
    traceparent: str | None = None

    def trace_for_worker(self) -> bytes:
        """See `Call.trace_for_worker`."""
        return messages.trace_members(self.traceparent, None)

    def answer(self, result: bytes | None, before: bytes = b"", after: bytes = b"") -> None:
        """See `Call.answer`."""
        self.reply(joined(result, before, after), None)

    def fail(self, failure: Failure, details: dict[str, object] | None = None) -> None:
        """See `Call.fail`."""
        self.reply(None, failure)


def joined(result: bytes | None, before: bytes, after: bytes) -> bytes | None:
    """A result and what belongs around it as one text; None when there is no result."""
    return None if result is None else before + result + after
