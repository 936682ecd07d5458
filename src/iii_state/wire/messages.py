"""What the host sends, as JSON text.

JSON values that pass through are spliced in as they are. Optional members are left out, never sent
as `null`.

Source: docs/protocol.md, frame catalogue.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from iii_state.core.values import encode_text

_encode = msgspec.json.Encoder().encode
_join = b"".join

_FUNCTION_ID = b',"function_id":'


def function_member(function_id: str) -> bytes:
    """The member that names a function, ready to be spliced behind another member."""
    return _FUNCTION_ID + encode_text(function_id)


def function_id_of(member: bytes) -> str:
    """The id in what `function_member` made."""
    return msgspec.json.decode(member.removeprefix(_FUNCTION_ID), type=str)


def worker_registered(worker_id: str, reattach_token: str) -> bytes:
    """The first message on every worker connection."""
    return _encode(
        {"type": "workerregistered", "worker_id": worker_id, "reattach_token": reattach_token}
    )


def invocation_result(
    invocation_id: str, function: bytes, result: bytes | None, before: bytes, after: bytes
) -> bytes:
    """The answer to a call; without a `result` member when there is none.

    `function` is what `function_member` makes. `before` and `after` stand around the result; what
    `trace_members` makes may come with `after`.
    """
    return _join(
        (
            b'{"type":"invocationresult","invocation_id":',
            _encode(invocation_id),
            function,
            b"" if result is None else b',"result":',
            before,
            result or b"",
            after,
            b"}",
        )
    )


def invocation_failure(
    invocation_id: str,
    function: bytes,
    error: Mapping[str, object],
    trace: bytes = b"",
) -> bytes:
    """The answer to a call that failed. `error` has the strings `code` and `message`, at least."""
    return b'{"type":"invocationresult","invocation_id":%b%b,"error":%b%b}' % (
        encode_text(invocation_id),
        function,
        _encode(error),
        trace,
    )


def invoke_function(
    invocation_id: str,
    function: bytes,
    data: bytes,
    metadata: bytes | None = None,
    trace: bytes = b"",
) -> bytes:
    """A call, for the worker that runs the function."""
    return b"".join(
        (
            b'{"type":"invokefunction","invocation_id":',
            encode_text(invocation_id),
            function,
            b',"data":',
            data,
            b"" if metadata is None else b',"metadata":',
            metadata or b"",
            trace,
            b"}",
        )
    )


def registration_rejected(
    code: str, namespace: str, function_id: str, owner_worker_id: str
) -> bytes:
    """A function that somebody else has already."""
    return _encode(
        {
            "type": "registrationrejected",
            "code": code,
            "namespace": namespace,
            "function_id": function_id,
            "owner_worker_id": owner_worker_id,
        }
    )


def trigger_registration_failed(
    *,
    trigger_id: str,
    trigger_type: str,
    function_id: str,
    code: str,
    message: str,
    stacktrace: str | None = None,
) -> bytes:
    """A binding that was refused. `error` is always an object."""
    error = {"code": code, "message": message}
    if stacktrace is not None:
        error["stacktrace"] = stacktrace
    return _encode(
        {
            "type": "triggerregistrationresult",
            "id": trigger_id,
            "trigger_type": trigger_type,
            "function_id": function_id,
            "error": error,
        }
    )


def register_trigger(
    *,
    trigger_id: str,
    trigger_type: str,
    function_id: str,
    config: bytes,
    metadata: bytes | None = None,
    namespace: str | None = None,
    trigger_namespace: str | None = None,
) -> bytes:
    """A binding, for the worker that provides its trigger type."""
    frame: dict[str, object] = {
        "type": "registertrigger",
        "id": trigger_id,
        "trigger_type": trigger_type,
        "function_id": function_id,
        "config": msgspec.Raw(config),
    }
    if metadata is not None:
        frame["metadata"] = msgspec.Raw(metadata)
    if namespace is not None:
        frame["namespace"] = namespace
    if trigger_namespace is not None:
        frame["trigger_namespace"] = trigger_namespace
    return _encode(frame)


def unregister_trigger(trigger_id: str, trigger_type: str) -> bytes:
    """The end of a binding, for the worker that provides its trigger type."""
    return _encode({"type": "unregistertrigger", "id": trigger_id, "trigger_type": trigger_type})


PONG = b'{"type":"pong"}'


def trace_members(traceparent: str | None, baggage: str | None) -> bytes:
    """The trace members of a message, ready to be spliced behind another member."""
    parts = b""
    if traceparent is not None:
        parts += b',"traceparent":' + encode_text(traceparent)
    if baggage is not None:
        parts += b',"baggage":' + encode_text(baggage)
    return parts
