"""Text from a worker to a `Frame`.

One flat struct serves every message type: members that a type does not use are left at their
defaults. JSON values that only pass through (`data`, `result`, `config`, ...) stay raw text. A
member that is `null` counts as absent, except `data`, `result` and `metadata`, whose `null` is
a value.

Source: docs/protocol.md, frame catalogue.
"""

from __future__ import annotations

import re

import msgspec
from msgspec import Raw

from iii_state.errors import InvalidRequest

ABSENT = Raw()
"""A raw member that was not sent."""


class Action(msgspec.Struct, frozen=True, gc=False):
    """How a call is to be made: `void` wants no answer, `enqueue` names a queue."""

    type: str
    queue: str | None = None


class FailureBody(msgspec.Struct, frozen=True, gc=False):
    """The error of a result, as workers send it."""

    code: str
    message: str
    stacktrace: str | None = None


class Frame(msgspec.Struct, gc=False):
    """Any message that a worker sends."""

    type: str
    invocation_id: str | None = None
    function_id: str | None = None
    data: Raw = ABSENT
    action: Action | None = None
    namespace: str | None = None
    metadata: Raw = ABSENT
    traceparent: str | None = None
    baggage: str | None = None
    result: Raw = ABSENT
    error: FailureBody | None = None
    id: str | None = None
    trigger_type: str | None = None
    trigger_namespace: str | None = None
    config: Raw = ABSENT
    description: str | None = None
    request_format: Raw = ABSENT
    response_format: Raw = ABSENT
    invocation: Raw = ABSENT
    trigger_request_format: Raw = ABSENT
    call_request_format: Raw = ABSENT
    previous_worker_id: str | None = None
    reattach_token: str | None = None


_decoder = msgspec.json.Decoder(Frame)


def decode_frame(text: str) -> Frame:
    """Decode one message.

    Raises:
        InvalidRequest: not JSON, not an object, or a member has the wrong type. The detail
            `invocation_id` is set when it can still be read, so that the caller can be answered.
    """
    try:
        return _decoder.decode(text)
    except (msgspec.DecodeError, RecursionError) as error:
        reason = "it nests too deep" if isinstance(error, RecursionError) else str(error)
        raise InvalidRequest(
            f"The frame does not decode: {reason}. It was dropped; nothing changed.",
            invocation_id=_invocation_id_of(text),
        ) from error


_INVOCATION_ID = re.compile(r'"invocation_id"\s*:\s*"([0-9A-Za-z-]{1,64})"')
_INVOKE = re.compile(r'"type"\s*:\s*"invokefunction"')


def _invocation_id_of(text: str) -> str | None:
    """The id of a call whose frame is broken, if it stands where it is easily found."""
    edges = text[:4096] + text[-4096:]
    if not _INVOKE.search(edges):
        return None
    found = _INVOCATION_ID.findall(edges)
    return found[-1] if found else None


def sent(raw: Raw) -> bytes | None:
    """The text of a raw member, or None when it was absent or `null`."""
    text = bytes(raw)
    return None if text in (b"", b"null") else text
